"""Fewer channels: the network really gets smaller.

Removing a channel of one layer removes it from every layer that is coupled with it (the next one's input, the normalization, the
other branch of a residual sum). Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph) finds those groups; which channels
of a group go is decided by their importance over the whole group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class StructuredPruning(Technique):
    """Whole channels removed, through the dependency graph."""

    name = "structured_pruning"
    needs = ("calibration",)
    packages = ("torch", "torch-pruning")
    parameters = (
        Parameter("ratio", 0.3, low=0.0, high=0.95, about="The fraction of the channels that goes."),
        Parameter(
            "importance",
            "magnitude",
            choices=("magnitude", "taylor"),
            about="By the group's L2 norm, or by the loss's first-order change over calibration data (Molchanov et al. 2019).",
        ),
        Parameter(
            "scope",
            "uniform",
            choices=("global", "uniform"),
            about="Rank the channels of all layers together, or take the same fraction of each layer.",
        ),
        Parameter(
            "round_to",
            8,
            choices=(1, 4, 8, 16),
            about="The channels kept are a multiple of this: channels want the vector width.",
        ),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`. Facts: parameters_before, parameters_after, channels_before, channels_after, groups."""
        values = checked_params(self, params)
        from autoopt.workers.techniques._channels import Choice
        from autoopt.workers.techniques._pruning import pruned

        choice = Choice(float(values["ratio"]), str(values["scope"]) == "global", int(values["round_to"]))
        return pruned(model, context, choice, taylor=values["importance"] == "taylor")

"""A smaller network that inherits the original's weights.

Either residual blocks are taken out of the network itself (a residual block adds to what passes through it, so the rest goes on
working without it), or the task's student factory builds a thinner or shallower network into which the weights that fit are
copied. Inheritance and depth are worth more than width: on small machines a layer's cost is in its launch as much as in its work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class Student(Technique):
    """Blocks removed, or the task's own student with the weights that fit."""

    name = "student"
    needs = ("calibration",)
    parameters = (
        Parameter("source", "blocks", choices=("blocks", "factory"), about="Where the smaller network comes from."),
        Parameter("depth", 0.5, low=0.01, high=1.0, about="The fraction of the removable blocks that is kept."),
        Parameter("width", 1.0, low=0.01, high=1.0, about="The fraction of the channels; source factory only."),
        Parameter(
            "order",
            "influence",
            choices=("influence", "late", "early"),
            about="Which blocks go first: those that change their input least, the last ones, or the first ones.",
        ),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`. Facts: parameters_before, parameters_after, removed (names), inherited (share)."""
        values = checked_params(self, params)
        depth, width, order = float(values["depth"]), float(values["width"]), str(values["order"])
        if values["source"] == "factory":
            from autoopt.workers.techniques._inherit import from_factory

            return from_factory(model, context, width=width, depth=depth)
        from autoopt.workers.techniques._blocks import without_blocks

        return without_blocks(model, context, depth=depth, width=width, order=order)

"""Fewer multiplications by factors: a weight matrix becomes the product of two thin ones.

A linear layer is split by its singular values; a k×k convolution into a k×k one with fewer channels and a 1×1 one (Zhang et al.
2016, Jaderberg et al. 2014). Only layers that then need fewer multiply-adds are split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.parameters import Parameter
from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class LowRank(Technique):
    """Linear layers and convolutions as products of two of lower rank."""

    name = "low_rank"
    needs = ("calibration",)
    parameters = (
        Parameter("rank", 0.5, low=0.01, high=0.95, about="The fraction of each layer's full rank that is kept."),
    )

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """See `Technique.apply`. Facts: parameters_before, parameters_after, layers (split), energy (kept, mean share)."""
        values = checked_params(self, params)
        from autoopt.workers.techniques._factors import factored

        return factored(model, context, float(values["rank"]))

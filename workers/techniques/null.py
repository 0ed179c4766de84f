"""The technique that changes nothing: it tests the plumbing and costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoopt.workers.techniques.base import Facts, Technique
from autoopt.workers.techniques.checks import checked_params

if TYPE_CHECKING:
    from autoopt.records import Params
    from autoopt.workers.techniques.base import Context


class Null(Technique):
    """Gives the network back as it is, in any format."""

    name = "null"
    formats = ("module", "onnx", "openvino")
    packages = ()

    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:  # noqa: ARG002 (the seam's arguments)
        """The same object."""
        checked_params(self, params)
        return model, {}

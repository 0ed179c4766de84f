"""The seam of a compression technique: network in, network out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from autoopt.workers.parameters import Parameter

if TYPE_CHECKING:
    import numpy as np

    from autoopt.records import Params, Signature
    from autoopt.task.prepared import PreparedTask

    Rows: TypeAlias = np.ndarray[Any, Any]
    """Row numbers, ``(N,)``."""

KEPT_FEATURES = 4096
"""What is kept of a sample's features, at most: 8 kB."""
FEATURES_VERSION = 1
"""Part of the key of what is kept: raise it when other features are."""
Facts: TypeAlias = Mapping[str, bool | int | float | str]


class Table(Protocol):
    """Rows by number, as a NumPy array gives them."""

    def __len__(self) -> int:
        """How many rows."""
        ...

    def __getitem__(self, rows: Rows, /) -> np.ndarray[Any, Any]:
        """A copy of some rows."""
        ...


@dataclass(frozen=True)
class Taught:
    """What the original network made of the first samples of ``task.training_order``, computed once and cached."""

    outputs: Table
    """Its first output, ``(N, ...)``."""
    features: Table | None = None
    """What is kept of the features from which it was computed, ``(N, KEPT_FEATURES)`` or fewer; None where it has none."""


@dataclass(frozen=True)
class Context:
    """What a technique may use besides the network itself."""

    task: PreparedTask
    """Data, metric, the original network. Never the test split."""
    signature: Signature
    taught: Taught | None
    """Given to techniques with ``needs_training``."""
    seed: int
    threads: int
    progress: Callable[[str], None]
    """Told a line now and then by long work; it ends up in the stage's log."""


class Technique(ABC):
    """One compression step. Stateless; one instance stands in the table of `autoopt.workers.techniques`."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of every key: raise it when the same parameters give another network."""
    formats: ClassVar[tuple[str, ...]] = ("module",)
    """What it takes and gives back ("module", "onnx", "openvino", "litert"), the preferred one first."""
    needs_training: ClassVar[bool] = False
    """Whether it trains (dear). Such a step changes the weights only, never the structure, so a candidate's latency is
    probed without it."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The splits that it reads: "train", "calibration"."""
    precision: ClassVar[str | None] = None
    """The precision that the step makes possible ("int8"), where it is a quantization."""
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """The Python distributions whose versions are part of the key."""
    packages_by_format: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Those in the place of ``packages`` for networks in a format that others work on."""

    @abstractmethod
    def apply(self, model: Any, params: Params, context: Context) -> tuple[Any, Facts]:
        """Compress.

        Args:
            model: the network in one of ``formats``: an ``nn.Module`` in eval mode, an ``onnx.ModelProto``, an
                ``openvino.Model`` or a LiteRT flatbuffer's bytes. May be changed in place.
            params: a value for each of ``parameters``.
            context: data and the original network.

        Returns:
            The network in the same format, and facts worth recording (parameters left, losses, validation score).

        Raises:
            StageError: UNSUPPORTED where nothing in this network can be compressed this way, DIVERGED on NaN.
        """

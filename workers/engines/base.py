"""The seam of an inference runtime: source in, artifact out; artifact in, callable out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autoopt.errors import SpaceError
from autoopt.records.hardware import parse
from autoopt.workers.parameters import Parameter, Value, checked

if TYPE_CHECKING:
    import numpy as np

    from autoopt.records import Deployment, Effective, Signature


@dataclass(frozen=True)
class Offer:
    """What an engine offers on this machine; where it offers nothing, why, and the command that mends it."""

    engine: str
    version: str | None = None
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Hardware to the precisions that are *executed* there (BF16 that would silently run as FP32 is not listed)."""
    fusions: tuple[str, ...] = ("default",)
    """The fusion levels, the engine's best default first."""
    fusions_by_device: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of devices ("cuda") that have others, whether there is such a device here or not."""
    reason: str | None = None
    remedy: str | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Of devices that the engine can use, and not here: why, and what mends it."""
    slow_build: bool = False
    """Whether building takes minutes, so that a search begins with other things."""

    @property
    def available(self) -> bool:
        """Whether the engine can be used here at all."""
        return self.reason is None and any(self.precisions.values())

    def fusions_on(self, hardware: str) -> tuple[str, ...]:
        """The fusion levels there, the best default first."""
        return self.fusions_by_device.get(parse(hardware)[1], self.fusions)


@dataclass(frozen=True)
class Source:
    """A network in one of the formats ("module", "onnx", "openvino", "litert") as a folder of the store, with its inputs."""

    format: str
    path: Path
    """The folder; `autoopt.workers.formats` loads and saves it."""
    signature: Signature


class Session(ABC):
    """A loaded artifact, ready to run. Not thread-safe."""

    @abstractmethod
    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One inference.

        Args:
            inputs: an array for each input of the signature, in its order, ``(batch, *shape)`` of its dtype.

        Returns:
            The outputs in order, ``(batch, ...)``. They may be overwritten by the next call.
        """

    @abstractmethod
    def effective(self) -> Effective:
        """What really runs, read back from the runtime after at least one call; never an echo of what was asked."""

    def device_ms(self) -> float | None:
        """What a call with the last inputs takes on the device alone, in milliseconds by its own clock: the median of several.

        From the inputs' copy there to the outputs' copy back: what is missing to the time of a call is the processor's. None where the engine does not tell, as on every processor.
        """
        return None

    def close(self) -> None:  # noqa: B027 (most sessions hold nothing)
        """Free what the session holds."""

    @property
    def streams(self) -> int:
        """Calls that may be under way at once: `start` and `finish` take their number, ``0 <= stream < streams``."""
        return 1

    def start(self, stream: int, inputs: tuple[np.ndarray, ...]) -> None:
        """Begin a call; its stream must be free. Only for sessions with several streams."""
        raise NotImplementedError

    def finish(self, stream: int) -> tuple[np.ndarray, ...]:
        """Wait for the call and give its outputs, which stay until the stream's next call."""
        raise NotImplementedError


class Engine(ABC):
    """One inference runtime. Stateless; one instance stands in the table of `autoopt.workers.engines`."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The source formats that `build` takes, the preferred one first."""
    packages: ClassVar[tuple[str, ...]]
    """The Python distributions it needs, for the versions in keys and manifests."""
    preload: ClassVar[tuple[str, ...]]
    """Modules worth importing once in a measuring parent process."""
    trusted_only: ClassVar[bool] = False
    """Whether an artifact is code that runs when it is loaded (then a foreign bundle needs ``trust=True``)."""
    any_batch: ClassVar[bool] = False
    """Whether an artifact computes the same for batches of another size than the deployment's. Then a whole split is
    predicted in large ones; timing always uses the deployment's."""
    options: ClassVar[tuple[Parameter, ...]] = ()
    """Settings of its own, which a space may let the search choose."""
    build_fields: ClassVar[tuple[str, ...]] = ("precision", "batch", "hardware")
    """The fields of `Deployment` and the options that change the artifact; the others apply when it is loaded."""

    @classmethod
    def option(cls, deployment: Deployment, name: str) -> Value:
        """What the deployment says of an option; its default where it says nothing.

        Raises:
            SpaceError: the deployment holds an option that the engine does not have (on its hardware), or a value that it does not
                allow.
        """
        for option in cls.options:
            if option.name in deployment.options and not option.applies_to(deployment.hardware):
                message = (
                    f"{cls.name}: {option.name} is for {' and '.join(option.devices)}, not for {deployment.hardware}"
                )
                raise SpaceError(message)
        return checked(cls.name, cls.options, deployment.options, "option")[name]

    @abstractmethod
    def offer(self) -> Offer:
        """What this engine offers on this machine. Cheap: imports at most its own runtime."""

    @abstractmethod
    def build(self, source: Source, deployment: Deployment, out: Path) -> None:
        """Write the artifact into the empty folder ``out``.

        Raises:
            StageError: UNSUPPORTED where the engine cannot take this network.
        """

    @abstractmethod
    def load(self, path: Path, deployment: Deployment, signature: Signature) -> Session:
        """Open an artifact. Imports neither torch nor an exporter unless the engine itself is torch's."""

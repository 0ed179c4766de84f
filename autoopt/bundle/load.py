"""Open a bundle and call it: needs numpy and the bundle's own engine, nothing else.

What a bundle holds is data: nothing of it is unpickled or run, except where an engine's artifact *is* code (a pickled
module, a compiled library). Such a bundle is opened only when the caller says that it is trusted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from autoopt.bundle import checksums, manifest
from autoopt.bundle.inputs import arrange, batches
from autoopt.bundle.manifest import ARTIFACT, Manifest
from autoopt.bundle.own import is_own
from autoopt.errors import BundleError, StageError
from autoopt.records import Deployment, Effective, Signature
from autoopt.workers.engines import engine as engine_named
from autoopt.workers.engines.base import Engine, Session


class Model:
    """An opened bundle: ``model(x)``. May be shared between threads; calls take turns."""

    def __init__(self, manifest: Manifest, deployment: Deployment, sessions: Mapping[int, Session]) -> None:
        self.manifest = manifest
        self.deployment = deployment
        """As it is served here: the bundle's, with the threads that were asked for."""
        self._session = sessions[deployment.batch]
        self._by_batch = dict(sorted(sessions.items()))
        self._turn = threading.Lock()

    @property
    def signature(self) -> Signature:
        """What it takes."""
        return self.manifest.signature

    def __call__(self, inputs: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """The network's outputs for any number of samples.

        Args:
            inputs: in the task's own structure: an array, a tuple of arrays, or a dict of arrays; each ``(N, *shape)``.

        Returns:
            The output ``(N, ...)``; a tuple of them where the network has several.

        Raises:
            UserError: the inputs do not fit the signature.
        """
        outputs = self.outputs(arrange(inputs, self.signature))
        return outputs[0] if len(outputs) == 1 else outputs

    def outputs(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The same for arrays in the signature's order; always a tuple."""
        count, size = len(arrays[0]), self.deployment.batch
        if count == 0:
            # What one sample of zeros gives has the shapes and types of the answer to none.
            zeros = tuple(np.zeros((1, *spec.shape), spec.dtype) for spec in self.signature.tensors)
            return tuple(output[:0] for output in self.outputs(zeros))
        with self._turn:
            # The next call may overwrite what the engine has given.
            parts = [
                tuple(np.array(output[:real]) for output in self._call(batch, real))
                for batch, real in batches(arrays, size)
            ]
        return tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))

    def _call(self, batch: tuple[np.ndarray, ...], real: int) -> tuple[np.ndarray, ...]:
        """One inference; where only the first samples are real, by the smallest artifact that has room for them."""
        size = next(size for size in self._by_batch if size >= real)
        return self._by_batch[size](tuple(array[:size] for array in batch))

    def bare_call(self, batch: tuple[np.ndarray, ...]) -> Callable[[], object]:
        """One inference of exactly one batch, with nothing around it: for timing."""
        return partial(self._session, batch)

    def effective(self) -> Effective:
        """What really runs, read back from the engine; after at least one call."""
        with self._turn:
            return self._session.effective()

    def close(self) -> None:
        """Free what the engine holds."""
        for session in self._by_batch.values():
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(path: str | Path, *, threads: int | None = None, trust: bool = False) -> Model:
    """Open a bundle.

    Args:
        path: the bundle's folder.
        threads: how many threads the engine may use; as it was measured by default.
        trust: whether code of the bundle may run. Needed for engines whose artifacts are code (pytorch, torchscript, inductor, xla, tvm,
            tensorrt), unless you have exported the bundle yourself on this machine; say it only for what somebody you trust has made.

    Raises:
        BundleError: it is no bundle, is damaged, needs an engine that is not usable here, or needs trust.
    """
    folder = Path(path)
    checksums.check(folder)
    return open_unchecked(folder, threads=threads, trust=trust or is_own(folder))


def open_unchecked(folder: Path, *, threads: int | None = None, trust: bool = False) -> Model:
    """The same without reading the checksums: for who has just checked, or written, them."""
    read = manifest.read(folder)
    engine = _engine(read, folder)
    if engine.trusted_only and not trust:
        message = (
            f"the bundle {folder} is one of {engine.name}, whose artifacts are code that runs when they are opened, and you have "
            "not exported it on this machine. If you trust who made it, say so: autoopt.load(path, trust=True), or `autoopt verify --trust`"
        )
        raise BundleError(message)
    deployment = _deployment(read, engine, threads)
    if trust and read.imports:
        _enable(read)
    with _explained(read, folder):
        sessions = {deployment.batch: engine.load(folder / ARTIFACT, deployment, read.signature)}
        for size, name in read.smaller.items():
            small = replace(deployment, batch=int(size))
            sessions[int(size)] = engine.load(folder / name, small, read.signature)
    return Model(read, deployment, sessions)


def _engine(read: Manifest, folder: Path) -> Engine:
    try:
        engine = engine_named(read.deployment.engine)
    except ValueError as error:
        message = f"the bundle {folder} needs an engine that this autoopt does not know: {error}"
        raise BundleError(message) from error
    offer = engine.offer()
    if not offer.available:
        built_with = ", ".join(f"{name} {version}" for name, version in read.packages.items()) or engine.name
        remedy = f"; {offer.remedy}" if offer.remedy else ""
        message = (
            f"the bundle {folder} needs {engine.name}, which cannot be used here: {offer.reason}{remedy} "
            f"(it was built with {built_with})"
        )
        raise BundleError(message)
    return engine


def _deployment(read: Manifest, engine: Engine, threads: int | None) -> Deployment:
    deployment = read.deployment.on_node  # this machine is the node, of whatever kind it was measured on
    if threads is None or threads == deployment.threads:
        return deployment
    if threads < 1:
        message = f"threads must be 1 or more, not {threads}"
        raise BundleError(message)
    if "threads" in engine.build_fields:
        message = (
            f"{engine.name} has {read.deployment.threads} threads built into this bundle; {threads} need another config"
        )
        raise BundleError(message)
    return replace(deployment, threads=threads)


def _enable(read: Manifest) -> None:
    from autoopt.records import from_json
    from autoopt.task.imports import Imports

    from_json(Imports, read.imports).enable()


@contextmanager
def _explained(read: Manifest, folder: Path) -> Iterator[None]:
    """Say what an engine's refusal, or a pickled network's missing class, means for the user."""
    try:
        yield
    except StageError as error:
        message = f"the bundle {folder} does not run here: {error.message}"
        raise BundleError(message) from error
    except (ImportError, AttributeError) as error:
        missing = (getattr(error, "name", None) or "").partition(".")[0]
        if missing in read.packages:
            message = f"the bundle {folder} needs {missing}: pip install '{missing}=={read.packages[missing]}'"
            raise BundleError(message) from error
        if not read.imports:
            raise
        folders = ", ".join(read.imports.get("folders", ())) or "the code it was made with"
        message = (
            f"the bundle {folder} holds a pickled network whose code is not here ({error}); it was in {folders}. Put it on "
            "PYTHONPATH, or export a config of onnxruntime or openvino, which need no code"
        )
        raise BundleError(message) from error

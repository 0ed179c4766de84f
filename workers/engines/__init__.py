"""The inference runtimes: a table of plugins, loaded when they are asked for.

An engine of another package joins through the entry point group ``autoopt.engines``: its name, and its `Engine` class.
Importing this module imports no runtime.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module, metadata

from autoopt import engine_environments
from autoopt.errors import EngineError
from autoopt.records import from_json
from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.broken import broken
from autoopt.workers.plugins import entry_points

__all__ = ["Engine", "Offer", "Session", "Source", "engine", "engines", "offers"]

ENTRY_POINTS = "autoopt.engines"
_TELL_S, _TAIL = 120.0, 500

_ENGINES = {
    "pytorch": "autoopt.workers.engines.pytorch:PyTorch",
    "torchscript": "autoopt.workers.engines.torchscript:TorchScript",
    "inductor": "autoopt.workers.engines.inductor:Inductor",
    "onnxruntime": "autoopt.workers.engines.onnxruntime:OnnxRuntime",
    "openvino": "autoopt.workers.engines.openvino:OpenVino",
    "litert": "autoopt.workers.engines.litert:LiteRt",
    "xla": "autoopt.workers.engines.xla:Xla",
    "tvm": "autoopt.workers.engines.tvm:Tvm",
    "tensorrt": "autoopt.workers.engines.tensorrt:TensorRt",
}
# Engines that no search uses unless it names them: they compute nothing of worth.
_FOR_TESTS = {"null": "autoopt.workers.engines.null:Null"}


@cache
def engines() -> dict[str, Engine]:
    """Every engine that a search may use, by name: our own, then those of other packages.

    One whose entry point cannot be loaded stands there as an engine that offers nothing, with the reason.
    """
    found = {name: _own(place) for name, place in _ENGINES.items()}
    for point in entry_points(ENTRY_POINTS):
        found.setdefault(point.name, _foreign(point))
    return found


def engine(name: str) -> Engine:
    """The engine of that name; loads no other of ours.

    Raises:
        ValueError: there is no such engine; the message lists those there are.
    """
    place = (_ENGINES | _FOR_TESTS).get(name)
    if place is not None:
        return _own(place)
    known = engines()
    if name not in known:
        message = f"unknown engine {name!r}; there are {', '.join(known)}"
        raise ValueError(message)
    return known[name]


def offers() -> dict[str, Offer]:
    """What each engine offers on this machine. Imports the runtimes that are installed; one with an environment of its own is asked there."""
    return {name: _asked_there(name) or each.offer() for name, each in engines().items()}


def install_missing(found: dict[str, Offer], names: Iterable[str]) -> dict[str, Offer]:
    """The offers after those of the named engines have been installed that only lack their packages; why not, where that fails."""
    for name in names:
        offer = found.get(name)
        if offer is None or offer.available or f"autoopt[{name}]" not in (offer.remedy or ""):
            continue
        try:
            engine_environments.install(name)
        except EngineError as error:
            found[name] = replace(offer, reason=f"{offer.reason}; {error}")
        else:
            found[name] = _asked_there(name) or offer
    return found


def _asked_there(name: str) -> Offer | None:
    """What an engine offers in its own environment; None where it has none."""
    own = engine_environments.find(name)
    if own is None:
        return None
    command = [str(own.python), "-P", "-m", "autoopt.workers.engines.tell", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TELL_S, check=False, env=own.environment()
        )
    except subprocess.TimeoutExpired:
        return _broken_environment(name, f"it did not answer within {_TELL_S:g} s")
    if done.returncode:
        return _broken_environment(name, done.stderr.strip()[-_TAIL:])
    return from_json(Offer, json.loads(done.stdout.splitlines()[-1]))


def _broken_environment(name: str, why: str) -> Offer:
    remedy = f"autoopt engines remove {name} && autoopt engines install {name}"
    return Offer(name, reason=f"its own environment is broken: {why}", remedy=remedy)


@cache
def _own(place: str) -> Engine:
    module, _, name = place.partition(":")
    made = getattr(import_module(module), name)()
    assert isinstance(made, Engine)
    return made


def _foreign(point: metadata.EntryPoint) -> Engine:
    try:
        made = point.load()()
    except Exception as error:  # noqa: BLE001 (another package's code: its failure becomes an engine that says so)
        return broken(point.name, f"its entry point {point.value} fails: {type(error).__name__}: {error}")
    if not isinstance(made, Engine):
        return broken(point.name, f"its entry point {point.value} is a {type(made).__name__}, not an Engine")
    return made

"""The inference runtimes: a table of plugins, loaded when they are asked for.

An engine of another package joins through the entry point group ``autoopt.engines``: its name, and its `Engine` class.
Importing this module imports no runtime.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module, metadata

from autoopt.workers.engines.base import Engine, Offer, Session, Source
from autoopt.workers.engines.broken import broken
from autoopt.workers.plugins import entry_points

__all__ = ["Engine", "Offer", "Session", "Source", "engine", "engines", "offers"]

ENTRY_POINTS = "autoopt.engines"

_ENGINES = {
    "pytorch": "autoopt.workers.engines.pytorch:PyTorch",
    "torchscript": "autoopt.workers.engines.torchscript:TorchScript",
    "inductor": "autoopt.workers.engines.inductor:Inductor",
    "onnxruntime": "autoopt.workers.engines.onnxruntime:OnnxRuntime",
    "openvino": "autoopt.workers.engines.openvino:OpenVino",
    "tvm": "autoopt.workers.engines.tvm:Tvm",
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
    """What each engine offers on this machine. Imports the runtimes that are installed."""
    return {name: each.offer() for name, each in engines().items()}


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

"""The compression techniques, one file each, and how they are found.

A technique's file declares (its parameters, what it needs, its formats) and imports torch only when it is applied, so that a
search space can be checked without loading torch. The order in which a candidate's techniques are applied follows from what they
declare: what changes the structure first, what trains next, what quantizes last.

Others join with the entry points ``autoopt.techniques``: a name, and the class.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from autoopt.errors import SpaceError
from autoopt.workers.plugins import entry_points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autoopt.workers.techniques.base import Technique

ENTRY_POINTS = "autoopt.techniques"

_TABLE = {
    "null": "Null",
    "student": "Student",
    "structured_pruning": "StructuredPruning",
    "low_rank": "LowRank",
    "recovery": "Recovery",
    "static_quantization": "StaticQuantization",
    "dynamic_quantization": "DynamicQuantization",
}


@cache
def techniques() -> Mapping[str, Technique]:
    """Every technique that is installed, by name, in the order in which a candidate's steps are applied.

    Raises:
        SpaceError: an entry point names a technique that there already is.
    """
    found = own()
    for point in entry_points(ENTRY_POINTS):
        if point.name in found:
            message = f"two techniques are called {point.name!r}: rename or uninstall the one of {point.value}"
            raise SpaceError(message)
        found[point.name] = point.load()()
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: _phase(item[1]))))


def own() -> dict[str, Technique]:
    """Those of this package, by name."""
    return {name: _own(name) for name in _TABLE}


def technique(name: str) -> Technique:
    """The technique of that name.

    Raises:
        SpaceError: there is none; the message lists the names that there are.
    """
    if name in _TABLE:
        return _own(name)  # without looking for other packages', which every stage's process would do anew
    known = techniques()
    if name not in known:
        message = f"unknown technique {name!r}; known are {', '.join(known)}"
        raise SpaceError(message)
    return known[name]


@cache
def _own(name: str) -> Technique:
    made: Technique = getattr(import_module(f"autoopt.workers.techniques.{name}"), _TABLE[name])()
    return made


def _phase(item: Technique) -> int:
    if item.precision is not None:
        return 2
    return 1 if item.needs_training else 0

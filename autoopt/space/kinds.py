"""The kinds of node that a space names."""

from __future__ import annotations

from collections.abc import Iterable

from autoopt.records.hardware import named, parse
from autoopt.space.schema import ANY, SpaceFile


def missing_kinds(file: SpaceFile, kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds of node that a space names and that are not there."""
    there = set(kinds)
    wanted = dict.fromkeys(parse(name)[0] for name in file.deployment.hardware if name != ANY)
    return tuple(kind for kind in wanted if kind not in there)


def no_such_hardware(space: str, missing: Iterable[str], kinds: Iterable[str]) -> str:
    """What to say to somebody whose space names hardware that nobody has."""
    there = ", ".join(named(kind, "cpu") for kind in sorted(kinds)) or "none"
    return (
        f'The search space "{space}" names hardware that the cluster does not have: '
        f"{', '.join(named(kind, 'cpu') for kind in missing)}. There is: {there}. Name one of these (deployment.hardware in the "
        "space, or --hardware), start a node of that kind, or wait for one (--wait)."
    )

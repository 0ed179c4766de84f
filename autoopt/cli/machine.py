"""``spaces``, ``engines``: what may be searched, and what this machine offers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from autoopt.space import SpaceFile
    from autoopt.workers.engines import Offer


def add(commands: Any) -> None:
    """Declare the commands."""
    spaces = commands.add_parser("spaces", help="list the search spaces that come with autoopt")
    engines = commands.add_parser(
        "engines", help="list the engines: what they offer here, or why nothing; install them"
    )
    for parser, function in ((spaces, _spaces), (engines, _engines)):
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=function)
    also = engines.add_subparsers(metavar="COMMAND")
    install = also.add_parser("install", help="make Python environments of their own for engines, beside this one")
    remove = also.add_parser("remove", help="remove such environments")
    for parser, function in ((install, _install), (remove, _remove)):
        parser.add_argument("engines", nargs="+", metavar="ENGINE", help="its name")
        parser.set_defaults(run=function)


def _spaces(given: argparse.Namespace) -> int:
    from autoopt.space import load_space, shipped_spaces

    found = {path: load_space(name) for name, path in shipped_spaces().items()}
    if given.json:
        print_json([_space_data(path, space) for path, space in found.items()])
    else:
        rows = [(space.name, space.scenario, _told(space)) for space in found.values()]
        print_table(("space", "scenario", "about"), rows)
    return 0


def _space_data(path: Path, space: SpaceFile) -> dict[str, Any]:
    return {
        "name": space.name,
        "about": space.about,
        "scenario": space.scenario,
        "techniques": list(space.model),
        "engines": list(space.deployment.engine),
        "path": str(path),
    }


def _told(space: SpaceFile) -> str:
    return f"{space.about} {', '.join(space.model)}; {', '.join(space.deployment.engine)}."


def _engines(given: argparse.Namespace) -> int:
    from autoopt.workers.engines import engine, offers

    found = offers()
    if given.json:
        data = [
            {
                **vars(offer),
                "available": offer.available,
                "options": {option.name: option.allowed() for option in engine(name).options},
                "environment": _environment(name),
            }
            for name, offer in found.items()
        ]
        print_json(data)
    else:
        rows = [(name, offer.version or "-", _described(name, offer)) for name, offer in found.items()]
        print_table(("engine", "version", "here"), rows)
    return 0


def _environment(name: str) -> str | None:
    from autoopt.engine_environments import find

    own = find(name)
    return None if own is None else str(own.folder)


def _described(name: str, offer: Offer) -> str:
    from autoopt.workers.engines import engine

    options = ", ".join(option.name for option in engine(name).options)
    own = _environment(name)
    text = _offered(offer)
    text += f"; options: {options}" if options and offer.available else ""
    return text + (f"; in its own environment {own}" if own else "")


def _install(given: argparse.Namespace) -> int:
    from autoopt.engine_environments import install, requirements
    from autoopt.workers.engines import offers

    for name in given.engines:
        requirements(name)  # a misspelt one is told before another is made
    for name in given.engines:
        install(name)
    found = offers()
    for name in given.engines:
        if name in found:
            print(f"{name}: {_offered(found[name])}")
    return 0


def _remove(given: argparse.Namespace) -> int:
    from autoopt.engine_environments import remove

    for name in given.engines:
        print(f"{name}: its environment is removed" if remove(name) else f"{name}: it has no environment of its own")
    return 0


def _offered(offer: Offer) -> str:
    if not offer.available:
        reason = offer.reason or "it executes no precision on this machine"
        return f"not usable: {reason}" + (f"; mend it with: {offer.remedy}" if offer.remedy else "")
    served = "; ".join(f"{hardware}: {', '.join(each)}" for hardware, each in offer.precisions.items())
    return f"{served} (fusion: {_fusions(offer)})"


def _fusions(offer: Offer) -> str:
    levels = {hardware: ", ".join(offer.fusions_on(hardware)) for hardware in offer.precisions}
    if len(set(levels.values())) == 1:
        return next(iter(levels.values()))
    return "; ".join(f"on {hardware} {each}" for hardware, each in levels.items())

"""``verify``: whether a bundle is still what was promised. Runs where only numpy and the bundle's engine are."""

from __future__ import annotations

import argparse
from typing import Any

from autoopt.cli.output import print_json


def add(commands: Any) -> None:
    """Declare the command."""
    verify = commands.add_parser("verify", help="whether a bundle is still what was promised, on this machine")
    verify.add_argument("bundle", metavar="BUNDLE", help="its folder")
    verify.add_argument("--trust", action="store_true", help="let code of the bundle run, where its engine needs that")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=_verify)


def _verify(given: argparse.Namespace) -> int:
    from autoopt.bundle import verify

    verdict = verify(given.bundle, trust=given.trust)
    if given.json:
        print_json(verdict)
    else:
        print(verdict)
    return verdict.exit_code

"""The shell: ``autoopt COMMAND``.

argparse and the standard library only, until a command needs more: `verify` must run where only numpy and an engine are
installed, and help must come at once. Exit codes: 0 well, 1 not as promised or an unexpected error, 2 something that
was given cannot be used, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from autoopt.cli import bundles, choosing, cluster, machine, searching, watching
from autoopt.cli.output import speaks_unicode
from autoopt.errors import AutooptError, StageError

TRACEBACK = "AUTOOPT_TRACEBACK"
FAILED, UNUSABLE, STOPPED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Never shows a bare traceback."""
    given = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper) and not speaks_unicode(sys.stdout):
        sys.stdout.reconfigure(errors="replace")  # a locale without × or … is no reason to end
    try:
        return _run(given)
    except KeyboardInterrupt:
        print("autoopt: stopped at once; `autoopt resume JOB` goes on with a job", file=sys.stderr)
        return STOPPED
    except AutooptError as error:
        _show_traceback()
        log = f"\n{error.log}" if isinstance(error, StageError) and error.log else ""
        print(f"autoopt: {error}{log}", file=sys.stderr)
        return UNUSABLE
    except Exception as error:  # noqa: BLE001 (the process's boundary: nobody is shown a bare traceback)
        _show_traceback()
        print(f"autoopt: {type(error).__name__}: {error} (the whole story is in {_kept()})", file=sys.stderr)
        return FAILED


def _run(given: argparse.Namespace) -> int:
    code = 0
    try:
        code = int(given.run(given))
        sys.stdout.flush()  # here and not at exit, where nobody could catch that it cannot be
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def parser() -> argparse.ArgumentParser:
    """All commands."""
    made = _Parser(
        prog="autoopt",
        description="Find the accuracy-latency Pareto front of a trained network on your hardware.",
        epilog=f"{TRACEBACK}=1 shows the traceback of an error.",
    )
    made.add_argument("--version", action=_Version, help="show the version and exit")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (searching, watching, choosing, bundles, machine, cluster):
        group.add(commands)
    return made


class _Parser(argparse.ArgumentParser):
    """Says what is wrong first, and how to get help after it."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {message}\n`{self.prog} --help` lists what is allowed.\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that costs a few milliseconds."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002 (argparse's name)
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"autoopt {version('autoopt')}")
        parser.exit()


def _show_traceback() -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()


def _kept() -> Path:
    """The traceback's file."""
    with tempfile.NamedTemporaryFile("w", prefix="autoopt-error-", suffix=".log", delete=False) as file:
        traceback.print_exc(file=file)
    return Path(file.name)

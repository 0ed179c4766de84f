"""How a job's result is told: the front, the recommendation, where everything is."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from autoopt.cli.output import print_json

if TYPE_CHECKING:
    from autoopt.front import Front, Pick
    from autoopt.jobs import JobResult

WIDTH = 160


def tell(result: JobResult, *, as_json: bool) -> None:
    """Print a result for programs or for people."""
    if as_json:
        print_json(as_data(result))
        return
    front = result.front
    if front is None:
        print(f"Nothing was measured before the job was {result.status}. {result.message}".rstrip())
    else:
        _tell_front(front)
    for name, path in (("report", result.report_path), ("bundle", result.bundle_path)):
        if path is not None:
            print(f"{name}: {path}")
    if not result.status.ended or result.status == "done":
        return
    print(f"The job was {result.status}: {result.message}" if result.message else f"The job was {result.status}.")
    print(f"go on with: autoopt resume {shlex.quote(str(result.folder))}")


def as_data(result: JobResult) -> dict[str, Any]:
    """The result as JSON values."""
    front = result.front
    return {
        "job": result.folder.name,
        "folder": str(result.folder),
        "status": result.status,
        "message": result.message,
        "report": _text(result.report_path),
        "bundle": _text(result.bundle_path),
        "progress": result.progress,
        "front": [] if front is None else rows_of(front),
        "pick": None if front is None else pick_data(front.recommended),
    }


def rows_of(front: Front) -> list[dict[str, Any]]:
    """A dict a config, with the columns of ``front.csv``."""
    from autoopt.front.table import config_row

    return [config_row(config, front.lossless) for config in front]


def pick_data(pick: Pick) -> dict[str, Any]:
    """A pick as JSON values."""
    from autoopt.front.table import config_row

    return {
        "id": pick.config.id,
        "met": pick.met,
        "reason": pick.reason,
        "sentence": pick.sentence(),
        "against_lossless": pick.lossless_sentence(),
        "config": config_row(pick.config, pick.lossless),
    }


def tell_pick(pick: Pick) -> None:
    """Print a pick for people."""
    print(pick.sentence())
    if lossless := pick.lossless_sentence():
        print(lossless)
    print(pick.reason)


def _tell_front(front: Front) -> None:
    from rich.console import Console

    from autoopt.report import front_table

    pick = front.recommended
    # Without a terminal rich would take 80 columns, and break every description.
    Console(width=None if sys.stdout.isatty() else WIDTH).print(front_table(front, pick))
    print()
    tell_pick(pick)


def _text(path: object) -> str | None:
    return None if path is None else str(path)

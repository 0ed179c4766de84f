"""What the faults did, as a table: how often each was injected, what was lost, what was done twice."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RESULTS = "AUTOOPT_CHAOS_RESULTS"
"""Names the file for the table's figures, where they are to be kept."""
COMMAND = "make chaos"


@dataclass
class Row:
    """A fault."""

    fault: str
    injected: int = 0
    """How often."""
    lost: int = 0
    """Stages that had been finished and were not to be had afterwards, or were computed again."""
    doubled: int = 0
    """Stages that were computed twice, and candidates that were decided twice."""
    found: str = ""
    """What else was seen, in a few words."""
    seconds: float = 0.0
    passed: bool = False


@dataclass
class Ledger:
    """The table."""

    rows: list[Row] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def shown(self) -> list[str]:
        """For the terminal, as Markdown."""
        cells = [("fault", "injected", "stages lost", "doubled", "held", "s", "found")]
        cells += [
            (
                row.fault,
                str(row.injected),
                str(row.lost),
                str(row.doubled),
                "yes" if row.passed else "NO",
                f"{row.seconds:.0f}",
                row.found,
            )
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        cells.insert(1, tuple("-" * width for width in widths))
        return [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in cells
        ]

    def write(self, path: Path) -> None:
        """The figures, and where they were taken."""
        told = {
            "command": COMMAND,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": {"cores": len(os.sched_getaffinity(0)), "system": platform.platform()},
            "versions": {name: metadata.version(name) for name in ("autoopt", "ray", "optuna")},
            "seconds": round(time.monotonic() - self.began),
            "rows": [asdict(row) | {"seconds": round(row.seconds)} for row in self.rows],
        }
        path.write_text(json.dumps(told, indent=1) + "\n")

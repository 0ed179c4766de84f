"""All of a report's files, written so that an older report is never left half overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from autoopt.report import html, markdown
from autoopt.report.data import ReportData


def write_report(data: ReportData, folder: Path) -> tuple[Path, ...]:
    """Write ``report.html``, ``report.md``, ``front.csv`` and ``candidates.parquet``; returns their paths.

    May be called again and again while a job runs: each file is replaced at once.
    """
    from autoopt.report import tables  # and with it pandas, which a search can do without at its beginning

    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], object]] = {
        "front.csv": lambda path: tables.write_front_csv(data, path),
        "candidates.parquet": lambda path: tables.write_candidates(data, path),
        "report.md": lambda path: path.write_text(markdown.render(data), encoding="utf-8"),
        "report.html": lambda path: path.write_text(html.render(data), encoding="utf-8"),
    }
    return tuple(_replace(folder / name, write) for name, write in writers.items())


def _replace(path: Path, write: Callable[[Path], object]) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path

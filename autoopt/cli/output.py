"""What commands print: JSON for programs, aligned columns for people. Without rich, which `verify` does without."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from autoopt.records.codec import to_json

_GAP = "  "


def print_json(data: Any, indent: int | None = 2) -> None:
    """One JSON value on stdout, at once; on a line of its own where ``indent`` is None."""
    print(json.dumps(to_json(data), indent=indent, ensure_ascii=not speaks_unicode(sys.stdout)), flush=True)


def speaks_unicode(stream: TextIO) -> bool:
    """Whether any character can be written to it."""
    return (stream.encoding or "").lower().startswith("utf")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the last one is wrapped to the terminal's width."""
    lines = [[name.upper() for name in header], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header) - 1)]
    indent = sum(widths) + len(_GAP) * len(widths)
    room = max(30, shutil.get_terminal_size((120, 24)).columns - indent)
    for line in lines:
        start = _GAP.join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), ""])
        first, *more = textwrap.wrap(line[-1], room) or [""]
        print((start + first).rstrip())
        for rest in more:
            print(" " * indent + rest)


# What we print ourselves beyond ASCII, for terminals that have no more.
_PLAIN = str.maketrans({"×": "x", "·": "-", "…": "...", "–": "-", "−": "-", "█": "#", "░": "-", "→": "->"})


def plain(text: str, marks: Mapping[str, str] | None = None) -> str:
    """The text in ASCII; ``marks`` stand for further characters, and a question mark for any other."""
    for mark, instead in (marks or {}).items():
        text = text.replace(mark, instead)
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


def duration(seconds: float) -> str:
    """``3 min 20 s``."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004 (seconds of a minute)
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004 (seconds of an hour)
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

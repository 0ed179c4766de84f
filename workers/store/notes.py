"""Lines remembered in a remote folder, where nothing can be appended to a file.

A writer has a file of its own for a topic and writes it anew with each line, until it is long; then it begins another. So no writer can
damage another's lines, nothing has ever to be merged, and thousands of lines are few files to read. Each line has its time.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from dataclasses import dataclass, field

from autoopt.workers.store.folder import RemoteFolder

LINES_A_FILE = 64


class RemoteNotes:
    """See `autoopt.workers.store.base.Store.note`."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder
        self._writer = _Writer()

    def add(self, topic: str, line: str) -> None:
        """Remember a line."""
        if self._writer.pid != os.getpid():
            self._writer = _Writer()  # a forked child would write over its parent's file
        with self._writer.lock:
            page = self._writer.pages.get(topic)
            if page is None or len(page.lines) >= LINES_A_FILE:
                page = _Page(f"notes/{topic}/{time.time_ns():020d}-{uuid.uuid4().hex}.jsonl")
            line = json.dumps([max(time.time_ns(), page.last_ns + 1), line])
            self._folder.write(page.name, "".join(f"{one}\n" for one in (*page.lines, line)).encode())
            page.lines.append(line)
            self._writer.pages[topic] = page

    def lines(self, topic: str) -> tuple[str, ...]:
        """The lines of all writers, the oldest first."""
        pages = self._folder.read_all(self._folder.names(f"notes/{topic}"))
        timed = [_decoded(line) for page in pages for line in page.decode(errors="replace").split("\n")[:-1]]
        return tuple(line for _, line in sorted((entry for entry in timed if entry), key=lambda entry: entry[0]))


@dataclass
class _Page:
    name: str
    lines: list[str] = field(default_factory=list)

    @property
    def last_ns(self) -> int:
        return int(json.loads(self.lines[-1])[0]) if self.lines else 0


@dataclass
class _Writer:
    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    pages: dict[str, _Page] = field(default_factory=dict)


def _decoded(line: str) -> tuple[int, str] | None:
    """A line's time and text; None where a store that is not atomic kept half of it."""
    try:
        at_ns, text = json.loads(line)
    except ValueError:
        return None
    return int(at_ns), str(text)

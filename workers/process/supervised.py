"""One running call, as its parent sees it: its process, its log, its limits."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from autoopt.errors import FailureKind
from autoopt.workers.process import system

LOG_BYTES = 10_000_000
"""A log keeps its first 10 MB; a function that prints without end must not fill the disk."""
TAIL_BYTES = 4_000
"""Its end is always kept: that is where a traceback is."""
_CHUNK = 1 << 16
_PIPE_READS = 4
"""Enough to empty a pipe, and an end where a process that escaped goes on printing."""
_MEMORY_CHECK_S, _DISK_CHECK_S = 0.2, 0.5


@dataclass
class CappedLog:
    """A log file, unbuffered, that keeps its beginning and its end."""

    file: BinaryIO
    written: int = 0
    left_out: int = 0
    tail: deque[bytes] = field(default_factory=deque)

    def add(self, data: bytes) -> None:
        """Take what was printed."""
        kept = 0
        with contextlib.suppress(OSError):  # the disk is full: no reason to end the other calls as well
            kept = self.file.write(data[: max(0, LOG_BYTES - self.written)])
        self.written += kept
        self.left_out += len(data) - kept
        self.tail.append(data)
        while sum(map(len, self.tail)) - len(self.tail[0]) >= TAIL_BYTES:
            self.tail.popleft()

    def end(self) -> str:
        """The last 4 kB, as text."""
        return b"".join(self.tail)[-TAIL_BYTES:].decode(errors="replace")

    def close(self) -> None:
        """Write the end, where the middle was left out."""
        with contextlib.suppress(OSError):
            if self.left_out:
                self.file.write(f"\n[{self.left_out} bytes left out; the end:]\n{self.end()}".encode())
        with contextlib.suppress(OSError):
            self.file.close()


def _opened(path: Path) -> BinaryIO:
    """The log's file; where it cannot be had, the log's end is kept all the same."""
    try:
        return path.open("wb", buffering=0)
    except OSError:
        return Path(os.devnull).open("wb", buffering=0)


class Supervised:
    """A child, from its fork to the message that tells the caller how it ended."""

    def __init__(self, pid: int, status: socket.socket, pipe: int, order: dict[str, Any]) -> None:
        self.pid = pid
        self.status = status
        self.pipe = pipe
        self.timeout_s = float(order["timeout_s"])
        self.memory_bytes, self.disk_bytes = order["memory_bytes"], order["disk_bytes"]
        self.folders: list[str] = order["folders"]
        self.deadline = time.monotonic() + self.timeout_s
        self.handle = os.pidfd_open(pid)
        self.verdict: tuple[FailureKind, str] | None = None
        self._kills_before = system.out_of_memory_kills()
        self._log = CappedLog(_opened(Path(order["log"])))
        self._selector: selectors.BaseSelector | None = None
        self._memory_checked_at = self._disk_checked_at = 0.0
        os.set_blocking(pipe, False)
        self._tell({"pid": pid})

    def register(self, selector: selectors.BaseSelector) -> None:
        """Wake the loop when the child prints or ends, or the caller goes away; a source's data is what to do then."""
        self._selector = selector
        selector.register(self.pipe, selectors.EVENT_READ, self.printed)
        selector.register(self.handle, selectors.EVENT_READ, lambda: None)
        selector.register(self.status, selectors.EVENT_READ, self.cancel)

    def abandon(self) -> None:
        """Close this process's descriptors, in a process forked for another call."""
        os.close(self.pipe)
        os.close(self.handle)
        self.status.close()

    def printed(self) -> bool:
        """Take one piece of output; False when there is none now."""
        try:
            data = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            self._log.add(data)
        else:
            self._forget(self.pipe)  # a closed pipe is readable for ever
        return bool(data)

    def check(self) -> None:
        """Kill the call if it is beyond a limit."""
        now = time.monotonic()
        if self.verdict is None and now > self.deadline:
            self._kill(FailureKind.TIMED_OUT, f"took longer than its limit of {self.timeout_s:g} s")
        if self.verdict is None and self.memory_bytes is not None and now > self._memory_checked_at + _MEMORY_CHECK_S:
            self._memory_checked_at = now
            used = sum(map(system.resident_bytes, system.tree(self.pid)))
            self._kill_above(used, self.memory_bytes, FailureKind.OUT_OF_MEMORY, "used")
        if self.verdict is None and self.disk_bytes is not None and now > self._disk_checked_at + _DISK_CHECK_S:
            self._disk_checked_at = now
            written = sum(map(system.written_bytes, self.folders))
            self._kill_above(written, self.disk_bytes, FailureKind.OUT_OF_SPACE, "wrote")

    def cancel(self) -> None:
        """Kill the call, unless that has been done: nobody waits for it any more."""
        self._forget(self.status)
        if self.verdict is None:
            self._kill(FailureKind.INTERRUPTED, "the caller went away")

    def finish(self, exit_status: int) -> None:
        """Tell the caller how the child ended, with the end of its log, and let go of everything."""
        system.kill_group(self.pid)
        for _ in range(_PIPE_READS):
            self.printed()
        for source in (self.pipe, self.handle, self.status):
            self._forget(source)
        kind, message = self.verdict or (None, "")
        if kind is None and os.WIFSIGNALED(exit_status) and system.out_of_memory_kills() > self._kills_before:
            kind, message = FailureKind.OUT_OF_MEMORY, "killed by the kernel, which ran out of memory"
        self._log.close()
        self._tell({"exit": exit_status, "kind": kind, "message": message, "log": self._log.end()})
        self.abandon()

    def _kill_above(self, taken: int, limit: int, kind: FailureKind, verb: str) -> None:
        if taken > limit:
            self._kill(kind, f"{verb} {taken / 1e6:.0f} MB, more than its limit of {limit / 1e6:.0f} MB")

    def _kill(self, kind: FailureKind, message: str) -> None:
        self.verdict = (kind, message)
        for pid in system.tree(self.pid):
            system.kill(pid)
        system.kill_group(self.pid)

    def _forget(self, source: int | socket.socket) -> None:
        if self._selector is not None and source in self._selector.get_map():
            self._selector.unregister(source)

    def _tell(self, message: dict[str, Any]) -> None:
        # The caller may be gone; it then does not want to know.
        with contextlib.suppress(OSError):
            self.status.sendall(json.dumps(message).encode() + b"\n")

"""``autoopt watch`` in a process of its own: on a real pseudo-terminal, on a poor one, and for programs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoopt.jobfolder import FrontEntry, JobFolder, JobSpec, JobStatus, ProcessMark, Progress, create

SOON_S = 20.0
FRONT = tuple(
    FrontEntry(f"{number:012x}", f"network {number} | openvino int8, 1 thread", 12.0 / number, number / 20, score, 0.01)
    for number, score in ((1, 0.91), (2, 0.93), (4, 0.935))
)
PROGRESS = Progress("searching", 3, front=FRONT, best=FRONT[1], metric="accuracy", goal_met=True, seconds_left=60.0)
CLEAR = "\x1b[2J"


@pytest.fixture
def planted(tmp_path: Path) -> JobFolder:
    """A job that is run by this process, says its state, and does nothing."""
    spec = JobSpec("a", "/nowhere/task.py:task", "quick", "", "10m")
    folder = create(tmp_path / "results" / "a", spec)
    folder.update(status=JobStatus.RUNNING, process=ProcessMark.of(os.getpid()), progress=PROGRESS)
    return folder


class Terminal:
    """A pseudo-terminal with ``autoopt watch`` on it; what it shows is gathered."""

    def __init__(self, rows: int, columns: int, **environment: str) -> None:
        self._end, other = pty.openpty()
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autoopt", "watch", "a"],
            stdin=other,
            stdout=other,
            stderr=other,
            env=os.environ | {"TERM": "xterm-256color"} | environment,
            start_new_session=True,
        )
        os.close(other)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._end, 65536)
            except OSError:  # Linux says EIO when the other end is closed
                return
            self._shown += part

    @property
    def shown(self) -> str:
        return self._shown.decode()

    def wait_for(self, wanted: Callable[[str], bool]) -> str:
        """What is shown as soon as it is as it should be."""
        ends = time.monotonic() + SOON_S
        while not wanted(self.shown):
            assert time.monotonic() < ends, self.shown
            assert self.process.poll() is None, self.shown
            time.sleep(0.02)
        return self.shown

    def end(self) -> str:
        """Wait for the command's end; everything that was shown."""
        self.process.wait(SOON_S)
        self._reader.join(SOON_S)
        os.close(self._end)
        return self.shown


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()


def end_of(planted: JobFolder, terminal: Terminal) -> str:
    planted.update(status=JobStatus.CANCELLED, message="enough")
    return terminal.end()


def test_the_front_is_drawn_and_moves_with_the_job(planted: JobFolder, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(30, 100))
    first = terminal.wait_for(lambda text: "network 4" in text)
    assert "★" in first
    assert "└──" in first
    planted.update(progress=replace(PROGRESS, measured=4, running=("train student d=0.5 to 1.2 epochs",)))
    terminal.wait_for(lambda text: "4 decided" in text and "now: train student d=0.5" in text)
    last = end_of(planted, terminal)
    assert terminal.process.returncode == 0
    assert "The job was cancelled: enough" in last
    assert "Traceback" not in last


def test_drawing_overwrites_and_never_clears_the_screen(planted: JobFolder, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(30, 100))
    terminal.wait_for(lambda text: text.count("network 4") >= 4)
    last = end_of(planted, terminal)
    assert CLEAR not in last, "it would flicker"
    assert "\x1b[1A" in last, "the cursor goes up to draw over"
    assert last.rindex("\x1b[?25h") > last.rindex("\x1b[?25l"), "the cursor is there again"


def test_a_resized_terminal_is_drawn_anew_in_its_size(planted: JobFolder, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(30, 120))
    terminal.wait_for(lambda text: "network 4" in text)
    for rows, columns in ((12, 50), (3, 10), (40, 200)):
        before = len(terminal.shown)
        terminal.resize(rows, columns)
        terminal.wait_for(
            lambda text, before=before: CLEAR in text[before:] and "searching" in text[before:].rpartition(CLEAR)[2]
        )  # type: ignore[misc] # a default
        drawn = terminal.shown[before:].rpartition(CLEAR)[2]
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
        assert max(len(line.rstrip()) for line in plain.replace("\r", "\n").splitlines()) <= columns
    assert "Traceback" not in end_of(planted, terminal)
    assert terminal.process.returncode == 0


def test_ctrl_c_leaves_the_terminal_as_it_was(planted: JobFolder, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(30, 100))
    terminal.wait_for(lambda text: "network 4" in text)
    terminal.process.send_signal(signal.SIGINT)
    last = terminal.end()
    assert terminal.process.returncode == 130
    assert "goes on" in last
    assert last.rindex("\x1b[?25h") > last.rindex("\x1b[?25l"), "the cursor is there again"
    assert planted.state().status is JobStatus.RUNNING


def test_a_dumb_terminal_gets_lines(planted: JobFolder, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(30, 100, TERM="dumb"))
    terminal.wait_for(lambda text: "searching: 3 decided (3 measured) · front 3" in text)
    assert "\x1b" not in end_of(planted, terminal)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_without_unicode_gets_ascii(planted: JobFolder, terminals: list[Terminal], term: str) -> None:
    terminals.append(terminal := Terminal(30, 100, TERM=term, PYTHONIOENCODING="ascii"))
    terminal.wait_for(lambda text: "searching: 3 decided (3 measured)" in text)
    last = end_of(planted, terminal)
    assert last.isascii()
    assert "6x" in last
    assert "Traceback" not in last
    assert terminal.process.returncode == 0


def test_a_pipe_gets_lines(planted: JobFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "autoopt", "watch", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    planted.update(status=JobStatus.CANCELLED)
    _, err = process.communicate(timeout=SOON_S)
    assert line == "searching: 3 decided (3 measured) · front 3 · best 6× · 0 s, 1 min 0 s left\n"
    assert "\x1b" not in err


def test_for_programs_there_is_a_line_of_json_a_change(planted: JobFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "autoopt", "watch", "a", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["job"], first["folder"]) == ("a", str(planted.path))
    assert first["state"]["progress"]["front"][0]["latency_ms"] == FRONT[0].latency_ms
    planted.update(progress=replace(PROGRESS, seconds_used=2.0))  # the clock alone is no change
    time.sleep(1.2)
    planted.update(progress=replace(PROGRESS, measured=4))
    assert json.loads(process.stdout.readline())["state"]["progress"]["measured"] == 4
    planted.update(status=JobStatus.DONE)
    out, err = process.communicate(timeout=SOON_S)
    assert [json.loads(line)["state"]["status"] for line in out.splitlines()] == ["done"]
    assert (process.returncode, err) == (0, "")


def test_a_job_that_failed_ends_a_watch_with_its_message(planted: JobFolder) -> None:
    planted.update(status=JobStatus.FAILED, message="TaskError: no data")
    done = subprocess.run(
        [sys.executable, "-m", "autoopt", "watch", "a", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["state"]["status"] == "failed"
    assert "TaskError: no data" in done.stderr

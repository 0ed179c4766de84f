"""When the caller goes away, however it does, nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoopt.records.job import ProcessMark

CALLER = """
import sys
from pathlib import Path
from autoopt.workers.process import Limits, Preload, call
sys.path.insert(0, sys.argv[1])
call("called_functions:sleep_with_child", {"note": sys.argv[2], "seconds": 300}, Limits(300), Preload(), Path(sys.argv[2] + ".log"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_caller_ends_its_calls(number: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    command = [sys.executable, "-c", CALLER, str(Path(__file__).parent), str(note)]
    caller = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (note.exists() and note.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    pids = [int(pid) for pid in note.read_text().split()]
    assert all(map(ProcessMark.of, pids[:3]))  # the daemon is killed as soon as it leaves its family
    os.kill(caller.pid, number)
    caller.wait(10)
    end = time.monotonic() + 5
    while any(map(ProcessMark.of, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if ProcessMark.of(pid)]

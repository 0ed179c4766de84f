"""The caller's side: warmed parents, kept by what they preload, and calls that go through them.

The request and the result travel in anonymous memory files, and a socket per call tells how it ended: so any number of threads
may call at once, and no size of request or result can block anybody.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from autoopt import engine_environments
from autoopt.engine_environments import EngineEnvironment, own_path
from autoopt.errors import FailureKind, StageError
from autoopt.records.codec import to_json
from autoopt.workers.process import system
from autoopt.workers.process.child import QUIET, THREAD_VARIABLES
from autoopt.workers.process.limits import JSON, Limits, Preload

_READY_S = 120.0
_END_S = 5.0
# Ray's node has jemalloc preloaded, which its workers have not: latencies would be another allocator's, and OpenVINO's compiler crashes.
_ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF")


@dataclass(frozen=True)
class _Meeting:
    """Where the processes of a node find each other, and the process that keeps what they share."""

    folder: Path
    keeper: int | None


class Parent:
    """The way to a warmed parent process: one of this process's own, or one that all processes of a node share.

    Args:
        preload: what it imports.
        meeting: where the node's processes find it; None for one's own.

    Raises:
        StageError: it did not start.
    """

    def __init__(self, preload: Preload, meeting: _Meeting | None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        _foreign(preload)  # before anything is opened
        with tempfile.TemporaryFile() if meeting is None else _log_in(meeting.folder, preload) as printed:
            self.control = self._own(preload, printed) if meeting is None else _meet(preload, meeting, printed)
            self._await_ready(printed)
        if meeting is not None and meeting.keeper is not None:
            with contextlib.suppress(OSError):  # it has just ended, as the first call will hear
                self.control.send(json.dumps({"keeper": meeting.keeper}).encode())

    def _own(self, preload: Preload, printed: BinaryIO) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _start(preload, theirs, printed, _own_environment())
        return ours

    def _await_ready(self, printed: BinaryIO) -> None:
        self.control.settimeout(_READY_S)
        try:
            ready = self.control.recv(16)
        except ConnectionResetError as error:
            # A shared one ended with its last caller just when this one came.
            self.close()
            raise _NeverBegunError(str(error)) from error
        except TimeoutError:
            ready = b""
        if not ready:
            self.close()
            printed.seek(0)
            message = "the parent process of the measurements did not start"
            raise StageError(FailureKind.ERROR, message, printed.read().decode(errors="replace")[-4000:])
        self.control.settimeout(None)

    @property
    def alive(self) -> bool:
        """Whether it may take calls; one that is shared says so when it is asked."""
        return self._process is None or self._process.poll() is None

    def close(self) -> None:
        """End this process's calls in it, and it itself where nobody else has any."""
        self.control.close()
        if self._process is None:
            return
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(
    preload: Preload, calls: socket.socket, printed: BinaryIO, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    # With one thread each, importing numerical libraries starts none, so that the parent can be forked.
    foreign = _foreign(preload)
    if foreign is not None:
        environment = {**environment, "PYTHONPATH": foreign.environment()["PYTHONPATH"]}
    environment = {**environment, **QUIET, **dict.fromkeys(THREAD_VARIABLES, "1")}
    python = sys.executable if foreign is None else str(foreign.python)
    command = [python, "-P", "-m", "autoopt.workers.process.zygote", json.dumps(to_json(preload))]
    # A session of its own: Ctrl-C is for the caller, which decides what happens to its calls.
    return subprocess.Popen(
        command,
        stdin=calls.fileno(),
        stdout=printed,
        stderr=printed,
        env=environment,
        cwd="/",  # it may outlive the caller's
        start_new_session=True,
    )


def _foreign(preload: Preload) -> EngineEnvironment | None:
    """The environment of the engine in whose interpreter the calls run.

    Raises:
        StageError: it is not there any more.
    """
    if preload.engine is None:
        return None
    found = engine_environments.find(preload.engine)
    if found is None:
        message = f"the environment of {preload.engine} is gone; `autoopt engines install {preload.engine}` makes it"
        raise StageError(FailureKind.UNSUPPORTED, message)
    return found


def _own_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)}


def _environment(meeting: _Meeting) -> dict[str, str]:
    """What a shared parent is started with. One that is kept gets nothing of the job that happens to come first: no code, no password."""
    if meeting.keeper is None:
        return _own_environment()
    try:
        told = Path(f"/proc/{meeting.keeper}/environ").read_bytes().decode()
    except OSError:
        return _own_environment()
    found = dict(line.split("=", 1) for line in told.split("\0") if "=" in line)
    return {name: value for name, value in found.items() if name not in _ALLOCATOR} | {
        name: os.environ[name] for name in _ALLOCATOR if name in os.environ
    }


def _meet(preload: Preload, meeting: _Meeting, printed: BinaryIO) -> socket.socket:
    """Connect to the node's parent; whoever comes first starts it."""
    folder = os.open(meeting.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        # Through the descriptor: a socket's path has 107 bytes at most.
        address = f"/proc/self/fd/{folder}/{_name_of(preload)}"
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            control.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                Path(address).unlink(missing_ok=True)
                listener.bind(address)
                listener.listen()
                control.connect(address)
                # It forks once and goes on alone.
                _start(preload, listener, printed, _environment(meeting)).wait()
        return control
    finally:
        os.close(folder)


def _log_in(meeting: Path, preload: Preload) -> BinaryIO:
    _make_our_own(meeting)
    try:
        return Path(meeting, f"{_name_of(preload)}.log").open("a+b")
    except OSError as error:
        raise _no_room(meeting, error) from error


def _make_our_own(meeting: Path) -> None:
    try:
        meeting.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = meeting.lstat()
    except OSError as error:
        raise _no_room(meeting, error) from error
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        message = f"{meeting} is open to other users, whose processes could be called instead of ours; remove it."
        raise StageError(FailureKind.ERROR, message)


def _no_room(folder: Path, error: OSError) -> StageError:
    message = f"the processes of this node cannot work in {folder} ({error}); make room there, or set TMPDIR."
    return StageError(FailureKind.ERROR, message)


def _name_of(preload: Preload) -> str:
    """One that is kept must not serve when other packages have been installed since."""
    foreign = _foreign(preload)
    folder = Path(sysconfig.get_path("purelib")) if foreign is None else foreign.packages
    packages = sorted(entry.name for entry in folder.glob("*.dist-info"))
    return hashlib.sha256(json.dumps([to_json(preload), packages]).encode()).hexdigest()[:16]


_parents: dict[Preload, Parent] = {}
_lock = threading.Lock()
_meeting: _Meeting | None = None


def share(meeting: Path | None, keeper: int | None = None) -> None:
    """From now on, use the warmed parents that all processes of this node share which name the same folder.

    Args:
        meeting: a folder, made for this user only where it is missing; None for parents of one's own again.
        keeper: a process of this node, whose environment they are started with; as long as it lives they wait half an hour
            for the next caller when the last one has gone. None: they end with their last caller.
    """
    global _meeting  # noqa: PLW0603 (like the parents, the process's)
    _meeting = None if meeting is None else _Meeting(meeting, keeper)


def call(function: str, request: JSON, limits: Limits, preload: Preload, log: Path) -> JSON:
    """Call a function in a fresh process.

    Args:
        function: ``"module:name"``; takes the request, returns JSON. Imported in the child, with the caller's import path,
            environment variables and working folder. What it leaves in its folder for temporary files is removed when it has ended.
        request: JSON.
        limits: of time, memory, disk, cores and threads, for the function and everything that it starts.
        preload: what the warmed parent imports. Parents are kept by it.
        log: the file for stdout and stderr; its folder is made. The first 10 MB and the last 4 kB are kept.

    Returns:
        What the function returned.

    Raises:
        StageError: what the function raised, if that was one; else CRASHED with the signal's name, TIMED_OUT, OUT_OF_MEMORY,
            OUT_OF_SPACE, ERROR with the exception, or INTERRUPTED where the warmed parent itself was killed. Its ``log`` is the log's end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder() as temporary:
        watched = [*limits.folders, temporary]
        order = json.dumps(to_json(limits) | {"log": str(log.absolute()), "folders": watched}).encode()
        asked = json.dumps(_request(function, request, limits, temporary, foreign=preload.engine is not None)).encode()
        try:
            return _try(asked, order, preload)
        except _NeverBegunError:
            # The parent died just before it was asked: nothing has run yet, and a new one can be asked.
            try:
                return _try(asked, order, preload)
            except _NeverBegunError as error:
                message = f"the parent process of the measurements died twice: {error}"
                raise StageError(FailureKind.INTERRUPTED, message) from error


class _NeverBegunError(Exception):
    """The warmed parent died before it had started the call's process."""


def _try(asked: bytes, order: bytes, preload: Preload) -> JSON:
    ours, theirs = socket.socketpair()
    with ours, _memory_file("result") as result:
        with theirs, _memory_file("request") as request:
            request.write(asked)
            request.flush()
            parent = _send(preload, order, [request.fileno(), result.fileno(), theirs.fileno()])
        try:
            end = _await_end(ours)
        except _NeverBegunError:
            _discard(preload, parent)
            raise
        result.seek(0)
        return _value(end, result.read())


def _discard(preload: Preload, parent: Parent) -> None:
    with _lock:
        if _parents.get(preload) is parent:
            del _parents[preload]
    parent.close()


def shutdown() -> None:
    """End this process's calls, and every warmed parent that nobody else uses. Called at exit; the next call starts anew."""
    with _lock:
        parents = list(_parents.values())
        _parents.clear()
    for parent in parents:
        parent.close()


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A call's own, since a process that is killed, or ended before its exit handlers, leaves there what it unpacked."""
    folder = None if _meeting is None else _meeting.folder
    if folder is not None:
        _make_our_own(folder)
    try:
        return tempfile.TemporaryDirectory(prefix="autoopt-call-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_room(folder or Path(tempfile.gettempdir()), error) from error


def _request(function: str, request: JSON, limits: Limits, temporary: str, *, foreign: bool) -> dict[str, JSON]:
    return {
        "function": function,
        "request": request,
        "limits": to_json(limits),
        "environment": {**os.environ, "TMPDIR": temporary},
        "folder": str(Path.cwd()),
        "path": own_path() if foreign else [str(Path(entry).absolute()) for entry in sys.path],
    }


def _send(preload: Preload, order: bytes, descriptors: list[int]) -> Parent:
    with _lock:
        parent = _parents.get(preload)
        if parent is not None and not parent.alive:
            parent.close()
            parent = None
        if parent is None:
            parent = _parents[preload] = Parent(preload, _meeting)
    try:
        socket.send_fds(parent.control, [order], descriptors)
    except OSError as error:
        _discard(preload, parent)
        raise _NeverBegunError(str(error)) from error
    return parent


def _await_end(status: socket.socket) -> Mapping[str, Any]:
    """Wait for the message that tells how the call ended."""
    pid = 0
    with status.makefile("rb") as lines:
        for line in lines:
            message: Mapping[str, Any] = json.loads(line)
            if "exit" in message:
                return message
            pid = message["pid"]
    if not pid:
        why = "killed"
        raise _NeverBegunError(why)
    system.kill_group(pid)  # the child dies with its parent; what it started may not
    raise StageError(FailureKind.INTERRUPTED, "the parent process of the measurements was killed")


def _value(end: Mapping[str, Any], result: bytes) -> JSON:
    log = end["log"]
    code = os.waitstatus_to_exitcode(end["exit"])
    if end["kind"] is not None:
        raise StageError(FailureKind(end["kind"]), end["message"], log)
    if code < 0:
        raise StageError(FailureKind.CRASHED, f"killed by {_signal_name(-code)}", log)
    if code > 0 or not result:
        raise StageError(FailureKind.ERROR, f"its process ended (exit status {code}) without a result", log)
    answer = json.loads(result)
    if "failure" in answer:
        failure = answer["failure"]
        raise StageError(FailureKind(failure["kind"]), failure["message"], log)
    return answer["value"]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _forget() -> None:
    """In a fork of the caller: the parents are not its own."""
    global _lock  # noqa: PLW0603 (another thread may have held it when the process was forked)
    _lock = threading.Lock()
    for parent in _parents.values():
        with contextlib.suppress(OSError):
            parent.control.close()
    _parents.clear()


os.register_at_fork(after_in_child=_forget)
atexit.register(shutdown)

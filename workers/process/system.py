"""The few questions to the Linux kernel that Python's library does not ask."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; at once if ``parent`` is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def give_way() -> None:
    """Take only what nobody else wants of the processor, from now on.

    The idle policy ranks a process within its session only: where the kernel groups processes by session (autogroup, which most
    distributions switch on), a session of idle processes gets as much as any other. So the session steps back as well. Without
    it a build on the same core doubled the time of every call longer than a time slice, and halved the speed of a training.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(FileNotFoundError, PermissionError):  # a kernel without autogroup
        (_PROC / "self" / "autogroup").write_text("19")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and killed."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def thread_count(pid: int | None = None) -> int:
    """Threads of a process, of this one by default; 0 when it is gone."""
    return len(_threads(pid or os.getpid()))


def children(pid: int) -> tuple[int, ...]:
    """The process's direct children, those of all its threads."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
        for task in (_PROC / str(pid) / "task").iterdir():
            found.extend(map(int, (task / "children").read_text().split()))
    return tuple(found)


def ancestor(name: str) -> int | None:
    """The nearest of this process's parents and their parents that has the name; None where none has."""
    pid = os.getppid()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while pid > 1:
            told, _, rest = (_PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
            if told == name:
                return pid
            pid = int(rest.split()[1])
    return None


def tree(pid: int) -> tuple[int, ...]:
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        found.extend(children(parent))
    return tuple(found)


def pin(pid: int, cores: Collection[int]) -> None:
    """Have all threads of a process and of its descendants run on these processors, also those that are just being started."""
    pinned: set[int] = set()
    while True:
        threads = {thread for process in tree(pid) for thread in _threads(process)} - pinned
        if not threads:
            return
        for thread in threads:
            with contextlib.suppress(OSError):  # it has ended, or is a call for processors that do not exist
                os.sched_setaffinity(thread, cores)
        pinned |= threads


def _threads(pid: int) -> list[int]:
    try:
        return [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def resident_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process that is in RAM; 0 when it is gone."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem") if name in fields)


def memory_bytes() -> int:
    """What this machine has, or the container that it is."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of the second and the first version of control groups
        with contextlib.suppress(OSError, ValueError):  # not a container, or "max"
            found.append(int((_GROUPS / name).read_text()))
    return min(found)


def written_bytes(folder: str) -> int:
    """What the files in a folder and its folders take on the disk; 0 when it is gone."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # it is being written and removed while we look
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += written_bytes(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not tell."""
    try:
        counters = dict(line.split() for line in (_PROC / "vmstat").read_text().splitlines())
    except (FileNotFoundError, PermissionError):
        return 0
    return int(counters.get("oom_kill", 0))


def prefer_as_victim() -> None:
    """When memory runs out, let the kernel take this process before the search that started it."""
    (_PROC / "self" / "oom_score_adj").write_text("800")


def kill(pid: int) -> None:
    """SIGKILL for a process; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def session(pid: int) -> int | None:
    """The process's session; None when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def kill_group(leader: int) -> None:
    """SIGKILL for a process group; nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

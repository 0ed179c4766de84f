"""The warmed parent: imports modules once, then forks a child for every call.

``python -m autoopt.workers.process.zygote PRELOAD``, with a socket as stdin: either a connected one, on which its caller's calls
arrive, or one that listens for callers of a node. It stays single-threaded, because a fork copies only the thread that forks and
leaves the others' locks held; where a preloaded module starts a thread all the same, children are spawned afresh instead. A
caller that ends, however it ends, has its calls killed; when the last one is gone, it ends itself, unless a caller has named a keeper
that lives: then it waits for the next one, for half an hour.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import socket
import sys
import time
from collections import deque
from functools import partial
from typing import Any

from autoopt.workers.process import child, system
from autoopt.workers.process.lending import Lending, Wish
from autoopt.workers.process.supervised import Supervised

READY = b"ready"
ORDER_BYTES = 1 << 16
_TICK_S = 0.1
_IDLE_TICK_S = 1.0
# The first caller connects before the parent has even been started.
_FIRST_CALLER_S = 60.0
KEPT_S = 1800.0


def main() -> None:
    """Preload, then serve until every caller is gone."""
    preload = json.loads(sys.argv[1])
    source = socket.socket(fileno=os.dup(0))
    listens = bool(source.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if listens and os.fork():
        os._exit(0)  # no caller's child: it may outlive the one that started it
    system.adopt_orphans()
    for module in preload["first"]:
        _import(module)
    zygote = Zygote(preload["later"])
    try:
        if listens:
            zygote.listen(source)
        else:
            zygote.accept(source)
        zygote.serve()
    finally:
        zygote.close()


def _import(module: str) -> None:
    # OpenVINO reports home from a thread of its own if it finds this package.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's own way of saying "not there"
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 (preloading is a convenience: the child's own import tells the truth)
        print(f"not preloaded: {module}: {error}", file=sys.stderr)


class Zygote:
    """The callers, and the calls that run."""

    def __init__(self, later: list[str]) -> None:
        self._later = deque(later)
        self._selector = selectors.DefaultSelector()
        self._lending = Lending()
        self._listener: socket.socket | None = None
        self._callers: set[socket.socket] = set()
        self._keepers: dict[int, int] = {}
        """Processes, by descriptors that tell of their end."""
        self._running: dict[int, tuple[Supervised, socket.socket]] = {}
        self._ends_at = time.monotonic() + _FIRST_CALLER_S

    def listen(self, listener: socket.socket) -> None:
        """Take every caller that connects."""
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, lambda: self.accept(listener.accept()[0]))

    def accept(self, caller: socket.socket) -> None:
        """Take a caller: it may call from now on."""
        self._callers.add(caller)
        self._selector.register(caller, selectors.EVENT_READ, partial(self._hear, caller))
        with contextlib.suppress(OSError):  # gone already, as will be heard
            caller.send(READY)

    def serve(self) -> None:
        """Until every caller is gone."""
        _freeze()
        heard: list[tuple[selectors.SelectorKey, int]] = []
        # Once more after the last caller has gone: another may just have come.
        while heard or self._callers or (self._listener is not None and time.monotonic() < self._ends_at):
            heard = self._selector.select(self._patience())
            for key, _ in heard:
                key.data()
            if self._later and self._callers and not heard:
                _import(self._later.popleft())
                _freeze()
            for supervised, _ in self._running.values():
                supervised.check()
            self._reap()

    def close(self) -> None:
        """Kill what runs."""
        for supervised, _ in self._running.values():
            supervised.cancel()

    def _patience(self) -> float:
        """Seconds to wait for something to happen."""
        if not self._callers:
            return _IDLE_TICK_S if self._ends_at else 0.0
        if self._later:
            return 0.0
        return _TICK_S if self._running else _IDLE_TICK_S

    def _hear(self, caller: socket.socket) -> None:
        try:
            order, descriptors, _, _ = socket.recv_fds(caller, ORDER_BYTES, 3)
        except ConnectionError:
            order, descriptors = b"", []
        if order:
            self._obey(json.loads(order), descriptors, caller)
            return
        self._ends_at = time.monotonic() + KEPT_S if self._keepers else 0.0
        self._selector.unregister(caller)
        self._callers.remove(caller)
        caller.close()
        for supervised, whose in self._running.values():
            if whose is caller:
                supervised.cancel()

    def _obey(self, order: dict[str, Any], descriptors: list[int], caller: socket.socket) -> None:
        if "keeper" in order:
            self._be_kept(order["keeper"])
        else:
            self._start(order, descriptors, caller)

    def _be_kept(self, keeper: int) -> None:
        if keeper in self._keepers.values():
            return
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(keeper)
            self._keepers[handle] = keeper
            self._selector.register(handle, selectors.EVENT_READ, partial(self._lose, handle))

    def _lose(self, handle: int) -> None:
        """A keeper has ended."""
        self._selector.unregister(handle)
        os.close(handle)
        del self._keepers[handle]
        if not self._keepers:
            self._ends_at = 0.0

    def _start(self, order: dict[str, Any], descriptors: list[int], caller: socket.socket) -> None:
        request, result, status = descriptors
        reader, writer = os.pipe()
        parent = os.getpid()

        def start() -> int:
            if system.thread_count() > 1:
                return _spawn(request, result, writer)
            pid = os.fork()
            if pid == 0:
                self._abandon()
                os.close(status)
                os.close(reader)
                child.run(parent, request, result, writer)
            return pid

        pid = self._lending.start(Wish.of(order), start)
        for descriptor in (request, result, writer):
            os.close(descriptor)
        supervised = Supervised(pid, socket.socket(fileno=status), reader, order)
        self._running[pid] = (supervised, caller)
        supervised.register(self._selector)

    def _abandon(self) -> None:
        """Close this process's descriptors, in a process forked for a call."""
        for supervised, _ in self._running.values():
            supervised.abandon()
        for caller in self._callers:
            caller.close()
        if self._listener is not None:
            self._listener.close()

    def _reap(self) -> None:
        """Collect what has ended, and kill what a finished call left behind."""
        while True:
            try:
                pid, exit_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return  # no child, so no orphan either
            if pid == 0:
                break
            if pid in self._running:
                self._running.pop(pid)[0].finish(exit_status)
                self._lending.end(pid)
        for orphan in set(system.children(os.getpid())) - self._running.keys():
            if system.session(orphan) not in self._running:
                system.kill(orphan)


def _freeze() -> None:
    """Collections in a child would otherwise touch, and so copy, every page."""
    gc.collect()
    gc.freeze()


def _spawn(*descriptors: int) -> int:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 (it takes no keyword)
    command = [sys.executable, "-m", child.__name__, *map(str, descriptors)]
    return os.posix_spawn(sys.executable, command, os.environ)


if __name__ == "__main__":
    main()

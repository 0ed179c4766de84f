"""The warmed parent: imports modules once, then forks a child for every call.

``python -m autoopt.workers.process.zygote MODULE …``, with a socket as stdin on which the calls arrive. It stays single-threaded,
because a fork copies only the thread that forks and leaves the others' locks held; where a preloaded module starts a thread all
the same, children are spawned afresh instead. It ends, and kills what it started, when its stdin closes: when the caller ends,
however it ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import socket
import sys
from typing import Any

from autoopt.workers.process import child, system
from autoopt.workers.process.supervised import Supervised

READY = b"ready"
ORDER_BYTES = 1 << 16
_TICK_S = 0.1


def main() -> None:
    """Preload, report ready, serve until the caller is gone."""
    control = socket.socket(fileno=os.dup(0))
    caller = os.getppid()
    system.adopt_orphans()
    _preload(sys.argv[1:])
    gc.collect()
    gc.freeze()  # collections in a child would otherwise touch, and so copy, every page
    control.send(READY)
    running: dict[int, Supervised] = {}
    try:
        _serve(control, caller, running)
    finally:
        for supervised in running.values():
            supervised.cancel()


def _preload(modules: list[str]) -> None:
    # OpenVINO reports home from a thread of its own if it finds this package.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's own way of saying "not there"
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 (preloading is a convenience: the child's own import tells the truth)
            print(f"not preloaded: {module}: {error}", file=sys.stderr)


def _serve(control: socket.socket, caller: int, running: dict[int, Supervised]) -> None:
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while os.getppid() == caller:
        for key, _ in selector.select(_TICK_S if running else 1.0):
            if key.fileobj is control:
                order, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES, 3)
                if not order:
                    return
                supervised = _start(json.loads(order), descriptors, control, running)
                running[supervised.pid] = supervised
                supervised.register(selector)
            else:
                supervised, event = key.data
                _react(supervised, event)
        for supervised in running.values():
            supervised.check()
        _reap(running)


def _react(supervised: Supervised, event: str) -> None:
    if event == "printed":
        supervised.printed()
    elif event == "cancelled" and supervised.verdict is None:
        supervised.cancel()


def _start(
    order: dict[str, Any], descriptors: list[int], control: socket.socket, running: dict[int, Supervised]
) -> Supervised:
    request, result, status = descriptors
    reader, writer = os.pipe()
    parent = os.getpid()
    if system.thread_count() > 1:
        pid = _spawn(request, result, writer)
    else:
        pid = os.fork()
        if pid == 0:
            for other in running.values():
                other.abandon()
            control.close()
            os.close(status)
            os.close(reader)
            child.run(parent, request, result, writer)
    for descriptor in (request, result, writer):
        os.close(descriptor)
    return Supervised(pid, socket.socket(fileno=status), reader, order)


def _spawn(*descriptors: int) -> int:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 (it takes no keyword)
    command = [sys.executable, "-m", child.__name__, *map(str, descriptors)]
    return os.posix_spawn(sys.executable, command, os.environ)


def _reap(running: dict[int, Supervised]) -> None:
    """Collect what has ended, and kill what a finished call left behind."""
    while True:
        try:
            pid, exit_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # no child, so no orphan either
        if pid == 0:
            break
        if pid in running:
            running.pop(pid).finish(exit_status)
    for orphan in set(system.children(os.getpid())) - running.keys():
        if system.session(orphan) not in running:
            system.kill(orphan)


if __name__ == "__main__":
    main()

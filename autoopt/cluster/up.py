"""Start a node: checked first, then started, then looked at; what does not stand as it should is taken down again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from autoopt.cluster import cores, down, joining, started
from autoopt.cluster.command import Command, command_of
from autoopt.cluster.look import boot, remembered_look
from autoopt.cluster.processes import is_loopback, is_up, listeners, processes_of
from autoopt.cluster.started import Started
from autoopt.cluster.token import require_token
from autoopt.cluster.wish import Wish, check_ports, host_of, node_of
from autoopt.errors import ClusterError
from autoopt.workers.node import Node

START_S = 120.0
LOG = "start.log"
_SLOW = "timed out during startup"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class _SlowMachineError(ClusterError):
    """Ray gives its own processes half a minute, which is too short on a machine that is busy; the second time they are at hand."""


def up(wish: Wish) -> Started:
    """Start a node on this machine.

    Raises:
        ClusterError: it cannot be as it is wished, or did not start; nothing is left of it then.
    """
    node, host = node_of(wish), host_of(wish)
    folder = started.clusters_folder(wish.temp_dir)
    with started.alone(folder):
        record = _planned(wish, node, host, folder)
        if not wish.share_cores:
            _check_cores(record, folder)
        if wish.join is None:
            check_ports(wish, host)
        require_token(make=wish.join is None)
        if wish.join is not None:
            joining.check_joinable(record.address)
        command = command_of(wish, node, record, remembered_look(folder))
        for is_last in (False, True):
            started.write(record, folder)
            try:
                return _start(command, record, folder)
            except BaseException as error:
                down.end(record, folder)
                if is_last or not isinstance(error, _SlowMachineError):
                    raise
    raise AssertionError


def shown(wish: Wish) -> str:
    """The commands that `up` would run, for a shell; nothing is started.

    Raises:
        ClusterError: it cannot be as it is wished.
    """
    node, host = node_of(wish), host_of(wish)
    folder = started.clusters_folder(wish.temp_dir)
    record = _planned(wish, node, host, folder)
    # Ray opens its own folder to everybody, so the one above is closed.
    closed = f"install --directory --mode 700 {shlex.quote(str(folder))}"
    return f"{closed}\n{command_of(wish, node, record, remembered_look(folder)).shell()}"


def reach(record: Started) -> str:
    """On which interfaces a node listens, in words."""
    if is_loopback(record.host):
        return "loopback only: no other machine reaches it"
    return (
        f"ALL interfaces of this machine (Ray's servers, workers and /metrics)"
        f"{f', and {record.host} (the dashboard)' if record.head else ''}; without TLS: for private networks only"
    )


def _planned(wish: Wish, node: Node, host: str, folder: Path) -> Started:
    name = started.new_id()
    return Started(
        id=name,
        kind=node.kind,
        head=wish.join is None,
        address=wish.join.replace("localhost", "127.0.0.1") if wish.join else f"{host}:{wish.port}",
        host=host,
        lane=node.cores.lane,
        work=node.cores.work,
        folder=str(folder / name),
        dashboard="" if wish.join else f"http://{host}:{wish.dashboard_port}",
        boot=boot(),
        started_at=time.time(),
        autoopt=joining.here().autoopt,
    )


def _check_cores(record: Started, folder: Path) -> None:
    """A lane's cores are its own."""
    for other in started.read_all(folder):
        mine, theirs = {*record.lane, *record.work}, {*other.lane, *other.work}
        shared = (set(record.lane) & theirs) | (mine & set(other.lane))
        if shared and processes_of(other):
            message = (
                f"core {cores.shown(sorted(shared))} would be shared with the node {other.id}, which was started here and runs, and a lane's "
                f"cores are its own; give others (--cores), stop it (autoopt cluster down --node {other.id}), or say --share-cores where no figure matters"
            )
            raise ClusterError(message)


def _start(command: Command, record: Started, folder: Path) -> Started:
    own = Path(record.folder)
    own.mkdir(mode=0o700)
    with (own / LOG).open("w+b") as log:
        process = _run(command, log.fileno())
        record = replace(record, session=process.pid)
        started.write(record, folder)
        try:
            code = process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -1
    if code or not is_up(record):
        why = _why(own / LOG, code)
        raise _SlowMachineError(why) if _SLOW in why else ClusterError(why)
    _check_listeners(record)
    return record


def _run(command: Command, output: int) -> subprocess.Popen[bytes]:
    before = os.sched_getaffinity(0)
    # The child inherits it, and so does whatever Ray starts: its servers and the coordinators stay off the lane's cores.
    os.sched_setaffinity(0, command.cores)
    try:
        return subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=command.environment,
            start_new_session=True,
        )
    finally:
        os.sched_setaffinity(0, before)


def _why(log: Path, code: int) -> str:
    lines = [_COLOURS.sub("", line).strip() for line in log.read_text(errors="replace").splitlines()]
    told = next((line for line in reversed(lines) if line), "it said nothing")
    how = f"did not come up within {START_S:g} s" if code == -1 else "did not start"
    return f"the node {how}: {told[-600:]}"


def _check_listeners(record: Started) -> None:
    """That Ray stays on loopback is documented nowhere."""
    if not is_loopback(record.host):
        return
    seen = {address for address in listeners(processes_of(record)) if not is_loopback(address)}
    if seen:
        message = f"the node was stopped at once: Ray listened on {', '.join(sorted(seen))} though it was told to stay on loopback"
        raise ClusterError(message)

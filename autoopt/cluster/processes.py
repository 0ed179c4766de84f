"""The processes of a node, found by what they cannot lose, whichever of them were killed.

All inherit the node's environment variable, but Ray's Python processes overwrite theirs with a title; these stay in the session
of ``ray start``. What starts a session of its own (jobs, stages) keeps the environment, or has a parent that is one of these.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import psutil

from autoopt.cluster.started import Started

RAYLET, HEAD_SERVER = "raylet", "gcs_server"


def processes_of(record: Started) -> list[psutil.Process]:
    """All that live, in no order."""
    if record.before_this_boot:
        return []
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if _belongs(process, record):
            found[process.pid] = process
            found |= {child.pid: child for child in _children(process)}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs, and is not only waiting for its parent to hear that it has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_up(record: Started) -> bool:
    """Whether the node can work: its raylet runs, and a head's server."""
    names = {_name(process) for process in processes_of(record)}
    return RAYLET in names and (HEAD_SERVER in names or not record.head)


def named(processes: Iterable[psutil.Process], *names: str) -> list[psutil.Process]:
    """Those with one of these names."""
    return [process for process in processes if _name(process) in names]


def listeners(processes: Iterable[psutil.Process]) -> dict[str, set[int]]:
    """The addresses on which they listen (TCP), each with its ports."""
    found: dict[str, set[int]] = {}
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(connection.laddr.ip, set()).add(connection.laddr.port)
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _belongs(process: psutil.Process, record: Started) -> bool:
    try:
        if process.uids().real != os.getuid():
            return False
        if json.dumps(str(record.meeting)) in process.environ().get("AUTOOPT_NODE", ""):
            return True
        return record.session is not None and _is_of_session(process, record.session, record.started_at)
    except (psutil.Error, OSError):
        return False


def _is_of_session(process: psutil.Process, session: int, started_at: float) -> bool:
    # The number may have become another session's since: that of a younger leader, of another program.
    if os.getsid(process.pid) != session or process.create_time() < started_at - 1:
        return False
    return (process.pid != session or "ray" in " ".join(process.cmdline())) and _is_rays(process)


def _is_rays(process: psutil.Process) -> bool:
    """Whether this interpreter runs there, or a server of Ray's package."""
    program = Path(process.exe())
    return program == Path(sys.executable).resolve() or program.is_relative_to(_ray_folder())


def _ray_folder() -> Path:
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.resolve()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""

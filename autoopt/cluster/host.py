"""What one machine has to say of itself, without its engines: asked here, and by a task on every node of a cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from autoopt.cluster.processes import RAYLET, is_loopback, listeners
from autoopt.cluster.token import VALUE, is_open
from autoopt.search.cluster import token_path
from autoopt.workers.node import Cores, Node


@dataclass(frozen=True)
class Host:
    """One machine, as a process there sees it."""

    cores: Cores
    """As they are shared out."""
    missing_cores: tuple[int, ...]
    """Of these, those that the process may not use."""
    free_bytes: Mapping[str, int]
    """By folder: how much room its disk has."""
    open_token: str | None
    """The token's file, where others can read it."""
    listens: tuple[str, ...] = ()
    """The addresses, beyond loopback, on which the node's Ray listens."""


def host_here(node: Node, *, rays: bool = False) -> Host:
    """This machine.

    Args:
        node: what this process belongs to.
        rays: whether to look at the sockets of the Ray that started this process.
    """
    return Host(
        cores=node.cores,
        missing_cores=_missing(node.cores.every),
        free_bytes={str(folder): psutil.disk_usage(str(folder)).free for folder in _folders()},
        open_token=_open_token(),
        listens=_beyond_loopback() if rays else (),
    )


def _missing(cores: tuple[int, ...]) -> tuple[int, ...]:
    """Those that cannot be asked for: a process's own affinity may be narrower than what it may widen it to."""
    before = os.sched_getaffinity(0)
    found = []
    try:
        for core in cores:
            try:
                os.sched_setaffinity(0, {core})
            except OSError:
                found.append(core)
    finally:
        os.sched_setaffinity(0, before)
    return tuple(found)


def _folders() -> list[Path]:
    """Where stages and stores write, or would; each the first of its parents that is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "autoopt"
    named = os.environ.get("AUTOOPT_CACHE")
    wanted = (Path(tempfile.gettempdir()), Path(named).expanduser() if named else cache)
    return list(dict.fromkeys(next(path for path in (folder, *folder.parents) if path.is_dir()) for folder in wanted))


def _open_token() -> str | None:
    path = token_path()
    if os.environ.get(VALUE) or not path.exists():
        return None
    return str(path) if is_open(path) else None


def _beyond_loopback() -> tuple[str, ...]:
    """Of the raylet above this process, what it has started, and whatever else serves the same session."""
    raylet = next((parent for parent in psutil.Process().parents() if parent.name() == RAYLET), None)
    if raylet is None:
        return ()
    session = next((part.partition("=")[2] for part in raylet.cmdline() if part.startswith("--session-name=")), "-")
    family = {process.pid: process for process in (raylet, *raylet.children(recursive=True))}
    for process in psutil.process_iter():
        try:
            if any(session in part for part in process.cmdline()):
                family[process.pid] = process
        except psutil.Error:
            continue
    return tuple(sorted(address for address in listeners(family.values()) if not is_loopback(address)))

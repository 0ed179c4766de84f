"""The plain ``ray start`` of a node: its command line, environment and cores, to be run or to be shown."""

from __future__ import annotations

import json
import os
import shlex
import site
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import autoopt
from autoopt.cluster import cores, hook
from autoopt.cluster.labels import labels_of
from autoopt.cluster.look import Look
from autoopt.cluster.processes import is_loopback
from autoopt.cluster.started import Started
from autoopt.cluster.wish import Wish
from autoopt.search.cluster import ENVIRONMENT, LOOPBACK
from autoopt.workers.node import Node

OBJECT_STORE_BYTES = 200_000_000
"""Stages hand over folders, not objects."""

# What would lead the node's processes to another cluster, or to another token than the one that was looked at.
_REMOVED = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@dataclass(frozen=True)
class Command:
    """What starts a node."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    """Set on top of the caller's environment."""
    removed: tuple[str, ...]
    """Not taken over from it."""
    cores: tuple[int, ...]
    """Of Ray's processes and of all that they start, unless it asks for others."""

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment."""
        return {name: value for name, value in os.environ.items() if name not in self.removed} | dict(self.variables)

    def shell(self) -> str:
        """The same as a line for a shell."""
        removed = [f"-u {name}" for name in self.removed if name in os.environ]
        path = [f'PATH={shlex.quote(_interpreters_folder())}:"$PATH"']
        others = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items() if name != "PATH"]
        pinned = f"taskset --cpu-list {cores.shown(self.cores)}"
        return " \\\n  ".join([" ".join(["env", *removed]), *path, *others, pinned, *_flags(self.arguments)])


def command_of(wish: Wish, node: Node, record: Started, look: Look) -> Command:
    """How to start a node.

    Args:
        wish: what was asked.
        node: what it will be.
        record: where it will be.
        look: what the machine offers.
    """
    node = replace(node, meeting=str(record.meeting))
    at_home = is_loopback(record.host)
    slots = {name: count for name, count in node.slots.items() if count}
    labels = labels_of(node.kind, record.id, look)
    return Command(
        arguments=(
            "ray",
            "start",
            *(_head(wish, record) if record.head else ("--address", record.address)),
            *(() if at_home else ("--node-ip-address", record.host)),
            # Several nodes on one machine would take each other's fixed ports.
            *(("--min-worker-port", "0", "--max-worker-port", "0") if at_home else ()),
            *("--dashboard-agent-listen-port", "0"),
            *("--num-cpus", str(len(node.cores.every))),
            *("--resources", json.dumps(slots)),
            *("--labels", ",".join(f"{name}={value}" for name, value in labels.items())),
            *("--object-store-memory", str(OBJECT_STORE_BYTES)),
            *("--temp-dir", record.folder),
            "--disable-usage-stats",
        ),
        variables={
            "PATH": os.pathsep.join((_interpreters_folder(), os.environ.get("PATH", os.defpath))),
            **_import_path(),
            **ENVIRONMENT,
            **(LOOPBACK if at_home else {}),
            "RAY_START_HOOK": hook.NAME,
            **node.environment,
        },
        removed=_REMOVED,
        cores=node.cores.work,
    )


def _head(wish: Wish, record: Started) -> tuple[str, ...]:
    ports = ("--port", str(wish.port), "--dashboard-port", str(wish.dashboard_port))
    return ("--head", *ports, "--dashboard-host", record.host)


def _interpreters_folder() -> str:
    """Ray starts a job's ``python`` by the PATH, and so do we ``ray``."""
    return str(Path(sys.executable).parent)


def _import_path() -> dict[str, str]:
    """Where autoopt is found when it is not installed but run from a clone."""
    home = str(Path(autoopt.__file__).parent.parent)
    if home in site.getsitepackages():
        return {}
    return {
        "PYTHONPATH": os.pathsep.join(
            dict.fromkeys(filter(None, [home, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
        )
    }


def _flags(arguments: tuple[str, ...]) -> list[str]:
    """The command line with a flag on each line."""
    lines: list[str] = []
    for argument in arguments:
        if argument.startswith("--") or not lines:
            lines.append(shlex.quote(argument))
        else:
            lines[-1] += " " + shlex.quote(argument)
    return lines

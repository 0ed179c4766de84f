"""Whether a node of this machine can join a head: asked before anything is started, in a process of its own.

Ray's client ends its process where there is no token, and tries for minutes where nobody answers.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from autoopt import interpreter
from autoopt.cluster.labels import AUTOOPT
from autoopt.cluster.wish import split_address
from autoopt.errors import ClusterError
from autoopt.records import from_json, to_json
from autoopt.search.cluster import ENVIRONMENT, LOOPBACK

CONNECT_S, ANSWER_S = 5.0, 20.0


@dataclass(frozen=True)
class Versions:
    """What must be the same on all nodes."""

    ray: str
    python: str
    autoopt: str
    """Empty where the head did not say."""


def check_joinable(address: str) -> None:
    """Ask the head.

    Raises:
        ClusterError: nobody answers there, it is no head, the token is not its, or it has other versions.
    """
    host, port = split_address(address)
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        message = f"nothing answers at {address} ({error.strerror or error}); is that what `autoopt cluster up` on the head printed, and does it run?"
        raise ClusterError(message) from error
    check_versions(address, _asked(address), here())


def check_versions(address: str, head: Versions, mine: Versions) -> None:
    """Whether the two go together.

    Raises:
        ClusterError: they do not.
    """
    for name, theirs, ours in (
        ("Ray", head.ray, mine.ray),
        ("Python", head.python, mine.python),
        ("autoopt", head.autoopt, mine.autoopt),
    ):
        if theirs and theirs != ours:
            message = f"the head at {address} has {name} {theirs}, this machine has {ours}; install the same version on all machines of a cluster"
            raise ClusterError(message)


def here() -> Versions:
    """Those of this interpreter."""
    return Versions(metadata.version("ray"), platform.python_version(), metadata.version("autoopt"))


def _asked(address: str) -> Versions:
    with tempfile.TemporaryDirectory(prefix="autoopt-") as folder:
        answer = Path(folder) / "answer.json"
        at_home = LOOPBACK if address.startswith(("127.", "localhost")) else {}
        try:
            subprocess.run(
                interpreter.command("autoopt.cluster.joining:main", address, str(answer)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ANSWER_S,
                check=False,
                env=interpreter.environment() | ENVIRONMENT | at_home,
            )
        except subprocess.TimeoutExpired:
            answer.unlink(missing_ok=True)
        found = json.loads(answer.read_text()) if answer.exists() else {}
    if "token" in found:
        message = f"the head at {address} does not accept this machine's token; copy the head's ~/.ray/auth_token here (mode 600)"
        raise ClusterError(message)
    if "ray" not in found:
        message = f"what listens at {address} is no head of a Ray cluster; give the address that `autoopt cluster up` printed there, not the dashboard's"
        raise ClusterError(message)
    return from_json(Versions, found)


def main(arguments: list[str]) -> None:
    """In the process of its own."""
    address, answer = arguments
    from ray._common.usage import usage_lib
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.exceptions import AuthenticationError

    try:
        client = GcsClient(address=address)
        told = usage_lib.get_cluster_metadata(client)
        nodes = client.get_all_node_info(timeout=CONNECT_S)
    except AuthenticationError:
        found: object = {"token": "refused"}
    else:
        heads = [dict(node.labels) for node in nodes.values() if node.is_head_node]
        version = heads[0].get(AUTOOPT, "") if heads else ""
        found = Versions(told["ray_version"], told["python_version"], version)
    Path(answer).write_text(json.dumps(to_json(found)))

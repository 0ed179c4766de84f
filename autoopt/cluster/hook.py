"""What ``ray start`` cannot be told by flags; it calls this itself, by the name in ``$RAY_START_HOOK``.

Ray serves its old client protocol (Ray Client) wherever gRPC for Python is installed, and refuses a second node on loopback.
"""

from __future__ import annotations

import os
from typing import Any

NAME = f"{__name__}.on_start"
LOOPBACK = "127.0.0.1"


def on_start(parameters: Any, head: bool) -> None:  # noqa: FBT001 (Ray's signature)
    """Change what is about to be started.

    Args:
        parameters: Ray's ``RayParams``.
        head: whether it is the head.
    """
    from ray._private import ray_constants, services

    os.environ.pop("RAY_START_HOOK", None)  # it is for this process only
    parameters.ray_client_server_port = None
    if not head and not ray_constants.ENABLE_RAY_CLUSTER:
        # Ray would refuse, or else give the head and this node the machine's routable address and listen everywhere.
        ray_constants.ENABLE_RAY_CLUSTER = True
        services.resolve_ip_for_localhost = _as_it_is
        parameters.node_ip_address = LOOPBACK


def _as_it_is(host: str) -> str:
    return host

"""The way of a client to a cluster: HTTP to the head's dashboard, with the token. Needs no Ray, and says at once what is wrong."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Any

from autoopt.cluster.token import token
from autoopt.errors import ClusterError

DASHBOARD_PORT = 8265
"""Ray's usual one."""
ANSWER_S = 10.0
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_ADDRESS = re.compile(r"(?:(https?)://)?([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?/?")


@dataclass(frozen=True)
class Head:
    """A cluster's head that has answered."""

    address: str
    """``http://host:port``."""
    ray: str
    """Ray's version there."""
    clock: float
    """What its clock says, in seconds since the epoch; to the second."""


def reach(address: str) -> Head:
    """Ask a cluster whether it is there and lets us in; afterwards Ray's own clients find what they need in the environment.

    Args:
        address: of the dashboard, ``http://host:port``.

    Raises:
        ClusterError: it is no such address, nobody answers there, something else does, the token is missing or wrong, or
            Ray has another version there.
    """
    address = normalized(address)
    data, date = _answer(address, "/api/version")
    if not isinstance(data, dict) or "ray_version" not in data:
        raise _stranger(address)
    version = metadata.version("ray")
    if data["ray_version"] != version:
        message = f"the cluster at {address} runs Ray {data['ray_version']}, this machine has {version}; install ray=={data['ray_version']} here, or the same on all machines"
        raise ClusterError(message)
    if token() is not None:
        # Ray's clients send the token only when they are told to; without one they would end this process.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    return Head(address, data["ray_version"], date)


def normalized(address: str) -> str:
    """The address as ``http://host:port``.

    Raises:
        ClusterError: it is none.
    """
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        message = f"{address!r} is not the address of a cluster; write http://host:{DASHBOARD_PORT}, as `autoopt cluster up` printed it"
        raise ClusterError(message)
    scheme, host, port = match[1] or "http", match[2], match[3] or str(DASHBOARD_PORT)
    return f"{scheme}://{host}:{port}"


def ask(address: str, path: str, *, patience_s: float = ANSWER_S, post: Mapping[str, Any] | None = None) -> Any:
    """What the dashboard answers, as JSON values.

    Args:
        address: as `normalized`.
        path: ``/api/…``.
        patience_s: how long to wait.
        post: what is sent, where something is asked to be done.

    Raises:
        ClusterError: it does not answer, or does not let us in.
    """
    return _answer(address, path, patience_s, post)[0]


def _answer(
    address: str, path: str, patience_s: float = ANSWER_S, post: Mapping[str, Any] | None = None
) -> tuple[Any, float]:
    secret = token()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    body = None if post is None else json.dumps(post).encode()
    asked = urllib.request.Request(address + path, body, headers)  # noqa: S310 (`normalized` lets HTTP through only)
    try:
        with urllib.request.urlopen(asked, timeout=patience_s) as answer:  # noqa: S310
            return json.loads(answer.read()), _date(answer.headers.get("Date"))
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(address, error.code, given=secret is not None) from None
    except (http.client.HTTPException, ValueError):
        raise _stranger(address) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or reason
        message = f"no cluster answers at {address} ({said}); does it run, is that its dashboard's address, and can this machine reach it?"
        raise ClusterError(message) from error


def _refused(address: str, code: int, *, given: bool) -> ClusterError:
    if code == _UNAUTHORIZED and not given:
        message = f"the cluster at {address} wants a token, and there is none here; copy the head's ~/.ray/auth_token here (mode 600)"
    elif code in (_UNAUTHORIZED, _FORBIDDEN):
        message = f"the cluster at {address} does not accept this machine's token; copy the head's ~/.ray/auth_token here (mode 600)"
    else:
        message = (
            f"the cluster at {address} answers with the HTTP status {code}; is that the dashboard of a Ray cluster?"
        )
    return ClusterError(message)


def _stranger(address: str) -> ClusterError:
    message = f"what answers at {address} is not the dashboard of a Ray cluster; write its address, as `autoopt cluster up` printed it"
    return ClusterError(message)


def _date(header: str | None) -> float:
    # The header is cut to the second.
    return parsedate_to_datetime(header).timestamp() + 0.5 if header else float("nan")

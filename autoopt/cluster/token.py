"""Ray's token: whoever has it may run any program on the cluster, so only its user may read it."""

from __future__ import annotations

import os
from pathlib import Path

from autoopt.errors import ClusterError
from autoopt.search.cluster import private_token, token_path

VALUE = "RAY_AUTH_TOKEN"
"""The variable that holds a token itself; Ray looks there first."""


def token() -> str | None:
    """The token that Ray's clients send from here; None where there is none.

    Raises:
        ClusterError: its file cannot be read.
    """
    given = os.environ.get(VALUE, "").strip()
    if given:
        return given
    try:
        return token_path().read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"the token in {token_path()} cannot be read ({error}); let it be readable for you alone (chmod 600)"
        raise ClusterError(message) from error


def require_token(*, make: bool) -> None:
    """See to it that there is a token, and that nobody else may read it: no cluster is started without.

    Args:
        make: make one where there is none; a node that joins needs the head's instead.

    Raises:
        ClusterError: there is none, or its file cannot be made or closed to others.
    """
    if os.environ.get(VALUE, "").strip():
        return
    path = token_path()
    if not make and token() is None:
        message = f"a node joins with the head's token, and there is none at {path}; copy the head's ~/.ray/auth_token there (mode 600)"
        raise ClusterError(message)
    try:
        private_token()
    except OSError as error:
        message = f"the token {path} cannot be made, or closed to other users ({error.strerror}); no cluster is started without"
        raise ClusterError(message) from error
    if token() is None:
        message = f"the token {path} is empty; remove it, and a new one is made"
        raise ClusterError(message)
    if is_open(path):
        message = f"the token {path} can be read by other users, and is not yours to close; say `chmod 600 {path}` as its owner"
        raise ClusterError(message)


def is_open(path: Path) -> bool:
    """Whether others may read it."""
    return bool(path.stat().st_mode & 0o077)

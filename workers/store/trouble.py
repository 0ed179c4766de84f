"""What a remote file system's errors mean, in a sentence that says what to do.

Every implementation raises what its own client library does, so an error is judged by what all have in common: its place
in Python's tree, its number, the code in the server's answer, the name of its class.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum

from autoopt.errors import StoreError


class UnreachableError(StoreError):
    """The store does not answer, for longer than was waited for it."""


class Trouble(Enum):
    """What is the matter, and what to do about it."""

    DENIED = "refuses access: {error}; give credentials that may list, read, write and delete there"
    NO_BUCKET = "has no such bucket or folder: {error}; create it, or name another"
    FULL = "is full: {error}; free space there or raise the quota"
    UNUSABLE = "cannot be used as a store: {error}; look at its address and options"
    UNREACHABLE = "cannot be reached: {error}; look at its address, the network and the server"


# By name, for these libraries need not be installed.
_WITHOUT_RIGHTS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "ProfileNotFound",
        "DefaultCredentialsError",
        "ClientAuthenticationError",
        "AuthenticationException",
        "LogonFailure",
        "error_perm",
    }
)
_DENIED_CODES = frozenset({"401", "403"})
_UNUSABLE_CODES = frozenset({"400", "405", "501"})
_FULL_CODES = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNUSABLE = frozenset({errno.EINVAL, errno.EREMCHG, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EROFS})
_UNUSABLE_NAMES = frozenset({"ParamValidationError", "InvalidRegionError", "UnknownEndpointError"})


def trouble_of(error: Exception) -> Trouble | None:
    """What an error of a file system means; None for one that is nobody's fault but the program's own."""
    causes = list(_causes(error))
    codes, names = {_code(cause) for cause in causes}, {type(cause).__name__ for cause in causes}
    number = error.errno if isinstance(error, OSError) else None
    # A dropped connection is an EOFError to clients of FTP and SFTP.
    is_the_clients = type(error).__module__ != "builtins" or isinstance(error, OSError | EOFError)
    # The first that applies: a library's error may be several of these.
    signs = (
        (Trouble.FULL, codes & _FULL_CODES or number in _FULL),
        (Trouble.DENIED, codes & _DENIED_CODES or names & _WITHOUT_RIGHTS or isinstance(error, PermissionError)),
        (Trouble.NO_BUCKET, isinstance(error, FileNotFoundError)),
        (Trouble.UNUSABLE, codes & _UNUSABLE_CODES or names & _UNUSABLE_NAMES or number in _UNUSABLE),
        (Trouble.UNUSABLE, isinstance(error, ValueError | NotImplementedError)),
        (Trouble.UNREACHABLE, is_the_clients),
    )
    return next((trouble for trouble, applies in signs if applies), None)


def lacks_bucket(error: OSError) -> bool:
    """Whether it is not only the file that is missing."""
    return any(_code(cause) == "NoSuchBucket" for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _code(error: BaseException) -> str:
    """The code in the answer of an S3 server, or an HTTP server's status."""
    response = getattr(error, "response", None)
    details = response.get("Error") if isinstance(response, dict) else None
    if isinstance(details, dict):
        return str(details.get("Code", ""))
    return str(getattr(error, "status", ""))

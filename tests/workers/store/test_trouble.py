"""What the errors of many clients mean: those that can be had without the clients, in the shapes in which they raise them."""

from __future__ import annotations

import asyncio
import errno
import ftplib
import os

import botocore.exceptions
import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from autoopt.workers.store.trouble import Trouble, lacks_bucket, trouble_of


def of_s3(code: str) -> Exception:
    answer = {"Error": {"Code": code, "Message": "in the server's words"}}
    translated: Exception = translate_boto_error(botocore.exceptions.ClientError(answer, "PutObject"))
    return translated


def of_the_system(code: int) -> OSError:
    return OSError(code, os.strerror(code))


MEANINGS = {
    Trouble.DENIED: [
        *map(
            of_s3,
            [
                "AccessDenied",
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "ExpiredToken",
                "403",
                "RequestTimeTooSkewed",
            ],
        ),
        botocore.exceptions.NoCredentialsError(),
        botocore.exceptions.ProfileNotFound(profile="nobody"),
        of_the_system(errno.EACCES),
        of_the_system(errno.EPERM),
        ftplib.error_perm("530 Login incorrect."),
    ],
    Trouble.NO_BUCKET: [of_s3("NoSuchBucket"), of_the_system(errno.ENOENT)],
    Trouble.FULL: [
        of_the_system(errno.ENOSPC),
        of_the_system(errno.EDQUOT),
        of_s3("QuotaExceeded"),
        of_s3("XMinioStorageFull"),
    ],
    Trouble.UNUSABLE: [
        *map(
            of_s3,
            [
                "InvalidBucketName",
                "PermanentRedirect",
                "AuthorizationHeaderMalformed",
                "NotImplemented",
            ],
        ),
        botocore.exceptions.ParamValidationError(report="Invalid bucket name"),
        ValueError("Invalid endpoint: x"),
        NotImplementedError(),
        of_the_system(errno.EROFS),
    ],
    Trouble.UNREACHABLE: [
        *map(
            of_s3,
            [
                "SlowDown",
                "ServiceUnavailable",
                "InternalError",
                "503",
                "RequestTimeout",
                "OperationAborted",
                "Whatever",
            ],
        ),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://host"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://host"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="http://host"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ConnectionResetError(),
        TimeoutError(),
        EOFError(),
        FSTimeoutError(),
        asyncio.IncompleteReadError(b"", 3),
        ClientPayloadError(),
        ServerDisconnectedError(),
        of_the_system(errno.ENETUNREACH),
        of_the_system(errno.EIO),
        ftplib.error_temp("421 Too many users."),
    ],
    None: [TypeError("a mistake"), KeyError("of the program"), AttributeError(), RuntimeError()],
}


@pytest.mark.parametrize(
    ("meant", "error"), [(meant, error) for meant, errors in MEANINGS.items() for error in errors], ids=repr
)
def test_an_error_means(meant: Trouble | None, error: Exception) -> None:
    assert trouble_of(error) is meant


def test_a_missing_bucket_is_told_from_a_missing_file() -> None:
    assert lacks_bucket(of_s3("NoSuchBucket"))
    assert not lacks_bucket(of_s3("NoSuchKey"))
    assert not lacks_bucket(FileNotFoundError())

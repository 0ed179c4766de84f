from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

sys.path.append(str(Path(__file__).parent))  # for the places where stores are kept

from places import FileServerPlace, FolderPlace, Place, S3Place

from autoopt.testing.s3 import S3Server


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """S3's client reads descriptions of the service when it is made, half of the time of these tests, which make a hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture
def s3(tmp_path: Path, s3_server: S3Server) -> S3Place:
    return S3Place(tmp_path, s3_server)


@pytest.fixture(params=["folder", "file server", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return S3Place(tmp_path, request.getfixturevalue("s3_server"))
    return FolderPlace(tmp_path) if request.param == "folder" else FileServerPlace(tmp_path)


@pytest.fixture(params=["file server", "s3"])
def remote_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return (
        S3Place(tmp_path, request.getfixturevalue("s3_server")) if request.param == "s3" else FileServerPlace(tmp_path)
    )

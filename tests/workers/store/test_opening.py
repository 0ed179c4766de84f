"""From an address to a store: what is meant, and one clear sentence where it cannot be."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from places import S3Place, key, publish

from autoopt.errors import StoreError, UserError
from autoopt.testing.s3 import SECRET
from autoopt.workers.store import (
    LocalStore,
    RemoteStore,
    check_store,
    default_store,
    full_address,
    node_cache,
    open_store,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOOPT_CACHE", str(tmp_path / "node cache"))
    monkeypatch.delenv("AUTOOPT_STORE", raising=False)


def test_a_path_and_a_file_url_are_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for where, meant in [
        (tmp_path / "store", "store"),
        (str(tmp_path / "store"), "store"),
        ("store", "store"),
        ("a:b@c", "a:b@c"),
        ("~/store", "home/store"),
        (f"file://{tmp_path}/a%20b", "a b"),
        (f"file://localhost{tmp_path}/store", "store"),
    ]:
        store = open_store(where)
        assert isinstance(store, LocalStore)
        assert store.root == tmp_path / meant


def test_a_url_is_a_remote_store_with_a_cache_of_its_own_on_this_node(s3: S3Place, tmp_path: Path) -> None:
    store = open_store(s3.url)
    assert isinstance(store, RemoteStore)
    place = publish(store, "a")
    assert place.is_relative_to(tmp_path / "node cache")
    (cache,) = (tmp_path / "node cache").iterdir()
    assert cache.stat().st_mode & 0o077 == 0
    # The same with another password, another with another folder.
    again = open_store(s3.url.replace("not%2Fa", "another%2Fa"))
    assert again.get(key("a")) == place
    assert open_store(s3.url.replace("/store?", "/other?")).get(key("a")) is None
    assert open_store(s3.url) is store


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (
            "nonsense://bucket/p",
            r"protocol that is not known; allowed are a folder's path, s3://, .*whatever else fsspec",
        ),
        ("gs://bucket/p", r'needs a package that is not installed: pip install "gcsfs"'),
        ("gdrive://bucket/p", r"needs a package that is not installed: .*gdrive_fs"),
        ("memory://bucket/p", r"would be lost with its process; name a folder"),
        ("simplecache::s3://bucket/p", r"is a chain of file systems; name the one where the files lie"),
        ("s3://", r"names no folder; one looks like s3://bucket/folder"),
        ("s3://bucket/a*", r"names no folder; .*without any of \* \[ \]"),
        ("s3://AKIA:abc/def@bucket/p", r"s3://AKIA:\*\*\*@bucket/p seems to have a / .*write %2F"),
        ("s3://bucket/p?config_kwargs={x", r"is no usable address"),
        ("file://host/path", r"names a machine; a folder is file:///with/three/slashes"),
        (Path("s3://bucket/p"), r"has lost a slash, .* made a Path; give s3://bucket/p as text"),
        (Path("s3://AKIA:abcdef@bucket/p"), r"give s3://AKIA:\*\*\*@bucket/p as text"),
        ("s3:/bucket/p", r"has lost a slash"),
    ],
)
def test_an_address_that_cannot_be_a_store_is_told_at_once(where: str | Path, told: str) -> None:
    for use in (open_store, check_store):
        with pytest.raises(UserError, match=told) as failure:
            use(where)
        assert "abc" not in str(failure.value)
        assert "\n" not in str(failure.value)


WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None
from autoopt.workers.store import open_store
try:
    open_store("s3://bucket/p")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_the_extra_s3_its_command_is_told() -> None:
    told = subprocess.run([sys.executable, "-c", WITHOUT_S3FS], capture_output=True, text=True, check=True).stdout
    assert told.strip() == (
        'UserError the store s3://bucket/p needs a package that is not installed: pip install "autoopt[s3]"'
    )


def test_a_folder_is_opened_without_fsspec(tmp_path: Path) -> None:
    code = f"import sys; from autoopt.workers.store import open_store; open_store({str(tmp_path)!r}); print('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_store_that_does_what_a_job_needs_passes_the_check_and_nothing_is_left(s3: S3Place, tmp_path: Path) -> None:
    check_store(s3.url)
    assert s3.kept() == {}
    check_store(tmp_path / "store")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_an_unreachable_endpoint_is_told_within_seconds(s3: S3Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(
            UserError, match=r"cannot be reached: .*look at its address, the network and the server$"
        ) as failure:
            check_store(s3.url.replace(s3.server.endpoint, nobody))
        assert time.monotonic() - began < 30
        assert SECRET not in str(failure.value)
    with pytest.raises(UserError, match="cannot be reached"):
        check_store(s3.url.replace(s3.server.endpoint, "http://no-such-host.invalid"))


def test_a_secret_in_a_clients_own_words_is_not_shown() -> None:
    told = r"cannot be used as a store: Invalid endpoint: http://user:\*\*\*@no!host; look at its address and options$"
    with pytest.raises(UserError, match=told):
        check_store("s3://bucket/p?endpoint_url=http://user:topsecret@no!host")


def test_a_missing_bucket_is_told_by_the_check(s3: S3Place) -> None:
    with pytest.raises(UserError, match=r"has no such bucket or folder: .*create it, or name another$"):
        check_store(s3.server.url("nobodys-bucket"))


@pytest.fixture
def secure(s3: S3Place) -> Iterator[S3Place]:
    yield s3
    s3.server.tell("secure no")


@pytest.mark.parametrize("actions", [("s3:GetObject", "s3:ListBucket"), ("sqs:SendMessage",)])
def test_a_lack_of_rights_is_told_by_the_check(secure: S3Place, actions: tuple[str, ...]) -> None:
    key_id, secret = secure.server.user(f"user-{secure.bucket}", *actions)
    secure.server.tell("secure yes")
    with pytest.raises(
        UserError, match=r"refuses access: .*give credentials that may list, read, write and delete there$"
    ):
        check_store(secure.server.url(secure.bucket, key_id, secret))
    with pytest.raises(UserError, match="refuses access"):
        check_store(secure.server.url(secure.bucket, key_id, "wrong"))


def test_who_may_not_delete_is_told_by_the_check(secure: S3Place) -> None:
    user = secure.server.user(f"user-{secure.bucket}", "s3:GetObject", "s3:ListBucket", "s3:PutObject")
    secure.server.tell("secure yes")
    with pytest.raises(UserError, match=r"does not let anything be removed"):
        check_store(secure.server.url(secure.bucket, *user))


def test_without_credentials_this_is_what_is_told(s3: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"refuses access: Unable to locate credentials; give credentials"):
        check_store(f"s3://{s3.bucket}/p?endpoint_url={s3.server.endpoint}")


def test_credentials_of_the_environment_are_taken(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.server.endpoint)
    check_store(f"s3://{s3.bucket}/p")


def test_an_option_that_nobody_knows_is_told(s3: S3Place) -> None:
    with pytest.raises(UserError, match=r"nonsense.*look at .*options"):
        check_store(f"{s3.url}&nonsense=1")


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_what_can_only_be_read_is_told() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=r"cannot be used as a store: .*look at its address and options$"):
            check_store(f"http://127.0.0.1:{server.server_port}/store")
        server.shutdown()


def test_a_folder_that_may_not_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3Place) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name a folder"):
        check_store(tmp_path / "file" / "store")
    monkeypatch.setenv("AUTOOPT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StoreError, match=r"the cache .* cannot be made: .*set AUTOOPT_CACHE"):
        open_store(s3.url)


def test_a_cache_of_somebody_else_is_not_trusted(s3: S3Place, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may give a folder away")
    check_store(s3.url)
    (cache,) = (tmp_path / "node cache").iterdir()
    os.chown(cache, 1234, -1)
    with pytest.raises(StoreError, match="belongs to somebody else"):
        open_store(s3.url)


def test_an_address_is_completed_for_a_process_elsewhere_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for where, meant in [
        ("store", str(tmp_path / "store")),
        (Path("~/store"), str(tmp_path / "home/store")),
        ("file:///a/b", "file:///a/b"),
        ("s3://bucket/p?endpoint_url=http://127.0.0.1:9", "s3://bucket/p?endpoint_url=http://127.0.0.1:9"),
    ]:
        assert full_address(where) == meant
    for where in ("nonsense://bucket/p", Path("s3://bucket/p"), "s3://AKIA:abc/def@bucket/p", "file://host/p"):
        with pytest.raises(UserError):
            full_address(where)
    assert not list(tmp_path.iterdir())


def test_the_default_store_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("AUTOOPT_CACHE")
    assert default_store() == str(tmp_path / ".cache/autoopt/store")
    assert node_cache() == tmp_path / ".cache/autoopt/remote"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_store() == str(tmp_path / "xdg/autoopt/store")
    for named, meant in [("~/s", str(tmp_path / "s")), ("/a/b", "/a/b"), ("s3://bucket/p", "s3://bucket/p")]:
        monkeypatch.setenv("AUTOOPT_STORE", named)
        assert default_store() == meant


def test_no_log_shows_a_secret(s3: S3Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "autoopt"):
        store = open_store(s3.url)
        publish(store, "a")
    assert SECRET not in f"{caplog.text} {store!r} {vars(store)}"

"""The remote store under damage, kill -9, outages, lack of rights and of space: a real server, real processes, real disks."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from places import FileServerPlace, Place, S3Place, key, publish

from autoopt.errors import StoreError
from autoopt.testing.s3 import SECRET
from autoopt.workers.store import RemoteStore, checksums, remote
from autoopt.workers.store.artifacts import DamagedError, RemoteArtifacts
from autoopt.workers.store.folder import RemoteFolder


def manifest_of(place: Place, name: str) -> str:
    return f"published/{key(name)}.json"


def file_of(place: Place, name: str) -> str:
    (found,) = [path for path in place.kept() if path.endswith("/sub/file.bin") and key(name) in path]
    return found


def truncate_a_file(place: Place) -> None:
    place.put(file_of(place, "a"), b"con")


def change_a_file(place: Place) -> None:
    place.put(file_of(place, "a"), b"Content")


def remove_a_file(place: Place) -> None:
    place.put(file_of(place, "a"), None)


def truncate_the_manifest(place: Place) -> None:
    place.put(manifest_of(place, "a"), place.kept()[manifest_of(place, "a")][:50])


def empty_the_manifest(place: Place) -> None:
    place.put(manifest_of(place, "a"), b"")


DAMAGES = [truncate_a_file, change_a_file, remove_a_file, truncate_the_manifest, empty_the_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_removed_and_said_and_can_be_made_again(
    remote_place: Place, damage: Callable[[Place], None], caplog: pytest.LogCaptureFixture
) -> None:
    publish(remote_place.open("first"), "a")
    damage(remote_place)
    second = remote_place.open("second")
    assert second.get(key("a")) is None
    assert f"artifact {key('a')[:12]}" in caplog.text
    assert "is damaged" in caplog.text
    assert manifest_of(remote_place, "a") not in remote_place.kept()
    publish(second, "a", b"made again")
    got = remote_place.open("third").get(key("a"))
    assert got is not None
    assert (got / "sub" / "file.bin").read_bytes() == b"made again"


def test_what_was_damaged_on_the_way_is_fetched_again_and_stays(
    remote_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(remote_place.open("first"), "a")
    before = remote_place.kept()
    ways, write = [], checksums.write

    def arrive(folder: Path) -> dict[str, str]:
        if not ways:
            os.truncate(folder / "sub" / "file.bin", 3)
        ways.append(folder)
        return write(folder)

    monkeypatch.setattr(checksums, "write", arrive)
    got = remote_place.open("second").get(key("a"))
    assert got is not None
    assert (got / "sub" / "file.bin").read_bytes() == b"content"
    assert remote_place.kept() == before


def test_a_late_remover_leaves_what_was_published_anew(remote_place: Place, tmp_path: Path) -> None:
    publish(remote_place.open("first"), "a")
    (tmp_path / "records").mkdir()
    artifacts = RemoteArtifacts(RemoteFolder(remote_place.url), tmp_path / "records")
    seen = artifacts.find(key("a"))
    truncate_a_file(remote_place)
    assert remote_place.open("second").get(key("a")) is None
    publish(remote_place.open("second"), "a")
    artifacts.discard(key("a"), seen, DamagedError("as it was"))
    assert remote_place.open("third").get(key("a")) is not None


def test_a_damaged_copy_in_a_cache_is_fetched_again(remote_place: Place) -> None:
    copy = publish(remote_place.open("first"), "a")
    os.truncate(copy / "sub" / "file.bin", 3)
    got = remote_place.open("first").get(key("a"))
    assert got is not None
    assert (got / "sub" / "file.bin").read_bytes() == b"content"


def test_what_the_store_has_lost_comes_back_from_a_node_that_has_it(
    remote_place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = remote_place.open("first")
    publish(first, "a")
    truncate_a_file(remote_place)
    assert remote_place.open("second").get(key("a")) is None
    monkeypatch.setattr(remote, "TRUSTED_FOR_S", 0.0)
    assert first.get(key("a")) is not None
    assert "has lost artifact" in caplog.text
    got = remote_place.open("second").get(key("a"))
    assert got is not None
    assert (got / "sub" / "file.bin").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["../../../../stolen", "{tmp_path}/stolen", "sub/../../../../stolen", ".."])
def test_a_manifest_that_leads_out_of_the_artifact_is_damage(s3: S3Place, name: str, tmp_path: Path) -> None:
    name = name.format(tmp_path=tmp_path)
    publish(s3.open("first"), "a")
    manifest = json.loads(s3.kept()[manifest_of(s3, "a")])
    where = f"artifacts/{key('a')}/{manifest['upload']}/{name}"
    s3.put(where, b"stolen")
    manifest["sha256"] = {name: "0" * 64}
    s3.put(manifest_of(s3, "a"), json.dumps(manifest).encode())
    assert s3.open("second").get(key("a")) is None
    assert not list(tmp_path.rglob("stolen"))


def test_a_missing_key_costs_one_request_and_one_at_hand_none(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TRUSTED_FOR_S", 1000.0)
    first, second = s3.open("first"), s3.open("second")
    publish(first, "a")
    s3.server.requests()
    for store in (first, second):
        assert store.get(key("b")) is None
        assert len(s3.server.requests()) == 1
    assert second.get(key("a")) is not None
    assert len(s3.server.requests()) == 3  # manifest and files
    for store in (first, second):
        assert store.get(key("a")) is not None
        assert s3.server.requests() == []
    fresh = s3.open("second")
    assert fresh.get(key("a")) is not None
    assert len(s3.server.requests()) == 1


def test_the_processes_of_a_node_fetch_an_artifact_once(s3: S3Place) -> None:
    publish(s3.open("first"), "a", bytes(1 << 20))
    s3.server.requests()
    got: list[Path | None] = []
    threads = [threading.Thread(target=lambda: got.append(s3.open("second").get(key("a")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert None not in got
    assert len([request for request in s3.server.requests() if "file.bin" in request]) == 1


def test_two_nodes_that_publish_a_key_at_the_same_moment_do_not_mix(s3: S3Place) -> None:
    # Both have seen that nothing is published yet when the first writes its manifest.
    s3.server.tell(f"hold PUT.*/published/{key('a')}")
    first = threading.Thread(target=publish, args=(s3.open("first"), "a", b"of the first"))
    second = threading.Thread(target=publish, args=(s3.open("second"), "a", b"of the second"))
    try:
        first.start()
        second.start()
        seen: list[str] = []
        while len([request for request in seen if "PUT" in request and "published" in request]) < 2:
            seen += s3.server.requests()
            time.sleep(0.02)
    finally:
        s3.server.tell("release")
    first.join()
    second.join()
    got = s3.open("third").get(key("a"))
    assert got is not None
    assert (got / "sub" / "file.bin").read_bytes() in (b"of the first", b"of the second")


PUBLISHER = """
import sys
from pathlib import Path
sys.path.append(sys.argv[3])
from places import publish
from autoopt.workers.store import RemoteStore
publish(RemoteStore(sys.argv[1], Path(sys.argv[2])), "a")
"""


@contextmanager
def publisher(place: S3Place, node: str) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [place.url, str(place.caches / node), str(Path(__file__).parent)]
    with subprocess.Popen([sys.executable, "-c", PUBLISHER, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("held", ["artifacts", "published"])
def test_kill_9_in_the_middle_of_an_upload_leaves_nothing_to_be_seen_and_is_cleaned_up(
    s3: S3Place, held: str, caplog: pytest.LogCaptureFixture
) -> None:
    s3.server.requests()
    file = "file.bin" if held == "artifacts" else "json"
    s3.server.tell(f"hold PUT.*/{held}/.*{file}")
    try:
        with publisher(s3, "first") as process:
            while not any(request.startswith("PUT") and f"/{held}/" in request for request in s3.server.requests()):
                assert process.poll() is None
                time.sleep(0.02)
            left = set(s3.kept()) if held == "published" else set()
            process.send_signal(signal.SIGKILL)
            process.wait()
    finally:
        s3.server.tell("release")
    assert len(left) == (2 if held == "published" else 0)
    second = s3.open("second")
    assert list(second.keys()) == []
    assert second.get(key("a")) is None
    assert "damaged" not in caplog.text
    first = s3.open("first")
    assert first.get(key("a")) is None
    publish(first, "b")
    assert not [path for path in s3.kept() if key("a") in path]
    publish(first, "a")
    assert s3.open("second").get(key("a")) is not None


def test_what_was_published_by_a_process_killed_right_after_it_stays(remote_place: Place) -> None:
    first = remote_place.open("first")
    publish(first, "z")
    publish(first, "a")
    records = remote_place.caches / "first" / "uploads"
    assert list(records.iterdir()) == []
    upload = json.loads(remote_place.kept()[manifest_of(remote_place, "a")])["upload"]
    (records / upload).write_text(key("a"))
    publish(remote_place.open("first"), "b")
    assert list(records.iterdir()) == []
    assert remote_place.open("second").get(key("a")) is not None


def test_an_upload_under_way_is_not_cleaned_up(s3: S3Place) -> None:
    s3.server.tell(f"hold PUT.*/published/{key('a')}")
    thread = threading.Thread(target=publish, args=(s3.open(), "a"))
    try:
        thread.start()
        while not any("published" in request and "PUT" in request for request in s3.server.requests()):
            time.sleep(0.02)
        publish(s3.open(), "b")
    finally:
        s3.server.tell("release")
    thread.join()
    assert s3.open("second").get(key("a")) is not None


@contextmanager
def away(place: S3Place, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The server is away until that has been noticed."""

    def come_back() -> None:
        while "does not answer" not in caplog.text:
            time.sleep(0.02)
        place.server.tell("start")

    caplog.clear()
    place.server.tell("stop")
    back = threading.Thread(target=come_back)
    back.start()
    yield
    back.join()


def test_a_short_outage_is_waited_for_and_said(s3: S3Place, caplog: pytest.LogCaptureFixture) -> None:
    store = s3.open()
    publish(store, "a")
    other = s3.open("second")
    for work in (
        lambda: publish(store, "b"),
        lambda: other.get(key("a")),
        lambda: store.note(key("a"), "line"),
        lambda: store.files.write("jobs/1/state.json", b"{}"),
        lambda: store.files.read("jobs/1/state.json"),
        lambda: list(store.keys()),
    ):
        with away(s3, caplog):
            assert work() != []
        assert "answers again after" in caplog.text
    assert other.get(key("b")) is not None
    assert other.notes(key("a")) == ("line",)


def test_a_server_that_hangs_up_in_the_middle_of_an_upload_is_asked_again_however_long_that_took(s3: S3Place) -> None:
    s3.server.tell("hold PUT.*/artifacts/.*file.bin")
    store = RemoteStore(s3.url, s3.caches / "first", patience_s=1.0)
    thread = threading.Thread(target=publish, args=(store, "a"))
    thread.start()
    while not any("file.bin" in request for request in s3.server.requests()):
        time.sleep(0.02)
    time.sleep(1.2)
    s3.server.tell("release")
    thread.join()
    assert s3.open("second").get(key("a")) is not None


def test_after_a_long_outage_the_job_can_be_resumed_and_what_is_at_hand_is_used(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = RemoteStore(s3.url, s3.caches / "first", patience_s=1.0)
    publish(store, "a")
    monkeypatch.setattr(remote, "TRUSTED_FOR_S", 0.0)
    s3.server.tell("stop")
    try:
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"cannot be reached: .*tried for \d+ s.*then resume the job") as failure:
            publish(store, "b")
        assert time.monotonic() - began < 30
        assert SECRET not in str(failure.value)
        assert store.get(key("a")) is not None
        assert "going on with this node's copy" in caplog.text
    finally:
        s3.server.tell("start")
    publish(store, "b")
    assert s3.open("second").get(key("b")) is not None


@pytest.fixture
def secure(s3: S3Place) -> Iterator[S3Place]:
    yield s3
    s3.server.tell("secure no")


def test_who_may_only_read_is_told_so_when_publishing_and_can_read(secure: S3Place) -> None:
    publish(secure.open("first"), "a")
    reader = secure.server.user(f"reader-{secure.bucket}", "s3:GetObject", "s3:ListBucket")
    secure.server.tell("secure yes")
    store = RemoteStore(secure.server.url(secure.bucket, *reader), secure.caches / "second")
    assert store.get(key("a")) is not None
    assert list(store.keys()) == [key("a")]
    for work in (
        lambda: publish(store, "b"),
        lambda: store.note(key("a"), "line"),
        lambda: store.files.write("jobs/1/state.json", b"{}"),
    ):
        with pytest.raises(StoreError, match=r"refuses access: .*give credentials that may .* write") as failure:
            work()
        assert reader[1] not in str(failure.value)


def test_a_wrong_secret_is_told_and_not_shown(secure: S3Place, caplog: pytest.LogCaptureFixture) -> None:
    key_id, _ = secure.server.user(f"user-{secure.bucket}", "s3:*")
    secure.server.tell("secure yes")
    wrong = "wrong/secret+0123456789"
    store = RemoteStore(secure.server.url(secure.bucket, key_id, wrong), secure.caches / "second")
    with caplog.at_level(logging.DEBUG, "autoopt"), pytest.raises(StoreError, match="refuses access") as failure:
        store.get(key("a"))
    told = f"{failure.value} {store!r} {caplog.text} {vars(store)}"
    assert key_id in told
    assert wrong not in told
    assert "wrong%2Fsecret" not in told


def test_a_missing_bucket_is_told(s3: S3Place) -> None:
    store = RemoteStore(s3.server.url("nobodys-bucket"), s3.caches / "first")
    works = (lambda: store.get(key("a")), lambda: publish(store, "a"), lambda: list(store.keys()))
    for work in works:
        with pytest.raises(StoreError, match=r"has no such bucket or folder: .*create it, or name another"):
            work()


def test_a_full_store_is_told_and_goes_on_when_there_is_space(small_disk: Path, tmp_path: Path) -> None:
    store = RemoteStore(f"file://{small_disk}/store", tmp_path / "cache")
    publish(store, "a")
    with pytest.raises(StoreError, match=r"is full: .*No space left.*then resume the job"):
        publish(store, "b", bytes(8 << 20))
    assert store.get(key("b")) is None
    assert store.get(key("a")) is not None
    publish(store, "c")
    assert RemoteStore(f"file://{small_disk}/store", tmp_path / "cache2").get(key("c")) is not None


def test_when_the_cache_is_full_it_is_the_cache_that_is_named(small_disk: Path, s3: S3Place) -> None:
    publish(s3.open("first"), "a", bytes(8 << 20))
    with pytest.raises(StoreError, match=r"No space left.*free space there") as failure:
        RemoteStore(s3.url, small_disk / "cache").get(key("a"))
    assert str(small_disk) in str(failure.value)
    assert "s3://" not in str(failure.value)
    assert manifest_of(s3, "a") in s3.kept()


def test_the_cache_may_be_removed_between_jobs(remote_place: Place) -> None:
    publish(remote_place.open("first"), "a")
    shutil.rmtree(remote_place.caches)
    assert remote_place.open("first").get(key("a")) is not None


FORKER = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[3])
from places import key, publish
from autoopt.workers.store import RemoteStore
store = RemoteStore(sys.argv[1], Path(sys.argv[2]))
publish(store, "before")
store.note(key("topic"), "before")
child = os.fork()
name = "parent" if child else "child"
try:
    publish(store, name)
    store.note(key("topic"), name)
    assert store.get(key("before"))
    assert store.get(key("nothing")) is None
finally:
    if not child:
        os._exit(0 if sys.exc_info()[0] is None else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
publish(store, "after")
"""


def test_a_store_opened_before_a_fork_works_after_it_in_both(remote_place: Place) -> None:
    store = remote_place.open("observer")
    arguments = [remote_place.url, str(remote_place.caches / "observer"), str(Path(__file__).parent)]
    subprocess.run([sys.executable, "-c", FORKER, *arguments], check=True, timeout=60)
    assert sorted(store.keys()) == sorted(map(key, ["before", "parent", "child", "after"]))
    assert sorted(store.notes(key("topic"))) == ["before", "child", "parent"]


def test_five_thousand_notes_are_read_in_seconds_and_few_requests(s3: S3Place, tmp_path: Path) -> None:
    lines = tuple(json.dumps({"candidate": number, "text": "x" * 300}) for number in range(5000))
    files = FileServerPlace(tmp_path)
    store = files.open("first")
    for line in lines:
        store.note(key("t"), line)
    began = time.monotonic()
    assert files.open("second").notes(key("t")) == lines
    assert time.monotonic() - began < 30
    # The same files in a bucket: as many requests as there are files, and one for the list of a thousand.
    for path, content in files.kept().items():
        s3.put(path, content)
    reader = s3.open("second")
    s3.server.requests()
    began = time.monotonic()
    assert reader.notes(key("t")) == lines
    assert time.monotonic() - began < 30
    assert len(s3.server.requests()) < 100


def test_half_a_line_of_a_writer_that_died_is_left_out(remote_place: Place) -> None:
    store = remote_place.open()
    store.note(key("t"), "one")
    store.note(key("t"), "two")
    (path,) = [path for path in remote_place.kept() if path.startswith("notes/")]
    remote_place.put(path, remote_place.kept()[path][:-4])
    assert remote_place.open("second").notes(key("t")) == ("one",)


def test_extra_files_that_a_node_keeps_beside_an_artifact_stay_on_it(remote_place: Place) -> None:
    (publish(remote_place.open("first"), "a") / "kept.npy").write_text("for this node only")
    again = remote_place.open("first").get(key("a"))
    assert again is not None
    assert (again / "kept.npy").exists()
    assert not any("kept.npy" in path for path in remote_place.kept())

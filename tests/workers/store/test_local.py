"""The local store under kill -9, damage, races and a full disk: real processes, a real full file system."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoopt.errors import StoreError
from autoopt.workers.store import LocalStore, checksums, locks

HOUR_S = 3600


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def publish(store: LocalStore, name: str, content: bytes = b"content") -> Path:
    with store.scratch() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file.bin").write_bytes(content)
        return store.publish(key(name), folder)


@contextmanager
def start(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_what_is_published_is_got_by_another_opening(store: LocalStore) -> None:
    place = publish(store, "a")
    assert LocalStore(store.root).get(key("a")) == place
    assert (place / "sub" / "file.bin").read_bytes() == b"content"
    assert place == store.root / key("a")[:2] / key("a")
    assert list(store.keys()) == [key("a")]
    assert store.get(key("b")) is None


def test_the_first_to_publish_a_key_wins(store: LocalStore) -> None:
    publish(store, "a", b"first")
    place = publish(store, "a", b"second")
    assert (place / "sub" / "file.bin").read_bytes() == b"first"
    assert not list((store.root / "scratch").iterdir())


def test_a_folder_from_outside_the_store_is_taken_in(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    assert (store.publish(key("a"), outside) / "file").read_text() == "x"
    assert not outside.exists()


def test_a_folder_of_another_file_system_is_copied(store: LocalStore) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("no second file system here")
    folder = other / f"autoopt-test-{os.getpid()}"
    folder.mkdir()
    (folder / "file").write_text("x")
    assert (store.publish(key("a"), folder) / "file").read_text() == "x"
    assert not folder.exists()


@pytest.mark.parametrize("bad", ["abc", "A" * 64, "../" + "a" * 61])
def test_only_full_digests_are_keys(store: LocalStore, bad: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.get(bad)


def _truncate(place: Path) -> None:
    os.truncate(place / "sub" / "file.bin", 3)


def _flip_a_byte(place: Path) -> None:
    (place / "sub" / "file.bin").write_bytes(b"Content")


def _remove_a_file(place: Path) -> None:
    (place / "sub" / "file.bin").unlink()


def _break_the_checksums(place: Path) -> None:
    (place / checksums.NAME).write_text("{")


@pytest.mark.parametrize("damage", [_truncate, _flip_a_byte, _remove_a_file, _break_the_checksums])
def test_a_damaged_artifact_is_removed_and_said_and_can_be_made_again(
    store: LocalStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(publish(store, "a"))
    fresh = LocalStore(store.root)
    with caplog.at_level(logging.WARNING):
        assert fresh.get(key("a")) is None
    assert "damaged" in caplog.text
    assert "made again" in caplog.text
    publish(fresh, "a")
    assert fresh.get(key("a")) is not None


def test_checksums_are_verified_once_a_process(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "a")
    looked = []
    monkeypatch.setattr(checksums, "problem", looked.append)
    store.get(key("a"))
    store.get(key("a"))
    assert len(looked) == 1


def test_a_late_remover_leaves_what_was_published_anew(store: LocalStore) -> None:
    _truncate(publish(store, "a"))
    assert LocalStore(store.root).get(key("a")) is None
    publish(store, "a")
    assert not store._removed(key("a"))
    assert store.get(key("a")) is not None


def test_what_is_extra_in_a_published_folder_is_no_damage(store: LocalStore) -> None:
    (publish(store, "a") / "cache.tmp").write_text("an engine's own cache")
    assert LocalStore(store.root).get(key("a")) is not None


PUBLISHER = """
import sys, hashlib
from pathlib import Path
from autoopt.workers.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100_000):
    with store.scratch() as folder:
        for name in "abc":
            (folder / name).write_bytes(bytes(20_000))
        store.publish(hashlib.sha256(f"{sys.argv[2]} {number}".encode()).hexdigest(), folder)
"""


def test_kill_9_in_the_middle_of_publishing_leaves_no_broken_entry(tmp_path: Path) -> None:
    for turn in range(4):
        with start(PUBLISHER, tmp_path, turn) as process:
            wait_for_line(process)
            time.sleep(0.15 + 0.037 * turn)
            process.kill()
    store = LocalStore(tmp_path)
    keys = list(store.keys())
    assert keys
    assert all(store.get(each) for each in keys)


STOPPED_PUBLISHER = """
import os, signal, sys
from pathlib import Path
from autoopt.workers.store import LocalStore, checksums
write = checksums.write
def write_and_die(folder):
    write(folder)
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
checksums.write = write_and_die
store = LocalStore(Path(sys.argv[1]))
with store.scratch() as folder:
    (folder / "file").write_text("x")
    store.publish("a" * 64, folder)
"""


def test_a_killed_publishers_scratch_is_removed_when_it_is_old_and_only_then(tmp_path: Path) -> None:
    with start(STOPPED_PUBLISHER, tmp_path) as process:
        left = Path(wait_for_line(process))
        assert process.wait() == -signal.SIGKILL
    assert LocalStore(tmp_path).get("a" * 64) is None
    assert (left / "file").exists()
    old = time.time() - 2 * HOUR_S
    os.utime(left.with_suffix(".lock"), (old, old))
    LocalStore(tmp_path)
    assert not list((tmp_path / "scratch").iterdir())


def test_scratch_in_use_is_left_alone_however_old(store: LocalStore) -> None:
    with store.scratch() as folder:
        old = time.time() - 2 * HOUR_S
        os.utime(folder.with_suffix(".lock"), (old, old))
        LocalStore(store.root)
        assert folder.is_dir()
    assert not folder.exists()


RACER = """
import sys, time
from pathlib import Path
from autoopt.workers.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
key = "b" * 64
with store.lock(key):
    if store.get(key) is None:
        print("computed", flush=True)
        time.sleep(0.3)
        with store.scratch() as folder:
            (folder / "file").write_text("x")
            store.publish(key, folder)
"""


def test_two_processes_racing_on_a_key_compute_it_once(tmp_path: Path) -> None:
    with start(RACER, tmp_path) as one, start(RACER, tmp_path) as other:
        said = [racer.communicate(timeout=30)[0] for racer in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0]
    assert sorted(said) == ["", "computed\n"]


def test_threads_exclude_each_other(store: LocalStore) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with store.lock(key("a")):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


HOLDER = """
import os, sys, time
from pathlib import Path
from autoopt.workers.store import LocalStore
with LocalStore(Path(sys.argv[1])).lock("c" * 64):
    if sys.argv[2] == "forks" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "forks"])
def test_a_lock_is_freed_when_its_holder_is_killed_even_if_a_forked_child_lives_on(tmp_path: Path, how: str) -> None:
    with start(HOLDER, tmp_path, how) as holder:
        lines = [wait_for_line(holder) for _ in range(2 if how == "forks" else 1)]
        holder.kill()
        holder.wait()
        began = time.monotonic()
        try:
            with LocalStore(tmp_path).lock("c" * 64):
                assert time.monotonic() - began < 5
        finally:
            for pid in filter(str.isdigit, lines):
                os.kill(int(pid), signal.SIGKILL)


def test_waiting_long_for_a_lock_is_said(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.lock(key("a")):
            held.set()
            done.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    threading.Timer(0.4, done.set).start()
    with caplog.at_level(logging.INFO), store.lock(key("a")):
        pass
    thread.join()
    assert f"artifact {key('a')[:12]}" in caplog.text


def test_who_waits_for_a_lock_may_look_after_something_and_give_up(store: LocalStore) -> None:
    looked = []

    def look() -> None:
        looked.append(1)
        if len(looked) > 1:
            raise InterruptedError

    with store.lock(key("a")), pytest.raises(InterruptedError), store.lock(key("a"), look):
        pass
    assert len(looked) == 2


def test_a_full_disk_is_a_store_error_that_says_what_to_do_and_the_store_goes_on_afterwards(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    publish(store, "a")
    with pytest.raises(StoreError, match=r"No space left.*free space there, then resume"):
        publish(store, "b", bytes(8 << 20))
    assert store.get(key("a")) is not None
    assert store.get(key("b")) is None
    publish(store, "c")


def test_an_error_that_a_library_makes_of_a_full_disk_is_recognized(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    filler = small_disk / "filler"

    def fails_for_want_of_space() -> None:
        with store.scratch():
            filler.write_bytes(bytes(1 << 20) + bytes(900 << 10))
            message = "PytorchStreamWriter failed writing file"
            raise RuntimeError(message)

    with pytest.raises(StoreError, match="No space left"):
        fails_for_want_of_space()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_system_refuses_at_publishing_is_a_store_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match=os.strerror(code)):
        publish(store, "a")


def test_an_error_of_the_work_itself_passes_unchanged(store: LocalStore) -> None:
    def fails() -> None:
        with store.scratch():
            Path("/nowhere/file").read_text()

    with pytest.raises(FileNotFoundError):
        fails()


def test_a_file_in_the_stores_place_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="name a folder"):
        LocalStore(tmp_path / "file")


def test_lines_are_remembered_in_order_by_topic_and_half_a_line_is_not(tmp_path: Path) -> None:
    store, topic = LocalStore(tmp_path), "a" * 64
    assert store.notes(topic) == ()
    store.note(topic, "one")
    LocalStore(tmp_path).note(topic, "two")
    with (tmp_path / "notes" / topic).open("a") as file:
        file.write("a writer that died he")
    assert store.notes(topic) == ("one", "two")
    assert store.notes("b" * 64) == ()

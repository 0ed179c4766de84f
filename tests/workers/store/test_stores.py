"""What every store does, wherever it is kept."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from places import Place, key, publish


def files_of(folder: Path) -> dict[str, bytes | None]:
    found = {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def test_what_one_node_publishes_another_gets_whole(place: Place) -> None:
    mine = publish(place.open("first"), "a")
    theirs = place.open("second").get(key("a"))
    assert theirs is not None
    assert files_of(mine) == files_of(theirs)
    assert files_of(theirs) == {
        "sub": None,
        "sub/file.bin": b"content",
        "empty": None,
        "odd [name] é.txt": b"odd",
    }


def test_what_nobody_published_is_not_there(place: Place) -> None:
    store = place.open()
    publish(store, "a")
    assert store.get(key("b")) is None
    assert list(place.open("second").keys()) == [key("a")]


def test_the_first_to_publish_a_key_wins_for_all_nodes(place: Place) -> None:
    publish(place.open("first"), "a", b"first")
    second = publish(place.open("second"), "a", b"second")
    assert (second / "sub" / "file.bin").read_bytes() == b"first"
    third = place.open("third").get(key("a"))
    assert third is not None
    assert (third / "sub" / "file.bin").read_bytes() == b"first"


def test_what_another_node_adds_is_seen_by_a_store_that_has_looked_before(place: Place) -> None:
    first, second, topic = place.open("first"), place.open("second"), key("topic")
    for number in range(3):
        assert len(list(second.keys())) == number
        assert second.get(key(str(number))) is None
        assert len(second.notes(topic)) == number
        assert len(second.files.names("jobs")) == number
        publish(first, str(number))
        first.note(topic, str(number))
        first.files.write(f"jobs/{number}", b"")
        assert second.get(key(str(number))) is not None
        assert second.files.read(f"jobs/{number}") == b""


def test_a_scratch_folder_goes_unless_it_is_published(place: Place) -> None:
    store = place.open()
    with store.scratch() as left:
        (left / "file").write_text("x")
    with store.scratch() as published:
        (published / "file").write_text("x")
        place_of_it = store.publish(key("a"), published)
    assert not left.exists()
    assert not published.exists()
    assert (place_of_it / "file").read_text() == "x"


def test_an_artifact_may_be_large_and_have_many_files(place: Place) -> None:
    with place.open().scratch() as folder:
        (folder / "large.bin").write_bytes(bytes(range(256)) * 4096 * 8)
        for number in range(40):
            (folder / f"{number}.txt").write_text(str(number))
        place.open("first").publish(key("a"), folder)
    got = place.open("second").get(key("a"))
    assert got is not None
    assert (got / "large.bin").read_bytes() == bytes(range(256)) * 4096 * 8
    assert [(got / f"{number}.txt").read_text() for number in range(40)] == [str(number) for number in range(40)]


@pytest.mark.parametrize("bad", ["abc", "A" * 64, "../" + "a" * 61])
def test_only_full_digests_are_keys_and_topics(place: Place, bad: str) -> None:
    store = place.open()
    for use in (store.get, store.notes, lambda key: store.note(key, "line")):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            use(bad)


def test_one_computes_a_key_at_a_time_on_a_node(place: Place) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        store = place.open()
        for _ in range(5):
            with store.lock(key("a")):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_notes_are_told_in_the_order_in_which_nodes_made_them(place: Place) -> None:
    first, second, topic = place.open("first"), place.open("second"), key("topic")
    assert first.notes(topic) == ()
    expected = []
    for number in range(70):
        store = (first, second)[number % 3 == 0]
        store.note(topic, f'{{"line": {number}, "text": "é"}}')
        expected.append(f'{{"line": {number}, "text": "é"}}')
    assert first.notes(topic) == tuple(expected) == place.open("third").notes(topic)
    assert first.notes(key("another")) == ()


def test_threads_lose_no_note(place: Place) -> None:
    store, topic = place.open(), key("topic")

    expected: list[str] = []
    for number in range(5):
        lines = [f"{writer} {number}" for writer in range(4)]
        threads = [threading.Thread(target=store.note, args=(topic, line)) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected += lines
        assert sorted(store.notes(topic)) == sorted(expected)


def test_small_files_are_written_replaced_listed_and_removed_by_name(place: Place) -> None:
    mine, theirs = place.open("first").files, place.open("second").files
    assert mine.read("jobs/1/state.json") is None
    assert mine.names("jobs") == ()
    mine.write("jobs/1/state.json", b"first")
    mine.write("jobs/1/state.json", b"second")
    mine.write("jobs/1/logs/a.log", b"")
    mine.write("jobs/10/state.json", b"ten")
    assert theirs.read("jobs/1/state.json") == b"second"
    assert theirs.read("jobs/1/logs/a.log") == b""
    assert theirs.names("jobs/1") == ("jobs/1/logs/a.log", "jobs/1/state.json")
    assert theirs.names("jobs/1/state.json") == ("jobs/1/state.json",)
    theirs.remove("jobs/1")
    theirs.remove("jobs/1")
    theirs.remove("jobs/nobody/state.json")
    assert mine.names("jobs") == ("jobs/10/state.json",)
    mine.remove("jobs/10/state.json")
    assert mine.names("jobs") == ()


ELSEWHERE = [
    "",
    "/etc/passwd",
    "../out",
    "jobs/../../out",
    "jobs//x",
    "jobs/./x",
    "jobs/",
    "jobs\\x",
    "jobs/.hidden",
    "a\0b",
]
PATTERNS = ["jobs/*", "jobs/[x]", "jobs/?"]
THE_STORES_OWN = [f"ab/{'ab' * 32}/file", "scratch/x", "notes", "published/x", "artifacts/x", "locks/x"]


@pytest.mark.parametrize("bad", [*ELSEWHERE, *PATTERNS, *THE_STORES_OWN])
def test_a_name_that_leads_elsewhere_is_refused(place: Place, bad: str) -> None:
    files = place.open().files
    for use in (files.read, files.names, files.remove, lambda name: files.write(name, b"")):
        with pytest.raises(ValueError, match="has a name like jobs"):
            use(bad)


def test_keys_notes_and_files_do_not_meet(place: Place) -> None:
    store = place.open()
    publish(store, "a")
    store.note(key("a"), "line")
    store.files.write("jobs/1/state.json", b"{}")
    assert list(store.keys()) == [key("a")]
    store.files.remove("jobs")
    assert store.notes(key("a")) == ("line",)
    assert place.open("second").get(key("a")) is not None

"""Tune's trials run in threads of this process: all of Tune's loop, with its callbacks, and no cluster but Ray's least."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from autoopt.search.coordinators import Threads


class Trial:
    """What Tune would make; told what to do by the test."""

    def __init__(self, config: dict[str, Any]) -> None:
        if config.get("broken"):
            message = "cannot be made"
            raise RuntimeError(message)
        self.interrupted = threading.Event()
        self.thread = threading.current_thread()

    def interrupt(self) -> None:
        self.interrupted.set()

    def train(self, result: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result, threading.current_thread()

    def wait(self) -> bool:
        return self.interrupted.wait(10.0)

    def stop(self) -> None:
        pass


class Book:
    """What Tune's controller would be told."""

    def __init__(self) -> None:
        self.threads = Threads(None)
        self.told: list[tuple[str, Any]] = []

    def add(self, **config: Any) -> Any:
        return self.threads.add_actor(
            Trial,
            {"config": config},
            None,
            on_start=lambda _: self.told.append(("started", None)),
            on_stop=lambda _: self.told.append(("stopped", None)),
            on_error=lambda _, error: self.told.append(("failed", str(error))),
        )

    def ask(self, actor: Any, method: str, *arguments: Any) -> None:
        self.threads.schedule_actor_task(
            actor,
            method,
            arguments,
            on_result=lambda _, result: self.told.append((method, result)),
            on_error=lambda _, error: self.told.append((f"{method} failed", str(error))),
        )

    def hear(self, events: int) -> list[tuple[str, Any]]:
        for _ in range(events):
            assert self.threads.next(timeout=5.0)
        return self.told


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    yield made
    made.threads.cleanup()


def test_methods_run_in_order_in_a_thread_of_the_trials_own(book: Book) -> None:
    actor = book.add()
    for number in range(3):
        book.ask(actor, "train", number)
    told = book.hear(4)
    assert [what for what, _ in told] == ["started", "train", "train", "train"]
    results = [result for _, result in told[1:]]
    assert [number for number, _ in results] == [0, 1, 2]
    assert {thread for _, thread in results} != {threading.current_thread()}
    assert len({thread for _, thread in results}) == 1


def test_callbacks_run_where_events_are_heard_and_nowhere_else(book: Book) -> None:
    book.add()
    time.sleep(0.1)
    assert book.told == []
    book.hear(1)
    assert book.told == [("started", None)]
    assert not book.threads.next(timeout=0.0)


def test_what_a_method_raises_is_told(book: Book) -> None:
    actor = book.add()
    book.ask(actor, "train", ValueError("no"))
    assert book.hear(2)[1] == ("train failed", "no")
    assert book.threads.is_actor_started(actor), "it can be asked again"


def test_a_trial_that_cannot_be_made_fails_and_is_forgotten(book: Book) -> None:
    actor = book.add(broken=True)
    assert book.hear(1) == [("failed", "cannot be made")]
    assert book.threads.is_actor_failed(actor)
    assert not book.threads.remove_actor(actor)
    assert book.threads.num_live_actors == 0


def test_who_is_removed_is_interrupted_and_ends_in_order(book: Book) -> None:
    actor = book.add()
    book.hear(1)
    book.ask(actor, "wait")
    assert book.threads.num_actor_tasks == 1
    began = time.monotonic()
    assert book.threads.remove_actor(actor)
    assert book.hear(3 - 1)[1:] == [("wait", True), ("stopped", None)]
    assert time.monotonic() - began < 5.0
    assert book.threads.num_live_actors == 0


def test_nobody_hears_of_a_method_that_was_forgotten(book: Book) -> None:
    actor = book.add()
    book.hear(1)
    book.ask(actor, "wait")
    book.threads.clear_actor_task_futures(actor)
    book.threads.remove_actor(actor, kill=True)
    assert book.hear(1)[1:] == [("stopped", None)]

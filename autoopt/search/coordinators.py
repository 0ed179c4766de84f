"""Tune's trials as threads of the job's own process: a candidate's coordinator waits for stages that run elsewhere, and does little else.

Tune gives every trial an actor, which is a process: four seconds of a core for its imports, 150 MB, a fraction of a second for
every trial even where it is kept for the next one, and a call to another process for whatever it asks. A job on thirty trainers has
seventy candidates in flight. A thread costs none of that.

Tune has no setting for it, so two names of its controller mean something else while a search runs: its manager of actors, and the
cache of their classes, which would register each with Ray. Resources are not asked for, either: every trial would reserve a
placement group, whose readiness is asked of a worker process that is started for it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.execution import tune_controller

Event: TypeAlias = Callable[[], None]


class _Call:
    """A method that runs, or will; nobody waits for one without callbacks."""

    def __init__(
        self,
        method: str,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        on_result: Callable[[TrackedActor, Any], None] | None = None,
        on_error: Callable[[TrackedActor, Exception], None] | None = None,
    ) -> None:
        self.method, self.arguments, self.named = method, arguments, named
        self.on_result, self.on_error = on_result, on_error

    def forget(self) -> None:
        """Whatever comes of it, nobody is told."""
        self.on_result = self.on_error = None


class _Coordinator:
    """A trial's object and its thread, which makes it and then runs its methods in order."""

    def __init__(self, made: Callable[[], Any], tell: Callable[[Event], None], started: Event, failed: Any) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.expected: set[_Call] = set()
        self.trial: Any = None
        self._made, self._tell, self._started, self._failed = made, tell, started, failed

    def begin(self, actor: TrackedActor, stopped: Event) -> None:
        """Start the thread."""
        threading.Thread(
            target=self._run, args=[actor, stopped], name=f"coordinator {actor.actor_id}", daemon=True
        ).start()

    def interrupt(self) -> None:
        """Have what runs come to an end soon; then the thread ends, too."""
        if self.trial is not None:
            self.trial.interrupt()
        self.calls.put(None)

    def _run(self, actor: TrackedActor, stopped: Event) -> None:
        try:
            self.trial = self._made()
        except Exception as error:  # noqa: BLE001 (a thread's boundary: Tune is told)
            self._tell(lambda error=error: self._failed(error))  # type: ignore[misc]
            return
        self._tell(self._started)
        while (call := self.calls.get()) is not None:
            self._tell(self._done(actor, call))
        self._tell(stopped)

    def _done(self, actor: TrackedActor, call: _Call) -> Event:
        try:
            result = getattr(self.trial, call.method)(*call.arguments, **call.named)
        except Exception as error:  # noqa: BLE001 (likewise)
            return lambda error=error: self._end(call, call.on_error, actor, error)  # type: ignore[misc]
        return lambda: self._end(call, call.on_result, actor, result)

    def _end(
        self, call: _Call, tell: Callable[[TrackedActor, Any], None] | None, actor: TrackedActor, what: Any
    ) -> None:
        self.expected.discard(call)
        if tell is not None:
            tell(actor, what)


class Threads:
    """What Tune's controller asks of its ``RayActorManager``, and no more: trials run in threads here, callbacks in Tune's loop.

    A thread cannot be killed. Who is removed is interrupted, by the trial's own ``interrupt``, and ends within seconds.
    """

    def __init__(self, resource_manager: Any) -> None:
        del resource_manager
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._numbers = itertools.count()
        self._live: dict[TrackedActor, _Coordinator] = {}
        self._failed: set[TrackedActor] = set()
        # Tune looks here for Ray's handle of an actor, and does without one.
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[None, None]] = {}

    def next(self, timeout: float | None = None) -> bool:
        """Wait for the next event and pass it on; False where there was none."""
        try:
            event = self._events.get(timeout=timeout)
        except Empty:
            return False
        event()
        return True

    def add_actor(
        self,
        cls: type[Any],
        kwargs: dict[str, Any],
        resource_request: Any,
        *,
        on_start: Callable[[TrackedActor], None] | None = None,
        on_stop: Callable[[TrackedActor], None] | None = None,
        on_error: Callable[[TrackedActor, Exception], None] | None = None,
    ) -> TrackedActor:
        """Begin a trial's thread."""
        del resource_request
        actor = TrackedActor(next(self._numbers), on_start, on_stop, on_error)
        coordinator = _Coordinator(
            lambda: cls(**kwargs),
            self._events.put,
            started=lambda: self._started(actor),
            failed=lambda error: self._broken(actor, error),
        )
        self._live[actor] = coordinator
        self._live_actors_to_ray_actors_resources[actor] = (None, None)
        coordinator.begin(actor, stopped=lambda: self._stopped(actor))
        return actor

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        on_result: Callable[[TrackedActor, Any], None] | None = None,
        on_error: Callable[[TrackedActor, Exception], None] | None = None,
        _return_future: bool = False,  # noqa: FBT001, FBT002 (Tune's)
    ) -> None:
        """Run a method in the trial's thread, after those before it."""
        coordinator = self._live.get(tracked_actor)
        if coordinator is not None:
            call = _Call(method_name, args or (), kwargs or {}, on_result, on_error)
            coordinator.expected.add(call)
            coordinator.calls.put(call)

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        """Tell nobody what comes of the trial's methods."""
        coordinator = self._live.get(tracked_actor)
        for call in coordinator.expected if coordinator else ():
            call.forget()

    def remove_actor(self, tracked_actor: TrackedActor, kill: bool = False, stop_future: Any = None) -> bool:  # noqa: FBT001, FBT002 (Tune's)
        """End a trial's thread after what has been asked of it; whether ``on_stop`` will be called."""
        del stop_future
        coordinator = self._live.get(tracked_actor)
        if coordinator is None:
            return False
        coordinator.interrupt()
        if kill:
            self._events.put(lambda: self._stopped(tracked_actor))
        return True

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        """Whether the trial has a thread."""
        return tracked_actor in self._live

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        """Whether the trial could not be made."""
        return tracked_actor in self._failed

    @property
    def num_live_actors(self) -> int:
        """How many trials have a thread."""
        return len(self._live)

    num_total_actors = num_live_actors

    @property
    def num_pending_actors(self) -> int:
        """None waits for a thread."""
        return 0

    @property
    def num_actor_tasks(self) -> int:
        """How many methods run or will."""
        return sum(len(coordinator.expected) for coordinator in list(self._live.values()))

    def get_live_actors_resources(self) -> dict[str, float]:
        """None that Ray would have to know of."""
        return {}

    def cleanup(self) -> None:
        """Interrupt whoever is left."""
        for coordinator in self._live.values():
            coordinator.interrupt()
        self._live.clear()
        self._live_actors_to_ray_actors_resources.clear()

    def _started(self, actor: TrackedActor) -> None:
        if actor in self._live and actor._on_start:  # noqa: SLF001 (no other way to it)
            actor._on_start(actor)  # noqa: SLF001

    def _broken(self, actor: TrackedActor, error: Exception) -> None:
        self._failed.add(actor)
        self._forget(actor)
        if actor._on_error:  # noqa: SLF001
            actor._on_error(actor, error)  # noqa: SLF001

    def _stopped(self, actor: TrackedActor) -> None:
        if self._forget(actor) and actor._on_stop:  # noqa: SLF001
            actor._on_stop(actor)  # noqa: SLF001

    def _forget(self, actor: TrackedActor) -> bool:
        self._live_actors_to_ray_actors_resources.pop(actor, None)
        return self._live.pop(actor, None) is not None


class _PlainClasses:
    """In place of Tune's cache of actor classes: a class stays what it is."""

    def get(self, trainable_cls: type[Any]) -> type[Any]:
        """The same."""
        return trainable_cls


@contextmanager
def as_threads() -> Iterator[None]:
    """Within the context, Tune's trials are threads of this process."""
    # A trial would make its own folder the process's.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    with (
        _replaced(tune_controller, "RayActorManager", Threads),
        _replaced(tune_controller, "_ActorClassCache", _PlainClasses),
    ):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of an attribute that must exist, as long as the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)

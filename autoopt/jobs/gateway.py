"""The way to a cluster's Job API: Ray's own client, with errors that say in one sentence what to do.

A job of ours is one Ray job or, after it was resumed, several: its *attempts*, told apart by a number in their metadata.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from autoopt.cluster import access
from autoopt.errors import JobError

T = TypeVar("T")

# What an attempt's metadata say.
JOB, ATTEMPT, VERSION, STORE = "autoopt_job", "autoopt_attempt", "autoopt_version", "autoopt_store"
_EXIT = re.compile(r"entrypoint command failed with exit code (-?\d+)")
_LIVE = frozenset({"PENDING", "RUNNING"})


@dataclass(frozen=True)
class Attempt:
    """One Ray job that worked, or works, at a job of ours."""

    id: str
    """Ray's submission id."""
    job: str
    number: int
    status: str
    """Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED."""
    message: str
    started_ms: int
    metadata: Mapping[str, str]

    @property
    def live(self) -> bool:
        """Whether it works, or is about to."""
        return self.status in _LIVE

    @property
    def exit_code(self) -> int | None:
        """Of its process, negative where a signal ended it; None where Ray does not say."""
        found = _EXIT.search(self.message)
        return int(found[1]) if found else None

    @property
    def why(self) -> str:
        """Why it ended, in a few words: Ray's own message goes on with the end of the log."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"killed by {_signal_name(-code)}"
        return next((line.strip() for line in self.message.splitlines() if line.strip()), "Ray does not say why")[:200]

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it."""
        return self.status == "STOPPED"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Gateway:
    """A cluster's Job API. See `reach`."""

    def __init__(self, address: str, client: Any) -> None:
        self.address = address
        self._client = client

    def submit(self, attempt: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> None:
        """Start an attempt."""
        self._ask(
            lambda client: client.submit_job(
                entrypoint=entrypoint, submission_id=attempt, runtime_env=runtime_env, metadata=metadata
            )
        )

    def attempts(self) -> tuple[Attempt, ...]:
        """Those of all our jobs, the oldest first."""
        listed = self._ask(lambda client: client.list_jobs())
        found = [_attempt(details) for details in listed if JOB in (details.metadata or {})]
        return tuple(sorted(found, key=lambda each: (each.started_ms, each.number)))

    def attempts_of(self, job: str) -> tuple[Attempt, ...]:
        """Those of one job, the oldest first."""
        return tuple(each for each in self.attempts() if each.job == job)

    def stop(self, attempt: str) -> None:
        """Ask an attempt to end; returns at once."""
        self._ask(lambda client: client.stop_job(attempt))

    def status(self, attempt: str) -> str:
        """Ray's word for how it stands."""
        return str(self._ask(lambda client: client.get_job_status(attempt)).value)

    def log(self, attempt: str) -> str:
        """All that it has printed."""
        return str(self._ask(lambda client: client.get_job_logs(attempt)))

    def log_as_it_grows(self, attempt: str) -> Iterator[str]:
        """What it prints, in pieces, until it has ended."""
        loop = asyncio.new_event_loop()
        try:
            pieces = self._ask(lambda client: client.tail_job_logs(attempt))
            while True:
                try:
                    yield loop.run_until_complete(anext(pieces))
                except StopAsyncIteration:
                    return
        finally:
            loop.close()

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._client)
        except Exception as error:
            raise JobError(_explained(self.address, error)) from error


def _attempt(details: Any) -> Attempt:
    said: dict[str, str] = details.metadata
    return Attempt(
        id=details.submission_id,
        job=said[JOB],
        number=int(said.get(ATTEMPT, 1)),
        status=str(details.status.value),
        message=details.message or "",
        started_ms=details.start_time or 0,
        metadata=said,
    )


@cache
def reach(address: str) -> Gateway:
    """The Job API at an address such as ``http://127.0.0.1:8265``.

    Raises:
        ClusterError: nobody answers there, the token is missing or wrong, or Ray there is of another version.
        JobError: Ray's client is not installed here.
    """
    head = access.reach(address)
    try:
        from ray.job_submission import JobSubmissionClient

        # It tells on the terminal what it packs and sends, and says so when it is imported.
        logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
        client = JobSubmissionClient(head.address)
    except ImportError as error:
        message = f'jobs on a cluster need Ray\'s client: pip install "autoopt[client]" ({error})'
        raise JobError(message) from error
    except Exception as error:
        raise JobError(_explained(head.address, error)) from error
    return Gateway(head.address, client)


def _explained(address: str, error: Exception) -> str:
    """One sentence for what Ray's client says in many: the cluster answered a moment ago."""
    name, text = type(error).__name__, str(error)
    if "Connect" in name or "Timeout" in name:
        return (
            f"nobody answers at {address} any more; is the cluster up (`autoopt cluster status --address {address}`)?"
        )
    return f"the cluster at {address} refused: {' '.join(text.split())[:500]}"

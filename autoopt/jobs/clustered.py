"""A job on a cluster: Ray's Job API says whether somebody works at it, the store has what it leaves.

Nothing is kept here: any client with the address, the token and the store sees the same. What the client needs is light: no
torch, no study. A cluster forgets its jobs when its head is restarted; the store does not, and from there they go on.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from autoopt.errors import JobError, StoreError
from autoopt.jobfolder import JobFolder, JobSpec, JobState, JobStatus
from autoopt.jobs import package
from autoopt.jobs.execute import Extras
from autoopt.jobs.gateway import ATTEMPT, JOB, STORE, VERSION, Attempt, Gateway, reach
from autoopt.jobs.job import Job, JobResult
from autoopt.jobs.observed import observed
from autoopt.jobs.package import Request
from autoopt.jobs.run import save_callbacks
from autoopt.records import from_json
from autoopt.search.study_url import VARIABLE as STUDY_VARIABLE
from autoopt.search.study_url import StudyUrl, known_study
from autoopt.workers.store import Store, default_store, has_secret, is_url, masked, open_store
from autoopt.workers.store.urls import HIDDEN

if TYPE_CHECKING:
    from autoopt.front import Front

STORE_VARIABLE = "AUTOOPT_STORE"
CODE = "code.zip"
OURS = "autoopt: "
"""How the driver's last line begins, where it says why it ends."""
# Ray asks the driver politely, and kills it after eight seconds (`package.runtime_env`).
CANCEL_S = 10.0
_LEFT_BEHIND = ("study.journal", "tune/", "task.pkl", CODE, "logs/")

T = TypeVar("T")


@dataclass(frozen=True)
class ClusterJob(Job):
    """A job on a cluster, seen from anywhere."""

    gateway: Gateway
    name: str
    given_store: str | None = None
    """Where the store is, where the caller says it."""
    results: Path = Path("results")
    """The folder below which `result` puts what the job has left."""
    study: str | None = field(default=None, repr=False, compare=False)
    """The URL of its study with the password, if that was given; see `autoopt.job`."""
    poll_s: ClassVar[float] = 1.0

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    @property
    def reference(self) -> str:
        """What the shell takes, also once the cluster has forgotten where the store is."""
        store = None if self.given_store is None or has_secret(self.given_store) else self.given_store
        return f"{self.name} --address {self.gateway.address}" + (f" --store {shlex.quote(store)}" if store else "")

    @property
    def log_place(self) -> str:
        """The command that shows it, since it lies on the cluster."""
        return f"shown by `autoopt logs {self.reference}`"

    @property
    def spec(self) -> JobSpec:
        """What was asked.

        Raises:
            JobError: it has not begun yet, its store cannot be read from here, or what is there is damaged.
        """
        found = self._record("job.json", JobSpec)
        if found is None:
            raise JobError(self._unreadable())
        return found

    def state(self) -> JobState:
        """How it stands: as its driver last said, corrected by what Ray says about the driver.

        Raises:
            JobError: neither the cluster nor the store knows it, or what is there is damaged.
        """
        attempts = self.gateway.attempts_of(self.name)
        state = self._record("state.json", JobState)
        if state is None and not attempts and self._read("job.json") is None:
            raise JobError(no_such_job(self.name, self.gateway, self.given_store))
        latest = attempts[-1] if attempts else None
        seen = observed(state, latest, readable=self._store is not None)
        told = state is not None and latest is not None and state.attempt == latest.id and state.status.ended
        if latest is not None and seen.status is JobStatus.FAILED and not told:
            return replace(seen, message=self._last_words(latest))
        return seen

    @property
    def front(self) -> Front | None:
        """The best so far, as the job last wrote it; None until the reference has been measured."""
        from autoopt.search.results import read_front

        content = self._read("front.json")
        return None if content is None else read_front(json.loads(content), self.name, self._store)

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """The lines of its log: of all its attempts that the cluster knows, else as the store has them."""
        attempts = self.gateway.attempts_of(self.name)
        if not attempts:
            kept = self._read("logs/job.log")
            if kept is None:
                raise JobError(no_such_job(self.name, self.gateway, self.given_store))
            yield from kept.decode(errors="replace").splitlines()
            return
        for attempt in attempts[:-1] if follow and attempts[-1].live else attempts:
            yield from self.gateway.log(attempt.id).splitlines()
        if follow and attempts[-1].live:
            yield from _lines(self.gateway.log_as_it_grows(attempts[-1].id))

    def result_so_far(self) -> JobResult:
        """What it has left until now, fetched into ``results/<name>/``.

        Raises:
            JobError: its store cannot be read from here.
        """
        state, front = self.state(), self.front
        return JobResult.of(self._fetched(), state, front)

    def cancel(self) -> JobStatus:
        """End it within 10 seconds, its best so far on disk if there is time for that. It can be resumed."""
        for attempt in self.gateway.attempts_of(self.name):
            if attempt.live:
                self.gateway.stop(attempt.id)
        ends = time.monotonic() + CANCEL_S
        while not (status := self.status()).ended and time.monotonic() < ends:
            time.sleep(0.2)
        return status

    def resume(self, *, budget: str | None = None) -> ClusterJob:
        """Let it go on, on the cluster; nothing that is finished is done twice.

        Args:
            budget: a larger one, for a job that has used its own.

        Raises:
            JobError: it runs, or is done and was given no larger budget; or its store cannot be read from here.
        """
        self.check_resumable(budget)
        spec, code = self.spec, self._read(CODE)
        if code is None:
            raise JobError(self._unreadable())
        spec = replace(spec, budget=budget or spec.budget, address=self.gateway.address)
        with _folder() as folder:
            package.unzip(code, folder)
            self._begin(spec, folder, known_study(spec.study, self.study))
        return self

    def submit(
        self, spec: JobSpec, code: Path | None, study: StudyUrl | None, pickle: bytes | None, extras: Extras
    ) -> None:
        """Begin it.

        Args:
            spec: what is asked; the task's file is named relative to the code.
            code: the folder of the user's code; None where the pickle has everything.
            study: the study's database, with its password.
            pickle: the task, where it was given as an object.
            extras: what no file can say.

        Raises:
            JobError: there is a job of that name.
        """
        stored = self._read("job.json") is not None
        if stored or self.gateway.attempts_of(self.name):
            # The cluster may have forgotten it, or never have known it.
            where = f"in the store {masked(self._address)}" if stored else f"on {self.gateway.address}"
            message = (
                f"there is a job {self.name!r} {where} already. `autoopt resume {self.reference}` goes on with it; "
                "for a new one give another name (--name NAME)"
            )
            raise JobError(message)
        with _folder() as folder:
            digest = "" if code is None else package.pack(code, folder)
            self._begin(spec, folder, study, digest=digest, pickle=pickle, extras=extras)

    def _begin(
        self,
        spec: JobSpec,
        folder: Path,
        study: StudyUrl | None,
        *,
        digest: str | None = None,
        pickle: bytes | None = None,
        extras: Extras | None = None,
    ) -> None:
        if digest is None:
            with _folder() as copy:
                digest = package.pack(folder, copy)
        number = 1 + max((each.number for each in self.gateway.attempts_of(self.name)), default=0)
        stored = self._record("state.json", JobState)
        if stored is not None:
            # The cluster may have forgotten the earlier ones; no two of a job may bear the same name in its state.
            number = max(number, 1 + number_of(stored.attempt))
        request = Request(spec, number, digest, self._secrets(study))
        package.write_request(request, folder)
        if pickle is not None:
            (folder / package.OWN / "task.pkl").write_bytes(pickle)
        if extras is not None and (extras.callbacks or extras.stopper is not None):
            save_callbacks(folder / package.OWN, tuple(extras.callbacks), extras.stopper)
        shown = {
            JOB: self.name,
            ATTEMPT: str(number),
            VERSION: spec.version,
            STORE: masked(self._address),
            "task": spec.task,
            "space": spec.space,
            "budget": spec.budget,
        }
        self.gateway.submit(attempt_name(self.name, number), package.entrypoint(), package.runtime_env(folder), shown)

    def _secrets(self, study: StudyUrl | None) -> dict[str, str]:
        found = {STORE_VARIABLE: self._address} if has_secret(self._address) else {}
        return found | ({} if study is None else {STUDY_VARIABLE: study.full})

    @cached_property
    def _address(self) -> str:
        """The store's: as given, else as the cluster knows it, else the user's default."""
        told = next((each.metadata.get(STORE) for each in reversed(self.gateway.attempts_of(self.name))), None)
        if self.given_store is not None or told is None:
            return self.given_store or default_store()
        usual = default_store()
        return usual if masked(usual) == told else told

    @cached_property
    def _store(self) -> Store | None:
        """The store; None where it cannot be read from here."""
        address = self._address
        if HIDDEN in address or not (is_url(address) or Path(address).is_dir()):
            return None
        return open_store(address)

    def _read(self, name: str) -> bytes | None:
        return None if self._store is None else self._store.files.read(f"jobs/{self.name}/{name}")

    def _record(self, name: str, kind: type[T]) -> T | None:
        content = self._read(name)
        try:
            return None if content is None else from_json(kind, json.loads(content))
        except ValueError as error:
            message = f"{name} of the job {self.name!r} in the store {masked(self._address)} is damaged: {error}"
            raise JobError(message) from error

    def _unreadable(self) -> str:
        if self._store is not None:
            return f"{self.reference} has not begun yet: there is nothing of it in the store {masked(self._address)}"
        return (
            f"the store of {self.reference} ({masked(self._address)}) cannot be read from here; give its address (store=, --store "
            f"or ${STORE_VARIABLE}), with the password where it has one"
        )

    def _fetched(self) -> JobFolder:
        if self._store is None:
            raise JobError(self._unreadable())
        files, root = self._store.files, f"jobs/{self.name}"
        folder = JobFolder((self.results / self.name).absolute())
        for name in files.names(root):
            inner = name.removeprefix(f"{root}/")
            content = None if inner.startswith(_LEFT_BEHIND) else files.read(name)
            if content is None:
                continue
            target = (folder.path / inner).resolve()
            if not target.is_relative_to(folder.path.resolve()):
                message = f"the store holds {name!r}, which leads out of the job's folder"
                raise StoreError(message)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != content:
                target.write_bytes(content)
        return folder

    def _last_words(self, attempt: Attempt) -> str:
        """Why an attempt ended that never came so far as to write the job's state."""
        lines = self.gateway.log(attempt.id).strip().splitlines()
        said = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
        if any("No module named autoopt" in line for line in lines):
            return (
                "the cluster's python has no autoopt: start its nodes by `autoopt cluster up`, or where PATH has the python of "
                "autoopt's environment first"
            )
        return said[-1] if said else " ".join(lines[-5:]) or attempt.message


def attempt_name(job: str, number: int) -> str:
    """Ray's submission id of an attempt."""
    return job if number == 1 else f"{job}.{number}"


def number_of(attempt: str | None) -> int:
    """Which attempt of its job that is; 0 for none."""
    if not attempt:
        return 0
    _, dot, number = attempt.rpartition(".")
    return int(number) if dot and number.isdigit() else 1


def find(
    name: str,
    address: str,
    store: str | None = None,
    results: str | Path = "results",
    study: str | None = None,
) -> ClusterJob:
    """The job of that name on a cluster.

    Raises:
        JobError: nobody answers there, or nobody knows such a job; the message lists those there are.
    """
    job = ClusterJob(reach(address), name, _absolute(store), Path(results), study)
    job.state()
    return job


def listed(address: str, store: str | None = None, results: str | Path = "results") -> list[ClusterJob]:
    """All jobs that the cluster or the store knows, the oldest first."""
    gateway = reach(address)
    store = _absolute(store)
    names = dict.fromkeys(each.job for each in gateway.attempts())
    known = [name for name in _in_store(store) if name not in names]
    return [ClusterJob(gateway, name, store, Path(results)) for name in (*known, *names)]


def no_such_job(name: str, gateway: Gateway, store: str | None) -> str:
    """What to say to somebody who asks for a job that nobody knows."""
    there = [*dict.fromkeys([*_in_store(store), *(each.job for each in gateway.attempts())])]
    return (
        f"there is no job {name!r} on {gateway.address}. Jobs there: {', '.join(there) or 'none'}. Where the head was restarted, "
        "jobs are found in their store: give its address (store=, --store or $AUTOOPT_STORE)"
    )


def _in_store(store: str | None) -> Sequence[str]:
    address = store or default_store()
    if not is_url(address) and not Path(address).is_dir():
        return ()
    names = open_store(address).files.names("jobs")
    return [parts[1] for parts in (name.split("/") for name in names) if len(parts) == 3 and parts[2] == "job.json"]  # noqa: PLR2004 (jobs/<name>/job.json)


def _absolute(store: str | None) -> str | None:
    if store is None or is_url(store):
        return store
    return str(Path(store).expanduser().absolute())


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this user's alone, for what is sent."""
    with tempfile.TemporaryDirectory(prefix="autoopt-package-") as folder:
        yield Path(folder)


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    if rest:
        yield rest

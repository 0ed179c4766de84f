"""What the jobs of one cluster have in common: who computes which key, and how many jobs there are.

One named, detached actor of the cluster holds it, for all jobs alike. What it says is a lease: a holder that falls silent has
lost it, so that no job that died blocks another. Nothing is lost with the actor, either: a holder that renews a lease of which
a new actor knows nothing gets it again, and where two compute the same key after all, the store takes what comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

NAME, NAMESPACE = "autoopt commons", "autoopt"
LEASE_S = 20.0
PRESENT_S = 15.0
"""A job that has not been heard of for so long is gone."""
_ASK_AGAIN_S = 0.5


@dataclass
class _Lease:
    holder: str
    until: float


class Commons:
    """The actor's class. Not thread-safe by itself: an actor serves one call at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._heard: dict[str, float] = {}

    def hold(self, key: str, holder: str) -> bool:
        """Take or renew the lease of a key; whether the holder has it now."""
        now = self._clock()
        lease = self._leases.get(key)
        if lease is not None and lease.holder != holder and lease.until > now:
            return False
        self._leases[key] = _Lease(holder, now + LEASE_S)
        return True

    def release(self, key: str, holder: str) -> None:
        """Give the lease back."""
        lease = self._leases.get(key)
        if lease is not None and lease.holder == holder:
            del self._leases[key]

    def attend(self, job: str) -> int:
        """The job is at work; returns how many are."""
        now = self._clock()
        self._heard[job] = now
        self._heard = {name: at for name, at in self._heard.items() if now - at < PRESENT_S}
        self._leases = {key: lease for key, lease in self._leases.items() if lease.until > now}
        return len(self._heard)

    def leave(self, job: str) -> None:
        """The job has ended."""
        self._heard.pop(job, None)


class Shared:
    """A process's way to the commons of its cluster.

    Every call survives the actor's end: it is then made anew.
    """

    def __init__(self) -> None:
        self._actor: Any = None

    def summon(self) -> None:
        """See that they are there; their process takes seconds to start, and nobody waits for it here."""
        self._actor = _actor()

    def _ask(self, method: str, *arguments: object) -> Any:
        import ray

        for attempt in range(3):
            if self._actor is None or attempt:
                self._actor = _actor()
            with suppress(ray.exceptions.RayActorError):
                return ray.get(getattr(self._actor, method).remote(*arguments))
        return ray.get(getattr(self._actor, method).remote(*arguments))

    def attend(self, job: str) -> int:
        """See `Commons.attend`."""
        return int(self._ask("attend", job))

    def leave(self, job: str) -> None:
        """See `Commons.leave`."""
        self._ask("leave", job)

    @contextmanager
    def held(self, key: str, holder: str, meanwhile: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Hold the right to compute a key in the whole cluster; yields what renews it, to be called every few seconds.

        Args:
            key: what is computed, with the store's name: other stores' keys are others.
            holder: nobody else's name.
            meanwhile: called now and then while another holds it; what it raises ends the waiting.
        """
        while not self._ask("hold", key, holder):
            meanwhile()
            time.sleep(_ASK_AGAIN_S)
        try:
            yield lambda: self._ask("hold", key, holder)
        finally:
            self._ask("release", key, holder)


def _actor() -> Any:
    import ray

    return (
        ray.remote(num_cpus=0)(Commons)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            # Where the jobs' drivers are: a worker node that dies takes it nowhere.
            resources={HEAD: HEAD_SHARE},
            # A job's own environment (its code) must not outlive it here.
            runtime_env={},
        )
        .remote()
    )


HEAD, HEAD_SHARE = "node:__internal_head__", 0.0001
"""Ray's resource of the head node, and the least that can be asked of it: to be there."""

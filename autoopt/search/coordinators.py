"""What Tune's trials cost beyond their work, brought down: ours come one by one, last seconds, and share two cores with a training.

Tune has no settings for any of it, so three things in its controller are replaced while a search runs:

* ``reuse_actors`` keeps a single idle actor where trials come one by one, and ends the others; a new one costs five seconds of a
  core for its imports;
* a trial whose own actor is starting takes an idle one as soon as there is one, and the starting one is killed: for nearly
  every trial a process was started for nothing;
* every trial reserves a placement group, whose readiness is asked of a worker process that is started for it and dies with it:
  two seconds of a core. Ray's own `FixedResourceManager` reserves nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution.resources.fixed import FixedResourceManager
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.utils.object_cache import _ObjectCache


@contextmanager
def kept(count: int) -> Iterator[None]:
    """Within the context, a search keeps up to ``count`` actors until its end, and reserves nothing for them."""

    class Kept(_ObjectCache):  # type: ignore[misc]  # Ray has no types
        def cache_object(self, key: Any, obj: Any) -> bool:
            if self._num_cached_objects >= count:
                return False
            self._cached_objects[key].append(obj)
            self._num_cached_objects += 1
            return True

        def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:  # noqa: FBT001, FBT002 (Ray's)
            if force_all:
                yield from super().flush_cached_objects(force_all=True)

    reuse = TuneController._maybe_reuse_cached_actor  # noqa: SLF001 (Tune has no setting)

    def reuse_unless_starting(self: TuneController, trial: Any) -> bool:
        return trial not in self._trial_to_actor and bool(reuse(self, trial))

    with (
        _replaced(tune_controller, "_ObjectCache", Kept),
        _replaced(tune_controller, "PlacementGroupResourceManager", FixedResourceManager),
        _replaced(TuneController, "_maybe_reuse_cached_actor", reuse_unless_starting),
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

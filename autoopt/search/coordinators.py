"""Keep Tune's idle actors for the next candidates.

``reuse_actors`` keeps a single idle actor where trials come one by one, as ours do, and ends the others; a new one costs five
seconds of a core for its imports. Tune has no setting for it, so its cache of actors is replaced while it runs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache


@contextmanager
def kept(count: int) -> Iterator[None]:
    """Within the context, a search keeps up to ``count`` idle actors until its end."""

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

    with patch.object(tune_controller, "_ObjectCache", Kept):
        yield

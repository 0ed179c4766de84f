"""Tune keeps its idle actors while a search runs, and only then."""

from __future__ import annotations

from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache

from autoopt.search.coordinators import kept


def test_so_many_idle_actors_are_kept_until_the_end() -> None:
    with kept(2):
        cache = tune_controller._ObjectCache()
        assert [cache.cache_object("resources", actor) for actor in ("a", "b", "c")] == [True, True, False]
        assert list(cache.flush_cached_objects()) == []
        assert cache.pop_cached_object("resources") == "a"
        assert cache.cache_object("resources", "a")
        assert list(cache.flush_cached_objects(force_all=True)) == ["b", "a"]
    assert tune_controller._ObjectCache is _ObjectCache

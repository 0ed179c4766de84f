"""Python imports this when it starts, in every process whose import path begins with this folder: measurements become made-up ones.

As soon as `autoopt.workers.stages.run` has been imported, and not before: most processes never need it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

STAGES = "autoopt.workers.stages.run"


class _Finder(MetaPathFinder):
    """Finds the one module as everybody else would, and puts another function into it when it has been run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See `MetaPathFinder`."""
        del path, target
        if name != STAGES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run: Any = spec.loader.exec_module

        def run_and_replace(module: ModuleType) -> None:
            run(module)
            module.__dict__["_FUNCTIONS"] |= {"probe": _timed, "measure": _timed}

        spec.loader.exec_module = run_and_replace  # type: ignore[method-assign]
        return spec


def _timed(work: Any) -> dict[str, Any]:
    from simulated import timed

    return timed(work)


sys.meta_path.insert(0, _Finder())

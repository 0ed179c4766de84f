"""The other side of `autoopt.testing.engines.check_fresh_process`: load an artifact, run it, write its outputs."""

from __future__ import annotations

import importlib.abc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from autoopt.records import Deployment, Signature, from_json
from autoopt.workers.engines import engine


class _Blocked(importlib.abc.MetaPathFinder):
    """Makes modules look as if they were not installed."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse the blocked names; leave the others to the next finder."""
        del path, target
        if fullname.partition(".")[0] in self._names:
            message = f"{fullname} is blocked"
            raise ModuleNotFoundError(message, name=fullname)


def main(folder: str, deployment: str, signature: str, blocked: str) -> None:
    """Arguments as `check_fresh_process` gives them."""
    sys.meta_path.insert(0, _Blocked(set(filter(None, blocked.split(",")))))
    served = from_json(Deployment, json.loads(deployment))
    session = engine(served.engine).load(Path(folder) / "artifact", served, from_json(Signature, json.loads(signature)))
    with np.load(Path(folder) / "inputs.npz") as archive:
        inputs = tuple(archive[name] for name in archive.files)
    np.savez(Path(folder) / "outputs.npz", *session(inputs))
    session.effective()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A client of a real cluster, for tests: it shares nothing with the cluster but the token and the store."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoopt.testing.clusters import Place


@dataclass(frozen=True)
class Service:
    """A cluster and a client of it."""

    place: Place
    address: str
    store: Path
    folder: Path
    """Where the client stands."""

    @property
    def environment(self) -> dict[str, str]:
        """The client's: of the cluster it has the token and nothing else."""
        known = {"RAY_AUTH_TOKEN_PATH": str(self.place.token_file), "AUTOOPT_STORE": str(self.store)}
        return known | self.place.environment

    def shell(self, *arguments: str | Path, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
        """A command of the shell, in the client's folder."""
        return subprocess.run(
            [sys.executable, "-m", "autoopt", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def told(self, *arguments: str | Path, timeout_s: float = 200) -> Any:
        """What a command says with ``--json``, which must go well."""
        done = self.shell(*arguments, "--json", timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def with_variables(self, **variables: str) -> Service:
        """The same client, with more in its environment."""
        return replace(self, place=replace(self.place, variables=self.place.variables | variables))

    def lines(self, job: str) -> list[dict[str, Any]]:
        """The stages that were computed for a job."""
        path = self.store / "jobs" / job / "logs" / "stages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

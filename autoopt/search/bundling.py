"""How a front of a job exports: it knows the store and the task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoopt.bundle import fresh
from autoopt.bundle.export import Recorder, export
from autoopt.errors import BundleError
from autoopt.front import Config
from autoopt.task.prepared import PreparedTask
from autoopt.workers.store.base import Store


@dataclass(frozen=True)
class Exporter:
    """Writes a config of one job as a bundle."""

    job: str
    task: PreparedTask
    store: Store
    reference_name: str
    record: Recorder = fresh.record
    """Where its artifact is run, once: in this machine's own process unless another can do that only."""

    def __call__(self, config: Config, out: Path) -> Path:
        """Write the bundle into ``out``, which is returned.

        Raises:
            BundleError: the store no longer has the artifact, or ``out`` cannot be replaced.
        """
        artifact = self._artifact(config, config.artifact_key)
        smaller = {size: self._artifact(config, key) for size, key in config.smaller.items()}
        facts = {"job": self.job, "task": self.task.name, "reference": self.reference_name}
        return export(config, artifact, self.task, out, facts=facts, smaller=smaller, record=self.record)

    def _artifact(self, config: Config, key: str) -> Path:
        folder = self.store.get(key)
        if folder is None:
            message = (
                f"the store no longer has the artifact of {config.id}. Run the job again under another name: what the "
                "store still has is not computed twice."
            )
            raise BundleError(message)
        return folder

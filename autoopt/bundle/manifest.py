"""What stands in a bundle, and under which names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt.errors import BundleError
from autoopt.records import Candidate, Deployment, Measurement, Signature, from_json, to_json

MANIFEST, ARTIFACT, EXPECTED, SUMS, README = "bundle.json", "artifact", "expected", "SHA256SUMS", "README.md"
SCHEMA = 1
_KIND = "autoopt bundle"


@dataclass(frozen=True)
class Manifest:
    """``bundle.json``."""

    candidate: Candidate
    signature: Signature
    metric: str
    """What the scores are."""
    validation: Measurement
    """As the search saw it."""
    test: Measurement | None
    """As it was measured afresh on data that the search never saw; None where the job ended before that."""
    packages: Mapping[str, str]
    """The engine's Python distributions with the versions that built the artifact, the runtime first."""
    autoopt: str
    """autoopt's own version."""
    created_at: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, as JSON values: the job, the task, the name of the reference, …"""
    smaller: Mapping[str, str] = field(default_factory=dict)
    """Folders of artifacts for smaller batches, by their size: what a batch that is not full is given to."""
    imports: Mapping[str, Any] = field(default_factory=dict)
    """Where the network's classes are defined, for engines whose artifact is a pickled module; used with trust only."""
    kind: str = _KIND
    schema: int = SCHEMA

    @property
    def deployment(self) -> Deployment:
        """How it is served."""
        return self.candidate.deployment

    @property
    def promised(self) -> Measurement:
        """What is promised: the confirmed measurement where there is one."""
        return self.validation if self.test is None else self.test

    @property
    def reference(self) -> str:
        """What the speed-up is against, in words."""
        return str(self.facts.get("reference", "the network as it was given"))


def read(path: Path) -> Manifest:
    """The manifest of the bundle in the folder ``path``.

    Raises:
        BundleError: it is no bundle, is damaged, or was written by a newer autoopt.
    """
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if data["kind"] != _KIND:
            raise BundleError(_no_bundle(path, f"its {MANIFEST} is something else"))
        if data["schema"] > SCHEMA:
            message = (
                f"the bundle {path} has schema {data['schema']}, this autoopt reads up to {SCHEMA}: upgrade autoopt"
            )
            raise BundleError(message)
        return from_json(Manifest, data)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(_no_bundle(path, f"it has no {MANIFEST}")) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"the bundle {path} is damaged: {MANIFEST} cannot be read ({error}); export it again"
        raise BundleError(message) from error


def write(manifest: Manifest, path: Path) -> None:
    """Write it into the folder."""
    text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False)
    (path / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _no_bundle(path: Path, why: str) -> str:
    return f"{path} is not a bundle: {why}. `autoopt export JOB -o DIR` writes one"

"""What travels to a cluster with a job: the user's code, and the request, as one folder that Ray packs and unpacks.

What is secret in a request (the passwords of store and study) goes in a file of it, and not in the runtime environment's
variables or the job's metadata: those are shown by the dashboard. The driver removes the file when it has read it, and the
nodes that run the job's tasks are sent the code alone (`autoopt.cluster.travel`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from autoopt.errors import TaskError
from autoopt.jobfolder import JobSpec
from autoopt.records import from_json, to_json

OWN = ".autoopt"
"""The folder of the package that is ours."""
REQUEST = "request.json"
MOST_BYTES = 100_000_000
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv", "results", "dist", "build"})


@dataclass(frozen=True)
class Request:
    """What the driver of a job needs to know."""

    spec: JobSpec
    """What may be shown; the driver of a resumed job keeps its own, but for the budget."""
    attempt: int
    code: str
    """A digest of the user's code."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables that only the driver gets."""
    nonce: str = field(default_factory=lambda: token_hex(8))
    """Makes every package another one: Ray would otherwise take what it has unpacked before, without the file that was removed."""


def code_files(folder: Path) -> tuple[Path, ...]:
    """The files of the user's code: all that is not hidden, built, a result, or an environment of packages.

    Raises:
        TaskError: they are too large to be sent about.
    """
    files, total = [], 0
    for path in _walk(folder):
        total += path.stat().st_size
        if total > MOST_BYTES:
            message = (
                f"the code in {folder} is larger than {MOST_BYTES // 1_000_000} MB, which would travel to every node. Put the task "
                "in a folder of its own, or name a smaller one (--code); data belongs where the nodes can read it"
            )
            raise TaskError(message)
        files.append(path)
    return tuple(files)


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _LEFT_OUT and not name.startswith(".") and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(names) if not name.startswith(".") and (here / name).is_file())


def pack(folder: Path, into: Path) -> str:
    """Copy the user's code; returns its digest.

    Raises:
        TaskError: it is too large.
    """
    digest = hashlib.sha256()
    for path in code_files(folder):
        name = path.relative_to(folder)
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(content)
    return digest.hexdigest()[:32]


def write_request(request: Request, package: Path) -> None:
    """Put the request into a package, for its owner alone."""
    own = package / OWN
    own.mkdir(mode=0o700)
    descriptor = os.open(own / REQUEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(to_json(request), file)


def take_request(package: Path) -> Request:
    """The request of an unpacked package, which is removed there."""
    path = package / OWN / REQUEST
    request = from_json(Request, json.loads(path.read_text()))
    path.unlink()
    return request


def zipped(folder: Path) -> bytes:
    """The user's code as an archive, without our own folder."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in code_files(folder):
            archive.write(path, path.relative_to(folder))
    return memory.getvalue()


def unzip(content: bytes, into: Path) -> None:
    """Unpack such an archive; what would land outside is refused.

    Raises:
        TaskError: it was not made by `zipped`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            target = (into / member.filename).resolve()
            if not target.is_relative_to(into.resolve()) or member.is_dir():
                message = f"the code kept with the job holds {member.filename!r}, which leads out of its folder"
                raise TaskError(message)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


def entrypoint() -> str:
    """The command that drives a job, in a package's folder. ``exec``: signals are for it and not for a shell."""
    return "exec python -m autoopt.jobs.drive"


def runtime_env(package: Path) -> dict[str, Any]:
    """Of the Ray job."""
    # Ray kills a job that it stops after three seconds by default: too soon to write the best so far.
    return {"working_dir": str(package), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "8", "PYTHONUNBUFFERED": "1"}}

"""What Ray sends to the nodes that run a job's tasks.

Unless it is told otherwise, that is the whole package with which the job was submitted, and Ray unpacks it on every node. Ours
holds what is for the head alone: the request, with passwords.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells a job's process of its runtime environment; `ray.init` reads it."""


def send_only(folder: Path | None) -> None:
    """In a job's process, before `ray.init`: its tasks get this folder (at most) as their working folder, and not the job's package."""
    told = json.loads(os.environ.get(_JOB, "{}"))
    environment = {} if folder is None else {"working_dir": str(folder), "excludes": ["__pycache__"]}
    os.environ[_JOB] = json.dumps(told | {"runtime_env": environment})

"""What the README says is executed: the task, and the job from Python on it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # two jobs, a minute each

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
Environment = Callable[[Path], dict[str, str]]


def blocks() -> tuple[str, str]:
    """The task's file, and the lines that search it from Python."""
    task = re.search(r"```python\n(# my_task\.py\n.*?)```", README, re.DOTALL)
    search = re.search(r"\n((?:    .*\n)*    import autoopt\n(?:    .*\n)+)", README)
    assert task is not None
    assert search is not None
    return task[1], textwrap.dedent(search[1])


def test_the_readmes_code_runs(tmp_path: Path, environment_of: Environment, spaces: Path) -> None:
    task, search = blocks()
    (tmp_path / "my_task.py").write_text(task)
    # As it stands there, but for a space and a budget that fit a test.
    assert 'space="cpu", budget="10m"' in search
    search = search.replace('space="cpu", budget="10m"', f'space="{spaces / "tiny.yaml"}", budget="4 candidates"')
    program = f"from my_task import x\n\nif __name__ == '__main__':\n{textwrap.indent(search, '    ')}"
    program += "    print('answer', model(x[:1]).shape, 'configs', len(front.to_pandas()), 'meets', pick.met)\n"
    (tmp_path / "search.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "search.py"],
        cwd=tmp_path,
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "answer (1, 10)" in done.stdout
    assert (tmp_path / "results" / "bundle" / "bundle.json").exists()

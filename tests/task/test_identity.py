from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import mine
from autoopt.task.identity import code_digest
print(code_digest(getattr(mine, sys.argv[2])))
"""
CODE = """
import functools
import numpy as np
import helper

LIMIT = 3
KINDS = {"a", "b", "c", "d"}

def inner(x):
    return np.abs(x) + LIMIT

def metric(outputs, targets):
    return [inner(o) for o in outputs if o in {"x", "y", "z"}]

def uses_module(outputs, targets):
    return helper.double(outputs)

class Net:
    size = 4

    def forward(self, x):
        return inner(x) * self.size

partial = functools.partial(inner, x=2)
"""
HELPER = "def double(x):\n    return 2 * x\n"


def digest(folder: Path, name: str, code: str = CODE, helper: str = HELPER) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(textwrap.dedent(code))
    (folder / "helper.py").write_text(helper)
    command = [sys.executable, "-B", "-c", PROGRAM, str(folder), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["metric", "Net"])
def test_the_same_code_has_the_same_digest_in_every_process_and_folder(tmp_path: Path, name: str) -> None:
    commented = "# a comment\n\n\n" + CODE.replace("def inner(x):", "def inner(x):  # why")
    assert digest(tmp_path / "one", name) == digest(tmp_path / "two", name, commented)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metric", "if o in", "if o not in"),
        ("metric", "np.abs(x) + LIMIT", "np.abs(x) - LIMIT"),
        ("metric", "LIMIT = 3", "LIMIT = 4"),
        ("Net", "size = 4", "size = 5"),
        ("Net", "np.abs(x)", "np.exp(x)"),
        ("partial", "x=2", "x=3"),
    ],
)
def test_a_change_in_it_or_in_what_it_calls_changes_the_digest(tmp_path: Path, name: str, old: str, new: str) -> None:
    assert old in CODE
    assert digest(tmp_path / "one", name) != digest(tmp_path / "two", name, CODE.replace(old, new))


def test_a_change_in_a_module_that_it_uses_changes_the_digest(tmp_path: Path) -> None:
    changed = HELPER.replace("2 * x", "3 * x")
    assert digest(tmp_path / "one", "uses_module") != digest(tmp_path / "two", "uses_module", helper=changed)


@pytest.mark.parametrize(("recorded", "digests"), [("talker/__init__.py", 1), ("another/__init__.py", 2)])
def test_only_what_a_package_records_as_its_own_counts_by_name_only(
    tmp_path: Path, recorded: str, digests: int
) -> None:
    libraries = tmp_path / "libraries"
    (libraries / "talker").mkdir(parents=True)
    (libraries / "talker-1.dist-info").mkdir()
    (libraries / "talker-1.dist-info" / "RECORD").write_text(f"{recorded},sha256=abc,10\n")
    (libraries / "talker" / "__init__.py").write_text(
        "import uuid\nSESSION = uuid.uuid4().hex\n\n\ndef talk(x):\n    return SESSION\n"
    )
    program = (
        f"import sys\nsys.path.insert(0, {str(libraries)!r})\nimport talker\n"
        "from autoopt.task.identity import code_digest\nprint(code_digest(talker.talk))\n"
    )
    found = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == digests, (
        "a library's name of its session makes no other task; the user's own code beside it counts"
    )

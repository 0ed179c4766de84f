from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoopt.errors import TaskError
from autoopt.records import from_json, to_json
from autoopt.task import PreparedTask, Task, TaskRef, load_task, prepare, save_task
from autoopt.workers.store import LocalStore

GOOD = """
import numpy as np
import torch
from torch import nn
from autoopt.task import Task
from model import Net

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x)

def metric(outputs, targets):
    return (outputs.argmax(1) == targets).astype(float)

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 6)).astype(np.float32)
y = rng.integers(0, 3, 300)
torch.manual_seed(0)
task = Task(Own(), (x[:100], y[:100]), (x[100:200], y[100:200]), (x[200:], y[200:]), metric=metric, student=Own)
other = 3
"""
MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, {classes})

    def forward(self, x):
        return self.layer(x)
"""


def write(folder: Path, task: str = GOOD, classes: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(classes=classes))
    (folder / "task.py").write_text(textwrap.dedent(task))
    return folder / "task.py"


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_task_is_loaded_by_file_and_name(tmp_path: Path) -> None:
    file = write(tmp_path)
    loaded = load_task(f"{file}:task")
    assert loaded.task.metric(np.eye(3), np.arange(3)).tolist() == [1, 1, 1]  # type: ignore[operator] # a function here
    assert loaded.folder == tmp_path
    assert load_task(file).ref == loaded.ref


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    file = write(tmp_path / "12:30")
    assert load_task(f"{file}:task").ref == load_task(str(file)).ref


def test_a_reference_turns_into_json_and_back_and_loads_the_same(tmp_path: Path) -> None:
    ref = load_task(f"{write(tmp_path)}:task").ref
    again = from_json(TaskRef, to_json(ref))
    assert again == ref
    assert load_task(again).ref == ref


def test_another_process_loads_the_network_whose_classes_are_in_the_tasks_file(
    tmp_path: Path, store: LocalStore
) -> None:
    prepared = prepare(load_task(f"{write(tmp_path / 'user')}:task"), store)
    said = run(
        """
        import sys
        from pathlib import Path
        from autoopt.task import PreparedTask
        prepared = PreparedTask.open(Path(sys.argv[1]))
        arrays = prepared.arrays("validation")
        assert not [name for name in sys.modules if name == "torch" or name.startswith("autoopt_task_")]
        original = prepared.open_original()
        print(type(original.module).__name__, type(original.module.net).__module__, prepared.student.__name__,
              prepared.metric.name, prepared.outputs_of_original("test").shape)
        """,
        prepared.folder,
    )
    assert said == "Own model Own metric (100, 3)"


def test_two_tasks_with_a_model_of_the_same_file_name_do_not_mix(tmp_path: Path) -> None:
    three = load_task(f"{write(tmp_path / 'one', classes=3)}:task").task
    four = load_task(f"{write(tmp_path / 'two', classes=4)}:task").task
    three_again = load_task(f"{write(tmp_path / 'one', classes=3)}:task").task
    assert [task.network.net.layer.out_features for task in (three, four, three_again)] == [3, 4, 3]  # type: ignore[union-attr] # modules here


def test_a_task_made_in_a_script_is_prepared_and_opened_by_another_process(tmp_path: Path) -> None:
    """Its classes live in ``__main__``, which no other process can import."""
    script = tmp_path / "script.py"
    body = GOOD + textwrap.dedent("""
        from pathlib import Path
        from autoopt.task import load_task, prepare, save_task
        from autoopt.workers.store import LocalStore
        folder = Path(__file__).parent
        loaded = load_task(task)
        print(prepare(loaded, LocalStore(folder / "store")).folder)
        save_task(loaded, folder / "task.pkl")
    """)
    write(tmp_path)
    script.write_text(body)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    prepared = PreparedTask.open(Path(done.stdout.strip()))
    said = run(
        """
        import sys
        from pathlib import Path
        from autoopt.task import PreparedTask
        prepared = PreparedTask.open(Path(sys.argv[1]))
        print(type(prepared.open_original().module).__name__, prepared.student().__class__.__name__, prepared.metric.name)
        """,
        prepared.folder,
    )
    assert said == "Own Own metric"


def test_a_pickled_task_is_prepared_under_the_same_fingerprint(
    make_task: Callable[..., Task], store: LocalStore, tmp_path: Path
) -> None:
    loaded = load_task(make_task(metric=lambda outputs, targets: (outputs.argmax(1) == targets) * 1.0))
    ref = save_task(loaded, tmp_path / "task.pkl")
    first = prepare(loaded, store)
    second = run(
        """
        import json, sys
        from pathlib import Path
        from autoopt.records import from_json
        from autoopt.task import TaskRef, load_task, prepare
        from autoopt.workers.store import LocalStore
        ref = from_json(TaskRef, json.loads(sys.argv[1]))
        print(prepare(load_task(ref), LocalStore(Path(sys.argv[2]))).fingerprint)
        """,
        json.dumps(to_json(ref)),
        store.root,
    )
    assert second == first.fingerprint


def test_a_task_that_cannot_be_pickled_says_what_to_do(make_task: Callable[..., Task], tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        task = make_task(metric=lambda outputs, targets: file.fileno())
        with pytest.raises(TaskError, match=r"cannot be handed to another process.*file and name it"):
            save_task(load_task(task), tmp_path / "task.pkl")


def test_a_damaged_pickle_says_so(tmp_path: Path) -> None:
    (tmp_path / "task.pkl").write_bytes(b"\x80\x04nothing")
    with pytest.raises(TaskError, match=r"cannot be read.*Submit the job again"):
        load_task(TaskRef(str(tmp_path / "task.pkl"), None))


def test_no_such_file_says_how_a_task_is_given(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"not a Python file.*path/file.py:name"):
        load_task(f"{tmp_path}/missing.py:task")


def test_what_is_no_task_says_how_a_task_is_given() -> None:
    with pytest.raises(TaskError, match="got a int; a task is given as"):
        load_task(3)  # type: ignore[arg-type] # what a user may give


def test_a_file_that_does_not_import_names_the_users_own_line(tmp_path: Path) -> None:
    file = write(tmp_path, "import numpy\n\nx = numpy.zeros(3).reshape(2, 2)\n")
    with pytest.raises(TaskError, match=r"does not import: task.py, line 3 \(x = numpy.zeros.*ValueError"):
        load_task(f"{file}:task")


def test_an_error_in_a_module_beside_the_task_names_that_module(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "model.py").write_text("\nimport nothing_of_this_name\n")
    with pytest.raises(TaskError, match=r"model.py, line 2 .*ModuleNotFoundError"):
        load_task(f"{file}:task")


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "x = 1\ny = (\n")
    with pytest.raises(TaskError, match=r"task.py, line 2: SyntaxError"):
        load_task(f"{file}:task")


def test_a_missing_name_lists_the_tasks_that_are_there(tmp_path: Path) -> None:
    file = write(tmp_path)
    with pytest.raises(TaskError, match="has no 'tsak'; it has these Task objects: task"):
        load_task(f"{file}:tsak")
    with pytest.raises(TaskError, match="is a int, not a Task; these Task objects: task"):
        load_task(f"{file}:other")


def test_a_file_without_a_task_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no Task object \(write `task = autoopt.Task"):
        load_task(f"{write(tmp_path, 'x = 1')}:task")

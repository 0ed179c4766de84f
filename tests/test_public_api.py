import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import autoopt

PUBLIC = [
    "AutooptError",
    "BudgetError",
    "BundleError",
    "ClusterError",
    "Config",
    "Front",
    "Job",
    "JobError",
    "JobResult",
    "Model",
    "Pick",
    "SpaceError",
    "StageError",
    "StoreError",
    "StudyError",
    "Task",
    "TaskError",
    "UserError",
    "Verdict",
    "__version__",
    "job",
    "jobs",
    "load",
    "resume",
    "search",
    "submit",
    "verify",
]
HEAVY = {"torch", "ray", "optuna", "pandas", "numpy", "pydantic", "yaml", "rich", "plotly", "onnx", "onnxruntime"}


def in_fresh_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert autoopt.__all__ == PUBLIC
    assert dir(autoopt) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_had(name: str) -> None:
    assert getattr(autoopt, name) is not None


def test_the_version_is_that_of_the_distribution() -> None:
    assert autoopt.__version__ == version("autoopt")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'autoopt' has no attribute 'seach'"):
        _ = autoopt.seach


def test_importing_autoopt_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, time, json; known = set(sys.modules); begun = time.perf_counter(); import autoopt\n"
        "print(json.dumps([time.perf_counter() - begun, sorted(set(sys.modules) - known)]))"
    )
    tries = [json.loads(in_fresh_process(program)) for _ in range(3)]
    assert min(seconds for seconds, _ in tries) < 0.2
    loaded = {name.partition(".")[0] for name in tries[0][1]}
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", ["submit", "Task", "load", "Front", "job", "AutooptError"])
def test_what_is_used_first_loads_neither_torch_nor_ray_nor_optuna(name: str) -> None:
    loaded = in_fresh_process(f"import sys, autoopt; autoopt.{name}; print(*sys.modules)").split()
    assert not {"torch", "ray", "optuna", "pandas"} & set(loaded)


@pytest.mark.parametrize("module", ["autoopt.search.budget", "autoopt.jobs.submit", "autoopt.bundle.load"])
def test_importing_a_package_of_the_same_name_hides_no_function(module: str) -> None:
    program = f"import {module}; import autoopt; print(*map(callable, (autoopt.search, autoopt.jobs, autoopt.load)))"
    assert in_fresh_process(program) == "True True True\n"

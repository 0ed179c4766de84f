import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from autoopt.bundle import export, load
from autoopt.bundle.manifest import read
from autoopt.errors import BundleError, UserError
from autoopt.front import Config
from autoopt.records import Signature
from autoopt.task import PreparedTask

FEATURES = 64


def weights(task: PreparedTask) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(FEATURES, 10)).astype(np.float32)


def test_a_bundle_answers_as_the_network_does_for_any_number_of_samples(bundle: Path, task: PreparedTask) -> None:
    x = np.asarray(task.arrays("validation").inputs[0])
    with load(bundle) as model:
        for count in (1, 3, 4, 5, 100):
            np.testing.assert_allclose(model(x[:count]), x[:count] @ weights(task), rtol=1e-4, atol=1e-4)
        nothing = model(x[:0])
    assert isinstance(nothing, np.ndarray)
    assert nothing.shape == (0, 10)


def test_outputs_of_one_call_survive_the_next(bundle: Path, task: PreparedTask) -> None:
    x = np.asarray(task.arrays("validation").inputs[0])
    model = load(bundle)
    first = np.array(kept := model(x[:4]))
    model(x[4:8])
    np.testing.assert_array_equal(kept, first)


def test_the_manifest_says_what_was_measured(bundle: Path, config: Config) -> None:
    manifest = read(bundle)
    assert (manifest.candidate, manifest.validation, manifest.test) == (
        config.candidate,
        config.validation,
        config.test,
    )
    assert manifest.packages["onnxruntime"]


def test_the_artifact_is_copied_without_the_stores_notes(bundle: Path) -> None:
    assert [path.name for path in (bundle / "artifact").iterdir()] == ["model.onnx"]


def test_the_readme_shows_the_measured_speed_up_and_how_to_load(bundle: Path) -> None:
    text = (bundle / "README.md").read_text()
    assert "14.2× (13.6–14.9)" in text
    assert "autoopt.load(" in text
    assert "x float32 (N, 64)" in text


def test_sha256sum_agrees(bundle: Path) -> None:
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_same_bundle_is_not_written_twice_and_another_replaces_it(
    bundle: Path, config: Config, artifact: Path, task: PreparedTask
) -> None:
    facts = read(bundle).facts
    before = bundle.stat().st_ino
    export(config, artifact, task, bundle, facts=facts)
    assert bundle.stat().st_ino == before
    export(replace(config, test=None), artifact, task, bundle, facts=facts)
    assert read(bundle).test is None
    assert "validation split" in (bundle / "README.md").read_text()
    assert {path.name for path in bundle.parent.iterdir()} == {"artifact", "bundle", "task"}


def test_a_folder_that_is_no_bundle_is_left_alone(
    tmp_path: Path, config: Config, artifact: Path, task: PreparedTask
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("…")
    with pytest.raises(BundleError, match="not a bundle, and is left alone"):
        export(config, artifact, task, tmp_path / "precious", facts={})
    assert (tmp_path / "precious" / "thesis.tex").exists()


def test_an_artifact_that_does_not_run_leaves_no_bundle(
    tmp_path: Path, config: Config, artifact: Path, task: PreparedTask
) -> None:
    (artifact / "model.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError):
        export(config, artifact, task, tmp_path / "bundle", facts={})
    assert {path.name for path in tmp_path.iterdir()} == {"artifact", "task"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 63), np.float32), r"shape \(N, 64\); given was \(2, 63\)"),
        (np.zeros(64, np.float32), r"x\[None\] for a single sample"),
        (np.zeros((2, 64), np.complex64), "must be float32; given was complex64"),
        ({"x": np.zeros((2, 64))}, "shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(bundle: Path, given: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(bundle)(given)


def test_a_tuple_and_a_dict_are_taken_as_the_task_gives_them(
    config: Config, artifact: Path, task: PreparedTask, tmp_path: Path
) -> None:
    x = np.asarray(task.arrays("validation").inputs[0][:5])
    for structure, given in (("tuple", (x,)), ("dict", {"x": x})):
        signature = Signature(structure, task.signature.tensors)
        other = PreparedTask(task.folder, replace(task.manifest, signature=signature))
        model = load(export(config, artifact, other, tmp_path / structure, facts={}))
        np.testing.assert_allclose(model(given), x @ weights(task), rtol=1e-4, atol=1e-4)
        with pytest.raises(UserError, match=f"takes a {structure}"):
            model(x)


def test_threads_are_the_callers_choice(bundle: Path) -> None:
    assert load(bundle, threads=2).deployment.threads == 2
    with pytest.raises(BundleError, match="1 or more"):
        load(bundle, threads=0)


CLEAN = """
import sys
allowed = {"autoopt", "numpy", "onnxruntime", *sys.stdlib_module_names}
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # onnxruntime itself tries packages that it can do without; autoopt must not.
        if top not in allowed and not top.startswith("_"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Only())
import numpy as np, autoopt
model = autoopt.load(sys.argv[1])
print(model(np.ones((3, 64), np.float32)).shape)
heavy = {"torch", "ray", "optuna", "pydantic", "psutil", "onnx", "pandas", "yaml", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def test_loading_needs_numpy_and_the_engine_only(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CLEAN, str(bundle)], capture_output=True, text=True, check=False)
    assert done.stdout == "(3, 10)\n", done.stderr


def test_verify_needs_numpy_and_the_engine_only(bundle: Path, tmp_path: Path) -> None:
    hook = CLEAN.partition("import numpy")[0]
    (tmp_path / "sitecustomize.py").write_text(hook)
    done = subprocess.run(
        [sys.executable, "-m", "autoopt", "verify", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert "48 samples" in done.stdout, done.stderr


def test_a_moved_bundle_still_runs(bundle: Path, tmp_path: Path) -> None:
    moved = shutil.move(bundle, tmp_path / "elsewhere")
    assert load(moved)(np.zeros((1, 64), np.float32)).shape == (1, 10)  # type: ignore[union-attr]  # one output


def test_a_batch_that_is_not_full_goes_to_the_smallest_artifact_that_has_room(
    tmp_path: Path, config: Config, artifact: Path, small_artifact: Path, task: PreparedTask
) -> None:
    deployment = replace(config.candidate.deployment, batching="dynamic", max_wait_ms=1.0)
    served = replace(config, candidate=replace(config.candidate, deployment=deployment), smaller={"1": "1" * 64})
    bundle = export(served, artifact, task, tmp_path / "bundle", facts={}, smaller={"1": small_artifact})
    assert {path.name for path in bundle.iterdir()} >= {"artifact", "artifact-1"}
    x = np.asarray(task.arrays("validation").inputs[0])[: deployment.batch + 1]
    called: list[int] = []
    with load(bundle) as model:
        for size, session in model._by_batch.items():

            def noted(batch: tuple[np.ndarray, ...], session: Any = session) -> Any:
                called.append(len(batch[0]))
                return session(batch)

            model._by_batch[size] = cast("Any", noted)
        np.testing.assert_allclose(model(x), x @ weights(task), rtol=1e-4, atol=1e-4)
        model._by_batch.clear()
    assert called == [deployment.batch, 1]

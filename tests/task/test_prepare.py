from __future__ import annotations

import importlib
import json
import logging
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from autoopt.errors import StoreError, TaskError
from autoopt.records import Signature, TensorSpec
from autoopt.task import PreparedTask, Task, load_task, prepare
from autoopt.task.data import open_split
from autoopt.workers.store import LocalStore

prepare_module = importlib.import_module("autoopt.task.prepare")  # the package's name for it is the function's
Prepare = Callable[..., PreparedTask]
Digits = tuple[np.ndarray, np.ndarray]


def test_the_prepared_folder_holds_the_data_as_given(prepared: Prepare, digits: Digits) -> None:
    task = prepared()
    x, y = digits
    for split, rows in {"train": slice(0, 800), "validation": slice(800, 1200), "test": slice(1200, None)}.items():
        arrays = task.arrays(split)
        np.testing.assert_array_equal(arrays.inputs[0], x[rows])
        np.testing.assert_array_equal(arrays.targets, y[rows])
        assert task.splits[split] == len(x[rows])
        assert isinstance(arrays.inputs[0], np.memmap)
    assert task.signature == Signature("array", (TensorSpec("input", (1, 8, 8), "float32"),))
    assert task.source_format == task.source.format == "module"
    assert task.source.path == task.folder / "network"


def test_reference_outputs_are_those_of_the_network_in_eval_mode(
    prepared: Prepare, network: nn.Module, digits: Digits
) -> None:
    noisy = nn.Sequential(network, nn.Dropout(0.9))
    noisy.train()
    task = prepared(network=noisy)
    with torch.no_grad():
        expected = network(torch.from_numpy(digits[0][800:1200])).numpy()
    np.testing.assert_allclose(task.reference_outputs, expected, atol=1e-5)
    assert task.reference_score == pytest.approx((expected.argmax(1) == digits[1][800:1200]).mean())
    assert noisy.training, "the user's own network stays as it was"


def test_the_users_network_may_be_a_factory(prepared: Prepare, network: nn.Module) -> None:
    assert prepared(network=lambda: network).fingerprint == prepared().fingerprint


def test_the_training_order_is_a_fixed_permutation(prepared: Prepare) -> None:
    order = prepared().training_order
    assert sorted(order) == list(range(800))
    assert not np.array_equal(order, np.arange(800))
    np.testing.assert_array_equal(order, prepared().training_order)


def test_calibration_is_drawn_from_train_else_from_validation(prepared: Prepare, digits: Digits) -> None:
    def rows(images: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in np.asarray(images)}

    with_train, without = prepared(), prepared(train=None)
    assert (with_train.splits["calibration"], without.splits["calibration"]) == (512, 400)
    assert rows(with_train.arrays("calibration").inputs[0]) <= rows(digits[0][:800])
    assert rows(without.arrays("calibration").inputs[0]) <= rows(digits[0][800:1200])
    assert not without.has("train")
    own = prepared(calibration=(digits[0][:40], digits[1][:40]))
    np.testing.assert_array_equal(own.arrays("calibration").inputs[0], digits[0][:40])


def test_a_missing_split_says_which_there_are(prepared: Prepare) -> None:
    task = prepared(train=None)
    with pytest.raises(TaskError, match="has no split 'train'; it has validation, test, calibration"):
        task.arrays("train")
    with pytest.raises(TaskError, match="has no split 'train'"):
        _ = task.training_order


def test_outputs_on_test_are_computed_when_asked_for_and_kept(prepared: Prepare, digits: Digits) -> None:
    task = prepared()
    assert not (task.folder / "outputs" / "test.npy").exists()
    outputs = task.outputs_of_original("test")
    assert outputs.shape == (len(digits[0]) - 1200, 10)
    stamp = (task.folder / "outputs" / "test.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(PreparedTask.open(task.folder).outputs_of_original("test"), outputs)
    assert (task.folder / "outputs" / "test.npy").stat().st_mtime_ns == stamp


def test_a_part_of_a_split_is_drawn_at_random_but_always_the_same(prepared: Prepare, digits: Digits) -> None:
    task = prepared()
    first, again = task.drawn("test", 50), task.drawn("test", 50)
    np.testing.assert_array_equal(first.inputs[0], again.inputs[0])
    assert len(first.targets) == 50
    assert not np.array_equal(first.targets, digits[1][1200:1250])
    np.testing.assert_array_equal(task.drawn("test").targets, digits[1][1200:])
    np.testing.assert_array_equal(task.drawn("test", 100_000).targets, digits[1][1200:])


@pytest.mark.parametrize("known", ["the whole", "nothing"])
def test_outputs_on_a_part_of_a_split_are_those_of_the_whole(prepared: Prepare, known: str) -> None:
    task = prepared()
    if known == "the whole":
        task.outputs_of_original("test")
    outputs = task.outputs_of_original("test", 50)
    with torch.no_grad():
        expected = task.open_original().run(task.drawn("test", 50).inputs, task.signature)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert (task.folder / "outputs" / "test.npy").exists() is (known == "the whole")


def test_a_slow_network_is_judged_by_fewer_validation_samples_and_it_is_said(
    prepared: Prepare, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "JUDGED_AT_LEAST", 100)
    monkeypatch.setattr(prepare_module, "_sample_ms", lambda *_: 200.0)
    task = prepared()
    assert task.splits["validation"] == 100
    arrays = task.arrays("validation")
    assert len(arrays.inputs[0]) == len(arrays.targets) == len(task.reference_outputs) == 100
    given = {image.tobytes(): label for image, label in zip(digits[0][800:1200], digits[1][800:1200], strict=True)}
    assert all(given[i.tobytes()] == t for i, t in zip(np.array(arrays.inputs[0]), arrays.targets, strict=True))
    assert not np.array_equal(arrays.targets, digits[1][800:900])
    assert task.splits["test"] == len(digits[1]) - 1200
    (remark,) = task.remarks
    assert "100 of the 400 validation samples" in remark


def test_how_long_a_sample_takes_is_known(prepared: Prepare) -> None:
    assert 0 < prepared().sample_ms < 100


def test_a_kept_output_is_no_damage_to_the_store(prepared: Prepare, store: LocalStore) -> None:
    task = prepared()
    task.outputs_of_original("test")
    assert LocalStore(store.root).get(task.fingerprint) == task.folder


def test_a_task_is_prepared_once(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared()
    monkeypatch.setattr(LocalStore, "publish", lambda *_: pytest.fail("written again"))
    assert prepared().folder == first.folder


def test_a_damaged_task_is_prepared_again_and_said(
    prepared: Prepare, make_task: Callable[..., Task], store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    task = prepared()
    (task.folder / "validation" / "targets.npy").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        again = prepare(load_task(make_task()), LocalStore(store.root))
    assert "damaged" in caplog.text
    assert len(again.arrays("validation").targets) == 400


def test_opening_takes_milliseconds(prepared: Prepare) -> None:
    folder = prepared().folder
    began = time.perf_counter()
    for _ in range(10):
        PreparedTask.open(folder)
    assert (time.perf_counter() - began) / 10 < 0.02


def test_a_prepared_task_crosses_processes_by_its_folder(prepared: Prepare) -> None:
    task = prepared()
    again = pickle.loads(pickle.dumps(task))
    assert again.folder == task.folder
    assert len(pickle.dumps(task)) < 1000


def test_a_folder_that_is_no_task_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no prepared task.*Start the job again"):
        PreparedTask.open(tmp_path)


def _metric_a(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float((outputs.argmax(1) == targets).mean())


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets) * 2


def _metric_b(outputs: np.ndarray, targets: np.ndarray) -> float:
    return float((outputs.argmax(1) == targets).mean()) * 2


@pytest.mark.parametrize("change", ["data", "target", "weight", "structure", "metric", "loss", "student", "names"])
def test_whatever_changes_results_changes_the_fingerprint(
    prepared: Prepare, network: nn.Sequential, digits: Digits, change: str
) -> None:
    x, y = digits[0].copy(), digits[1].copy()
    base: dict[str, Any] = {"metric": _metric_a}
    before = prepared(**base).fingerprint
    if change == "data":
        x[900, 0, 3, 3] += 0.5
    if change == "target":
        y[1000] = (y[1000] + 1) % 10
    if change == "weight":
        with torch.no_grad():
            network[1].weight[0, 0] += 1e-4
    if change == "structure":
        base["network"] = nn.Sequential(*network, nn.Identity())
    base |= {
        "metric": {"metric": _metric_b},
        "names": {"metric": "accuracy"},
        "loss": {"loss": _loss},
        "student": {"student": _metric_a},
    }.get(change, {})
    changed = {"validation": (x[800:1200], y[800:1200])} if change in {"data", "target"} else {}
    assert prepared(**base, **changed).fingerprint != before


class Items(Dataset[Any]):
    """A map-style data set that counts how often its items are made."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y, self.made = x, y, 0

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.made += 1
        return self.x[index], self.y[index]


@pytest.mark.parametrize("kind", ["tensors", "list", "TensorDataset", "items", "items of tensors", "list of items"])
def test_every_form_of_a_split_gives_the_same_arrays(prepared: Prepare, digits: Digits, kind: str) -> None:
    x, y = digits[0][800:1200], digits[1][800:1200]
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    split: Any = {
        "tensors": tensors,
        "list": [x, y],
        "TensorDataset": TensorDataset(*tensors),
        "items": Items(x, y.tolist()),
        "items of tensors": Items(*tensors),
        "list of items": list(zip(x, y, strict=True)),
    }[kind]
    assert prepared(validation=split).fingerprint == prepared().fingerprint


def test_items_of_a_data_set_are_made_once_each_when_the_data_are_read(prepared: Prepare, digits: Digits) -> None:
    items = Items(digits[0][:800], digits[1][:800])
    prepared(train=items)
    assert items.made == 800


def test_a_list_of_two_items_is_a_data_set() -> None:
    x = np.ones((3, 4), np.float32)
    reader = open_split("validation", [(x, 1), (x + 1, 0)])
    assert reader.length == 2
    assert reader.chunk(0, 2).inputs[0].shape == (2, 3, 4)


def test_dtypes_are_kept_but_float64_is_made_float32_and_said(prepared: Prepare, digits: Digits) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.net(x.float() / 16)
            return result

    torch.manual_seed(0)
    network = Scaled()

    def splits(convert: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        x, y = convert(digits[0] * 16), digits[1]
        return {"validation": (x[800:1200], y[800:1200]), "test": (x[1200:], y[1200:]), "train": None}

    small = prepared(network=network, **splits(lambda x: x.astype(np.uint8)))
    wide = prepared(network=network, **splits(lambda x: x.astype(np.float64)))
    assert small.signature.tensors[0].dtype == small.arrays("test").inputs[0].dtype.name == "uint8"
    assert wide.signature.tensors[0].dtype == wide.arrays("test").inputs[0].dtype.name == "float32"
    assert wide.remarks == ("input: float64 was made float32",)
    np.testing.assert_allclose(small.reference_outputs, wide.reference_outputs, atol=1e-5)


class TwoInputs(nn.Module):
    """Tokens and a mask, taken by position or by keyword; returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.embed(ids) * mask[..., None]
        return {"logits": self.head(states.sum(1)), "states": states}


@pytest.mark.parametrize("structure", ["tuple", "dict", "dict items", "swapped dict"])
def test_networks_of_several_inputs_are_judged_by_their_first_output(prepared: Prepare, structure: str) -> None:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    network = TwoInputs()

    def split(count: int) -> Any:
        ids, mask = random.integers(0, 50, (count, 12)), (random.random((count, 12)) < 0.8).astype(np.float32)
        y = random.integers(0, 3, count)
        if structure == "tuple":
            return (ids, mask), y
        if structure == "dict items":
            return [({"ids": a, "mask": b}, c) for a, b, c in zip(ids, mask, y, strict=True)]
        if structure == "swapped dict":
            return {"mask": mask, "ids": ids}, y
        return {"ids": ids, "mask": mask}, y

    validation = split(100)
    task = prepared(network=network, validation=validation, test=split(100), train=None)
    names = {spec.name: (spec.shape, spec.dtype) for spec in task.signature.tensors}
    arrays = task.arrays("validation").inputs
    if structure == "tuple":
        assert names == {"input_0": ((12,), "int64"), "input_1": ((12,), "float32")}
    else:
        assert names == {"ids": ((12,), "int64"), "mask": ((12,), "float32")}
        assert task.signature.structure == "dict"
    by_name = dict(zip(names, (torch.from_numpy(np.array(array)) for array in arrays), strict=True))
    ids, mask = by_name.get("ids", by_name.get("input_0")), by_name.get("mask", by_name.get("input_1"))
    with torch.no_grad():
        expected = network(ids, mask)["logits"]
    np.testing.assert_allclose(task.reference_outputs, expected, atol=1e-5)


def test_the_example_may_be_given(prepared: Prepare, digits: Digits) -> None:
    assert prepared(example=digits[0][:5]).fingerprint == prepared().fingerprint


def test_a_few_shared_samples_are_a_remark(prepared: Prepare, digits: Digits) -> None:
    x, y = digits
    test = (np.concatenate([x[1200:], x[800:803]]), np.concatenate([y[1200:], y[800:803]]))
    (remark,) = prepared(test=test).remarks
    assert remark.startswith("3 of the 400 samples of validation (0.75%) are also in test")


def test_progress_is_told(make_task: Callable[..., Task], store: LocalStore) -> None:
    said: list[str] = []
    prepare(load_task(make_task()), store, progress=said.append)
    assert "writing train: 800 samples" in said


class Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (self.place, "boom")  # type: ignore[return-value]  # what a hostile pickle looks like


def test_who_only_reads_runs_no_code_of_a_task(prepared: Prepare, tmp_path: Path) -> None:
    """The task is from a store that somebody else writes to: its functions are a bomb, its imports lead to his folder."""

    def own_metric(outputs: np.ndarray, targets: np.ndarray) -> float:
        return float((outputs.argmax(1) == targets).mean())

    folder = prepared(metric=own_metric).folder
    (folder / "functions.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    manifest = json.loads((folder / "task.json").read_text())
    hostile = {"imports": {"folders": [str(tmp_path)], "modules": {}}, "functions": ["metric", "loss", "student"]}
    (folder / "task.json").write_text(json.dumps(manifest | hostile))
    task = PreparedTask.open(folder, code=False)
    assert (task.metric_name, len(task.arrays("validation").targets)) == ("own_metric", 400)
    assert str(tmp_path) not in sys.path
    for run in (lambda: task.metric, lambda: task.loss, lambda: task.student, task.open_original):
        with pytest.raises(TaskError, match="was opened to be read only"):
            run()
    assert not (tmp_path / "boom").exists()

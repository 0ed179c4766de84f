import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoopt.bundle import checksums, fresh, verify
from autoopt.bundle.compare import compare
from autoopt.bundle.timing import time_calls
from autoopt.errors import BundleError
from autoopt.front import Config
from autoopt.records import Effective
from autoopt.records.environment import current

Make = Callable[..., Path]
Elsewhere = Callable[..., Config]
BROKEN = """
import os, signal, time
def segfault(arguments): os.kill(os.getpid(), signal.SIGSEGV)
def hang(arguments): time.sleep(60)
def fail(arguments): raise RuntimeError("no luck")
"""


def test_a_whole_bundle_on_the_same_machine_is_still_what_was_promised(bundle: Path) -> None:
    verdict = verify(bundle)
    assert verdict.ok, verdict
    assert verdict.exit_code == 0
    assert verdict.summary.startswith("still what was promised (14.2× as fast as PyTorch eager FP32")
    assert verdict.examination.comparison.samples == 48
    assert verdict.unlike == ()


def test_other_outputs_are_noticed(bundle: Path) -> None:
    path = bundle / "expected" / "outputs_0.npy"
    outputs = np.load(path)
    np.save(path, outputs + 0.1)
    checksums.write(bundle)
    verdict = verify(bundle)
    assert verdict.exit_code == 1
    assert verdict.summary.startswith("outputs differ: 48 samples, largest difference 0.0")


def test_slower_than_promised_is_said_on_the_same_machine(make: Make, config: Config) -> None:
    assert config.test is not None
    promise = dataclasses.replace(config.test, latency_ms=type(config.test.latency_ms)(1e-6, 1e-6, 1e-6))
    verdict = verify(make(dataclasses.replace(config, test=promise)))
    assert verdict.exit_code == 1
    assert verdict.summary.startswith("slower than promised: ")


def test_another_machine_is_no_failure_and_is_said(make: Make, config: Config, elsewhere: Elsewhere) -> None:
    assert config.test is not None
    promise = dataclasses.replace(config.test, latency_ms=type(config.test.latency_ms)(1e-6, 1e-6, 1e-6))
    verdict = verify(make(elsewhere(dataclasses.replace(config, test=promise), cpu="Imaginary CPU")))
    assert verdict.exit_code == 0
    assert "another machine" in verdict.summary
    assert "Imaginary CPU there" in verdict.summary


def test_only_versions_that_matter_make_another_environment(make: Make, config: Config, elsewhere: Elsewhere) -> None:
    versions = current().packages
    ray = elsewhere(config, packages=versions | {"ray": "1.0"})
    assert verify(make(ray, "ray")).unlike == ()
    ort = elsewhere(config, packages=versions | {"onnxruntime": "1.0"})
    verdict = verify(make(ort, "ort"))
    assert verdict.summary.startswith("another environment: ")
    assert verdict.exit_code == 0


def test_a_silent_fallback_is_noticed(make: Make, config: Config) -> None:
    assert config.test is not None
    promise = dataclasses.replace(config.test, effective=Effective("1", "cpu", "int8", 1))
    verdict = verify(make(dataclasses.replace(config, test=promise)))
    assert verdict.summary == "runs otherwise than promised: precision fp32 here, int8 promised"
    assert verdict.exit_code == 1


def test_a_damaged_bundle_is_refused(bundle: Path) -> None:
    (bundle / "README.md").write_text("")
    with pytest.raises(BundleError, match=r"README\.md is not what was exported"):
        verify(bundle)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken_engine:segfault", "died by SIGSEGV"),
        ("broken_engine:hang", "did not answer within 1 s"),
        ("broken_engine:fail", "ended with code 1.*no luck"),
    ],
)
def test_an_engine_that_dies_or_hangs_is_an_error_in_words(
    bundle: Path, function: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_engine.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fresh, "_FUNCTION", function)
    with pytest.raises(BundleError, match=f"(?s){message}"):
        fresh.examine(bundle, trust=False, limit_s=1.0)


def test_what_lies_in_the_bundle_is_never_imported(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "numpy.py").write_text("import os; os._exit(7)")
    checksums.write(bundle)
    monkeypatch.chdir(bundle)
    assert verify(Path()).ok


def test_equal_outputs_are_the_same_and_a_class_is_counted() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    found = compare((scores,), (scores,), "fp32")
    assert found.same
    assert (found.max_difference, found.agreement) == (0.0, 1.0)


def test_tolerance_grows_as_the_precision_falls() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    off = scores + 0.05 * scores.std()
    assert not compare((scores,), (off,), "fp32").same
    assert not compare((scores,), (off,), "fp16").same
    assert compare((scores,), (off,), "int8").same


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_nan_and_other_shapes_are_never_the_same(precision: str) -> None:
    scores = np.ones((4, 5), np.float32)
    assert not compare((scores,), (scores * np.nan,), precision).same
    assert "shapes" in compare((scores,), (scores[:2],), precision).words()


def test_what_was_not_finite_when_recorded_is_not_asked_for() -> None:
    scores = np.array([[1.0, -np.inf], [2.0, 3.0]], np.float32)
    assert compare((scores,), (scores,), "fp32").same


def test_a_call_of_known_length_is_timed_right() -> None:
    def spin() -> None:
        ends = time.perf_counter() + 0.002
        while time.perf_counter() < ends:
            pass

    found = time_calls(spin)
    assert 2.0 <= found.median_ms.low <= found.median_ms.value <= found.median_ms.high
    assert found.median_ms.value < 2.5

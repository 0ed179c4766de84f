"""A wrong artifact is refused, a rounded one is not."""

import numpy as np
import pytest

from autoopt.errors import FailureKind, StageError
from autoopt.workers.measure.fidelity import agreement, are_class_scores, compare, require_faithful

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(256, 64)).astype(np.float32)
FIRST = RNG.normal(size=(64, 64)).astype(np.float32) / 8
LAST = RNG.normal(size=(64, 10)).astype(np.float32) / 8
BIAS = RNG.normal(size=64).astype(np.float32)


def outputs(
    first: np.ndarray = FIRST, last: np.ndarray = LAST, bias: np.ndarray = BIAS, inputs: np.ndarray = INPUTS
) -> np.ndarray:
    return np.maximum(inputs @ first + bias, 0) @ last


def quantized(values: np.ndarray, levels: int) -> np.ndarray:
    scale = np.abs(values).max() / levels
    return (np.round(values / scale) * scale).astype(np.float32)


def rounded_to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent).astype(np.float32)


SOURCE = outputs()


def passes(artifact: np.ndarray, precision: str) -> bool:
    fidelity = compare(artifact, SOURCE, class_scores=True)
    try:
        require_faithful(fidelity, precision)
    except StageError as error:
        return error.kind is not FailureKind.DISAGREEMENT
    return True


@pytest.mark.parametrize(
    "wrong",
    [
        outputs(first=FIRST.T.copy()),
        outputs(bias=np.zeros_like(BIAS)),
        outputs(last=np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32) / 8),
        outputs(inputs=np.roll(INPUTS, 1, axis=0)),
        SOURCE[:, ::-1],
        np.zeros_like(SOURCE),
        SOURCE * 1.1,
        quantized(SOURCE, 7),
    ],
    ids=["transposed", "bias lost", "other weights", "other samples", "classes reversed", "zeros", "scaled", "4 bits"],
)
def test_another_function_is_refused_in_fp32(wrong: np.ndarray) -> None:
    assert not passes(wrong, "fp32")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize(
    "wrong",
    [outputs(first=FIRST.T.copy()), outputs(last=LAST[::-1].copy()), SOURCE[:, ::-1]],
    ids=["transposed", "other weights", "classes reversed"],
)
def test_another_function_is_refused_in_lower_precision_too(wrong: np.ndarray, precision: str) -> None:
    assert not passes(wrong, precision)


def test_another_order_of_summation_passes_in_fp32() -> None:
    order = np.random.default_rng(2).permutation(64)
    assert passes(outputs(first=FIRST[order], inputs=INPUTS[:, order]), "fp32")


@pytest.mark.parametrize(("precision", "bits"), [("fp16", 11), ("bf16", 8)])
def test_rounded_weights_and_inputs_pass_in_their_precision(precision: str, bits: int) -> None:
    first, last, inputs = (rounded_to_bits(values, bits) for values in (FIRST, LAST, INPUTS))
    assert passes(outputs(first=first, last=last, inputs=inputs), precision)


def test_quantized_weights_pass_in_int8_only() -> None:
    artifact = outputs(first=quantized(FIRST, 127), last=quantized(LAST, 127), inputs=quantized(INPUTS, 127))
    assert passes(artifact, "int8")
    assert not passes(artifact, "fp32")


def test_the_message_gives_the_figures_and_what_is_allowed() -> None:
    with pytest.raises(StageError, match=r"on 256 samples it agrees on \d.*fp32: at least 99%.*at most 0\.005"):
        require_faithful(compare(SOURCE[:, ::-1], SOURCE, class_scores=True), "fp32")


def test_nan_is_divergence() -> None:
    broken = SOURCE.copy()
    broken[3, 2] = np.inf
    with pytest.raises(StageError, match="1 of 256 samples") as caught:
        compare(broken, SOURCE, class_scores=True)
    assert caught.value.kind is FailureKind.DIVERGED


def test_another_shape_is_disagreement() -> None:
    with pytest.raises(StageError, match=r"\(256, 9\).*\(256, 10\)"):
        compare(SOURCE[:, :9], SOURCE, class_scores=True)


def test_a_tie_may_be_decided_either_way() -> None:
    source = np.tile(np.array([[1.0, 1.0, -5.0]], np.float32), (8, 1))
    nudged = source + np.array([[0.0, 1e-6, 0.0]], np.float32)
    assert agreement(nudged, source, class_scores=True) == 1


def test_constant_outputs_are_not_divided_by_zero() -> None:
    constant = np.full((8, 3), 2.0, np.float32)
    assert compare(constant, constant, class_scores=True).max_difference == 0
    zeros = np.zeros((8, 3), np.float32)
    assert compare(zeros, zeros, class_scores=True).max_difference == 0


def test_regression_outputs_agree_within_a_tenth_of_their_spread() -> None:
    source = np.linspace(-1, 1, 100)[:, None]
    assert agreement(source + 0.01, source, class_scores=False) == 1
    assert agreement(source + 0.5, source, class_scores=False) == 0


@pytest.mark.parametrize(
    ("outputs_shape", "targets", "expected"),
    [
        ((5, 3), np.zeros(5, np.int64), True),
        ((5, 3, 8, 8), np.zeros((5, 8, 8), np.int64), True),
        ((5, 3), np.zeros((5, 3), np.float32), False),
        ((5,), np.zeros(5, np.int64), False),
    ],
)
def test_class_scores_are_told_by_shapes_and_types(
    outputs_shape: tuple[int, ...], targets: np.ndarray, *, expected: bool
) -> None:
    assert are_class_scores(np.zeros(outputs_shape), targets) is expected

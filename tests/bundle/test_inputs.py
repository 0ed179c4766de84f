import numpy as np
import pytest

from autoopt.bundle.inputs import arrange, batches
from autoopt.errors import UserError
from autoopt.records import Signature, TensorSpec

TWO = Signature("dict", (TensorSpec("ids", (8,), "int64"), TensorSpec("mask", (8,), "int32")))


def test_a_dict_is_put_into_the_signatures_order() -> None:
    ids, mask = np.ones((3, 8), np.int32), np.zeros((3, 8), np.int64)
    arranged = arrange({"mask": mask, "ids": ids}, TWO)
    assert [array.dtype.name for array in arranged] == ["int64", "int32"]
    assert arranged[0].all()


def test_inputs_of_unequal_length_are_refused() -> None:
    with pytest.raises(UserError, match="ids 3, mask 2"):
        arrange({"ids": np.ones((3, 8), np.int64), "mask": np.ones((2, 8), np.int32)}, TWO)


def test_numbers_that_would_not_fit_are_refused() -> None:
    big = np.full((1, 8), 1 << 40)
    with pytest.raises(UserError, match="must be int32"):
        arrange({"ids": big, "mask": big}, TWO)


def test_a_missing_name_is_named() -> None:
    with pytest.raises(UserError, match=r"a dict with ids, mask; given was \['ids'\]"):
        arrange({"ids": np.ones((1, 8), np.int64)}, TWO)


def test_batches_cover_everything_once_and_are_filled_with_the_last_sample() -> None:
    samples = np.arange(10).reshape(5, 2)
    made = list(batches((samples,), 3))
    assert [real for _, real in made] == [3, 2]
    assert all(len(batch[0]) == 3 for batch, _ in made)
    np.testing.assert_array_equal(np.concatenate([batch[0][:real] for batch, real in made]), samples)
    np.testing.assert_array_equal(made[-1][0][0][-1], samples[-1])

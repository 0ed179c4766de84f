"""A table in several files."""

import numpy as np
import pytest

from autoopt.workers.stages.chunks import Chunked


def test_rows_come_as_from_one_array() -> None:
    whole = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float16)
    chunks = Chunked([whole[:4], whole[4:8], whole[8:]])
    rows = np.array([9, 0, 4, 3, 3, 7, 8])
    assert len(chunks) == 10
    assert chunks[rows].dtype == whole.dtype
    np.testing.assert_array_equal(chunks[rows], whole[rows])


def test_a_row_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        Chunked([np.zeros((2, 1))])[np.array([2])]

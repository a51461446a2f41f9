"""The comparison itself fails when it should."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.closeness import assert_close


def test_equal_and_nearly_equal_pass() -> None:
    assert_close([1.0, 2.0], [1.0, 2.0001])
    assert_close(np.zeros((0, 3)), np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        ([1.0, 2.0], [1.0, 2.01], r"1 of 2 differ; worst at \(1,\)"),
        ([[1.0]], [1.0], "shape"),
        ([np.nan], [np.nan], "not finite"),
        ([1.0], [np.inf], "wanted values are not finite"),
    ],
)
def test_what_differs_is_named(found: list[float], wanted: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(found, wanted)


def test_precision_widens_the_tolerance() -> None:
    assert_close([1.0], [1.02], precision="bfloat16")
    with pytest.raises(AssertionError):
        assert_close([1.0], [1.02], precision="float16")

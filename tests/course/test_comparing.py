"""What the check below a gap says: nothing where all is right, else what it got and what it expected."""

import numpy as np
import pytest
import torch

from studylib.course import expect


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (3, 3.0),
        (np.arange(4), torch.arange(4)),
        (torch.ones(2, requires_grad=True), [1, 1]),
        ("same", "same"),
        ({"a": 1}, {"a": 1}),
        (np.float32(2), 2),
        ([True, False], np.array([True, False])),
        ([], []),
        ([[1], [1, 2]], [[1], [1, 2]]),
        (float("inf"), float("inf")),
    ],
)
def test_what_is_right_passes(got, expected):
    expect(got, expected)


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        (None, 3, "got nothing yet, expected 3: is the gap filled?"),
        (..., np.zeros((3, 5)), "got nothing yet, expected numbers of shape (3, 5): is the gap filled?"),
        (4, 3, "got 4, expected 3"),
        ("four", 3, "got four, expected 3"),
        (3, "three", "got 3, expected three"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "got shape (2, 3), expected (3, 2)"),
        (
            np.array([[1, 2], [3, 9]]),
            np.array([[1, 2], [3, 4]]),
            "got 9 at (1, 1), expected 4 (1 of 4 elements differ)",
        ),
        (torch.tensor([1.0, float("nan")]), [1.0, 2.0], "got nan at (1,), expected 2.0 (1 of 2 elements differ)"),
        ([[1], [1, 2]], [[1], [1, 3]], "got [[1], [1, 2]], expected [[1], [1, 3]]"),
    ],
)
def test_what_is_wrong_is_said(got, expected, said):
    with pytest.raises(AssertionError) as caught:
        expect(got, expected)
    assert str(caught.value) == said


def test_within_is_a_distance():
    expect(1 + 1e-13, 1.0, within=1e-12)
    expect([2j, 1], [2j + 1e-13, 1], within=1e-12)
    with pytest.raises(AssertionError, match="got 1.1, expected 1.0"):
        expect(1.1, 1.0, within=0.01)

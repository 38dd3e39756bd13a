"""The one error for users, and the hint at the name that was probably meant."""

import pytest

from studylib.errors import StudyError, near


def test_what_the_user_can_mend_is_a_value_error_for_who_calls_a_function():
    with pytest.raises(ValueError, match="got 3"):
        raise StudyError("got 3, expected 4")


@pytest.mark.parametrize(
    ("name", "most", "hint"),
    [
        ("resnet", 1, "; did you mean resnext?"),
        ("resnet_5", 2, "; did you mean resnet_50 or resnet_152?"),
        ("gpu", 1, ""),
        ("", 1, ""),
    ],
)
def test_the_name_that_was_probably_meant(name, most, hint):
    known = ["resnext", "capsules"] if most == 1 else ["resnet_152", "resnet_50", "capsules"]
    assert near(name, known, most) == hint

"""No small change of a solution passes, other than those that are no change of what the kernel computes."""

import pytest
from mutation import EQUIVALENT, changes, equivalent, kernel_of, passes, sample

from studylib.gpu.emulator import endless
from studylib.kernels import load, names

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", names())
def test_only_equivalent_changes_pass(name, monkeypatch):
    # Far more rounds than a solution needs in any case: a changed loop that does not end is given up sooner.
    monkeypatch.setattr(endless, "LIMIT", 2_000)
    exercise = load(name)
    assert passes(exercise, exercise.kernel)
    tried = sample(exercise)
    found = [change.text for change in tried if passes(exercise, kernel_of(exercise, change))]
    assert sorted(found) == sorted(equivalent(name) & {change.text for change in tried})


def test_each_equivalent_change_is_one_and_has_its_reason():
    for entry in EQUIVALENT:
        assert set(entry["changes"]) <= {change.text for change in changes(load(entry["exercise"]))}, entry["exercise"]
    assert all(len(entry["why"].split()) >= 5 for entry in EQUIVALENT)

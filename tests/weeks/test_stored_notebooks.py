"""Every week's stored notebook is a complete, clean run of its source. Nothing is executed here: nbval does that."""

import pytest

from studylib.course import notebooks
from tests.weeks import checks

WEEKS = notebooks.weeks()


def test_there_are_weeks_and_every_folder_is_one():
    """Otherwise all that follows, and `pytest --nbval weeks`, would pass over nothing."""
    folders = sorted(p.name for p in (notebooks.ROOT / "weeks").iterdir() if p.is_dir() and not p.name.startswith("."))
    assert folders and folders == list(WEEKS)
    stored = {p.stem for p in (notebooks.ROOT / "weeks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert stored == set(WEEKS)


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("week", WEEKS)
def test_stored_notebook(week, check):
    problems = check(WEEKS[week])
    assert not problems, f"study run --save {week}, or mend the source:\n" + "\n".join(problems)

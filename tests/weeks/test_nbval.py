"""`pytest --nbval` with this repository's conftest.py and patterns notices a changed number, and stays quick."""

import re
import shutil
import subprocess
import sys

import pytest

from studylib.course import notebooks

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
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "--nbval",
    "weeks",
    "-q",
    "-rA",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """File name to the numbers of the cells that failed, of one run over an unaltered notebook and altered copies."""
    root = tmp_path_factory.mktemp("nbval")
    for name in ("conftest.py", "nbval-sanitize.cfg"):
        shutil.copy(notebooks.ROOT / name, root)
    (root / "weeks" / "same").mkdir(parents=True)
    (root / "weeks" / "same" / "same.py").write_text(SOURCE)
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
    return {
        name: [int(cell) for cell in re.findall(rf"^FAILED .*\b{name}\.ipynb::Cell (\d+)", shown, re.MULTILINE)]
        for name in ("same", *altered)
    }


def test_an_unaltered_notebook_passes(verdicts):
    assert verdicts["same"] == []


def test_a_changed_number_fails_in_its_cell(verdicts):
    assert verdicts["number"] == [2]


def test_the_count_of_a_progress_bar_is_compared_and_its_speed_is_not(verdicts):
    assert verdicts["count"] == [1] and verdicts["speed"] == []


def test_ignored_outputs_and_addresses_are_not_compared(verdicts):
    assert verdicts["ignored"] == [] and verdicts["address"] == []


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

"""The solved transpose as a participant might hand it in."""

import pytest

from studylib.kernels import load
from studylib.kernels.stubs import GRADER


@pytest.fixture
def solved():
    return load("transpose").text.partition(GRADER)[0] + "\n"


@pytest.fixture
def hand_in(tmp_path):
    """Writes a participant's file; returns the folder of all submissions."""

    def write(person, text, name="transpose"):
        path = tmp_path / "group" / person / load(name).week / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "group"

    return write

"""How the compiler's figures are shown, as text and as HTML."""

import linecache
import re

import pytest

from studylib.gpu.compiler.compiled import Compiled, source_line

LINE = next(n for n in range(1, 99) if "a comparison" in linecache.getline(__file__, n))  # a comparison, 0.1 < 1


def compiled(**changes):
    figures = {
        "kernel": "clipped", "cc": (8, 6), "release": "13.0.88", "registers": 37, "shared_bytes": 4352,
        "spill_bytes": 24, "local_bytes": 1256, "float64_lines": ((__file__, LINE),), "ptx": "// PTX",
        "block": (16, 16), "occupancy": 5 / 6, "blocks_per_sm": 5, "limited_by": "registers",
    }  # fmt: skip
    return Compiled(**{**figures, **changes})


SHOWN = [
    "clipped, compiled for compute capability 8.6 by CUDA 13.0.88",
    "37",
    "4,352 bytes",
    "24 bytes",
    "1,256 bytes",
    "occupancy, block (16, 16)",
    "83% (5 blocks per multiprocessor)",
    "registers",
]


@pytest.mark.parametrize("figure", SHOWN)
def test_text_and_html_show_every_figure(figure):
    assert figure in str(compiled())
    assert figure in compiled()._repr_html_()


def test_double_precision_is_shown_with_its_source():
    assert compiled().uses_float64
    assert f"test_compiled.py, line {LINE}: LINE = next(" in str(compiled())
    assert "0.1 &lt; 1" in compiled()._repr_html_() and "0.1 < 1" not in compiled()._repr_html_()
    none = compiled(float64_lines=())
    assert not none.uses_float64
    assert re.search(r"double precision +no\n", str(none))


def test_no_occupancy_without_a_block_and_no_ptx_in_the_repr():
    alone = compiled(block=None, occupancy=None, blocks_per_sm=None, limited_by=None)
    assert "occupancy" not in str(alone) and "limited by" not in str(alone)
    assert "// PTX" not in repr(alone)
    assert "(1 block per multiprocessor)" in str(compiled(blocks_per_sm=1))


def test_a_cell_of_a_notebook_is_called_that():
    assert source_line("/tmp/ipykernel_77/1234.py", 3) == "notebook cell, line 3"
    assert source_line("<ipython-input-1-ab>", 3) == "notebook cell, line 3"

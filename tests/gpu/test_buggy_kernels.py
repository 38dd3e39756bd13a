"""Kernels with a fault get the finding that names it, at its line, and no other."""

import inspect
import re

import pytest
from buggy_kernels import launches

from studylib import gpu
from studylib.gpu.emulator import machine


def marks(kernel) -> set[tuple[str, int]]:
    """(kind, line) of the `# finds:` comments in a kernel's source."""
    lines, first = inspect.getsourcelines(kernel.py_func)
    found = {(number, re.search(r"# finds: ([\w-]+)", line)) for number, line in enumerate(lines, first)}
    return {(match[1], number) for number, match in found if match}


@pytest.mark.parametrize("lanes", (1, 1 << 20), ids=("block by block", "all blocks at once"))
@pytest.mark.parametrize("name", launches())
def test_finding_at_its_line(name, lanes, monkeypatch):
    monkeypatch.setattr(machine, "CHUNK", lanes)
    kernel, grid, block, args = launches()[name]
    expected = marks(kernel)
    assert expected
    report = gpu.check(kernel, grid, block, *args)
    found = {(f.kind, f.line) for f in report.findings}
    if lanes == 1 and name == "reads_another_block":  # then the other line of the pair may come second
        found &= expected
    assert found == expected, str(report)
    assert not report.ok
    for finding in report.findings:
        assert finding.file == "buggy_kernels.py"
        assert finding.source.strip() and finding.source[finding.column - 1 :].strip()

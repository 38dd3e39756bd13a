"""`tests/alone.py` runs each test file in a process of its own, and fails where one leans on another."""

import subprocess
import sys

import pytest

from tests.check import ROOT


@pytest.mark.slow
def test_what_leans_on_another_file_fails(tmp_path):
    files = {
        "test_first.py": "import sys\n\ndef test():\n    sys.modules['left_behind'] = sys\n",
        "test_second.py": "import sys\n\ndef test():\n    assert 'left_behind' in sys.modules\n",
        "test_third.py": "import sys\n\ndef test():\n    assert not [m for m in sys.modules if m == 'studylib.gpu']\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in files]
    together = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    assert subprocess.run(together, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    # What is imported beforehand makes it quick and decides nothing.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests import alone; alone.PACKAGES = ['numpy']; "
    code += f"sys.exit(alone.main({paths!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "1 failed, 2 passed", done.stdout + done.stderr
    assert f"FAILED {paths[1]}: " in done.stdout and f"passed {paths[2]}: 1 passed in " in done.stdout

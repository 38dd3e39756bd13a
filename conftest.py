"""Makes `pytest --nbval weeks/` right without further options: our patterns, this Python's kernel, a time limit."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if not getattr(config.option, "nbval", False):
        return
    # The cells of a notebook share a kernel, so they stay on one worker.
    if getattr(config.option, "numprocesses", None) and config.option.dist in ("no", "load"):
        config.option.dist = "loadfile"


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if not getattr(option, "nbval", False):
        return
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(Path(__file__).with_name("nbval-sanitize.cfg"))
    option.nbval_current_env = option.nbval_current_env or not option.nbval_kernel_name
    # A dead kernel is only noticed at this limit, and nbval's own is 2000 s.
    option.nbval_cell_timeout = min(option.nbval_cell_timeout, 300)

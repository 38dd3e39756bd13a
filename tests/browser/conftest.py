"""The browser tests need a Chromium: in CI its absence is an error, elsewhere they are skipped with the reason."""

import os

import pytest

from tests.browser.lab import find_browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_browser() or os.environ.get("CI"):
        return
    reason = "no Chromium or Chrome on PATH: install one, or give its path in the environment variable STUDY_BROWSER"
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=reason))

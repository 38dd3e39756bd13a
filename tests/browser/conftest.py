"""The browser tests share a Chromium: in CI its absence is an error, elsewhere they are skipped with the reason."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.lab import find_browser, started_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_browser() or os.environ.get("CI"):
        return
    reason = "no Chromium or Chrome on PATH: install one, or give its path in the environment variable STUDY_BROWSER"
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=reason))

"""The tests marked slow come first, so that no worker begins one when the others are done."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # the rest stays in its order

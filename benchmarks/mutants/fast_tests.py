"""A plugin of pytest: leaves out the tests that are too slow to be run for each mutant."""

from __future__ import annotations

import os

import pytest

from mutants.parts import PARTS, SLOW_FIXTURES


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them."""
    left_out = PARTS[os.environ["GONOGO_MUTATED_PART"]].left_out
    slow = [
        item
        for item in items
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
        or item.name.partition("[")[0] in left_out
        or "postgres" in item.name
    ]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]

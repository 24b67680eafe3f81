"""The attack campaign: how many attempts a run makes, and its figures as JSON in the last line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable

import pytest

QUICK_SHARE = 20
"""A quick run makes one attempt in this many."""

Figures = dict[str, float | int | str]
_collected: pytest.StashKey[dict[str, Figures]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_collected] = {}


def pytest_unconfigure(config: pytest.Config) -> None:
    # The very last line of the run, after pytest's own summary.
    if figures := config.stash.get(_collected, {}):
        print(json.dumps(figures))  # noqa: T201  the output of the campaign


@pytest.fixture(scope="session")
def attempts() -> Callable[[int], int]:
    """How many of a full campaign's attempts this run makes."""
    quick = os.environ.get("QUICK", "") not in ("", "0")
    return lambda full: math.ceil(full / QUICK_SHARE) if quick else full


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Record the figures of one campaign: ``record("name", tried=..., passed=...)``."""

    def keep(campaign: str, **figures: float | int | str) -> None:
        request.config.stash[_collected].setdefault(campaign, {}).update(figures)

    return keep

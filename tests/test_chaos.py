"""Chaos, seeded and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.lanes import failures, kill_lane, kill_whole_lane, storm
from chaos.pictures import LANES, MISHAPS, number_of, picture_lane, picture_of


def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    found = kill_lane(tmp_path / "a", 2, 11, real=False)
    assert found.done["kills"] >= 2
    assert found.sound, found.examples


@pytest.mark.slow
def test_killed_stations_lose_and_double_nothing(tmp_path: Path) -> None:
    found = kill_whole_lane(tmp_path / "a", 1, 12)
    assert found.sound, found.examples


def test_a_storm_of_triggers_leaves_one_verdict_each(tmp_path: Path) -> None:
    found = storm(tmp_path / "a", 120, 13)
    assert found.done["triggers"] == found.done["rows"] == 120
    assert found.done["repeats"] > 0
    assert found.sound, found.examples


@pytest.mark.parametrize(
    ("group", "count"),
    [
        ("disk", 3),
        ("process", 1),
        pytest.param("camera", 9, marks=pytest.mark.slow),
        pytest.param("model", 4, marks=pytest.mark.slow),
    ],
)
def test_no_failure_ever_lets_a_part_pass(tmp_path: Path, group: str, count: int) -> None:
    found = failures(tmp_path / "a", group, count, 14)
    assert found.done[f"{group}_failures"] == count
    assert found.sound, found.examples


@pytest.mark.parametrize(
    "lane",
    ["push-time", "folder-name", *(pytest.param(each, marks=pytest.mark.slow) for each in sorted(LANES))],
)
def test_every_verdict_is_on_its_own_parts_picture_whatever_comes_late_twice_or_never(
    tmp_path: Path, lane: str
) -> None:
    found = picture_lane(tmp_path / "a", lane, 40, 15)
    assert found.done["rows"] == found.done["triggers"] == 40
    assert found.done["judged"] > 0
    assert sum(found.done[mishap] for mishap in MISHAPS) > 0
    assert found.sound, found.examples


def test_a_rendered_picture_tells_which_part_it_shows() -> None:
    for number in (0, 1, 4711, 2**20 - 1):
        for bad in (False, True):
            assert number_of(picture_of(number, bad=bad, exposure=1)) == number

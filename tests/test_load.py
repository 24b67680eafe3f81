"""The load test of a station, for a second."""

from __future__ import annotations

from pathlib import Path

import pytest

import load_test
from gonogo.testing import write_fake_bundle


@pytest.mark.slow
def test_a_station_under_load_misses_no_trigger_and_says_what_it_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_test, "_ROUNDS", 2)
    monkeypatch.setattr(load_test, "_ROUND_MS", 20.0)
    bundle = write_fake_bundle(tmp_path / "bundle").root
    photos = load_test.example_photos(tmp_path / "photos")
    found = load_test.measure_load(tmp_path / "load", bundle, photos, seconds=1.0)
    assert (found.missed, found.fired > 0) == (0, True)
    assert found.rate_per_s == pytest.approx(0.8 * found.capacity_per_s)
    assert found.cycle_ms > found.bare_ms

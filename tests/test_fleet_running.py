"""A station that really runs: it takes its bundle from the shelf of the release server, judges, and reports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from fleet_kit import Plant, make_bundle, settings_of
from gonogo.fleet import ask_station
from gonogo.ledger import Ledger, Where
from gonogo.testing import fake_frame
from gonogo.testing.postgres import free_port
from gonogo.testing.station import patiently


def station_toml(plant: Plant, name: str, port: int) -> Path:
    folder = plant.folder / name
    (folder / "pictures").mkdir(parents=True)
    for number in range(2):  # one alone would be a frozen camera
        frame = fake_frame(number)
        frame[..., 0] = 90  # red: the fake bundle scores its mean minus 128
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), frame[..., ::-1])
    settings_of(folder, name, plant)
    text = (folder / "station.toml").read_text().replace('pictures = "none"', 'pictures = "pictures"')
    text = text.replace('[challenge]\nevery_s = 86400.0\nparts = ["CHALLENGE-*"]\n', "")
    text = text.replace("keep = 1000", "keep = 1000\nevery_s = 0.2")
    text = f"window_s = 50.0\ncamera_timeout_s = 10.0\n{text}[http]\nport = {port}\n[watchdog]\nstall_s = 60.0\n"
    (folder / "station.toml").write_text(text)
    return folder / "station.toml"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_running_station_pulls_its_bundle_judges_silently_beside_it_and_reports(tmp_path: Path) -> None:
    plant = Plant(
        folder=tmp_path,
        bundles={
            name: make_bundle(tmp_path / name, name, go_below=low) for name, low in (("old", 0.0), ("new", -60.0))
        },
    )
    plant.first()
    port = free_port()
    toml = station_toml(plant, "line-9", port)
    command = [sys.executable, "-m", "gonogo", "station", "run", str(toml)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as station:
        assert station.stdin is not None
        try:
            patiently(lambda: ask_station(f"http://127.0.0.1:{port}").health == "running", "the station does not run")
            patiently((toml.parent / "active").exists, "the bundle did not arrive")
            while (first := judged(station))["cause"] == "model":  # the worker has not opened it yet
                pass
            assert first["state"] == "go", first
            plant.start("new")
            patiently(lambda: noted(toml, "release_taken", 2), "the second release did not arrive")
            while not noted(toml, "shadow", 1):  # parts that it was not ready for are left out
                assert (part := judged(station))["state"] == "go", part
        finally:
            station.stdin.close()
            station.wait(120)
    with Ledger.open(toml.parent / "station.ledger") as ledger:
        assert {row.record.bundle_sha256 for row in ledger.verdicts()} - {None} == {plant.sha("old")}
        silent = next(ledger.actions(Where(action="shadow")))
        assert silent.record.details["shadow"] == "review"


def judged(station: subprocess.Popen[str]) -> dict[str, object]:
    assert station.stdin is not None
    assert station.stdout is not None
    station.stdin.write(f"T{time.monotonic_ns()}\n")
    station.stdin.flush()
    return dict(json.loads(station.stdout.readline()))


def noted(toml: Path, action: str, count: int) -> bool:
    with Ledger.open(toml.parent / "station.ledger", read_only=True, create=False) as ledger:
        return len(list(ledger.actions(Where(action=action)))) >= count

"""What gonogo does for the files in deploy/; ``make check-deploy`` checks the files themselves."""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from typer.testing import CliRunner

from check_deploy import site
from gonogo import bundle
from gonogo.cli import app
from gonogo.errors import InputError
from gonogo.images import crop_resize
from gonogo.manifest import CascadeRule
from gonogo.model_repository import add_version
from gonogo.schema import Box
from gonogo.station import run_station
from gonogo.station.settings import parse_settings
from gonogo.station.systemd import notify
from gonogo.testing.bundle import write_fake_bundle
from gonogo.testing.station import settings_for

# systemd


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in (None, "", "no path", str(tmp_path / "nobody listens")):
        if address is None:
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        else:
            monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not notify("READY=1")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_station_reports_its_start_its_heartbeats_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    address = f"@{tmp_path.name}-{tmp_path.parent.name}" if abstract else str(tmp_path / "notify")
    settings_for(tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text().replace('kind = "stdin"', 'kind = "timer"\nevery_s = 900.0')
    settings = parse_settings(text.replace("heartbeat_s = 0.5", "heartbeat_s = 0.05"), folder=tmp_path / "line")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        stop = threading.Event()
        worker = [sys.executable, "-c", "raise SystemExit(3)"]
        runner = threading.Thread(target=run_station, args=(settings, worker), kwargs={"complain": print, "stop": stop})
        runner.start()
        heard = [systemd.recv(100).decode() for _ in range(4)]
        stop.set()
        runner.join()
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
    assert heard[:4] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


# Model repositories


def test_an_exported_network_gives_the_golden_score_and_later_bundles_become_later_versions(tmp_path: Path) -> None:
    made = write_fake_bundle(tmp_path / "chip.inspector")
    first = add_version(made, tmp_path / "models", "chip")
    assert (first.version, first.written, first.precision) == (1, True, "f32")
    assert sorted(path.name for path in first.folder.iterdir()) == ["model.bin", "model.xml"]
    compiled = ov.Core().compile_model(first.folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (_, photograph, expected), *_ = made.golden()
    frame = photograph.judged(made.manifest.recipe)
    side = made.manifest.recipe.size_wh[0]
    assert frame.shape[0] > side, "the picture is reduced by whoever asks"
    picture = crop_resize(frame, Box.whole(frame), (side, side))
    assert float(np.ravel(compiled(picture[None])["score"])[0]) == pytest.approx(expected, abs=1e-3)

    assert add_version(made, tmp_path / "models", "chip").written is False, "the same bundle again"
    other = write_fake_bundle(tmp_path / "other.inspector", name="other")
    assert add_version(other, tmp_path / "models", "chip").version == 2
    facts = json.loads((tmp_path / "models" / "chip" / "2.json").read_text())
    assert (facts["bundle_sha256"], facts["go_below"], facts["no_go_above"]) == (other.sha256, -20.0, 20.0)
    assert facts["recipe"]["size_wh"] == [side, side]
    (tmp_path / "models" / "chip" / "2.json").write_text("{")
    assert add_version(other, tmp_path / "models", "chip").version == 3, "nobody knows any more what version 2 is"


def test_a_cascade_and_odd_names_are_refused(tmp_path: Path) -> None:
    made = write_fake_bundle(tmp_path / "chip.inspector")
    for name in ("", "a/b", "..", ".hidden", "two\nlines"):
        with pytest.raises(InputError, match="--name"):
            add_version(made, tmp_path / "models", name)
    teacher, size_wh = made.manifest.classifier, made.manifest.recipe.size_wh
    band = {"ask_from": -1.0, "ask_to": 1.0, "good_shift": 0.0, "bad_shift": 0.0}
    rule = CascadeRule(student_sha256="0" * 64, teacher=teacher, size_wh=size_wh, **band)
    cascade = bundle.draft(made.root, made.manifest.model_copy(update={"cascade": rule}))
    with pytest.raises(InputError, match="found a cascade"):
        add_version(cascade, tmp_path / "models", "chip")
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_the_command_exports_and_names_the_precision(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "chip.inspector")
    words = ["bundle", "export", str(tmp_path / "chip.inspector"), "--out", str(tmp_path / "models")]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "version 1 of chip" in said.output
    assert "INFERENCE_PRECISION_HINT=f32" in said.output
    again = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert (again["version"], again["written"]) == (1, False)


# The site


@pytest.mark.slow
@pytest.mark.skipif(bool(site.missing()), reason=site.missing())
def test_the_site_of_the_compose_file_runs_without_docker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Started, deployed to, crashed and stopped; see `check_deploy.site`."""
    figures = site.play(tmp_path_factory.mktemp("site"))
    assert figures["rows_at_centre"] == figures["parts"]

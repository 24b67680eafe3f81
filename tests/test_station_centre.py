"""A station with a centre: its forwarder is a process of its own; its status, metrics and alarms say how far it is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gonogo.errors import InputError
from gonogo.ledger import Ledger, VerdictRecord
from gonogo.ledger.forwarded import Mark, read_mark
from gonogo.line.state import Health
from gonogo.schema import State
from gonogo.station.checking import CheckFinding, check_station
from gonogo.station.example import EXAMPLE
from gonogo.station.exposition import exposition
from gonogo.station.forwarder import LINK, forward_command, forwarder, read_link
from gonogo.station.messages import WorkerReport
from gonogo.station.metrics import Metrics
from gonogo.station.publishing import snapshot
from gonogo.station.settings import CentreSettings, StationSettings, parse_settings
from gonogo.station.status import StationState
from gonogo.testing.postgres import Server
from gonogo.testing.station import patiently, settings_for


def record(trigger: str) -> VerdictRecord:
    return VerdictRecord(
        station="chaos", trigger_id=trigger, state=State.REVIEW, score=None, reason="", triggered_at=datetime.now(UTC)
    )


def with_centre(folder: Path, **changes: Any) -> StationSettings:
    centre = CentreSettings(url_file=folder / "centre.url", **{"every_s": 0.1} | changes)
    settings = settings_for(folder).model_copy(update={"centre": centre})
    settings.state_dir.mkdir(exist_ok=True)
    return settings


@pytest.fixture
def settings(tmp_path: Path) -> StationSettings:
    return with_centre(tmp_path)


def link_of(settings: StationSettings, **changes: Any) -> Any:
    state = {
        "at": datetime.now(UTC).isoformat(),
        "lag_rows": 0,
        "lag_s": 0.0,
        "centre_seq": 7,
        "clock_ahead_s": 0.2,
        "trouble": "",
        "refused": False,
    }
    (settings.state_dir / LINK).write_text(json.dumps(state | changes))
    return read_link(settings)


def test_the_example_tells_of_the_centre_and_its_settings_are_strict(tmp_path: Path) -> None:
    text = "".join(
        line.removeprefix("# ") + "\n"
        for line in EXAMPLE.replace("# [centre]", "[centre]").splitlines()
        if not line.startswith(("# [challenge]", "# every_s", "# grace_s", "# parts", "# pictures", "# must_be"))
        and not line.startswith(("# One", "# bundle_sha256", "# size_wh", "# token_file"))
        and not line.startswith(("# [products]", "# chip", "# pill", "# memory_mb"))
        and not line.startswith(("# [reject]", "# track", "# distance", "# tolerance", "# confirm_within_s"))
    )
    centre = parse_settings(text, folder=tmp_path).centre
    assert centre is not None
    assert (centre.url_file, centre.frames) == (tmp_path / "centre.url", "s3://plant/frames")
    for wrong in ("s3://key:secret@plant/frames", "plant/frames"):
        with pytest.raises(InputError, match=r"centre\.frames"):
            parse_settings(text.replace("s3://plant/frames", wrong), folder=tmp_path)


def test_the_state_of_the_connection_becomes_an_alarm_only_when_somebody_must_look(settings: StationSettings) -> None:
    assert read_link(settings_for(settings.state_dir.parent)) is None
    nothing_yet = read_link(settings)
    assert nothing_yet is not None
    assert (nothing_yet.alarm, bool(nothing_yet.trouble)) == ("", True)
    assert link_of(settings).alarm == ""
    assert link_of(settings, lag_rows=40, lag_s=30.0, trouble="the network is away").alarm == ""
    late = link_of(settings, lag_rows=40, lag_s=700.0, trouble="the network is away").alarm
    assert late.startswith("40 rows wait for the centre")
    assert late.endswith("the network is away")
    assert link_of(settings, refused=True, trouble="another machine").alarm == "another machine"
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert "silent" in link_of(settings, at=long_ago).alarm
    (settings.state_dir / LINK).write_text("half a fi")
    assert read_link(settings) == nothing_yet


def test_status_and_metrics_show_the_lag(settings: StationSettings) -> None:
    link = link_of(settings, lag_rows=3, lag_s=9.0, refused=True, trouble="another machine")
    report = WorkerReport()
    state = StationState(
        health=Health.RUNNING, worker_pid=1, report=report, faulting="", alarms=(), waiting=0, unrecorded=0
    )
    metrics = Metrics("chaos")
    shown = snapshot(settings, metrics, state, free_bytes=10**9, link=link)
    assert shown["alarms"] == ["another machine"]
    assert shown["centre"]["lag_rows"] == 3
    text = exposition(metrics, state, free_bytes=10**9, link=link)
    assert 'gonogo_station_centre_lag_rows{station="chaos"} 3.0' in text
    assert 'gonogo_station_centre_up{station="chaos"} 0.0' in text
    assert "centre" not in exposition(metrics, state, free_bytes=10**9)


def test_the_command_names_the_file_of_the_url_and_never_the_url(tmp_path: Path) -> None:
    settings = with_centre(tmp_path, frames="s3://plant/frames")
    assert settings.centre is not None
    words = forward_command(settings, settings.centre)
    assert words[-2:] == [str(settings.ledger), f"@{tmp_path}/centre.url"]
    assert {"--chain=chaos", "--frames=s3://plant/frames", "--with-parent"} < set(words)


def test_the_check_of_a_station_wants_a_private_file_with_the_url(settings: StationSettings) -> None:
    def finding() -> CheckFinding:
        return next(each for each in check_station(settings) if each.what == "centre")

    file = settings.state_dir.parent / "centre.url"
    assert not finding().passed
    file.write_text("postgresql://u:hidden@h/d")
    file.chmod(0o644)
    assert not finding().passed
    file.chmod(0o600)
    assert finding().passed
    assert "hidden" not in finding().detail


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    from gonogo.centre import Centre

    with postgres.database() as name:
        centre = Centre.connect(postgres.url(name))
        centre.prepare()
        centre.close()
        yield postgres.url(name)


@pytest.mark.slow
def test_the_forwarder_is_restarted_when_it_ends_and_its_last_words_become_an_alarm(
    settings: StationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gonogo.station.companion._SHORTEST_PAUSE_S", 0.01)
    starts = settings.state_dir / "starts"
    code = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit('gonogo: centre.url: chmod 600')"
    process = forwarder(settings, settings.centre)  # type: ignore[arg-type]
    process.command = [sys.executable, "-S", "-c", code, str(starts)]
    process.start()
    assert read_mark(settings.ledger) == Mark(seq=0), "retention waits from the first moment on"
    patiently(lambda: starts.exists() and len(starts.read_text()) >= 3, "not started again")
    patiently(lambda: "chmod 600" in getattr(read_link(settings), "alarm", ""), "no word about its end")
    process.command = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    patiently(lambda: process.process is not None and process.process.poll() is None, "not started again")
    process.stop()
    assert process.process is not None
    assert process.process.poll() is not None


@pytest.mark.slow
def test_the_ledger_of_a_station_is_forwarded_at_low_priority(settings: StationSettings, url: str) -> None:
    file = settings.state_dir.parent / "centre.url"
    file.touch(0o600)
    file.write_text(url)
    with Ledger.open(settings.ledger) as ledger:
        ledger.append_verdict(record("1"))
        process = forwarder(settings, settings.centre)  # type: ignore[arg-type]
        process.start()
        patiently(lambda: getattr(read_link(settings), "centre_seq", 0) == 2, "nothing was forwarded")
        assert process.process is not None
        assert os.getpriority(os.PRIO_PROCESS, process.process.pid) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        ledger.append_verdict(record("2"))
        patiently(lambda: getattr(read_link(settings), "centre_seq", 0) == 3, "the next row was not forwarded")
        found = read_link(settings)
        assert found is not None
        assert (found.lag_rows, found.trouble, found.alarm) == (0, "", "")
        process.stop()
        assert process.process.poll() is not None
        assert read_mark(settings.ledger) == Mark(seq=3)

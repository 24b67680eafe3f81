"""A station with [[results]]: a process of its own delivers them; status, metrics and alarms say how far it is."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.errors import InputError
from gonogo.ledger import Action, Ledger
from gonogo.ledger.cursors import cursor_path, read_cursor
from gonogo.results.delivery import DeliveryError
from gonogo.results.digest import Digests, shift_ends
from gonogo.results.document import read_document
from gonogo.results.settings import EmailResults, FolderResults, WebhookResults
from gonogo.schema import State
from gonogo.station.challenge import CHALLENGE
from gonogo.station.checking import check_station
from gonogo.station.digest import composer
from gonogo.station.example import EXAMPLE
from gonogo.station.exposition import exposition
from gonogo.station.messages import WorkerReport
from gonogo.station.metrics import Metrics
from gonogo.station.outbox import RESULTS, outbox, read_destinations
from gonogo.station.publishing import snapshot
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.status import Health, StationState
from gonogo.testing.receivers import FakeMailServer
from gonogo.testing.station import patiently, settings_for, station_bench
from results_kit import grow, private, record


@pytest.fixture
def settings(tmp_path: Path) -> StationSettings:
    """Settings of a station with one folder; ``station.toml`` says the same."""
    settings_for(tmp_path)
    toml = tmp_path / "station.toml"
    more = '[[results]]\nkind = "folder"\nname = "files"\nfolder = "out"\nevery_s = 0.05\npictures = "all"\n'
    toml.write_text(toml.read_text() + more)
    settings = parse_settings(toml.read_text(), folder=tmp_path)
    settings.state_dir.mkdir()
    return settings


def said(settings: StationSettings, **changes: Any) -> Any:
    state = {"at": datetime.now(UTC).isoformat(), "lag_rows": 0, "lag_s": 0.0, "delivered": 3, "skipped": 0}
    state |= {"pictures_missing": 0, "trouble": "", "refused": False}
    (settings.state_dir / RESULTS).write_text(json.dumps({"files": state | changes}))
    return read_destinations(settings)[0]


def test_settings_in_toml_are_strict_and_their_paths_are_relative_to_it(tmp_path: Path) -> None:
    text = EXAMPLE.partition("# [[results]]")
    shown = "".join(f"{line.removeprefix('# ')}\n" for line in (text[1] + text[2]).splitlines())
    found = parse_settings(text[0] + shown, folder=tmp_path).results
    assert [(each.name, each.kind) for each in found] == [("mes", "webhook")]
    assert isinstance(found[0], WebhookResults)
    assert found[0].secret_file == tmp_path / "webhook.secret"
    with pytest.raises(InputError, match="different name"):
        parse_settings(text[0] + 2 * shown, folder=tmp_path)
    with pytest.raises(InputError, match=r"results\.0\.url"):
        parse_settings(text[0] + shown.replace("https:", "gopher:"), folder=tmp_path)


def test_a_state_becomes_an_alarm_only_when_somebody_must_look(settings: StationSettings) -> None:
    assert read_destinations(settings_for(settings.state_dir.parent / "other")) == ()
    nothing_yet = read_destinations(settings)[0]
    assert (nothing_yet.alarm, bool(nothing_yet.trouble)) == ("", True)
    assert said(settings).alarm == ""
    assert said(settings, lag_rows=4, lag_s=30.0, trouble="away").alarm == ""
    assert said(settings, lag_rows=4, lag_s=700.0, trouble="away").alarm.startswith("results files: 4 rows wait")
    assert said(settings, refused=True, trouble="401").alarm == "results files: 401"
    assert "skipped" in said(settings, skipped=2).alarm
    assert "heard" in said(settings, at=(datetime.now(UTC) - timedelta(hours=1)).isoformat()).alarm
    for odd in ("half a fi", "[]", '{"files": 3}', '{"files": {}}'):
        (settings.state_dir / RESULTS).write_text(odd)
        assert read_destinations(settings)[0] == nothing_yet


def test_status_and_metrics_show_each_destination(settings: StationSettings) -> None:
    results = (said(settings, lag_rows=3, lag_s=9.0, refused=True, trouble="401"),)
    report = WorkerReport()
    state = StationState(
        health=Health.RUNNING, worker_pid=1, report=report, faulting="", alarms=(), waiting=0, unrecorded=0
    )
    metrics = Metrics("chaos")
    shown = snapshot(settings, metrics, state, free_bytes=10**9, results=results)
    assert shown["alarms"] == ["results files: 401"]
    assert shown["results"][0]["lag_rows"] == 3
    text = exposition(metrics, state, free_bytes=10**9, results=results)
    assert 'gonogo_station_results_lag_rows{destination="files",station="chaos"} 3.0' in text
    assert 'gonogo_station_results_up{destination="files",station="chaos"} 0.0' in text
    assert "results" not in exposition(metrics, state, free_bytes=10**9)


def test_the_check_of_a_station_wants_private_secrets(settings: StationSettings, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    mes = WebhookResults(kind="webhook", name="mes", url="https://mes.example", secret_file=secret)
    checked = settings.model_copy(update={"results": (mes,)})

    def passed() -> bool:
        return next(each for each in check_station(checked) if each.what == "results mes").passed

    assert not passed()
    secret.write_text("hidden")
    secret.chmod(0o644)
    assert not passed()
    secret.chmod(0o600)
    assert passed()


@pytest.mark.slow
def test_a_station_s_verdicts_arrive_while_it_runs_and_after_its_publisher_was_killed(
    settings: StationSettings, tmp_path: Path
) -> None:
    process = outbox(settings, tmp_path / "station.toml")
    assert process is not None
    cursor = read_cursor(cursor_path(settings.ledger, "chaos", "files"))
    assert cursor is not None
    assert cursor.pictures, "retention waits from the first moment on"
    with station_bench(settings) as line, process:
        line.ready()
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1").state is State.GO
        patiently(lambda: len(list(tmp_path.glob("out/*/*.json"))) == 1, "nothing was delivered")
        assert process.process is not None
        process.process.kill()
        line.plc.fire(line.supervisor.submit, "part-2")
        assert line.plc.wait("part-2").state is State.GO
        patiently(lambda: len(list(tmp_path.glob("out/*/*.json"))) == 2, "not delivered after a kill")
    found = [read_document(path.read_bytes()) for path in tmp_path.glob("out/*/*.json")]
    assert {each.trigger_id for each in found} == {"part-1", "part-2"}
    assert len([path for path in tmp_path.glob("out/*/*") if path.suffix != ".json"]) == 2
    patiently(lambda: read_destinations(settings)[0].lag_rows == 0, "still waiting")


def test_the_last_words_of_the_process_become_an_alarm(
    settings: StationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gonogo.station.companion._SHORTEST_PAUSE_S", 0.01)
    process = outbox(settings, tmp_path / "station.toml")
    assert process is not None
    process.command = [sys.executable, "-S", "-c", "import sys; sys.exit('gonogo: chmod 600')"]
    with process:
        patiently(lambda: "chmod 600" in read_destinations(settings)[0].alarm, "no word about its end")


@pytest.mark.slow
def test_publish_once_delivers_everything_and_says_who_did_not_take_it(
    settings: StationSettings, tmp_path: Path
) -> None:
    toml, run = str(tmp_path / "station.toml"), CliRunner().invoke
    with Ledger.open(settings.ledger) as ledger:
        ledger.append_verdict(record("a", station="chaos"))
    done = run(app, ["ledger", "publish", toml, "--once", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["delivered"] == 1
    again = run(app, ["ledger", "publish", toml, "--once"])
    assert "files: 0 delivered, 0 rows wait" in again.output
    (tmp_path / "station.toml").write_text(
        (tmp_path / "station.toml").read_text()
        + '[[results]]\nkind = "webhook"\nname = "mes"\nurl = "http://127.0.0.1:9/"\nsecret_file = "secret"\n'
    )
    private(tmp_path / "secret", "s")
    grow(settings.ledger, "b", station="chaos")
    failed = run(app, ["ledger", "publish", toml, "--once"])
    assert failed.exit_code == 1
    assert "mes: 0 delivered, 2 rows wait" in failed.output
    assert "files: 1 delivered" in failed.output


def email(port: int, **changes: Any) -> EmailResults:
    facts: dict[str, Any] = {"name": "shift", "host": "127.0.0.1", "port": port, "security": "none"}
    people = {"sender": "line@plant.example", "to": ("lead@plant.example", "quality@plant.example")}
    return EmailResults(kind="email", **facts | people | changes)


def test_shifts_end_in_local_time() -> None:
    settings = email(25, shifts=("05:30", "22:00"), zone="Europe/Berlin")
    since = datetime(2026, 3, 28, 12, tzinfo=UTC)
    found = [each.astimezone(UTC) for each in shift_ends(settings, since, since + timedelta(days=1))]
    # The clocks go forward in the night from 28 to 29 March.
    assert found == [datetime(2026, 3, 28, 21, tzinfo=UTC), datetime(2026, 3, 29, 3, 30, tzinfo=UTC)]


def test_each_shift_with_parts_is_mailed_once_and_again_only_if_its_cursor_is_lost(tmp_path: Path) -> None:
    ledger, clock = tmp_path / "line.ledger", [datetime(2026, 1, 5, 7, tzinfo=UTC)]

    def now() -> datetime:
        return clock[0]

    def digests(server: FakeMailServer, **changes: Any) -> Digests:
        return Digests(ledger, "line-1", email(server.port, **changes), composer(ledger, "line-1", "UTC"), now=now)

    with FakeMailServer() as server, Ledger.open(ledger, now=now) as opened:
        lane = digests(server)
        assert not lane.step()
        for number, state in enumerate((State.REVIEW, State.NO_GO, State.FAULT)):
            opened.append_verdict(record(f"t{number}", state, triggered_at=now()))
        details = {"passed": False, "reason": "CHALLENGE-1 was judged go"}
        opened.append_action(Action(action=CHALLENGE, who="line-1", station="line-1", details=details))
        clock[0] = datetime(2026, 1, 6, 6, 30, tzinfo=UTC)  # two shifts without a part follow
        while lane.step():
            pass
        assert len(server.mails) == 1
        mail = server.mails[0]
        assert "line-1, 2026-01-05 06:00 to 14:00: 3 parts, 1 no-go, ALARM" in mail.replace("\n ", " ")
        assert "1 tests, 1 escapes" in mail
        assert "CHALLENGE-1 was judged go" in mail
        again = digests(server)
        assert not again.step()
        assert len(server.mails) == 1
        lane.cursor_path.unlink()
        opened.append_verdict(record("t9", triggered_at=now()))
        assert not digests(server).step()  # begins with the shift that runs
        clock[0] = datetime(2026, 1, 6, 14, 5, tzinfo=UTC)
        digests(server).step()
        assert len(server.mails) == 2


def test_a_mail_server_that_refuses_needs_a_person_and_one_that_is_away_is_tried_again(tmp_path: Path) -> None:
    ledger, clock = tmp_path / "line.ledger", [datetime(2026, 1, 5, 7, tzinfo=UTC)]
    with Ledger.open(ledger, now=lambda: clock[0]) as opened, FakeMailServer(refuse=True) as server:
        settings = email(server.port)
        lane = Digests(ledger, "line-1", settings, composer(ledger, "line-1", "UTC"), now=lambda: clock[0])
        lane.step()
        opened.append_verdict(record("a", triggered_at=clock[0]))
        clock[0] += timedelta(hours=8)
        with pytest.raises(DeliveryError) as told:
            lane.step()
        assert told.value.refused
        assert lane.state().lag_rows == 1
        server.refuse = False
        assert not lane.step()
        assert len(server.mails) == 1
    with pytest.raises(ValueError, match="password"):
        email(25, user="u", password_file=Path("p"))
    with pytest.raises(ValueError, match="ascending"):
        email(25, shifts=("22:00", "06:00"))
    with pytest.raises(ValueError, match="time zone"):
        email(25, zone="Mars/Olympus")
    with pytest.raises(ValueError, match="to"):
        email(25, to=("a@b.example\nBcc: c@d.example",))


def test_a_removed_destination_no_longer_keeps_frames(settings: StationSettings, tmp_path: Path) -> None:
    outbox(settings, tmp_path / "station.toml")
    assert isinstance(settings.results[0], FolderResults)
    assert outbox(settings.model_copy(update={"results": ()}), tmp_path / "station.toml") is None
    cursor = read_cursor(cursor_path(settings.ledger, "chaos", "files"))
    assert cursor is not None
    assert not cursor.pictures

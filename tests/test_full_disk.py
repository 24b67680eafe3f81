"""A full disk, a ledger that is gone: the health says so, alarms end with their cause, nothing half stays behind."""

from __future__ import annotations

import errno
import http.client
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from gonogo import files, images
from gonogo.errors import InputError, LedgerError
from gonogo.schema import State
from gonogo.station import Cause, Supervisor, Trigger
from gonogo.station.backlog import Backlog, Owed
from gonogo.station.http import StationServer
from gonogo.testing import FakePlc, fake_frame
from gonogo.testing.station import patiently, settings_for, station_bench
from label_kit import upload
from server_kit import Browser, make_app

FULL = OSError(errno.ENOSPC, "No space left on device")


def health_of(server: StationServer) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/health")
    response = connection.getresponse()
    return response.status, response.read().decode()


def shows(server: StationServer, code: int, text: str) -> Callable[[], bool]:
    def holds() -> bool:
        found, told = health_of(server)
        return found == code and text in told

    return holds


def test_health_is_503_while_the_ledger_is_gone_and_200_when_it_is_back(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "line")
    with station_bench(settings) as line:
        server = StationServer(line.supervisor, host="127.0.0.1", port=0, token=None, triggers=False).start()
        line.ready()
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1").state is State.GO
        patiently(shows(server, 200, "running"), "not healthy")
        settings.ledger.rename(tmp_path / "away")
        patiently(shows(server, 503, "ledger"), "healthy without a ledger")
        patiently(lambda: "ledger" in str(json.loads(line.supervisor.published[0])["alarms"]), "no alarm")
        (tmp_path / "away").rename(settings.ledger)
        patiently(shows(server, 200, "running"), "not healthy again")
        patiently(lambda: not json.loads(line.supervisor.published[0])["alarms"], "the alarm stays")
        server.close()


def test_health_is_503_when_the_last_parts_were_all_faults(tmp_path: Path) -> None:
    with station_bench(settings_for(tmp_path / "line")) as line:
        server = StationServer(line.supervisor, host="127.0.0.1", port=0, token=None, triggers=False).start()
        line.ready()
        for number in range(3):
            assert health_of(server)[0] == 200
            name = f"model-raise-{number}"
            line.plc.fire(line.supervisor.submit, name)
            assert line.plc.wait(name).state is State.FAULT
        assert health_of(server) == (503, "faulting: the last 3 parts were all faults (inspector)")
        assert 'gonogo_station_up{station="chaos"} 0' in _published(line.supervisor)
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1").state is State.GO
        assert health_of(server) == (200, "running")
        server.close()


def _published(supervisor: Supervisor) -> str:
    supervisor.published = ("", "")
    patiently(lambda: bool(supervisor.published[1]), "nothing is published")
    return supervisor.published[1]


@pytest.mark.slow
def test_the_alarm_of_a_full_disk_ends_when_there_is_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path / "line")
    full = [True]
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if full[0]:
            raise FULL
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    supervisor = Supervisor(settings, [sys.executable, "-c", "raise SystemExit(3)"], FakePlc().send)
    supervisor.start()
    alarms = lambda: json.loads(supervisor.published[0]).get("alarms", [])  # noqa: E731
    patiently(lambda: any("No space" in alarm for alarm in alarms()), "no alarm")
    full[0] = False
    patiently(lambda: not any("No space" in alarm for alarm in alarms()), "the alarm stays")
    supervisor.stop()


def test_the_list_of_faults_is_whole_again_when_the_disk_has_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog = Backlog(tmp_path / "unrecorded.jsonl")
    owed = Owed(trigger=Trigger(id="A", at=datetime.now(UTC), due_s=0.0), cause=Cause.LATE, reason="r", answered=True)
    with monkeypatch.context() as full:
        full.setattr(Path, "open", _raise_full)
        backlog.add(owed)
        backlog.mend()
        assert "No space" in backlog.trouble
    backlog.mend()
    assert not backlog.trouble
    assert list(Backlog(tmp_path / "unrecorded.jsonl")) == [owed]


def test_a_list_of_an_earlier_run_that_cannot_be_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "unrecorded.jsonl"
    first, second = (
        Owed(trigger=Trigger(id=name, at=datetime.now(UTC), due_s=0.0), cause=Cause.LATE, reason="r", answered=True)
        for name in "AB"
    )
    Backlog(path).add(first)
    with monkeypatch.context() as gone:
        gone.setattr(Path, "read_text", _raise_full)
        backlog = Backlog(path)
        backlog.mend()
        assert "No space" in backlog.trouble
        backlog.add(second)
    backlog.mend()
    assert [owed.trigger.id for owed in Backlog(path)][:1] == ["A"]
    assert {owed.trigger.id for owed in backlog} == {"A", "B"}
    assert not backlog.trouble


def _raise_full(*_: object, **__: object) -> None:
    raise FULL


# --- the pages


def test_a_picture_that_finds_the_disk_full_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path / "workspace")
    browser = Browser(app)
    browser.login("engineer")
    assert browser.post("/datasets", name="parts").status_code in (200, 303)
    picture = images.encode_png(fake_frame(1))
    with monkeypatch.context() as full:
        full.setattr("os.fsync", _raise_full)
        answer = upload(browser, {"a.png": picture}, dataset="parts")
    folder = app.state.components.workspace.datasets / "parts" / "images"
    assert answer.status_code == 507
    assert "disk is full" in answer.text
    assert not folder.is_dir() or not list(folder.iterdir())
    assert upload(browser, {"a.png": picture}, dataset="parts").json()["added"] == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (LedgerError("line.ledger: cannot be written"), 503, "cannot be written or read"),
        (apsw.FullError("database or disk is full"), 507, "disk is full"),
        (FULL, 507, "disk is full"),
    ],
)
def test_login_says_what_is_wrong_when_it_is_not_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, told: str
) -> None:
    app = make_app(tmp_path / "workspace")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.state.components.ledger_pool, "act", fail)
    browser = Browser(app)
    answer = browser.login("engineer")
    assert answer.status_code == code
    assert told in answer.text
    assert "malformed" not in answer.text


@pytest.mark.parametrize("given", [{"name": "engineer"}, {"password": "x"}, {}, {"name": "a", "password": "x" * 9000}])
def test_a_login_without_name_or_password_shows_the_form_again(tmp_path: Path, given: dict[str, str]) -> None:
    browser = Browser(make_app(tmp_path / "workspace"))
    browser.get("/login")
    answer = browser.post("/login", **given)
    assert answer.status_code == 422
    assert "malformed" not in answer.text
    assert 'name="password"' in answer.text


@pytest.mark.slow
def test_the_servers_health_is_503_without_its_ledger_or_with_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path / "workspace")
    browser = Browser(app)
    assert browser.get("/health").status_code == 200
    space = app.state.components.workspace
    space.ledger.rename(tmp_path / "away")
    assert browser.get("/health").status_code == 503
    (tmp_path / "away").rename(space.ledger)
    assert browser.get("/health").status_code == 200
    monkeypatch.setattr("gonogo.files.free_bytes", lambda _: 0)
    assert browser.get("/health").status_code == 503


def test_a_file_below_a_file_is_an_error_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        files.write_beside(tmp_path / "file" / "below", b"")
    with pytest.raises(InputError, match="cannot be written"), files.folder_beside(tmp_path / "file" / "below"):
        pass

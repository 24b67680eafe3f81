"""Stations on the pages: set up, tried, started, stopped, and what is shown when one dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from fastapi import FastAPI

from gonogo.config import settings
from gonogo.images import encode_png
from gonogo.ledger import Action, Ledger
from gonogo.schema import State
from gonogo.server import Options, create_app
from gonogo.server.access import Role
from gonogo.server.language import RefusedError
from gonogo.server.station.feed import status_of
from gonogo.server.station.wall import read_tiles
from gonogo.server.stations import form, keeper
from gonogo.server.stations.form import Fixed, from_content, to_content, usual_values
from gonogo.server.stations.stations import Stations
from gonogo.server.workspace import Workspace
from gonogo.station import EXAMPLE, kept, parse_settings
from gonogo.station.place import Ended, Phase, Place, Running, Wish
from gonogo.station.preview import LOOK, TRIED, Preview
from server_kit import WEAK_HASHER, XSS, Browser, add_person, fill, make_app, record, set_up_station, text_of
from tiny_bundle import GOOD_RED, make_frame

FIXED = Fixed(name="line-1", ledger="../../ledger/line.ledger", bundles="../..")
VALUES = usual_values("line-1")
KEPT = """
import json, sys, time, os, portalocker
from datetime import datetime, UTC
from pathlib import Path
folder, number = Path(sys.argv[1]), int(sys.argv[2])
with (folder / "run.lock").open("ab") as file:
    portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    running = {"pid": os.getpid(), "number": number, "at": datetime.now(UTC).isoformat()}
    (folder / "running.json").write_text(json.dumps(running))
    with (folder / "starts").open("a") as starts:
        starts.write("x")
    while True:
        wish = json.loads((folder / "wish.json").read_text())
        if not wish["run"] or wish["number"] != number:
            break
        (folder / "state").mkdir(exist_ok=True)
        status = {"pid": os.getpid(), "station": folder.name, "health": "running", "alarms": []}
        status |= {"beat": datetime.now(UTC).isoformat(), "since": running["at"]}
        (folder / "state" / ".status").write_text(json.dumps(status))
        (folder / "state" / ".status").replace(folder / "state" / "status.json")
        time.sleep(0.05)
    ended = {"number": number, "why": "", "at": datetime.now(UTC).isoformat()}
    (folder / "ended.json").write_text(json.dumps(ended))
"""
"""A process that behaves like `gonogo.station.kept`, without a station: it starts in a tenth of a second."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """A workspace with an inspector, a station that never ran, and people."""
    space = Workspace.open(tmp_path_factory.mktemp("plant") / "space")
    fill(space)
    app = make_app(space.root)
    for role in (Role.ENGINEER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN):
        add_person(app, f"{role.value}-2", role)
    return app


@pytest.fixture
def stations(filled: FastAPI) -> Stations:
    found: Stations = filled.state.components.stations
    return found


@pytest.fixture
def engineer(filled: FastAPI) -> Browser:
    browser = Browser(filled)
    browser.login("engineer")
    return browser


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace with one station, whose process is `KEPT`; every process has ended afterwards."""
    monkeypatch.setattr(
        keeper, "kept_command", lambda folder, number, agent: [sys.executable, "-c", KEPT, str(folder), str(number)]
    )
    made = Workspace.open(tmp_path / "space")
    set_up_station(made, "line-1")
    yield made
    place = Place(folder=made.root / "stations" / "line-1")
    place.write_wish(Wish(run=False, number=999))
    eventually(lambda: not place.is_held())


def eventually(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def actions(app_or_ledger: Path, station: str) -> list[tuple[str, str]]:
    with Ledger.open(app_or_ledger) as ledger:
        records = [row.record for row in ledger.rows() if isinstance(row.record, Action)]
    return [(each.action, each.who) for each in records if each.station == station]


# --- the form and the file


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"camera_kind": "fake", "camera_folder": "pictures", "trigger_kind": "timer", "every_s": "0.5"},
        {"camera_kind": "rtsp", "rtsp_url": "rtsp://192.168.0.20/stream", "trigger_kind": "http", "http_port": "8791"},
        {"camera_kind": "v4l2", "device_file": "/dev/video0", "width": "640", "height": "480", "frozen": ""},
        {"camera_kind": "genicam", "genicam_name": "Basler-1", "pixel_format": "BayerRG8"},
        {"camera_kind": "push", "push_port": "8792", "answer_kind": "http", "answer_url": "http://mes/verdicts"},
        {"camera_kind": "video_file", "video_file": "belt.mp4", "loop": "yes", "window_s": "20"},
        {"keep": "yes", "bundle": "tiny.inspector", "more": '[challenge]\nparts = ["C-*"]\n'},
        {"trigger_kind": "none", "answer_kind": "none", "more": form.EXAMPLES["tcp"]},
    ],
)
def test_what_the_form_writes_is_read_by_the_station_and_shown_in_the_form_again(changes: dict[str, str]) -> None:
    values = {**VALUES, **changes}
    text = tomli_w.dumps(to_content(values, FIXED))
    parse_settings(text)
    again = from_content(tomllib.loads(text), text, FIXED)
    assert again.reason == ""
    assert to_content(again.values, FIXED) == tomllib.loads(text)


@pytest.mark.parametrize("example", form.EXAMPLES)
def test_every_example_of_further_settings_can_be_used(example: str) -> None:
    port = {"http_port": "8791"} if example == "reject" else {}
    parse_settings(tomli_w.dumps(to_content({**VALUES, **port, "more": form.EXAMPLES[example]}, FIXED)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EXAMPLE, "no fields"),
        (tomli_w.dumps(to_content(VALUES, FIXED)) + "# the lamp is a Smith 12\n", "comments"),
        (
            tomli_w.dumps(to_content(VALUES, FIXED))
            + '[[cameras]]\nname = "side"\ncamera = {kind = "folder", folder = "side"}\n',
            "no fields",
        ),
        (tomli_w.dumps(to_content(VALUES, FIXED)).replace("incoming", "incoming#2"), ""),
    ],
)
def test_a_file_that_the_form_would_spoil_is_not_offered_for_change(text: str, says: str) -> None:
    reason = from_content(tomllib.loads(text), text, FIXED).reason
    assert says in reason
    assert bool(reason) == bool(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window_s": "soon"}, "expected a number"),
        ({"more": "adapters = ["}, "not TOML"),
        ({"more": 'station = "other"'}, "in the form"),
    ],
)
def test_fields_that_cannot_be_written_are_refused_with_a_reason(changes: dict[str, str], says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        to_content({**VALUES, **changes}, FIXED)


# --- setting up


@pytest.mark.slow
def test_a_station_is_set_up_and_recorded(filled: FastAPI, stations: Stations, engineer: Browser) -> None:
    engineer.get("/stations/new")
    fields = {**VALUES, "name": "new-line", "trigger_kind": "http", "http_port": "8791", "answer_kind": "none"}
    assert engineer.post("/stations", **fields).headers["location"] == "/stations/new-line"
    folder = stations.root / "new-line"
    assert stat.S_IMODE((folder / "station.token").stat().st_mode) == 0o600
    assert (folder / "incoming").is_dir()
    station = stations.find("new-line")
    assert station.problem == ""
    assert station.standing.phase is Phase.OFF
    assert actions(filled.state.components.workspace.ledger, "new-line") == [("station_saved", "engineer")]
    page = engineer.get("/stations/new-line")
    assert (folder / "station.token").read_text().strip() in page.text
    auditor = Browser(filled)
    auditor.login("auditor")
    assert (folder / "station.token").read_text().strip() not in auditor.get("/stations/new-line").text


@pytest.mark.parametrize("name", ["", "../up", "a b", ".", "PACKING", "new", "List", "x" * 61, "-x", XSS[0]])
def test_odd_and_taken_names_are_refused(stations: Stations, name: str) -> None:
    with pytest.raises(RefusedError):
        stations.create({**VALUES, "name": name}, who="eve", anywhere=True)


def test_a_refused_form_keeps_what_was_typed_even_a_box_that_was_not_ticked(engineer: Browser) -> None:
    engineer.get("/stations/new")
    fields = {**VALUES, "name": "kept", "every_s": "77", "window_s": "0.1", "sent": "yes"}
    del fields["frozen"]
    engineer.client.headers["referer"] = "http://testserver/stations/new"
    answer = engineer.post("/stations", **fields)
    page = engineer.get(answer.headers["location"]).text
    assert "cannot be used" in page
    assert 'value="77"' in page
    assert 'name="frozen" value="yes">' in page


def test_only_an_administrator_names_places_outside_the_workspace(stations: Stations, tmp_path: Path) -> None:
    outside = {**VALUES, "name": "outside", "camera_kind": "fake", "camera_folder": str(tmp_path)}
    outside |= {"trigger_kind": "timer"}
    with pytest.raises(RefusedError, match="administrator"):
        stations.create(outside, who="eve", anywhere=False)
    assert not (stations.root / "outside").exists()
    assert stations.create(outside, who="adam", anywhere=True).problem == ""


def test_an_address_of_a_file_is_a_place_too(stations: Stations) -> None:
    more = '[centre]\nurl_file = "centre.url"\nframes = "file:///etc"\n'
    with pytest.raises(RefusedError, match="administrator"):
        stations.create({**VALUES, "name": "centre", "more": more}, who="eve", anywhere=False)


def test_a_station_of_a_workspace_that_requires_signatures_requires_them_with_the_same_keys(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "plant")
    top = (
        EXAMPLE.replace('station = "line-1"', 'station = "top"')
        .replace("# require_signature = true ", "require_signature = true ")
        .replace("# trust_store = ", "trust_store = ")
    )
    (tmp_path / "plant" / "station.toml").write_text(top)
    assert parse_settings(top, folder=tmp_path / "plant").require_signature
    stations: Stations = make_app(tmp_path / "plant").state.components.stations
    offered = stations.new_values("line-2")
    assert offered["more"] == 'require_signature = true\ntrust_store = "../../trust.json"\n'
    own_keys = 'require_signature = true\ntrust_store = "mine.json"\n'
    for more in ("", own_keys, "require_signature = true\n"):
        with pytest.raises(RefusedError, match="must be signed here"):
            stations.create({**offered, "more": more}, who="eve", anywhere=True)
    stations.create(offered, who="eve", anywhere=False)
    file = stations.find("line-2").place.toml
    file.write_text(file.read_text().replace("require_signature = true", "require_signature = false"))
    with pytest.raises(RefusedError, match="must be signed here"):
        stations.want("line-2", run=True, who="eve")


def test_no_station_brings_its_own_keys_to_a_machine_that_requires_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONOGO_REQUIRE_SIGNATURE", "true")
    monkeypatch.setenv("GONOGO_TRUST_STORE", str(tmp_path / "trust.json"))
    settings.cache_clear()
    stations: Stations = make_app(tmp_path / "plant").state.components.stations
    assert stations.new_values("line-2")["more"] == ""
    with pytest.raises(RefusedError, match="Remove trust_store"):
        stations.create({**VALUES, "name": "line-2", "more": 'trust_store = "mine.json"\n'}, who="eve", anywhere=True)
    stations.create({**VALUES, "name": "line-2"}, who="eve", anywhere=False)
    monkeypatch.undo()
    settings.cache_clear()


def test_two_people_who_change_the_same_settings_do_not_overwrite_each_other(stations: Stations) -> None:
    stations.create({**VALUES, "name": "shared"}, who="eve", anywhere=False)
    seen = stations.read(stations.find("shared")).seen
    stations.save("shared", {**VALUES, "queue": "3"}, seen=seen, who="eve", anywhere=False)
    with pytest.raises(RefusedError, match="changed meanwhile"):
        stations.save("shared", {**VALUES, "queue": "5"}, seen=seen, who="bob", anywhere=False)
    settings = stations.find("shared").settings
    assert settings is not None
    assert settings.queue == 3


def test_a_file_written_by_hand_is_shown_with_the_reason_and_never_overwritten(
    filled: FastAPI, engineer: Browser
) -> None:
    folder = set_up_station(filled.state.components.workspace, "hand")
    text = "# ask Kim before you change this\n" + (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text)
    page = engineer.get("/stations/hand")
    assert "ask Kim" in page.text
    assert "comments" in text_of(page)
    assert 'name="camera_kind"' not in page.text
    with pytest.raises(RefusedError, match="comments"):
        filled.state.components.stations.save("hand", VALUES, seen="", who="eve", anywhere=True)
    assert (folder / "station.toml").read_text() == text


def test_a_broken_file_is_shown_and_not_started(filled: FastAPI, engineer: Browser) -> None:
    folder = set_up_station(filled.state.components.workspace, "broken")
    (folder / "station.toml").write_text("station = 3\n")
    assert "station: Input should be a valid string" in text_of(engineer.get("/stations"))
    assert engineer.get("/stations/broken/state").json()["source"] == ""
    with pytest.raises(RefusedError, match="cannot be used"):
        filled.state.components.stations.want("broken", run=True, who="eve")
    (folder / "station.toml").write_text("not toml [")
    assert "not TOML" in text_of(engineer.get("/stations/broken"))


def test_a_station_of_another_ledger_or_name_is_not_mistaken_for_one_of_here(filled: FastAPI) -> None:
    stations = filled.state.components.stations
    folder = set_up_station(filled.state.components.workspace, "stray")
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text.replace('station = "stray"', 'station = "packing"'))
    assert "name of its folder" in stations.find("stray").problem
    (folder / "station.toml").write_text(text.replace("line.ledger", "own.ledger"))
    assert "ledger of this workspace" in stations.find("stray").problem


def test_a_removed_station_is_gone_from_the_pages_and_the_same_again_when_its_folder_is_moved_back(
    filled: FastAPI, stations: Stations, engineer: Browser
) -> None:
    stations.create({**VALUES, "name": "old-line"}, who="eve", anywhere=False)
    seen = stations.read(stations.find("old-line")).seen
    assert engineer.post("/stations/old-line/remove", seen=seen).status_code == 303
    assert "old-line" not in stations.names()
    assert "stations/.removed/old-line-" in text_of(engineer.get("/stations"))
    (kept,) = (stations.root / ".removed").glob("old-line-*")
    with Ledger.open(filled.state.components.workspace.ledger, create=False, read_only=True) as ledger:
        (action,) = [row.record for row in ledger.actions() if row.record.action == "station_removed"]
    assert action.details["kept"] == kept.name
    stations.create({**VALUES, "name": "old-line", "queue": "3"}, who="eve", anywhere=False)
    stations.remove("old-line", seen=stations.read(stations.find("old-line")).seen, who="eve")
    kept.rename(stations.root / "old-line")
    assert stations.read(stations.find("old-line")).seen == seen


def test_a_station_that_runs_or_was_changed_meanwhile_is_not_removed(filled: FastAPI, stations: Stations) -> None:
    stations.create({**VALUES, "name": "busy"}, who="eve", anywhere=False)
    station = stations.find("busy")
    seen = stations.read(station).seen
    with pytest.raises(RefusedError, match="changed meanwhile"):
        stations.remove("busy", seen="", who="eve")
    station.place.write_wish(Wish(run=True, number=1, who="eve", at=datetime.now(UTC)))
    with pytest.raises(RefusedError, match="running"):
        stations.remove("busy", seen=seen, who="eve")
    station.place.write_wish(Wish())
    operator = Browser(filled)
    operator.login("operator")
    assert operator.post("/stations/busy/remove", seen=seen).status_code == 403
    assert "busy" in stations.names()


def test_operators_start_and_stop_and_set_nothing_up(filled: FastAPI, stations: Stations) -> None:
    operator = Browser(filled)
    operator.login("operator")
    page = operator.get("/stations")
    assert 'action="/stations/packing/start"' in page.text
    assert 'href="/stations/new"' not in page.text
    assert operator.get("/stations/new").status_code == 403
    assert operator.get("/stations/packing").status_code == 403
    assert operator.post("/stations/packing/stop").status_code == 303
    assert stations.find("packing").place.wish() == Wish()
    auditor = Browser(filled)
    auditor.login("auditor")
    assert 'action="/stations/packing/start"' not in auditor.get("/stations").text
    assert auditor.get("/stations/packing").status_code == 200
    assert auditor.get("/stations/packing/state").json()["source"] == "", "an auditor opens no camera"


def test_the_station_at_the_top_of_the_workspace_is_listed_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    text = tomli_w.dumps(to_content(VALUES, Fixed(name="top", ledger="ledger/line.ledger", bundles=".")))
    (tmp_path / "space" / "station.toml").write_text(text)
    app = make_app(tmp_path / "space")
    stations = app.state.components.stations
    assert [each.name for each in stations.all()] == ["top"]
    for do in (
        lambda: stations.want("top", run=True, who="eve"),
        lambda: stations.save("top", VALUES, seen="", who="eve", anywhere=True),
        lambda: stations.create({**VALUES, "name": "TOP"}, who="eve", anywhere=True),
    ):
        with pytest.raises(RefusedError):
            do()
    browser = Browser(app)
    browser.login("engineer")
    assert "set up by hand" in text_of(browser.get("/stations/top"))


# --- starting, stopping, dying


@pytest.mark.slow
def test_a_station_outlives_its_server_and_is_stopped_by_another_one(space: Workspace) -> None:
    place = Place(folder=space.root / "stations" / "line-1")
    first = make_app(space.root).state.components
    assert first.stations.want("line-1", run=True, who="eve")
    assert not first.stations.want("line-1", run=True, who="bob"), "the second person is told that it was started"
    second = make_two(space)
    second.start()
    eventually(lambda: first.stations.find("line-1").standing.phase is Phase.RUNNING)
    pid = running(place).pid
    first.stations.close()
    time.sleep(0.7)  # a keeper that took over wrongly would have started a second one by now
    assert running(place).pid == pid
    assert (place.folder / "starts").read_text() == "x"
    assert second.find("line-1").standing.phase is Phase.RUNNING
    assert second.want("line-1", run=False, who="kim")
    eventually(lambda: second.find("line-1").standing.phase is Phase.OFF)
    second.close()
    assert actions(space.ledger, "line-1") == [("station_started", "eve"), ("station_stopped", "kim")]
    first.close()


def make_two(space: Workspace) -> Stations:
    """The stations of a second server on the same workspace."""
    found: Stations = create_app(space, options=Options(hasher=WEAK_HASHER)).state.components.stations
    return found


def running(place: Place) -> Running:
    found = place.running()
    assert found is not None
    return found


@pytest.mark.slow
def test_a_killed_station_is_a_fault_until_it_runs_again_and_a_restart_replaces_it(space: Workspace) -> None:
    place = Place(folder=space.root / "stations" / "line-1")
    stations = make_two(space)
    stations.want("line-1", run=True, who="eve")
    eventually(lambda: stations.find("line-1").standing.phase is Phase.RUNNING)
    first = running(place).pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: stations.find("line-1").standing.phase is Phase.FAILED)
    status = status_of(stations.find("line-1"))
    assert status is not None
    assert not status.alive
    assert "killed" in status.broken
    eventually(lambda: stations.find("line-1").standing.phase is Phase.RUNNING)
    second = running(place).pid
    assert second != first
    with pytest.raises(RefusedError, match="Stop it"):
        stations.save("line-1", VALUES, seen=stations.read(stations.find("line-1")).seen, who="eve", anywhere=True)
    assert stations.want("line-1", run=True, who="eve", again=True)
    eventually(lambda: (found := place.running()) is not None and found.pid != second)
    eventually(lambda: stations.find("line-1").standing.phase is Phase.RUNNING)
    assert ("station_ended", "gonogo") in actions(space.ledger, "line-1")
    stations.want("line-1", run=False, who="eve")
    eventually(lambda: stations.find("line-1").standing.phase is Phase.OFF)
    stations.close()


def test_a_station_that_should_run_is_started_by_the_next_server(space: Workspace) -> None:
    place = Place(folder=space.root / "stations" / "line-1")
    place.write_wish(Wish(run=True, number=4, who="eve", at=datetime.now(UTC)))
    stations = make_two(space)
    stations.start()
    eventually(lambda: stations.find("line-1").standing.phase is Phase.RUNNING)
    assert running(place).number == 4
    stations.close()


def test_settings_that_were_spoiled_after_the_start_are_named(space: Workspace) -> None:
    place = Place(folder=space.root / "stations" / "line-1")
    place.toml.write_text("station = 3\n")
    place.write_wish(Wish(run=True, number=1))
    stations = make_two(space)
    stations.start()
    eventually(lambda: stations.find("line-1").standing.phase is Phase.FAILED)
    assert "valid string" in stations.find("line-1").standing.why
    stations.close()


def test_the_process_says_why_it_ended_and_a_second_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_TRIES", 2)
    place = Place(folder=tmp_path)
    place.toml.write_text("station = 3\n")
    place.write_wish(Wish(run=True, number=1))
    assert kept.main(tmp_path, 1) == 1
    ended = place.ended()
    assert ended is not None
    assert "valid string" in ended.why
    standing = place.standing(tmp_path / "state")
    assert standing.phase is Phase.FAILED
    assert "valid string" in standing.why
    from gonogo import locks

    with place.run_lock.open("ab") as file:
        assert locks.try_lock(file)
        assert kept.main(tmp_path, 1) == kept.ALREADY


def test_no_state_of_a_station_lets_an_old_go_look_current(filled: FastAPI, tmp_path: Path) -> None:
    """A go of a second ago, and a station that is off, killed, silent, or starts: nothing of it is shown as current."""
    components = filled.state.components
    folder = set_up_station(components.workspace, "safe")
    place, now = Place(folder=folder), datetime.now(UTC)
    with Ledger.open(components.workspace.ledger) as ledger:
        record(ledger, 900, GOOD_RED - 20, rng=np.random.default_rng(1), station="safe")

    def shown() -> tuple[State | None, str]:
        status = status_of(components.stations.find("safe"))
        assert status is not None
        with components.ledger_pool.reading() as ledger:
            tiles = read_tiles(ledger, components.feed.of("safe").read(), {"safe": status})
        snapshot = components.feed.of("safe").read()
        assert snapshot.current is None or snapshot.current.record.state is not State.GO
        return next(tile.state for tile in tiles if tile.name == "safe"), status.broken

    write_status(folder, pid=1, beat=now, health="stopped")
    assert shown() == (None, "")
    place.write_wish(Wish(run=True, number=2, at=datetime.now(UTC)))
    assert shown() == (None, ""), "starting"
    place.write_ended(Ended(number=2, why="the port is taken", at=now))
    assert shown() == (State.FAULT, "safe: the port is taken")
    place.write_running(Running(pid=77, number=3, at=datetime.now(UTC)))
    place.write_wish(Wish(run=True, number=3, at=now))
    write_status(folder, pid=77, beat=now, health="running")
    assert shown()[0] is State.FAULT, "killed a moment ago: its last status looks alive"
    from gonogo import locks

    with place.run_lock.open("ab") as file:
        locks.try_lock(file)
        write_status(folder, pid=77, beat=now - timedelta(minutes=1), health="running")
        assert shown()[0] is State.FAULT, "silent"
        write_status(folder, pid=78, beat=now, health="running")
        assert shown() == (None, ""), "the status of an earlier run"
        write_status(folder, pid=77, beat=datetime.now(UTC), health="running", faulting="no bundle")
        assert shown() == (State.FAULT, "safe: no bundle")
    browser = Browser(filled)
    browser.login("operator")
    assert "Fault" in text_of(browser.get("/station?name=safe"))
    assert browser.get("/station?name=nothing").status_code == 422
    assert browser.get("/station").headers["location"] == "/wall"
    place.write_wish(Wish(run=False, number=3))


def write_status(folder: Path, *, pid: int, beat: datetime, health: str, faulting: str = "") -> None:
    (folder / "state").mkdir(exist_ok=True)
    status = {"pid": pid, "station": folder.name, "health": health, "alarms": [], "faulting": faulting}
    status |= {"beat": beat.isoformat(), "since": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}
    (folder / "state" / "status.json").write_text(json.dumps(status))


# --- what the camera sees, and a try


def preview_of(filled: FastAPI, name: str, out: Path, **fields: str) -> tuple[Preview, Path]:
    folder = set_up_station(filled.state.components.workspace, name, **fields)
    out.mkdir()
    return Preview(parse_settings((folder / "station.toml").read_text(), folder=folder), out), folder


def looked(preview: Preview, out: Path) -> dict[str, object]:
    preview._due_s = [0.0]
    preview.look()
    found: dict[str, object] = json.loads((out / LOOK).read_text())["cameras"][0]
    return found


def test_the_newest_picture_of_a_folder_is_shown_and_tried_and_stays_there(filled: FastAPI, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preview, folder = preview_of(filled, "peek", out)
    assert looked(preview, out)["trouble"] == "empty"
    rng = np.random.default_rng(3)
    for number, red in enumerate((GOOD_RED, GOOD_RED + 40)):
        path = folder / "incoming" / f"p{number}.png"
        path.write_bytes(encode_png(make_frame(red, rng)))
        os.utime(path, (1_000_000 + number,) * 2)
    seen = looked(preview, out)
    assert (seen["trouble"], seen["name"], seen["number"]) == ("", "p1.png", 1)
    assert looked(preview, out)["number"] == 1, "the same picture is not measured again"
    with Ledger.open(filled.state.components.workspace.ledger) as ledger:
        before = ledger.head().seq
        preview.judge()
        assert ledger.head().seq == before
    tried = json.loads((out / TRIED).read_text())["cameras"][0]
    assert tried["name"] == "p1.png"
    assert tried["state"] == "review"
    assert tried["score"] == pytest.approx(GOOD_RED + 40, abs=6)
    assert tried["bundle"] == "tiny.inspector"
    assert (out / "tried-0-map.jpg").is_file()
    assert sorted(path.name for path in (folder / "incoming").iterdir()) == ["p0.png", "p1.png"]


def test_a_try_names_what_is_wrong(filled: FastAPI, tmp_path: Path) -> None:
    dark = make_frame(0, np.random.default_rng(4), light=0.05)
    preview, folder = preview_of(filled, "dark", tmp_path / "out")
    (folder / "incoming" / "a.png").write_bytes(encode_png(dark))
    os.utime(folder / "incoming" / "a.png", (1_000_000,) * 2)
    preview.judge()
    tried = json.loads((tmp_path / "out" / TRIED).read_text())["cameras"][0]
    assert (tried["state"], "dark" in tried["reason"]) == ("fault", True)
    pushed, _ = preview_of(filled, "pushed", tmp_path / "out-2", camera_kind="push", push_port="8899")
    assert looked(pushed, tmp_path / "out-2")["trouble"] == "pushed"
    (tmp_path / "out-3").mkdir()
    (folder / "incoming" / "a.png").write_bytes(b"\x89PNG no picture")
    os.utime(folder / "incoming" / "a.png", (1_000_000,) * 2)
    assert "a.png" in str(looked(Preview(preview.settings, tmp_path / "out-3"), tmp_path / "out-3")["trouble"])


@pytest.mark.slow
def test_a_try_reaches_the_page_through_its_process(filled: FastAPI, engineer: Browser) -> None:
    folder = set_up_station(filled.state.components.workspace, "tried")
    name = f"{XSS[1].replace('/', '')}.png"
    (folder / "incoming" / name).write_bytes(encode_png(make_frame(GOOD_RED, np.random.default_rng(5))))
    engineer.get("/stations/tried")
    eventually(lambda: engineer.get("/stations/tried/state").json()["cameras"][0]["number"] > 0)
    assert engineer.get("/stations/tried/picture.jpg").headers["content-type"] == "image/jpeg"
    assert engineer.call("/stations/tried/try").status_code == 200
    assert engineer.get("/stations/tried/state").json()["busy"]
    eventually(lambda: not engineer.get("/stations/tried/state").json()["busy"])
    said = engineer.get("/stations/tried/state").json()["tried"]
    assert "Review" in said
    assert name not in said
    filled.state.components.previews.close()
    filled.state.components.previews._closing.clear()
    assert engineer.get("/stations/tried/picture.jpg").status_code == 404

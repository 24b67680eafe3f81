"""What runs beside a station: its ports and companions, the preview of its cameras, its gate, metrics and reports."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gonogo import locks
from gonogo.capture import CaptureError, Trouble
from gonogo.config import Recipe
from gonogo.drift import Watch
from gonogo.drift.signs import Signs
from gonogo.errors import InputError, LedgerError, UnfitError
from gonogo.images import Photograph, encode_png
from gonogo.ledger import REVIEW, Action, Ledger
from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.line.state import AdapterState, Health
from gonogo.schema import Box, Label, PartIdentity, State, Verdict
from gonogo.station import (
    CameraParts,
    LoadedBundle,
    ModelSlot,
    Station,
    StationSettings,
    Supervisor,
    kept,
    models,
    parse_settings,
    preview,
    running,
)
from gonogo.station.answers import HttpPort
from gonogo.station.cameras import CameraThread
from gonogo.station.challenge import Challenges
from gonogo.station.changeover import SELECTED, InUse, ProductError
from gonogo.station.companion import Companion, end_child
from gonogo.station.digest import composer
from gonogo.station.expiry import ExpiryWatch
from gonogo.station.exposition import exposition
from gonogo.station.identity import checked, contradiction, earlier, merged, product_in_code
from gonogo.station.messages import WorkerReport
from gonogo.station.metrics import Metrics
from gonogo.station.outcomes import Outcome
from gonogo.station.place import Ended, Phase, Place, Running, Wish
from gonogo.station.reject import RejectControl, acknowledge_line
from gonogo.station.running import run_station, run_with_companions
from gonogo.station.settings import ChallengeSettings
from gonogo.station.shift_page import _SHOWN_PER_KIND, _Gallery, describe_action, lasted, shift_warnings
from gonogo.station.shift_report import gather, parse_shifts
from gonogo.station.status import StationState
from gonogo.station.together import without_promise
from gonogo.station.tracking import LineTotals, Tracker
from gonogo.station.tracking_settings import RejectSettings
from gonogo.testing import FakeCamera, fake_frame, fake_model, write_fake_bundle
from gonogo.testing.station import settings_for
from gonogo.validity import Validity
from test_ledger_faults import verdict, view
from test_station import NOW, Line, seal, settings

GATE = RejectSettings(track="encoder", distance=100, tolerance=3)
IDLE = [sys.executable, "-c", "import sys; sys.stdin.read()"]
"""A worker that never says that it is ready."""


def a_link(**changes: Any) -> AdapterState:
    basis = {"connected": True, "trouble": "", "triggers": 0, "delivered": 0, "undelivered": 0, "refused": 0}
    return AdapterState(name="plc", kind="tcp", **basis | changes)


# --- running


@contextmanager
def receiving() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A line's HTTP server: its address, and the answers that it got with their tokens."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(json.loads(body) | {"token": self.headers["Authorization"]})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/answers", got
    finally:
        server.shutdown()
        server.server_close()


def test_an_answer_is_posted_once_with_its_token() -> None:
    with receiving() as (url, got):
        HttpPort(url, token="secret").send(fault(Trigger(id="A", at=NOW, due_s=0.0), Cause.LATE, "late"))
    ((found),) = got
    assert (found["trigger_id"], found["cause"], found["token"]) == ("A", "late", "Bearer secret")


def with_adapter(folder: Path, extra: str = "") -> StationSettings:
    settings_for(folder)
    text = (folder / "station.toml").read_text()
    text = text.replace('[trigger]\nkind = "stdin"\n[answer]\nkind = "stdout"\n', "")
    without = "port = 0\nallow_without_token = true\n"
    adapter = f'[[adapters]]\nname = "plc"\nkind = "tcp"\n{without}[http]\n{without}'
    return parse_settings(text + adapter + extra, folder=folder)


class Part:
    """Something that runs beside a station."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.port = 0
        self.link = SimpleNamespace(snapshot=lambda: a_link())

    def start(self) -> Part:
        self.said.append("start")
        return self

    def stop(self) -> None:
        self.said.append("stop")

    close = __exit__ = lambda self, *_: self.stop()
    __enter__ = start

    def publish(self, answer: Answer) -> None:
        self.said.append(answer.trigger_id)


def test_everything_beside_a_station_starts_and_stops_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("postgresql://u:p@h/d")
    adapter, centre, server = Part(), Part(), Part()
    monkeypatch.setattr(running, "open_adapter", lambda *_, **__: adapter)
    monkeypatch.setattr(running, "forwarder", lambda *_: centre)
    monkeypatch.setattr(running, "StationServer", lambda *_, **__: server)
    settings = with_adapter(tmp_path / "line", f'[centre]\nurl_file = "{tmp_path / "url"}"\n')
    stop = threading.Event()
    stop.set()
    run_station(settings, IDLE, complain=pytest.fail, stop=stop)
    assert adapter.said == centre.said == server.said == ["start", "stop"]
    status = json.loads((settings.state_dir / "status.json").read_text())
    assert (status["health"], [each["name"] for each in status["adapters"]]) == ("stopped", ["plc"])


def test_a_supervisor_that_ends_by_itself_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervisor, "run", lambda _: None)
    settings = settings_for(tmp_path / "line")
    with pytest.raises(UnfitError, match="the line must treat silence as a fault"):
        run_station(settings, IDLE, complain=pytest.fail, port=SimpleNamespace(send=lambda _: None))


def test_the_agent_and_the_delivery_of_results_run_beside_the_station(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, complaints, heard = Part(), list[str](), threading.Event()
    monkeypatch.setattr(running, "outbox", lambda *_: results)
    seen = list[list[str]]()

    def run(_: object, worker: list[str], **__: object) -> None:
        seen.append(worker)
        assert heard.wait(300.0)

    def complain(text: str) -> None:
        complaints.append(text)
        heard.set()

    monkeypatch.setattr(running, "run_station", run)
    settings, toml = settings_for(tmp_path / "line").on_device("GPU"), tmp_path / "line" / "station.toml"
    run_with_companions(settings, toml, agent=[sys.executable, "-c", "raise SystemExit(5)"], complain=complain)
    assert complaints[0] == "the agent ended with exit code 5; it is started again."
    assert results.said == ["start", "stop"]
    assert seen == [[sys.executable, "-m", "gonogo.station.worker", str(toml), "GPU"]]
    monkeypatch.setattr(running, "outbox", lambda *_: None)
    run_with_companions(settings, toml, complain=pytest.fail)
    assert len(seen) == 2


def test_a_worker_that_cannot_lock_its_ledger_says_which_file(tmp_path: Path) -> None:
    (tmp_path / ".s1.ledger.s1.worker.lock").mkdir()
    line = Line(tmp_path)
    assert "expected a writable file" in line.judge("A").reason


# --- cameras


class Matching(FakeCamera):
    """A camera that pushes pictures, and fails when it is settled or closed."""

    def __init__(self) -> None:
        super().__init__(lambda _: fake_frame(1))
        self.heard: list[object] = []
        self.matcher = SimpleNamespace(
            expect=lambda *_, **__: None, faulted=self.heard.append, counts=lambda: {"waiting": 1, "late": 2}
        )
        self.lost = threading.Event()

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Any:
        raise CaptureError(Trouble.CAMERA_LOST, "unplugged")

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        raise RuntimeError("settled twice")

    def close(self) -> None:
        self.lost.set()
        raise RuntimeError("already closed")


def test_a_driver_that_raises_on_every_occasion_costs_its_parts_and_not_the_thread(tmp_path: Path) -> None:
    from gonogo.capture import HealthLimits
    from gonogo.ledger import FrameStore

    opened = list[Matching]()

    def opener() -> Matching:
        if len(opened) == 1:
            opened.append(Matching())
            raise CaptureError(Trouble.CAMERA_LOST, "not found")
        opened.append(Matching())
        return opened[-1]

    camera = CameraThread("main", opener, HealthLimits(), FrameStore(tmp_path))
    camera.start()
    options: dict[str, Any] = {"timeout_s": 0.1, "came_s": 0.0, "window_s": 1.0, "recipe": Recipe()}
    camera.settle("before", stored=True)
    first = camera.shoot("A", **options)
    assert first.kept.wait(300.0)
    assert str(first.problem) == "unplugged"
    assert opened[0].lost.wait(300.0)
    assert camera.last_error == "RuntimeError: already closed"
    second = camera.shoot("B", **options)
    assert second.kept.wait(300.0)
    assert str(second.problem) == "not found", "there was no camera to close"
    third = camera.shoot("C", **options)
    assert third.kept.wait(300.0)
    assert camera.pictures()["late"] == 4, "of the two cameras that were lost"
    camera._camera = Matching()
    camera.faulted(7.0)
    assert camera._camera.heard == [7.0]
    camera._camera = None
    camera.faulted(8.0)
    camera.close()


# --- the preview


class Blind:
    """A camera of the preview that fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.closed = failure, 0

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Any:
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(photograph=Photograph(fake_frame(3)))

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        assert not stored, "the preview takes nothing away"

    def close(self) -> None:
        self.closed += 1


def looked(folder: Path, monkeypatch: pytest.MonkeyPatch, camera: Blind, *, extra: str = "") -> preview.Preview:
    settings_for(folder)
    write_fake_bundle(folder / "real")
    text = (folder / "station.toml").read_text().replace('bundle = "bundle"', 'bundle = "real"')
    settings = parse_settings(f"{extra}\n{text}", folder=folder)
    monkeypatch.setattr(preview, "open_camera", lambda _: camera)
    (folder / "out").mkdir()
    return preview.Preview(settings, folder / "out")


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / name).read_text())["cameras"][0]
    return found


def test_the_preview_opens_a_lost_camera_again_and_keeps_the_last_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Blind()
    seen = looked(tmp_path, monkeypatch, camera)
    seen.look()
    first = read(tmp_path, "look.json")
    assert (first["trouble"], first["number"], first["size_wh"]) == ("", 1, [160, 120])
    assert (tmp_path / "out" / "0.jpg").exists()
    seen.look()
    assert read(tmp_path, "look.json") == first, "it is not due yet"
    for failure, said in (
        (CaptureError(Trouble.CAMERA_LOST, "unplugged"), "unplugged"),
        (RuntimeError("odd"), "RuntimeError: odd"),
    ):
        camera.failure, seen._due_s = failure, [0.0]
        seen.look()
        assert read(tmp_path, "look.json") == first | {"trouble": said}
    assert camera.closed == 1, "it is opened again for the next picture"
    camera.failure, seen._due_s = None, [0.0]
    monkeypatch.setattr(preview, "measure", lambda _: (_ for _ in ()).throw(ValueError("no light")))
    seen.look()
    assert read(tmp_path, "look.json")["trouble"] == "ValueError: no light"
    seen.close()
    assert camera.closed == 2
    seen.close()


def test_a_try_judges_one_picture_or_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looked(tmp_path / "a", monkeypatch, Blind(), extra='device = "CPU"')
    seen.judge()
    tried = read(tmp_path / "a", "tried.json")
    assert (tried["state"], tried["go_below"], tried["map"], tried["drift"]) == ("go", -20.0, True, None)
    assert tried["box"] == [0.0, 0.0, 1.0, 1.0]
    other = looked(tmp_path / "b", monkeypatch, Blind(), extra=f'bundle_sha256 = "{"0" * 64}"')
    other.judge()
    assert read(tmp_path / "b", "tried.json")["reason"].startswith("expected bundle 000")
    dark = looked(tmp_path / "c", monkeypatch, Blind())
    limits = dark._eyes[0].settings.health.model_copy(update={"darkest": 254.0})
    dark._eyes[0].settings = dark._eyes[0].settings.model_copy(update={"health": limits})
    dark.judge()
    assert read(tmp_path / "c", "tried.json")["state"] == "fault"


def test_large_pictures_are_shown_small_with_their_regions_in_place() -> None:
    frame = np.zeros((100, 1920, 3), np.uint8)
    small, factor = preview._small(frame)
    assert (small.shape, factor) == ((50, 960, 3), 0.5)
    base = Verdict(state=State.GO, score=0.0, reason="")
    assert preview._scaled(base, 0.5) is base
    box = Box(x1=10.0, y1=20.0, x2=30.0, y2=40.0)
    assert preview._scaled(Verdict(state=State.GO, score=0.0, reason="", region=box), 0.5).region == Box(
        x1=5.0, y1=10.0, x2=15.0, y2=20.0
    )
    quad = ((0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0))
    assert preview._scaled(Verdict(state=State.GO, score=0.0, reason="", region=quad), 0.5).region == (
        (0.0, 0.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (0.0, 1.0),
    )


def test_pictures_of_a_folder_are_shown_once_and_pushed_ones_only_by_a_running_station(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    text = """
station = "s1"
bundle = "absent"
ledger = "s1.ledger"
state_dir = "state"
[[cameras]]
name = "folder"
camera = { kind = "folder", folder = "in", stable_s = 0.0 }
[[cameras]]
name = "push"
camera = { kind = "push", port = 8792, allow_without_token = true }
[trigger]
kind = "timer"
every_s = 1.0
[answer]
kind = "stdout"
"""
    settings = parse_settings(text, folder=tmp_path)
    folder, pushed = (preview.Eye(each, Recipe()) for each in settings.cameras)
    with pytest.raises(InputError, match="pushed"):
        pushed.take()
    with pytest.raises(InputError, match="empty"):
        folder.take()
    (tmp_path / "in" / "done").mkdir()
    (tmp_path / "in" / "done" / "old.png").write_bytes(encode_png(fake_frame(1)))
    for _ in range(3):
        try:
            assert folder.take() is not None
        except InputError:  # it must be seen twice before it counts as complete
            continue
    assert folder.name == "old.png"
    assert folder.take(again=False) is None
    assert folder.take() is not None


# --- the gate


def test_a_stop_that_cannot_be_saved_is_an_alarm_and_none_is_acknowledged_that_never_was(tmp_path: Path) -> None:
    control = RejectControl(GATE, tmp_path / "absent", lambda *_: None)
    control.line(LineTotals(count=0, gate=0, rejected=0))
    assert control.trouble.endswith("No such file or directory")
    settings = with_adapter(tmp_path / "line", '[reject]\ntrack = "encoder"\ndistance = 100\ntolerance = 3\n')
    Ledger.open(settings.ledger).close()
    with pytest.raises(InputError, match="expected a stopped line, found none on record"):
        acknowledge_line(settings, who="anna", note="")


def test_a_part_whose_place_is_only_guessed_while_the_line_is_silent_is_rejected() -> None:
    tracker = Tracker(GATE)
    tracker.line(LineTotals(count=0, gate=0, rejected=0), 0.0)
    tracker.tick(1000.0)
    tracker.part("A")
    tracker.part("B", 5)
    tracker.judged("A", State.GO)
    tracker.judged("B", State.GO)
    doubts = {part.id: (tracker.rejects(part), part.doubt) for part in tracker.in_flight}
    assert doubts == {"A": (True, "the line did not report where it was"), "B": (False, "")}


def test_a_confirmation_must_come_before_its_time_is_over() -> None:
    with pytest.raises(ValueError, match=r"confirm_after_s: expected less than confirm_within_s \(1\), found 2"):
        RejectSettings(track="shift_register", distance=9, confirm_after_s=2.0)


# --- metrics and reports


def test_the_metrics_count_what_each_adapter_did() -> None:
    plc = a_link(triggers=5, delivered=4)
    state = StationState(
        health=Health.RUNNING,
        worker_pid=1,
        report=WorkerReport(),
        faulting="",
        alarms=(),
        waiting=0,
        unrecorded=0,
        adapters=(plc,),
    )
    text = exposition(Metrics("s1"), state, free_bytes=1)
    assert 'gonogo_station_adapter_events_total{adapter="plc",event="delivered",station="s1"} 4.0' in text


def test_shifts_that_are_no_hours_are_refused() -> None:
    for hours in ("", "six", "14,6", "6,6", "24"):
        with pytest.raises(InputError, match="ascending start hours"):
            parse_shifts(hours, "UTC")
    with pytest.raises(InputError, match="a time zone such as"):
        parse_shifts("6", "Nowhere/Town")


def test_a_report_joins_faults_of_one_event_and_counts_confirmed_defects(tmp_path: Path) -> None:
    path = tmp_path / "line.ledger"
    with Ledger.open(path) as ledger:
        for name, minutes in (("a", 0), ("b", 5), ("c", 60)):
            at = NOW + timedelta(minutes=minutes)
            ledger.append_verdict(verdict(name, state=State.FAULT, cause="dark", triggered_at=at))
        for name, defect in (("d", "crack"), ("e", None)):
            row = ledger.append_verdict(verdict(name, view(), triggered_at=NOW))
            ledger.append_action(
                Action(action=REVIEW, who="anna", about=row.seq, label=Label.BAD, defect=defect, station="left")
            )
        good = ledger.append_verdict(verdict("g", view(), triggered_at=NOW))
        ledger.append_action(Action(action=REVIEW, who="anna", about=good.seq, label=Label.GOOD, station="left"))
        ledger.append_verdict(verdict("x", view(), station="right", triggered_at=NOW))
    period = gather(path, station="left")
    assert [(event.cause, event.parts) for event in period.events] == [("dark", 2), ("dark", 1)]
    assert [(kind.name, kind.count) for kind in period.kinds] == [("crack", 1), ("not named", 1)], "not the good one"
    with pytest.raises(InputError, match="expected one station, found left, right"):
        gather(path)


def test_a_digest_says_nothing_of_a_shift_without_parts_and_fails_with_its_ledger(tmp_path: Path) -> None:
    path = tmp_path / "line.ledger"
    compose = composer(path, "left", "Europe/Berlin")
    with pytest.raises(LedgerError, match="expected a ledger"):
        compose(NOW, NOW)
    Ledger.open(path).close()
    assert compose(NOW, NOW) is None


# --- certificates, challenges, identities


def test_a_certificate_whose_parts_cannot_be_counted_is_not_held_against_them(tmp_path: Path) -> None:
    def no_ledger() -> Ledger:
        raise LedgerError("away")

    watch = ExpiryWatch(settings_for(tmp_path / "line"), ledger=no_ledger, now=lambda: NOW)
    model = SimpleNamespace(sha256="a" * 64, validity=Validity(certified_at=NOW, parts=1))
    assert not watch.standing(model).expired  # type: ignore[arg-type]


def test_a_test_without_a_bundle_is_failed(tmp_path: Path) -> None:
    settings = ChallengeSettings(pictures=tmp_path)
    found = Challenges(settings, station="s1", started=NOW, now=lambda: NOW).judge_picture(tmp_path / "x.png", None)
    assert (found.details["passed"], found.details["state"]) == (False, "fault")
    assert "no bundle is loaded" in str(found.details["reason"])


def test_a_part_of_several_cameras_judged_by_a_bundle_for_one_is_warned_about() -> None:
    one = SimpleNamespace(cameras=())
    assert without_promise({"top": one}) == ""  # type: ignore[dict-item]
    both: Any = {"top": one, "side": one}
    assert without_promise(both).startswith("Parts are judged from 2 cameras without a promise")
    assert without_promise(both | {"side": SimpleNamespace(cameras=("side",))}) == ""


def said(state: State = State.GO, **identity: Any) -> Verdict:
    return Verdict(
        state=state, score=None if state is State.FAULT else 1.0, reason="seen", identity=PartIdentity(**identity)
    )


def test_codes_of_several_pictures_are_one_identity_unless_they_disagree() -> None:
    assert merged([Verdict(state=State.GO, score=0.0, reason="")]) is None
    found = merged([said(part="P1", codes=("x",)), said(part="P1", lot="L1", codes=("x", "y"))])
    assert found == PartIdentity(part="P1", lot="L1", codes=("x", "y"))
    odd = merged([said(part="P1", trouble="smeared"), said(part="P2")])
    assert odd is not None
    assert odd.trouble == "smeared; the codes in two pictures disagree: part 'P1' and 'P2'"


def test_an_identity_makes_an_outcome_worse_and_never_better(tmp_path: Path) -> None:
    use = InUse(product=None, slots=(SimpleNamespace(model=SimpleNamespace(name="chip")),))  # type: ignore[arg-type]
    trigger = Trigger(id="A", part="P1", at=NOW, due_s=0.0)
    go = Outcome(state=State.GO, reason="good", cause=None)

    def after(outcome: Outcome, *verdicts: Verdict) -> tuple[State, Cause | None]:
        found = checked(trigger, outcome, verdicts, use, SimpleNamespace(open=lambda: ledger), "left")  # type: ignore[arg-type]
        return found.state, found.cause

    with Ledger.open(tmp_path / "line.ledger") as ledger:
        assert after(go) == (State.GO, None)
        assert after(go, said(part="P1")) == (State.GO, None)
        assert after(go, said(part="P2")) == (State.FAULT, Cause.CODE)
        assert after(go, said(product="pill")) == (State.FAULT, Cause.CODE)
        assert after(go, said(lot="L1"), said(lot="L2")) == (State.FAULT, Cause.CODE)
        dark = Outcome(state=State.FAULT, reason="dark", cause=Cause.DARK)
        assert after(dark, said(State.FAULT, trouble="smeared")) == (State.FAULT, Cause.DARK)
        unread = Outcome(state=State.FAULT, reason="smeared", cause=Cause.INSPECTOR)
        assert after(unread, said(State.FAULT, trouble="smeared")) == (State.FAULT, Cause.CODE)
        assert contradiction(trigger, PartIdentity(part="P1"), use) == ""
        assert earlier(trigger, go, ledger, "left") is None
        row = ledger.append_verdict(verdict("before", view(), part="P1", lot="L1", codes=("P1",)))
        lots = said(part="P1", lot="L1", codes=("P1",))
        assert after(go, lots) == (State.REVIEW, None)
        assert after(Outcome(state=State.NO_GO, reason="bad", cause=None), lots) == (State.NO_GO, None)
        assert after(go, said(part="P1", lot="L2", codes=("P1",))) == (State.GO, None), "a part of another lot"
        assert row.seq == 2


# --- products


class Slots(Line):
    """A station for two products, a and b, whose bundles may be refused or slow."""

    def __post_init__(self) -> None:
        self.settings = settings(self.folder, extra=self.extra, window_s=self.window_s)
        self.bundles = {name: self.folder / name for name in ("a", "b")}
        for name, place in self.bundles.items():
            seal(place, name)
        self.slots = {
            name: ModelSlot(place, self.folder / "state" / name, loader=self._load)
            for name, place in self.bundles.items()
        }
        self.station = Station(
            self.settings,
            (replace(self._view("main"), slot=None),),
            products={name: (slot,) for name, slot in self.slots.items()},
            now=lambda: self.moment,
        )

    def _view(self, name: str) -> CameraParts:
        self.slot = None  # type: ignore[assignment]
        return super()._view(name)


def test_products_that_take_long_to_load_are_loaded_one_after_the_other(tmp_path: Path) -> None:
    line = Slots(tmp_path)
    line.station.changeover.start(within_s=0.0)
    assert [slot.model is not None for slot in line.slots.values()] == [True, False]
    line.slots["a"].release("changed")
    go_on, opened = threading.Event(), line.slots["a"]._loader

    def slow(path: Path) -> LoadedBundle:
        assert go_on.wait(300.0)
        return opened(path)

    line.slots["a"]._loader = slow
    line.station.changeover.poll()
    assert line.slots["a"].loading
    trigger = Trigger(id="T", product="b", at=NOW, due_s=0.0)
    with Ledger.open(line.settings.ledger) as ledger, pytest.raises(ProductError, match="no bundle is loaded for"):
        line.station.changeover.of_trigger(trigger, ledger)
    assert not line.slots["b"].loading, "one after the other"
    go_on.set()
    while line.slots["b"].model is None:
        line.station.changeover.poll()
    assert line.slots["a"].model is not None
    assert line.station.changeover.find_troubles() == []


def test_without_any_bundle_every_product_says_why(tmp_path: Path) -> None:
    line = Slots(tmp_path)
    for place in line.bundles.values():
        seal(place, "broken")
    line.station.start()
    troubles = line.station.changeover.find_troubles()
    assert len(troubles) == 2
    assert all(each.startswith("no bundle is loaded: ") for each in troubles)
    seal(line.bundles["a"], "mended")
    while line.slots["a"].model is None:
        line.station.judge(Trigger(id=f"T{line.slots['a'].loading}", at=NOW, due_s=0.0))
        line.station.changeover.poll()
    with line.ledger() as ledger:
        assert "bundle_swapped" in {row.record.action for row in ledger.actions()} or line.slots["a"].trouble == ""


def test_a_bundle_that_was_loaded_between_two_parts_is_on_record(tmp_path: Path) -> None:
    line = Slots(tmp_path)
    line.station.start()
    seal(line.bundles["a"], "newer")
    line.station.changeover.poll()
    thread = line.slots["a"]._thread
    assert thread is not None
    thread.join(300.0)
    line.judge("T", product="b")
    with line.ledger() as ledger:
        assert [row.record.action for row in ledger.actions()].count("bundle_swapped") == 1


def test_bundles_that_were_not_certified_together_judge_no_part(tmp_path: Path) -> None:
    line = Line(tmp_path)
    assert line.slot.model is not None
    line.slot.model = replace(line.slot.model, cameras=("main",))
    answer = line.judge("A")
    assert (answer.cause, "is not certified together with the other bundles" in answer.reason) == (Cause.MODEL, True)


def test_a_code_without_a_product_selects_none(tmp_path: Path) -> None:
    zones = (SimpleNamespace(pattern="(?P<product>[a-z]+)"),)
    read = list[str]()

    def slot(name: str) -> Any:
        def identify(_: Photograph) -> PartIdentity | None:
            read.append(name)
            return {"a": None, "b": PartIdentity(part="P1"), "c": PartIdentity(product="chip")}[name]

        return SimpleNamespace(model=SimpleNamespace(identify=identify, recipe=SimpleNamespace(code_zones=zones)))

    changeover = SimpleNamespace(candidates=lambda: [(name, (slot(name),)) for name in "abc"])
    pictures = [Photograph(fake_frame(1))]
    assert product_in_code(changeover, pictures) == "chip"  # type: ignore[arg-type]
    assert read == ["a", "b", "c"]
    assert product_in_code(changeover, [None]) is None  # type: ignore[arg-type]


def test_the_bundle_in_use_is_kept_even_if_the_clock_makes_its_copy_the_oldest(tmp_path: Path) -> None:
    seal(tmp_path / "bundle", "first")
    slot = ModelSlot(tmp_path / "bundle", tmp_path / "copies", loader=fake_model)
    slot.start()
    assert slot.model is not None
    for number in range(models._KEPT + 1):
        (tmp_path / "copies" / f"later-{number}").mkdir()
        os.utime(tmp_path / "copies" / f"later-{number}", (4e9 + number, 4e9 + number))
    slot._prune()
    kept_copies = {path.name for path in (tmp_path / "copies").iterdir() if path.is_dir()}
    assert slot.model.path.name in kept_copies
    assert "later-0" not in kept_copies


# --- companions


def test_a_companion_that_never_started_and_a_child_without_a_pipe_are_ended_like_others() -> None:
    Companion(["absent"], pytest.fail).stop()
    child = subprocess.Popen([sys.executable, "-c", "pass"], text=True)
    end_child(child)
    assert child.returncode == 0


# --- a station that the pages started


def test_the_kept_process_ends_as_people_or_a_signal_want_and_names_every_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_for(tmp_path)
    place = Place(folder=tmp_path)
    assert kept.kept_command(tmp_path, 3, ["agent"])[1:] == ["-m", "gonogo.station.kept", str(tmp_path), "3", "agent"]
    monkeypatch.setattr(kept, "_POLL_S", 0.01)

    def ends(act: Any) -> tuple[int, str]:
        monkeypatch.setattr(kept, "run_with_companions", act)
        place.write_wish(Wish(run=True, number=7))
        code, ended = kept.main(tmp_path, 7, ["agent"]), place.ended()
        assert ended is not None
        return code, ended.why

    def unwished(*_: object, stop: threading.Event, **__: object) -> None:
        place.write_wish(Wish(run=False, number=8))
        assert stop.wait(300.0), "people no longer want it to run"

    def complains(*_: object, complain: Any, **__: object) -> None:
        complain("not a trigger: x")
        raise UnfitError("the trigger source failed")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("odd")

    assert ends(unwished) == (0, "")
    assert ends(lambda *_, **__: None) == (1, "it was stopped by a signal")
    assert ends(complains) == (1, "the trigger source failed")
    assert "not a trigger: x" in capsys.readouterr().err
    assert ends(fails) == (1, "RuntimeError: odd")
    assert "Traceback" in capsys.readouterr().err


def test_what_a_station_does_is_read_from_its_lock_its_wish_and_its_status(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    assert place.log_tail() == ""
    place.log.write_bytes(b"x" * 1_000_000 + b"\xffthe end")
    assert place.log_tail().endswith("the end")
    assert place.standing(None).phase is Phase.OFF
    place.write_wish(Wish(run=True, number=2))
    now = datetime.now(UTC)
    state = tmp_path / "state"
    state.mkdir()
    mine = {"pid": 1, "health": "running", "beat": now.isoformat(), "since": now.isoformat(), "alarms": []}
    (state / "status.json").write_text(json.dumps(mine))
    assert place.standing(state).phase is Phase.ELSEWHERE, "another process runs it"
    with place.run_lock.open("ab") as file:
        assert locks.try_lock(file)
        assert place.standing(state).phase is Phase.STARTING
        place.write_running(Running(pid=1, number=1, at=now))
        assert place.standing(state).phase is Phase.STOPPING, "a wish that it does not obey"
        place.write_running(Running(pid=1, number=2, at=now))
        assert place.standing(state).phase is Phase.RUNNING
        (state / "status.json").write_text(json.dumps(mine | {"health": "starting"}))
        assert place.standing(state).phase is Phase.STARTING, "its worker does not judge yet"
        old = (now - timedelta(minutes=5)).isoformat()
        (state / "status.json").write_text(json.dumps(mine | {"beat": old}))
        assert place.standing(state).why == "it has stopped sending its status"
        (state / "status.json").write_text(json.dumps(mine | {"pid": 2}))
        assert place.standing(state).phase is Phase.STARTING
        assert place.standing(state, now=now + timedelta(days=1)).why == "it gives no sign of life"
    (state / "status.json").write_text(json.dumps(mine | {"beat": old}))
    assert "it was killed, or the machine was restarted" in place.standing(state).why
    place.write_ended(Ended(number=2, why="no disk", at=now))
    assert (place.standing(state).phase, place.standing(state).why) == (Phase.FAILED, "no disk")


def test_the_preview_says_in_what_a_part_is_unlike_those_of_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(True, 100.0), (True, 200.0), (True, 150.0), (False, 50.0), (False, 20.0)]
    watches = [Watch(sign="brightness", above=above, limit=limit, rate=0.01) for above, limit in limits]
    arguments: Any = (None, Photograph(fake_frame(1)), Verdict(state=State.GO, score=0.0, reason=""), Recipe())

    def drifted(signs: object) -> list[str] | None:
        reference = SimpleNamespace(watches=watches, features=None)
        monkeypatch.setattr(preview, "read_sealed_reference", lambda _: reference)
        monkeypatch.setattr(preview, "observe", lambda *_: signs)
        return preview._drifted(*arguments)

    def bright(value: float) -> Signs:
        return Signs(score=0.0, distance=0.0, brightness=value, sharpness=0.0)

    assert drifted(None) is None
    assert drifted(bright(120.0)) == [], "a part beyond a narrow limit is nothing unusual"
    assert drifted(bright(250.0)) == [watches[1].meaning]
    assert drifted(bright(10.0)) == [watches[4].meaning]


def test_the_preview_judges_only_when_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_for(tmp_path)
    did = list[str]()

    class LookedError(Exception):
        pass

    class Seen:
        def __init__(self, *_: object) -> None: ...

        def look(self) -> None:
            did.append("look")
            if len(did) > 5 and "judge" in did:
                raise LookedError

        def judge(self) -> None:
            did.append("judge")

    reader, writer = os.pipe()
    os.write(writer, b"hello\ntry\n")
    monkeypatch.setattr(preview, "Preview", Seen)
    monkeypatch.setattr(preview, "_EVERY_S", 0.01)
    with os.fdopen(reader, encoding="utf-8") as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        left = threading.Event()
        monkeypatch.setattr(os, "_exit", lambda _: left.set())
        with pytest.raises(LookedError):
            preview.main(tmp_path / "station.toml", tmp_path)
        assert did.count("judge") == 1
        os.close(writer)
        assert left.wait(300.0), "it ends with the server"


# --- the shift leader's page


def test_the_shift_leaders_page_warns_of_what_must_not_be_overlooked() -> None:
    def warned(**changes: Any) -> list[str]:
        nothing: dict[str, Any] = {"broken": 0, "challenges": (), "late_answers": 0}
        return shift_warnings(SimpleNamespace(**nothing | changes))  # type: ignore[arg-type]

    test = [SimpleNamespace(record=SimpleNamespace(details={"passed": passed})) for passed in (True, False)]
    assert warned() == []
    assert "3 signs of tampering" in warned(broken=3)[0]
    assert warned(challenges=test) == ["1 of 2 tests with a challenge part failed."]
    assert "judged too late" in warned(late_answers=2)[0]
    moment = {"first": NOW, "parts": 1}
    lengths = ((0, 1, "a moment"), (30, 2, "under a minute"), (3600, 2, "60 min"), (9000, 2, "2.5 h"))
    for seconds, parts, said in lengths:
        event = SimpleNamespace(**moment | {"last": NOW + timedelta(seconds=seconds), "parts": parts})
        assert lasted(event) == said  # type: ignore[arg-type]


def test_an_action_is_described_by_what_a_reader_needs() -> None:
    def described(action: str, **details: Any) -> str:
        return describe_action(Action(action=action, who="anna", details=details))

    assert described(SELECTED, to="chip") == "from none to chip"
    assert described("bundle_refused", refused="no signature", after="abc") == "no signature"
    assert described("bundle_swapped", after="a" * 64) == "now aaaaaaaaaaaa"
    assert described("acknowledge") == ""


def test_pictures_whose_frame_or_bundle_is_gone_are_left_out_of_the_page(tmp_path: Path) -> None:
    made = write_fake_bundle(tmp_path / "fake.inspector")
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        frames = [ledger.frames.put(encode_png(fake_frame(number, bad=True))) for number in range(5)]
        rows = [
            ledger.append_verdict(
                verdict(str(number), view(State.NO_GO, frame_sha256=frame), state=State.NO_GO, bundle=bundle)
            )
            for number, (frame, bundle) in enumerate(
                [
                    *((frame, str(made.root)) for frame in frames[:4]),
                    (frames[4], str(tmp_path / "gone.inspector")),
                    (frames[4], None),
                    (None, str(made.root)),
                ]
            )
        ]
        ledger.frames.path(frames[0]).unlink()
        gallery = _Gallery(ledger.frames)
        assert gallery.pictures(tuple(rows[4:])) == []
        found = gallery.pictures((rows[0], rows[1]))
        assert [each.row for each in found] == [rows[1]]
        assert found[0].heat.startswith("data:image/")
        assert len(gallery.pictures(tuple(rows[1:4] * 4))) == _SHOWN_PER_KIND


def test_a_station_that_the_pages_hold_and_never_reported_is_starting(tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    with place.run_lock.open("ab") as file:
        assert locks.try_lock(file)
        assert place.standing(None).phase is Phase.STARTING

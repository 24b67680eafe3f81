from __future__ import annotations

import errno
import fcntl
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.capture import Acquired, Camera, HealthLimits
from gonogo.cli import app
from gonogo.config import Recipe
from gonogo.errors import InputError, UnfitError
from gonogo.images import Photograph
from gonogo.ledger import Ledger, View, Where, verify
from gonogo.line.messages import parse_trigger
from gonogo.schema import Frame, PartIdentity, State, Verdict
from gonogo.signing import Signature
from gonogo.station import (
    ANSWERED_FAULT,
    EXAMPLE,
    FOLLOWS,
    Answer,
    AnswerError,
    CameraParts,
    Cause,
    Cycle,
    Health,
    LoadedBundle,
    ModelSlot,
    Sender,
    Station,
    StationSettings,
    Step,
    Supervisor,
    Trigger,
    backlog,
    outcomes,
    parse_settings,
    read_station_status,
    run_station,
    trigger_queue,
    worker_command,
)
from gonogo.station.answers import HttpPort, LinePort
from gonogo.station.backlog import Backlog, Owed
from gonogo.station.cameras import CameraPicture
from gonogo.station.challenge import ACKNOWLEDGE, CHALLENGE
from gonogo.station.http import StationServer
from gonogo.station.ledger_handle import worker_lock
from gonogo.station.messages import Dying, Housekeep, Ready, WorkerReport, decode_for_worker, encode
from gonogo.station.metrics import Metrics
from gonogo.station.models import Swap
from gonogo.station.outcomes import (
    Outcome,
    ledger_cause,
    record_of,
    sole_until,
    stage_times,
    swap_action,
    without_space,
)
from gonogo.station.shift_report import parse_shifts
from gonogo.station.trigger_queue import TriggerQueue
from gonogo.station.triggers import read_trigger_lines, watch_folder
from gonogo.station.watchdog import RestartBudget, WorkerProcess, spawn
from gonogo.testing import FakeCamera, FakePlc, Mishap, fake_frame, fake_model, write_fake_bundle
from gonogo.testing.station import settings_for, station_bench

NOW = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)


@dataclass
class Line:
    """A station's worker in this process, with a camera, a model and a clock to play with."""

    folder: Path
    frames: dict[str, Frame] = field(default_factory=dict)
    mishaps: dict[str, Mishap] = field(default_factory=dict)
    extra: str = ""
    views: tuple[str, ...] = ("main",)
    health: HealthLimits = field(default_factory=lambda: HealthLimits(sharpness=0.38))
    inspect: Callable[[Frame], Verdict] | None = None
    moment: datetime = NOW
    window_s: float = 1.0
    cameras: dict[str, Camera] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = settings(self.folder, extra=self.extra, window_s=self.window_s)
        self.bundle = self.folder / "bundle"
        seal(self.bundle, "one")
        self.slot = ModelSlot(self.bundle, self.folder / "state" / "bundles", loader=self._load)
        self.station = Station(
            self.settings,
            tuple(map(self._view, self.views)),
            open_ledger=lambda path, create: Ledger.open(path, create=create, timeout_s=1.0, now=lambda: self.moment),
            now=lambda: self.moment,
        )
        self.station.start()

    def _load(self, path: Path) -> LoadedBundle:
        model = fake_model(path)
        return model if self.inspect is None else replace(model, inspect=self.inspect)

    def _view(self, name: str) -> CameraParts:
        camera = self.cameras.get(name) or FakeCamera(
            lambda trigger_id: self.frames.get(f"{trigger_id}/{name}", part_frame(trigger_id, name)),
            lambda trigger_id: self.mishaps.get(f"{trigger_id}/{name}", Mishap.NONE),
            delay_s=0.4,
            hang_s=0.7,
        )
        return CameraParts(name=name, open_camera=lambda: camera, health=self.health, slot=self.slot)

    def judge(self, trigger_id: str, **names: str) -> Answer:
        due_s = time.monotonic() + self.settings.window_s
        return self.station.judge(Trigger(id=trigger_id, at=self.moment, due_s=due_s, **names))

    def ledger(self) -> Ledger:
        return Ledger.open(self.settings.ledger, create=False)


def part_frame(trigger_id: str, view: str) -> Frame:
    return fake_frame(zlib.crc32(f"{trigger_id}/{view}".encode()))


def settings(folder: Path, *, extra: str = "", window_s: float = 1.0) -> StationSettings:
    folder.mkdir(parents=True, exist_ok=True)
    text = f"""
station = "s1"
bundle = "bundle"
ledger = "s1.ledger"
state_dir = "state"
window_s = {window_s}
camera_timeout_s = 0.2
min_free_mb = 1
[[cameras]]
camera = {{ kind = "fake", pictures = "photos" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
{extra}
"""
    (folder / "station.toml").write_text(text)
    return parse_settings(text, folder=folder)


def seal(bundle: Path, text: str) -> None:
    bundle.mkdir(exist_ok=True)
    (bundle / "SHA256SUMS").write_text(text)


def settle(line: Line) -> None:
    """Let the station find what lies at its bundle's place."""
    while line.slot.unsettled:
        line.station.idle()


# --- the state machine


def test_no_way_leads_from_inspecting_to_answering_but_through_the_record() -> None:
    assert FOLLOWS[Step.INSPECTING] == {Step.COMMITTING}
    assert [step for step, following in FOLLOWS.items() if Step.ACKNOWLEDGED in following] == [Step.ANSWERING]
    assert set(FOLLOWS) == set(Step)
    cycle = Cycle()
    cycle.to(Step.ACQUIRING)
    with pytest.raises(ValueError, match="expected one of"):
        cycle.to(Step.ANSWERING)


def test_a_part_goes_only_the_ways_of_the_table_and_each_step_has_its_time() -> None:
    ways = {
        Step.TRIGGERED: (),
        Step.ACQUIRING: (Step.ACQUIRING,),
        Step.INSPECTING: (Step.ACQUIRING, Step.INSPECTING),
        Step.COMMITTING: (Step.COMMITTING,),
        Step.ANSWERING: (Step.ANSWERING,),
        Step.ACKNOWLEDGED: (Step.ANSWERING, Step.ACKNOWLEDGED),
    }
    for before, way in ways.items():
        for after in Step:
            cycle = Cycle()
            for step in way:
                cycle.to(step)
            if after in FOLLOWS[before]:
                cycle.to(after)
                assert cycle.step is after
            else:
                with pytest.raises(ValueError, match=f"after {before}, found {after}"):
                    cycle.to(after)
    clock = iter([10.0, 10.5, 12.0, 15.0])
    cycle = Cycle(clock=lambda: next(clock))
    for step in (Step.ACQUIRING, Step.INSPECTING, Step.COMMITTING):
        cycle.to(step)
    assert cycle.timings_ms == {"acquiring": 1500.0, "inspecting": 3000.0}


def test_an_answer_that_is_no_fault_cannot_exist_without_its_row() -> None:
    with pytest.raises(ValueError, match="expected a recorded verdict"):
        Answer(trigger_id="a", state=State.GO, reason="")
    with pytest.raises(ValueError, match="expected a cause"):
        Answer(trigger_id="a", state=State.FAULT, reason="")


def test_a_good_part_is_on_record_with_its_frame_when_it_is_answered(tmp_path: Path) -> None:
    line = Line(tmp_path)
    answer = line.judge("A1", part="P1", lot="L1")
    assert answer.state is State.GO
    with line.ledger() as ledger:
        row = ledger.find("s1", "A1")
        assert row is not None
        assert (row.seq, row.record.state, row.record.part, row.record.lot) == (answer.row, State.GO, "P1", "L1")
        assert (row.record.go_below, row.record.no_go_above) == (-20.0, 20.0)
        digest = row.record.views[0].frame_sha256
        assert digest is not None
        assert (ledger.frames.load(digest) == part_frame("A1", "main")).all()
    assert set(answer.timings_ms) >= {"acquire", "health", "store", "judge", "acquiring", "inspecting", "committing"}


def test_a_repeated_trigger_gets_the_stored_verdict_and_the_camera_is_left_alone(tmp_path: Path) -> None:
    line = Line(tmp_path, frames={"A1/main": fake_frame(1)})
    first = line.judge("A1")
    line.frames["A1/main"] = fake_frame(2, bad=True)
    again = line.judge("A1")
    assert (again.state, again.row, again.repeated) == (first.state, first.row, True)
    with line.ledger() as ledger:
        assert ledger.count() == 1


@pytest.mark.parametrize("again", [{"part": "P2"}, {"part": "P1", "lot": "L2"}, {"product": "fake"}])
def test_a_used_id_with_another_part_lot_or_product_is_a_fault(tmp_path: Path, again: dict[str, str]) -> None:
    line = Line(tmp_path)
    first = line.judge("A1", part="P1", lot="L1")
    assert first.state is State.GO
    other = line.judge("A1", **again)
    assert (other.state, other.cause, other.part) == (State.FAULT, Cause.REUSED_ID, again.get("part"))
    assert "was already used" in other.reason
    for same in ({"part": "P1", "lot": "L1"}, {"part": "P1"}, {}):
        repeat = line.judge("A1", **same)
        assert (repeat.state, repeat.row, repeat.repeated) == (State.GO, first.row, True)


def test_a_verdict_that_another_station_of_the_name_recorded_first_is_a_fault(tmp_path: Path) -> None:
    line = Line(tmp_path)

    def steal(frame: Frame) -> Verdict:
        if not other:
            other.append(Line(tmp_path / "other", inspect=None))
            with line.ledger() as ledger, other[0].ledger() as theirs:
                other[0].judge("A")
                row = theirs.find("s1", "A")
                assert row is not None
                digest = row.record.views[0].frame_sha256
                assert digest is not None
                ledger.frames.put(theirs.frames.read(digest))
                ledger.append_verdict(row.record)
        return Verdict(state=State.GO, score=-90.0, reason="good")

    other: list[Line] = []
    assert line.slot.model is not None
    line.slot.model = replace(line.slot.model, inspect=steal)
    answer = line.judge("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.REUSED_ID)
    assert line.judge("A").state is State.FAULT


@pytest.mark.parametrize(
    ("mishap", "cause"),
    [
        (Mishap.LOST, Cause.CAMERA_LOST),
        (Mishap.DROP, Cause.NO_FRAME),
        (Mishap.HANG, Cause.CAMERA_LOST),
        (Mishap.CRASH, Cause.CAMERA_LOST),
        (Mishap.FREEZE, Cause.FROZEN),
        (Mishap.DARK, Cause.DARK),
        (Mishap.SATURATED, Cause.SATURATED),
        (Mishap.BLURRED, Cause.BLURRED),
    ],
)
def test_every_failure_of_the_camera_is_a_recorded_fault_and_the_next_part_is_judged(
    tmp_path: Path, mishap: Mishap, cause: Cause
) -> None:
    line = Line(tmp_path, mishaps={"bad/main": mishap})
    line.judge("before")
    answer = line.judge("bad")
    assert (answer.state, answer.cause) == (State.FAULT, cause)
    assert answer.row is not None
    if mishap is Mishap.HANG:
        assert line.judge("while it hangs").cause is Cause.CAMERA_LOST
        time.sleep(0.6)
    assert line.judge("after").state is State.GO


def test_the_worst_view_decides_and_all_views_are_on_record(tmp_path: Path) -> None:
    line = Line(tmp_path, views=("top", "side"), frames={"A/side": fake_frame(1, bad=True)})
    assert line.judge("A").state is State.NO_GO
    line.mishaps["B/side"] = Mishap.DROP
    answer = line.judge("B")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.NO_FRAME)
    with line.ledger() as ledger:
        for trigger_id, states in (("A", [State.GO, State.NO_GO]), ("B", [State.FAULT, State.FAULT])):
            row = ledger.find("s1", trigger_id)
            assert row is not None
            assert [view.name for view in row.record.views] == ["top", "side"]
            assert [view.state for view in row.record.views] == states


def test_a_network_that_raises_is_a_fault(tmp_path: Path) -> None:
    def fail(_: Frame) -> Verdict:
        raise MemoryError("out of memory")

    answer = Line(tmp_path, inspect=fail).judge("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.INSPECTOR)
    assert "out of memory" in answer.reason


def test_a_judgement_after_its_window_is_recorded_as_late_and_answered_as_a_fault(tmp_path: Path) -> None:
    def slow(frame: Frame) -> Verdict:
        time.sleep(0.4)
        return Verdict(state=State.GO, score=-90.0, reason="good")

    line = Line(tmp_path, inspect=slow, window_s=0.4)
    answer = line.judge("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.LATE)
    with line.ledger() as ledger:
        row = ledger.find("s1", "A")
        assert row is not None
        assert row.record.late
        assert row.record.views[0].state is State.GO
    assert line.judge("A").state is State.FAULT


def test_a_product_that_the_bundle_does_not_judge_is_a_fault(tmp_path: Path) -> None:
    line = Line(tmp_path)
    assert line.judge("A", product="another").cause is Cause.MODEL
    assert line.judge("B", product="fake").state is State.GO


def test_a_disk_with_too_little_space_makes_every_part_a_recorded_fault(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.station.settings = line.settings.model_copy(update={"min_free_mb": 10**12})
    answer = line.judge("A")
    assert (answer.cause, answer.row is not None) == (Cause.DISK_FULL, True)


def test_a_ledger_that_cannot_be_written_makes_every_part_a_fault_until_it_can(tmp_path: Path) -> None:
    line = Line(tmp_path)
    other = apsw.Connection(str(line.settings.ledger))
    other.execute("BEGIN IMMEDIATE")
    blocked = line.judge("A")
    assert (blocked.state, blocked.cause, blocked.row) == (State.FAULT, Cause.LEDGER, None)
    other.execute("ROLLBACK")
    other.close()
    assert line.judge("B").state is State.GO


def test_a_ledger_that_is_moved_away_is_a_fault_and_no_new_one_is_begun(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A")
    away = tmp_path / "away"
    line.settings.ledger.rename(away)
    assert (line.judge("B").cause, line.settings.ledger.exists()) == (Cause.LEDGER, False)
    away.rename(line.settings.ledger)
    assert line.judge("B").state is State.GO
    assert not verify(line.settings.ledger)


def test_a_ledger_that_is_not_the_stations_own_is_a_fault_even_after_a_restart(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.judge("A")
    line.station.close()
    away = tmp_path / "away"
    line.settings.ledger.rename(away)
    line.station.close()
    again = Line(tmp_path)
    assert (again.judge("B").cause, line.settings.ledger.exists()) == (Cause.LEDGER, False)
    Ledger.open(line.settings.ledger).close()
    another = again.judge("C")
    assert (another.cause, "found another one" in another.reason) == (Cause.LEDGER, True)
    away.rename(line.settings.ledger)
    assert again.judge("A").repeated
    assert again.judge("B").state is State.GO


def test_a_camera_that_froze_has_not_thawed_because_the_worker_was_started_anew(tmp_path: Path) -> None:
    frozen = fake_frame(5)
    line = Line(tmp_path, frames={f"{name}/main": frozen for name in "AB"})
    assert line.judge("A").state is State.GO
    line.station.close()
    again = Line(tmp_path, frames=line.frames)
    assert again.judge("B").cause is Cause.FROZEN
    assert again.judge("C").state is State.GO


class Pushing(FakeCamera):
    """A camera that gives pictures without being asked, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(lambda trigger_id: part_frame(trigger_id, "main"))
        self.expected: list[tuple[str, float, float]] = []
        self.faults_s: list[float] = []
        self.settled: list[tuple[str, bool]] = []
        self.matcher = SimpleNamespace(
            expect=lambda name, *, came_s, window_s: self.expected.append((name, came_s, window_s)),
            faulted=self.faults_s.append,
            counts=lambda: {},
        )

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        self.settled.append((trigger_id, stored))


def test_a_camera_that_gives_pictures_unasked_hears_of_each_trigger_and_of_each_new_fault(tmp_path: Path) -> None:
    camera = Pushing()
    line = Line(tmp_path, cameras={"main": camera})
    assert line.judge("A").state is State.GO
    line.station.expect("later", 5.0)
    assert camera.expected[-1] == ("later", 5.0, line.settings.camera_timeout_s)
    assert camera.faults_s == []
    before_s = time.monotonic()
    line.station.settings = line.settings.model_copy(update={"min_free_mb": 10**12})
    for repeated in (False, True):
        answer = line.judge("B")
        assert (answer.cause, answer.repeated) == (Cause.DISK_FULL, repeated)
    [fault_s] = camera.faults_s
    assert before_s <= fault_s <= time.monotonic()


def test_a_picture_that_comes_with_a_repeat_is_done_with_and_that_of_another_part_is_not(tmp_path: Path) -> None:
    camera = Pushing()
    line = Line(tmp_path, cameras={"main": camera})
    line.judge("A", part="P1")
    assert line.judge("A", part="P1").repeated
    assert line.judge("A", part="P2").cause is Cause.REUSED_ID
    line.judge("B")  # the camera has done before what came before
    assert [each for each in camera.settled if each[0] == "A"] == [("A", True), ("A", True)]


@pytest.mark.parametrize(("error", "cause"), [(errno.EIO, Cause.LEDGER), (errno.ENOSPC, Cause.DISK_FULL)])
def test_a_part_whose_duplicates_cannot_be_looked_for_is_a_recorded_fault_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, cause: Cause
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    coded = Verdict(state=State.GO, score=-90.0, reason="good", identity=PartIdentity(codes=("S1",), serial="S1"))
    line = Line(tmp_path, inspect=lambda _: coded)
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "verdicts", fail)
        answer = line.judge("A")
    assert (answer.state, answer.cause, answer.row is not None) == (State.FAULT, cause, True)
    assert "cannot be asked for a duplicate" in answer.reason
    assert line.judge("B").state is State.GO


def test_a_fault_raised_outside_is_recorded_once_and_never_over_a_verdict(tmp_path: Path) -> None:
    line = Line(tmp_path)
    trigger = Trigger(id="A", at=NOW, due_s=0.0)
    first = line.station.record_fault(trigger, Cause.OVERRUN, "too many", answered=True)
    assert (first.cause, line.station.record_fault(trigger, Cause.LATE, "x", answered=True).row) == (
        Cause.OVERRUN,
        first.row,
    )
    good = line.judge("B")
    unanswered = line.station.record_fault(replace(trigger, id="B"), Cause.PROCESS, "died", answered=False)
    assert (unanswered.state, unanswered.row) == (State.GO, good.row)
    line.station.record_fault(replace(trigger, id="B"), Cause.PROCESS, "died", answered=True)
    again = line.judge("B")
    assert (again.state, again.cause, again.row) == (State.FAULT, Cause.PROCESS, good.row)
    with line.ledger() as ledger:
        assert [row.record.about for row in ledger.actions(Where(action=ANSWERED_FAULT))] == [good.row]
        assert ledger.count() == 2


# --- bundles


def test_a_new_bundle_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    line = Line(tmp_path)
    before = line.slot.model
    seal(line.bundle, "broken")
    settle(line)
    assert line.slot.model is before
    assert "broken" in line.slot.trouble
    assert line.judge("A").state is State.GO
    seal(line.bundle, "two")
    settle(line)
    assert line.slot.model is not before
    assert line.slot.trouble == ""
    with line.ledger() as ledger:
        actions = [row.record.action for row in ledger.actions()]
    assert actions == ["started", "bundle_refused", "bundle_swapped"]


def test_the_bundle_may_be_a_link_or_a_file_with_its_path(tmp_path: Path) -> None:
    for number in (1, 2):
        seal(tmp_path / f"b{number}", f"bundle {number}")
    link, pointer = tmp_path / "link", tmp_path / "pointer"
    link.symlink_to("b1")
    pointer.write_text("b1\n")
    slots = [ModelSlot(place, tmp_path / f"{place.name}-copies", loader=fake_model) for place in (link, pointer)]
    for slot in slots:
        slot.start()
    first = {slot.model.sha256 for slot in slots if slot.model}
    link.unlink()
    link.symlink_to("b2")
    pointer.write_text("b2\n")
    for slot in slots:
        while slot.unsettled:
            slot.poll()
    second = {slot.model.sha256 for slot in slots if slot.model}
    assert len(first) == len(second) == 1
    assert first != second


def test_a_station_starts_with_its_last_good_bundle_when_the_present_one_is_broken(tmp_path: Path) -> None:
    seal(tmp_path / "bundle", "good")
    ModelSlot(tmp_path / "bundle", tmp_path / "copies", loader=fake_model).start()
    seal(tmp_path / "bundle", "broken")
    slot = ModelSlot(tmp_path / "bundle", tmp_path / "copies", loader=fake_model)
    swap = slot.start()
    assert slot.model is not None
    assert slot.model.path.parent == tmp_path / "copies"
    assert "broken" in swap.refused


def test_a_bundle_other_than_the_one_named_in_the_settings_never_judges(tmp_path: Path) -> None:
    seal(tmp_path / "bundle", "good")
    slot = ModelSlot(tmp_path / "bundle", tmp_path / "copies", only_sha256="0" * 64, loader=fake_model)
    assert "expected bundle 000" in slot.start().refused
    assert slot.model is None


def test_a_damaged_copy_with_the_same_seal_does_not_stand_in_the_way_of_the_good_one(tmp_path: Path) -> None:
    good = write_fake_bundle(tmp_path / "good").root
    shutil.copytree(good, tmp_path / "damaged")
    (tmp_path / "damaged" / "classifier.bin").write_bytes(b"?")
    (tmp_path / "pointer").write_text("damaged")
    slot = ModelSlot(tmp_path / "pointer", tmp_path / "copies")
    assert "changed after it was sealed" in slot.start().refused
    (tmp_path / "pointer").write_text("good")
    while slot.unsettled:
        slot.poll()
    assert slot.model is not None
    assert slot.model.inspect(fake_frame(1)).state is State.GO
    assert slot.model.inspect(fake_frame(1, bad=True)).state is State.NO_GO


def test_a_loader_that_fails_in_an_unknown_way_leaves_the_bundle_in_use(tmp_path: Path) -> None:
    def load(path: Path) -> LoadedBundle:
        if (path / "SHA256SUMS").read_text() == "odd":
            raise RuntimeError("something in the runtime")
        return fake_model(path)

    seal(tmp_path / "bundle", "good")
    slot = ModelSlot(tmp_path / "bundle", tmp_path / "copies", loader=load)
    slot.start()
    seal(tmp_path / "bundle", "odd")
    while slot.unsettled:
        slot.poll()
    assert (slot.model is not None, slot.trouble) == (True, "something in the runtime")


# --- known bad parts

CHALLENGED = '[challenge]\nevery_s = 3600.0\ngrace_s = 600.0\nparts = ["CHALLENGE-*"]\n'


def test_a_known_bad_part_that_passes_stops_every_go_until_a_person_acknowledges(tmp_path: Path) -> None:
    line = Line(tmp_path, extra=CHALLENGED, frames={"C2/main": fake_frame(5)})
    line.frames["C1/main"] = fake_frame(4, bad=True)
    assert line.judge("C1", part="CHALLENGE-1").state is State.NO_GO
    assert line.judge("A").state is State.GO
    failed = line.judge("C2", part="CHALLENGE-1")
    assert (failed.state, failed.cause) == (State.FAULT, Cause.CHALLENGE)
    held = line.judge("B")
    assert (held.state, held.cause) == (State.FAULT, Cause.CHALLENGE)
    line.frames["D/main"] = fake_frame(6, bad=True)
    assert line.judge("D").state is State.NO_GO
    line.station.close()
    again = Line(tmp_path, extra=CHALLENGED, moment=datetime.now(UTC))
    again.station.idle()
    assert again.judge("E").cause is Cause.CHALLENGE
    result = CliRunner().invoke(app, ["station", "acknowledge", str(tmp_path / "station.toml"), "--who", "anna"])
    assert result.exit_code == 0, result.output
    again.station.idle()
    assert again.judge("F").state is State.GO
    with line.ledger() as ledger:
        tests = [row.record.details for row in ledger.actions(Where(action=CHALLENGE))]
        assert [(test["part"], test["passed"]) for test in tests] == [("CHALLENGE-1", True), ("CHALLENGE-1", False)]
        assert [row.record.who for row in ledger.actions(Where(action=ACKNOWLEDGE))] == ["anna"]


def test_an_overdue_test_stops_every_go_and_a_passed_one_lets_parts_through_again(tmp_path: Path) -> None:
    line = Line(tmp_path, extra=CHALLENGED)
    assert line.judge("A").state is State.GO
    line.moment += timedelta(seconds=4201)
    assert line.judge("B").cause is Cause.CHALLENGE
    line.station.close()
    again = Line(tmp_path, extra=CHALLENGED, moment=line.moment, frames={"C/main": fake_frame(4, bad=True)})
    again.station.idle()
    assert again.judge("C", part="CHALLENGE-7").state is State.NO_GO
    assert again.judge("D").state is State.GO


def test_a_restart_does_not_put_off_the_next_test(tmp_path: Path) -> None:
    line = Line(tmp_path, extra=CHALLENGED, frames={"C/main": fake_frame(4, bad=True)})
    line.judge("C", part="CHALLENGE-7")
    line.station.close()
    again = Line(tmp_path, extra=CHALLENGED, moment=NOW + timedelta(seconds=4201))
    again.station.idle()
    assert again.judge("A").cause is Cause.CHALLENGE


def test_a_clock_that_is_set_back_does_not_put_off_the_next_test(tmp_path: Path) -> None:
    line = Line(
        tmp_path, extra=CHALLENGED, frames={f"C{number}/main": fake_frame(number, bad=True) for number in (1, 2)}
    )
    line.judge("C1", part="CHALLENGE-7")
    line.moment -= timedelta(days=1)
    held = line.judge("A")
    assert (held.cause, "the clock was set back" in held.reason) == (Cause.CHALLENGE, True)
    assert line.judge("C2", part="CHALLENGE-7").state is State.NO_GO
    assert line.judge("B").state is State.GO


def test_the_self_test_recovers_from_a_clock_that_is_set_back(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "bad.png").write_bytes(images.encode_png(fake_frame(1, bad=True)))
    line = Line(tmp_path, extra='[challenge]\nevery_s = 3600.0\ngrace_s = 600.0\npictures = "known"\n')
    moment = [line.moment]

    def tick() -> datetime:
        moment[0] += timedelta(microseconds=1)
        return moment[0]

    assert line.station.challenges is not None
    line.station.challenges._now = tick  # a clock that goes on between two looks at it
    line.moment -= timedelta(days=1)
    moment[0] = line.moment
    assert line.judge("A").cause is Cause.CHALLENGE
    line.station.idle()
    assert line.judge("B").state is State.GO


def test_pictures_of_known_bad_parts_are_judged_by_the_station_itself_when_due(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "bad.png").write_bytes(images.encode_png(fake_frame(1, bad=True)))
    line = Line(tmp_path, extra='[challenge]\nevery_s = 60.0\npictures = "known"\n')
    line.station.idle()
    line.moment += timedelta(seconds=61)
    line.station.idle()
    with line.ledger() as ledger:
        tests = [row.record.details for row in ledger.actions(Where(action=CHALLENGE))]
    assert [(test["part"], test["passed"]) for test in tests] == [("bad.png", True)]


# --- the supervisor, with a real worker process


@pytest.fixture
def tormented(tmp_path: Path) -> StationSettings:
    return settings_for(tmp_path / "line", window_s=0.8)


@pytest.mark.slow
def test_what_is_noted_last_is_on_record_when_a_station_has_stopped(tormented: StationSettings) -> None:
    with station_bench(tormented) as line:
        line.ready()
        line.plc.fire(line.supervisor.submit, "part-1")
        answer = line.plc.wait("part-1")
        for number in range(5):
            line.supervisor.undelivered(answer, f"cable {number}")
    with Ledger.open(tormented.ledger, create=False) as ledger:
        noted = [row.record.details["why"] for row in ledger.actions(Where(action="undelivered"))]
    assert noted == [f"cable {number}" for number in range(5)]


def test_the_gate_answers_repeats_overruns_and_deaths_and_everything_ends_on_record(
    tormented: StationSettings,
) -> None:
    with station_bench(tormented) as line:
        line.ready()
        fire, wait = (lambda name: line.plc.fire(line.supervisor.submit, name)), line.plc.wait
        fire("part-1")
        first = wait("part-1")
        fire("part-1")
        assert (wait("part-1", answers=2).repeated, wait("part-1").state) == (True, State.GO)
        fire("process-kill-1")
        fire("part-2")
        died = wait("process-kill-1")
        assert (died.state, died.cause) == (State.FAULT, Cause.PROCESS)
        fire("part-1")  # while the worker is away
        assert wait("part-1", answers=3).row == first.row
        line.ready()
        for number in range(30):
            fire(f"burst-{number}")
        answers = [wait(f"burst-{number}") for number in range(30)]
        overruns = [answer for answer in answers if answer.cause is Cause.OVERRUN]
        assert len(overruns) >= 30 - tormented.queue - 5
        assert all(answer.state is State.GO for answer in answers if answer.cause is None)
    status = read_station_status(tormented.state_dir)
    assert status is not None
    assert (status["health"], status["unrecorded"], status["events"]["restarts"]) == ("stopped", 0, 1)
    with Ledger.open(tormented.ledger, create=False) as ledger:
        assert ledger.count() == 33
        assert ledger.count(Where(cause="overrun")) == len(overruns)
        assert [row.record.action for row in ledger.actions(Where(action="worker_restarted"))]
    assert not verify(tormented.ledger)


def test_a_worker_that_stalls_is_killed_and_the_line_has_its_fault_long_before(tmp_path: Path) -> None:
    tormented = settings_for(tmp_path / "line", window_s=0.4, stall_s=0.6)
    with station_bench(tormented) as line:
        line.ready()
        line.plc.fire(line.supervisor.submit, "process-hang-1")
        assert line.plc.wait("process-hang-1").state is State.FAULT
        assert line.supervisor.metrics.events["stalls"] == 0
        line.plc.fire(line.supervisor.submit, "process-hang-1")
        while line.supervisor.metrics.events["restarts"] == 0:
            time.sleep(0.01)
        line.ready()
        line.plc.fire(line.supervisor.submit, "part-1")
        assert line.plc.wait("part-1", timeout_s=5).trigger_id == "part-1"
    with Ledger.open(tormented.ledger, create=False) as ledger:
        row = ledger.find("chaos", "process-hang-1")
    owed = [owed.trigger.id for owed in Backlog(tormented.state_dir / "unrecorded.jsonl")]
    assert "process-hang-1" in owed or (row is not None and row.record.state is State.FAULT)


def test_a_worker_that_never_lives_makes_every_part_a_fault_and_the_station_says_so(tmp_path: Path) -> None:
    quiet = settings(tmp_path, extra="[watchdog]\nrestarts = 2\nwithin_s = 60.0\n")
    plc = FakePlc()
    supervisor = Supervisor(quiet, [sys.executable, "-c", "raise SystemExit(3)"], plc.send)
    supervisor.start()
    while supervisor.health is not Health.DOWN:
        time.sleep(0.01)
    plc.fire(supervisor.submit, "A")
    answer = plc.wait("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.PROCESS)
    assert "keeps crashing" in answer.reason
    supervisor.stop()
    assert len(Backlog(quiet.state_dir / "unrecorded.jsonl")) == 1


def test_what_an_earlier_run_answered_but_could_not_record_is_recorded_by_the_next(tmp_path: Path) -> None:
    tormented = settings_for(tmp_path / "line")
    tormented.state_dir.mkdir()
    trigger = Trigger(id="A", at=NOW, due_s=0.0)
    Backlog(tormented.state_dir / "unrecorded.jsonl").add(
        Owed(trigger=trigger, cause=Cause.PROCESS, reason="died", answered=True)
    )
    with station_bench(tormented) as line:
        line.plc.fire(line.supervisor.submit, "A")
        answer = line.plc.wait("A")
        assert (answer.state, answer.repeated) == (State.FAULT, True)
        line.ready()
    with Ledger.open(tormented.ledger, create=False) as ledger:
        row = ledger.find("chaos", "A")
        assert row is not None
        assert row.record.cause == "process"
    assert not (tormented.state_dir / "unrecorded.jsonl").exists()


def test_a_backlog_cut_off_in_the_middle_of_a_line_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "unrecorded.jsonl"
    owed = Owed(trigger=Trigger(id="A", at=NOW, due_s=0.0), cause=Cause.LATE, reason="r", answered=True)
    Backlog(path).add(owed)
    with path.open("a") as file:
        file.write('{"trigger": {"id": "B"')
    assert list(Backlog(path)) == [owed]


def test_a_line_cut_off_by_a_full_disk_does_not_take_the_next_one_along(tmp_path: Path) -> None:
    path = tmp_path / "unrecorded.jsonl"
    path.write_text('{"trigger": {"id": "B"')
    owed = Owed(trigger=Trigger(id="A", at=NOW, due_s=0.0), cause=Cause.LATE, reason="r", answered=True)
    Backlog(path).add(owed)
    assert list(Backlog(path)) == [owed]


def test_the_restart_budget_is_a_sliding_window() -> None:
    clock = [0.0]
    budget = RestartBudget(2, 10.0, clock=lambda: clock[0])
    budget.spend()
    clock[0] = 4.0
    budget.spend()
    assert not budget.allows()
    clock[0] = 10.0
    assert budget.allows()


@dataclass
class Gate:
    """A queue of triggers without a worker: what it sends, notes and counts."""

    folder: Path
    limit: int = 8
    sent: list[Answer] = field(default_factory=list)
    notes: list[tuple[str, object]] = field(default_factory=list)
    faults: int = 0

    def __post_init__(self) -> None:
        self.metrics = Metrics("s1")
        self.settings = settings_for(self.folder, window_s=60.0, queue=self.limit, stall_s=90.0)
        self.settings.state_dir.mkdir(exist_ok=True)
        self.queue = TriggerQueue(
            self.settings,
            self.metrics,
            send=self.sent.append,
            on_fault=self._fault,
            note=lambda name, details: self.notes.append((name, details)),
        )

    def _fault(self) -> None:
        self.faults += 1

    def come(self, name: str, *, left_s: float = 60.0, **more: object) -> list[Answer]:
        """A new trigger; what its own reply hears."""
        heard: list[Answer] = []
        now_s = time.monotonic()
        trigger = Trigger(id=name, part=f"part {name}", at=NOW, due_s=now_s + left_s)
        self.queue.add(trigger, now_s, [heard.append], **{"down": False, **more})  # type: ignore[arg-type]
        return heard

    def again(self, name: str, **changes: str) -> list[Answer] | None:
        """The trigger once more: what its reply hears; ``None`` if it is no repeat."""
        heard: list[Answer] = []
        trigger = Trigger(id=name, **{"part": f"part {name}", **changes}, at=NOW, due_s=time.monotonic() + 60.0)
        return heard if self.queue.answer_repeat(trigger, time.monotonic(), [heard.append]) else None

    def verdict(self, name: str, state: State = State.GO, **changes: object) -> Answer:
        return Answer(**{"trigger_id": name, "state": state, "reason": "seen", "row": 7, **changes})  # type: ignore[arg-type]

    def said(self) -> list[tuple[str, State, Cause | None, bool]]:
        """What was sent since the last look."""
        found = [(each.trigger_id, each.state, each.cause, each.repeated) for each in self.sent]
        self.sent.clear()
        return found


def test_a_part_is_queued_or_answered_at_once_with_the_reason(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line", limit=2)
    for name, options in (("stopped", {"stopped": "belt"}), ("down", {"down": True}), ("a", {}), ("b", {})):
        gate.come(name, **options)
    assert gate.said() == [
        ("stopped", State.FAULT, Cause.LINE_STOPPED, False),
        ("down", State.FAULT, Cause.PROCESS, False),
    ]
    gate.come("c", stopped="belt", down=True)
    assert gate.said() == [("c", State.FAULT, Cause.OVERRUN, False)]
    assert (gate.queue.waiting, [each.id for each in gate.queue.waiting_triggers]) == (2, ["a", "b"])
    assert (gate.metrics.events["overruns"], gate.faults, len(gate.queue.backlog)) == (1, 3, 3)
    assert (gate.queue.has_unanswered, gate.queue.has_unrecorded, gate.queue.reused) == (True, True, "")
    assert gate.queue.take().trigger.id == "a"
    assert gate.queue.waiting == 1


def test_windows_close_in_order_each_with_what_went_wrong(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line")
    assert gate.queue.left_s(5.0) == 5.0
    heard = [gate.come("held", left_s=-2.0), gate.come("waits", left_s=-1.0), gate.come("young", left_s=40.0)]
    held = gate.queue.take()
    assert gate.queue.left_s(5.0) == 0.0
    gate.queue.close_windows(in_hand=held, worker_ready=True)
    assert [(each.trigger_id, each.cause, each.reason) for each in gate.sent] == [
        ("held", Cause.LATE, "no verdict within 60 s"),
        ("waits", Cause.LATE, "still waiting after 60 s"),
    ]
    assert [len(each) for each in heard] == [1, 1, 0]
    assert gate.queue.waiting_triggers[0].id == "young"
    assert gate.queue.waiting == 1, "a part that was answered is not judged any more"
    assert gate.queue.left_s(5.0) == 5.0
    assert 5.0 < gate.queue.left_s(500.0) <= 40.0
    gate.sent.clear()
    gate.come("alone", left_s=-1.0)
    gate.queue.close_windows(in_hand=None, worker_ready=False)
    assert gate.said() == [], "windows close in the order in which they were opened"
    gate.queue.judged(gate.queue.take(), gate.verdict("young"), contested=False)
    gate.queue.close_windows(in_hand=None, worker_ready=False)
    assert gate.said() == [("young", State.GO, None, False), ("alone", State.FAULT, Cause.PROCESS, False)]
    gate.queue.judged(held, gate.verdict("held"), contested=False)
    assert gate.said() == [], "its fault stands"


def test_a_verdict_goes_to_the_line_unless_it_is_late_unrecorded_stopped_or_contested(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line", limit=20)
    fault_row = {"state": State.FAULT, "cause": Cause.NO_FRAME}
    for name, left_s, answer, options, expected in (
        ("go", 60.0, {}, {}, (State.GO, None)),
        ("no-go", 60.0, {"state": State.NO_GO}, {}, (State.NO_GO, None)),
        ("late", -1.0, {}, {}, (State.FAULT, Cause.LATE)),
        ("late fault", -1.0, fault_row, {}, (State.FAULT, Cause.NO_FRAME)),
        ("unrecorded", 60.0, {**fault_row, "row": None}, {}, (State.FAULT, Cause.NO_FRAME)),
        ("stopped", 60.0, {}, {"stopped": "belt"}, (State.FAULT, Cause.LINE_STOPPED)),
        ("stopped fault", 60.0, fault_row, {"stopped": "belt"}, (State.FAULT, Cause.NO_FRAME)),
        ("contested", 60.0, {}, {"contested": True}, (State.FAULT, Cause.UNMATCHED)),
        ("contested fault", 60.0, fault_row, {"contested": True}, (State.FAULT, Cause.NO_FRAME)),
    ):
        heard = gate.come(name, left_s=left_s)
        before = len(gate.queue.backlog)
        answer = gate.verdict(name, **answer)
        gate.queue.judged(gate.queue.take(), answer, **{"contested": False, **options})  # type: ignore[arg-type]
        assert gate.said() == [(name, *expected, False)], name
        assert [each.state for each in heard] == [expected[0]]
        owed = (answer.state, answer.cause, answer.row) != (*expected, 7)
        assert len(gate.queue.backlog) == before + owed, "a fault of the gate's own is recorded later"
    assert not gate.queue.has_unanswered
    assert gate.metrics.events["reused_ids"] == 0


def test_an_id_that_the_ledger_knows_of_another_part_raises_the_alarm_and_is_not_repeated_as_an_answer(
    tmp_path: Path,
) -> None:
    gate = Gate(tmp_path / "line")
    gate.come("a")
    answer = gate.verdict("a", State.FAULT, cause=Cause.REUSED_ID, reason="id a was used in row 3")
    gate.queue.judged(gate.queue.take(), answer, contested=False)
    assert gate.said() == [("a", State.FAULT, Cause.REUSED_ID, False)]
    assert gate.queue.reused.endswith("id a was used in row 3")
    assert gate.metrics.events["reused_ids"] == 1
    assert gate.again("a") is None, "the next trigger of this id is judged anew, by the ledger"


def test_a_repeat_gets_the_first_answer_and_another_part_of_that_id_gets_a_fault(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line")
    assert gate.again("a") is None
    gate.come("a")
    waits = gate.again("a")
    assert (waits, gate.said(), gate.metrics.events["repeats"]) == ([], [], 1)
    gate.queue.judged(gate.queue.take(), gate.verdict("a"), contested=False)
    assert [each.state for each in waits or ()] == [State.GO]
    assert gate.said() == [("a", State.GO, None, False)]
    assert [each.repeated for each in gate.again("a") or ()] == [True]
    assert gate.said() == [("a", State.GO, None, True)]
    assert (gate.queue.reused, gate.notes, gate.faults) == ("", [], 0)

    assert [each.cause for each in gate.again("a", part="other") or ()] == [Cause.REUSED_ID]
    assert gate.said() == [("a", State.FAULT, Cause.REUSED_ID, False)]
    assert "id a was already used: part part a, now other" in gate.queue.reused
    ((name, details),) = gate.notes
    assert name == "reused_id"
    assert details["part"] == "other"  # type: ignore[index]
    assert gate.metrics.events["reused_ids"] == 1
    assert len(gate.queue.backlog) == 0, "the first part of that id keeps its verdict"

    first = gate.come("b")
    gate.again("b", part="other")
    assert gate.said() == [("b", State.FAULT, Cause.REUSED_ID, False)] * 2
    assert [each.cause for each in first] == [Cause.REUSED_ID], "two parts in progress: neither may pass"
    assert (gate.queue.waiting, len(gate.queue.backlog)) == (0, 1)
    gate.again("b", part="third")
    assert len(gate.said()) == 1, "the first part was answered already"


def test_a_fault_is_recorded_and_its_answer_is_remembered(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line")
    assert gate.queue.next_record() is None
    gate.come("down", down=True)
    heard = gate.come("died")
    gate.queue.died_with(gate.queue.take(), "the worker died")
    assert (heard, [each[0] for each in gate.said()]) == ([], ["down"]), "its verdict may be on record already"
    job = gate.queue.next_record()
    assert job is not None
    assert (job.trigger.id, job.cause, job.answered) == ("down", Cause.PROCESS, True)
    failed = gate.verdict("down", state=State.FAULT, cause=Cause.LEDGER, row=None)
    assert not gate.queue.fault_recorded(failed)
    job = gate.queue.next_record()
    assert job is not None
    assert (job.trigger.id, job.reason, job.answered) == ("died", "the worker died", False)
    stored = gate.verdict("died", repeated=True)
    assert gate.queue.fault_recorded(stored)
    assert gate.said() == [("died", State.GO, None, False)], "the ledger had its verdict"
    assert [each.state for each in heard] == [State.GO]
    assert gate.queue.fault_recorded(gate.verdict("down", state=State.FAULT, cause=Cause.PROCESS))
    assert gate.said() == []
    assert not gate.queue.has_unrecorded
    assert gate.queue.next_record() is None


def test_a_fault_that_kills_workers_is_set_aside_at_once_or_after_three_kills(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line")
    for name in ("crashes", "killed"):
        gate.come(name)
        gate.queue.died_with(gate.queue.take(), "the worker died")
    gate.queue.recording_killed_worker(crashed=True)
    assert gate.said() == [("crashes", State.FAULT, Cause.PROCESS, False)]
    assert [each.repeated for each in gate.again("crashes") or ()] == [True]
    for _ in range(2):
        gate.queue.recording_killed_worker(crashed=False)
        assert len(gate.queue.backlog) == 1
    gate.sent.clear()
    gate.queue.recording_killed_worker(crashed=False)
    assert gate.said() == [("killed", State.FAULT, Cause.PROCESS, False)]
    assert (len(gate.queue.backlog), gate.queue.backlog.set_aside, gate.queue.has_unanswered) == (0, 2, False)
    gate.come("answered", down=True)
    gate.sent.clear()
    gate.queue.set_aside()
    assert gate.said() == []


def test_a_verdict_that_the_line_did_not_take_in_time_is_a_fault_for_ever(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "line")
    for name, answer in (("go", {}), ("fault", {"state": State.FAULT, "cause": Cause.NO_FRAME})):
        gate.come(name)
        gate.queue.judged(gate.queue.take(), gate.verdict(name, **answer), contested=False)
    for name in ("go", "fault", "unknown", "go"):
        gate.queue.expire(name, "the handshake was over")
    assert [(each.trigger.id, each.cause, each.answered) for each in gate.queue.backlog] == [("go", Cause.LATE, True)]
    gate.sent.clear()
    gate.again("go")
    gate.again("fault")
    assert gate.said() == [("go", State.FAULT, Cause.LATE, True), ("fault", State.FAULT, Cause.NO_FRAME, True)]


def test_faults_of_an_earlier_run_stay_faults_and_the_oldest_answers_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gate(tmp_path / "line").come("old", down=True)
    gate = Gate(tmp_path / "line")
    assert gate.queue.has_unrecorded
    assert not gate.queue.has_unanswered
    assert [each.cause for each in gate.again("old") or ()] == [Cause.PROCESS]
    monkeypatch.setattr(trigger_queue, "_REMEMBERED", 2)
    for name in ("a", "b", "c"):
        gate.come(name)
        gate.queue.judged(gate.queue.take(), gate.verdict(name), contested=False)
    assert [gate.again(name) is None for name in ("a", "b", "c")] == [True, False, False]


def test_a_full_backlog_is_counted_and_no_part_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_MOST", 1)
    gate = Gate(tmp_path / "line")
    gate.come("a", down=True)
    gate.come("b", down=True)
    assert gate.said() == [("a", State.FAULT, Cause.PROCESS, False), ("b", State.FAULT, Cause.PROCESS, False)]
    assert (len(gate.queue.backlog), gate.queue.backlog.lost) == (1, 1)
    assert gate.again("b") is None, "of what is not kept nothing is known"


# --- what becomes of a judgement


def test_a_record_takes_names_from_the_trigger_first_then_from_the_code(tmp_path: Path) -> None:
    seal_folder = tmp_path / "bundle"
    seal(seal_folder, "one")
    model = fake_model(seal_folder)
    code = PartIdentity(part="P2", lot="L2", product="cap", serial="S2", codes=("one", "two"))
    judged = Outcome(state=State.REVIEW, reason="seen", cause=None, model=model, product="lid", identity=code)
    full = Trigger(id="a", part="P1", lot="L1", product="box", at=NOW, due_s=0.0)
    bare = Trigger(id="a", at=NOW, due_s=0.0)

    def named(trigger: Trigger, outcome: Outcome) -> tuple[object, ...]:
        found = record_of(trigger, outcome, station="s1", timings_ms={"a": 1.0})
        return found.part, found.lot, found.product, found.serial, found.codes

    assert named(full, judged) == ("P1", "L1", "box", "S2", ("one", "two"))
    assert named(bare, judged) == ("P2", "L2", "lid", "S2", ("one", "two"))
    assert named(bare, replace(judged, product=None)) == ("P2", "L2", "cap", "S2", ("one", "two"))
    assert named(bare, replace(judged, product=None, identity=None)) == (None, None, None, None, ())
    assert judged.part_of(full) == "P1"
    assert judged.part_of(bare) == "P2"
    assert replace(judged, identity=None).part_of(bare) is None
    found = record_of(bare, judged, station="s1", timings_ms={"a": 1.0})
    assert (found.bundle_sha256, found.device, found.bundle) == (model.sha256, model.device, str(model.path))
    assert (found.go_below, found.no_go_above, found.timings_ms) == (model.go_below, model.no_go_above, {"a": 1.0})
    nothing = record_of(bare, Outcome(state=State.FAULT, reason="x", cause=Cause.LATE), station="s1", timings_ms={})
    assert (nothing.bundle_sha256, nothing.device, nothing.cause, nothing.score) == (None, "", "late", None)


def test_a_row_about_a_bundle_says_what_was_done_and_who_signed_it(tmp_path: Path) -> None:
    signature = Signature(key_id="k", signer="anna", signed=NOW, revoked=True)
    of = settings(tmp_path / "line")
    for refused, at_start, action in (
        ("", True, "started"),
        ("", False, "bundle_swapped"),
        ("odd", True, "bundle_refused"),
        ("odd", False, "bundle_refused"),
    ):
        found = swap_action(Swap(before="a", after="b", refused=refused), of, at_start=at_start)
        assert (found.action, found.who, found.details["refused"]) == (action, "s1", refused)
        assert ("settings_sha256" in found.details) is at_start
        assert "signed_by" not in found.details
    signed = swap_action(Swap(before=None, after="b", refused="", signature=signature), of, at_start=False).details
    assert {name: signed[name] for name in ("before", "after", "signed_by", "key_id", "key_revoked")} == {
        "before": None, "after": "b", "signed_by": "anna", "key_id": "k", "key_revoked": True,
    }  # fmt: skip


def test_the_slowest_camera_gives_each_stage_and_the_strictest_one_the_moment(tmp_path: Path) -> None:
    def shot(timings_ms: dict[str, float], sole_until_s: float | None, *, taken: bool = True) -> CameraPicture:
        picture = Acquired(photograph=Photograph(fake_frame(1)), at=NOW, sole_until_s=sole_until_s)
        return CameraPicture(
            trigger_id="a", timeout_s=1.0, came_s=0.0, window_s=1.0, recipe=Recipe(),
            acquired=picture if taken else None, timings_ms=timings_ms,
        )  # fmt: skip

    shots = [shot({"wait": 3.0, "read": 1.0}, 5.0), shot({"wait": 2.0, "check": 0.5}, 7.0), shot({}, None)]
    views = tuple(
        View(frame_sha256=None, state=State.FAULT, score=None, reason="", name=name, timings_ms=timings)
        for name, timings in (("one", {"total": 4.0}), ("two", {"total": 5.0}), ("three", {"other": 1.0}))
    )
    outcome = Outcome(state=State.FAULT, reason="", cause=Cause.LATE, views=views)
    assert stage_times(shots, outcome) == {"wait": 3.0, "read": 1.0, "check": 0.5, "judge": 9.0}
    assert stage_times(shots, replace(outcome, views=views[2:])) == {"wait": 3.0, "read": 1.0, "check": 0.5}
    assert sole_until(shots) == 7.0
    assert sole_until([shot({}, 9.0, taken=False), shot({}, None)]) is None
    assert ledger_cause(OSError(errno.ENOSPC, "full")) is Cause.DISK_FULL
    assert ledger_cause(OSError(errno.EIO, "broken")) is ledger_cause(None) is Cause.LEDGER


def test_the_disk_is_too_full_below_the_limit_and_not_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = settings(tmp_path / "line")
    for free, complaint in ((1_000_000, ""), (999_999, "1 MB of disk space left, 1 MB needed (min_free_mb)")):
        monkeypatch.setattr(outcomes, "free_bytes", lambda _, free=free: free)
        assert without_space(of) == complaint


# --- the process of the worker


class Deaf:
    """A worker's process that ends as it is told."""

    pid = 4711

    def __init__(self, lines: str = "", code: int = 0, *, hangs: bool = False) -> None:
        self.stdin, self.stdout = io.StringIO(), io.StringIO(lines)
        self.code, self.hangs, self.killed = code, hangs, 0

    def kill(self) -> None:
        self.killed += 1

    def wait(self, timeout: float | None = None) -> int:
        if self.hangs and not self.killed:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self.code


def heard_from(child: Deaf) -> list[object]:
    heard: list[object] = []
    over = threading.Event()

    def hear(_: WorkerProcess, message: object) -> None:
        heard.append(message)
        if message is None:
            over.set()

    WorkerProcess(child, hear).start()
    assert over.wait(60.0)
    return heard


def test_a_worker_has_a_session_of_its_own_and_utf_8_in_its_pipes() -> None:
    reply = "import os; os.write(1, b'%d %d ' % (os.getpid(), os.getsid(0)) + os.read(0, 100))"
    child = spawn([sys.executable, "-I", "-S", "-c", reply])
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("Prüfling\n")
    child.stdin.close()
    assert child.stdout.read() == f"{child.pid} {child.pid} Prüfling\n", "a Ctrl-C at the station must not reach it"
    child.stdout.close()
    assert child.wait(60.0) == 0


def test_a_worker_is_heard_until_it_ends_and_killed_where_it_cannot_be_trusted() -> None:
    ready, dying = encode(Ready(report=WorkerReport())), encode(Dying(reason="no camera"))
    good = Deaf(ready + dying)
    assert [type(each) for each in heard_from(good)] == [Ready, Dying, type(None)]
    assert good.killed == 0
    cut = Deaf(ready + dying[:-1])
    assert [type(each) for each in heard_from(cut)] == [Ready, type(None)]
    odd = Deaf('{"version": 1}\n' + ready)
    assert heard_from(odd) == [None]
    assert odd.killed == 1


@pytest.mark.parametrize(
    ("code", "crashed", "said"),
    [
        (0, False, "exit code 0"),
        (70, False, "exit code 70"),
        (1, True, "exit code 1"),
        (-9, False, "killed by SIGKILL"),
        (-15, False, "killed by SIGTERM"),
        (-11, True, "killed by SIGSEGV"),
    ],
)
def test_only_a_worker_that_ended_by_its_own_error_has_crashed(code: int, crashed: bool, said: str) -> None:
    worker = WorkerProcess(Deaf(code=code), lambda *_: None)
    assert (worker.crashed, worker.obituary(), worker.pid) == (crashed, said, 4711)


def test_a_worker_is_stopped_by_closing_its_jobs_and_killed_only_if_it_does_not_end() -> None:
    for child, killed in ((Deaf(), 0), (Deaf(hangs=True), 1)):
        worker = WorkerProcess(child, lambda *_: None)
        assert worker.send(Housekeep())
        assert decode_for_worker(child.stdin.getvalue()) == Housekeep()
        worker.stop(0.1)
        assert (child.stdin.closed, child.killed) == (True, killed)
        assert not worker.send(Housekeep()), "it has ended"


def test_the_gate_answers_a_used_id_with_another_part_by_a_fault_and_raises_an_alarm(
    tormented: StationSettings,
) -> None:
    with station_bench(tormented) as line:
        line.ready()
        line.plc.fire(line.supervisor.submit, "A", part="P1", lot="L1")
        assert line.plc.wait("A").state is State.GO
        line.plc.fire(line.supervisor.submit, "A", part="P2", lot="L1")
        other = line.plc.wait("A", answers=2)
        assert (other.state, other.cause, other.part) == (State.FAULT, Cause.REUSED_ID, "P2")
        line.plc.fire(line.supervisor.submit, "A", part="P1", lot="L1")
        assert line.plc.wait("A", answers=3).state is State.GO
        assert "P2" in line.supervisor._triggers.reused
        line.plc.fire(line.supervisor.submit, "B", part="P1")
        line.plc.fire(line.supervisor.submit, "B", part="P2")  # before the first has its answer
        assert line.plc.wait("B", answers=2).state is State.FAULT
        while line.supervisor.metrics.events["reused_ids"] != 2 or line.supervisor.unrecorded:
            time.sleep(0.01)
        while not any(
            "used for two parts" in alarm for alarm in json.loads(line.supervisor.published[0]).get("alarms", ())
        ):
            time.sleep(0.01)
    with Ledger.open(tormented.ledger, create=False) as ledger:
        noted = [row.record.details["trigger_id"] for row in ledger.actions(Where(action="reused_id"))]
    assert noted == ["A", "B"]


def test_a_picture_that_a_later_trigger_may_own_is_a_fault_whatever_the_worker_knew(tmp_path: Path) -> None:
    supervisor = Supervisor(settings(tmp_path), ["true"], lambda _: None)
    first = Trigger(id="A", at=NOW, due_s=101.0)
    for trigger in (first, replace(first, id="B", due_s=101.2)):
        supervisor._notices.came(trigger, None)
    judged = Answer(trigger_id="A", state=State.GO, reason="", row=1)
    assert supervisor._notices.contested(first, replace(judged, sole_until_s=100.3))
    assert not supervisor._notices.contested(first, replace(judged, sole_until_s=100.1))
    assert not supervisor._notices.contested(first, judged)


def test_two_stations_of_one_name_on_one_ledger_are_refused_whatever_their_state_folders(tmp_path: Path) -> None:
    first = settings(tmp_path)
    second = first.model_copy(update={"state_dir": tmp_path / "another state"})
    stop = threading.Event()
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    trigger = parse_settings((tmp_path / "station.toml").read_text().replace('"stdin"', '"timer"\nevery_s = 900.0'))
    first = first.model_copy(update={"trigger": trigger.trigger})
    runner = threading.Thread(target=run_station, args=(first, command), kwargs={"complain": print, "stop": stop})
    runner.start()
    while read_station_status(first.state_dir) is None:
        time.sleep(0.01)
    with pytest.raises(UnfitError, match="another station named s1"):
        run_station(second, command, complain=print)
    stop.set()
    runner.join()


def test_a_worker_whose_name_another_station_uses_on_the_ledger_records_nothing(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.station._ledger.forget()
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = str(worker_lock(line.settings.ledger, "s1"))
    with subprocess.Popen(
        [sys.executable, "-c", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        answer = line.judge("A")
        assert (answer.state, answer.cause, answer.row) == (State.FAULT, Cause.LEDGER, None)
        assert "another station named s1" in answer.reason
        other.communicate("")
    assert line.judge("B").state is State.GO


# --- triggers, answers, HTTP


def test_a_folder_fires_once_for_each_picture_and_again_for_another_of_the_same_name(tmp_path: Path) -> None:
    from gonogo.station.settings import FolderTrigger

    fired: list[tuple[str, str | None]] = []
    stopped = threading.Event()
    wanted = FolderTrigger(kind="folder", folder=tmp_path, stable_s=0.0, poll_s=0.01)
    watcher = threading.Thread(
        target=watch_folder,
        args=(wanted, lambda trigger_id, **names: fired.append((trigger_id, names.get("part"))), fired.append, stopped),
    )
    watcher.start()
    (tmp_path / "note.txt").write_text("no picture")
    for seed in (1, 2):
        (tmp_path / "A.png").write_bytes(images.encode_png(fake_frame(seed)))
        while len(fired) < seed:
            time.sleep(0.01)
    time.sleep(0.05)
    stopped.set()
    watcher.join()
    assert len(fired) == 2
    assert all(re.fullmatch(r"A\.png#[0-9a-f]{12}", trigger_id) and part == "A" for trigger_id, part in fired)
    assert fired[0] != fired[1]


def test_lines_are_triggers_and_everything_else_is_complained_about() -> None:
    fired: list[object] = []
    complaints: list[str] = []
    lines = ["A1\n", "\n", '{"id": "A2", "part": "P", "lot": null}\n', '{"id": 3}\n', "{oops\n", '{"id":"x","y":"z"}\n']
    read_trigger_lines(
        lines,
        lambda trigger_id, **names: fired.append((trigger_id, names)),
        complaints.append,
        threading.Event(),  # type: ignore[arg-type]
    )
    assert fired == [("A1", {}), ("A2", {"part": "P"})]
    assert len(complaints) == 3
    with pytest.raises(ValueError, match="expected id"):
        parse_trigger('{"part": "P"}')
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_trigger('{"id":' + "[" * 100_000)


def test_names_that_the_ledger_cannot_take_are_refused_at_the_gate(tmp_path: Path) -> None:
    supervisor = Supervisor(settings(tmp_path), ["true"], lambda _: None)
    for name in ("", "x" * 201, "two\nlines"):
        with pytest.raises(ValueError, match="expected"):
            supervisor.submit(name)


def test_an_answer_that_is_not_taken_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    class Port:
        def send(self, answer: Answer) -> None:
            if answer.trigger_id == "lost":
                raise AnswerError("nobody listens")
            if answer.trigger_id == "odd":
                raise RuntimeError("a bug in the port")
            delivered.append(answer.trigger_id)

    delivered: list[str] = []
    told: list[tuple[str, str]] = []
    sender = Sender(Port(), lambda: None, lambda answer, why: told.append((answer.trigger_id, why))).start()
    for name in ("a", "lost", "odd", "b"):
        sender.send(Answer(trigger_id=name, state=State.GO, reason="", row=1))
    sender.close()
    assert (delivered, told) == (
        ["a", "b"],
        [("lost", "nobody listens"), ("odd", "RuntimeError: a bug in the port")],
    )
    closed = (tmp_path / "answers").open("w")
    closed.close()
    with pytest.raises(AnswerError):
        LinePort(closed).send(Answer(trigger_id="a", state=State.GO, reason="", row=1))
    with pytest.raises(AnswerError, match="2 attempts"):
        HttpPort("http://127.0.0.1:9/", attempts=2, timeout_s=0.2).send(
            Answer(trigger_id="a", state=State.GO, reason="", row=1)
        )


def test_a_reply_that_is_no_http_counts_as_not_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"OK THANKS\r\n")

        listener = threading.Thread(target=babble)
        listener.start()
        port = HttpPort(f"http://127.0.0.1:{server.getsockname()[1]}/", attempts=1)
        with pytest.raises(AnswerError, match="1 attempts"):
            port.send(Answer(trigger_id="a", state=State.GO, reason="", row=1))
        listener.join()


def test_a_disk_that_is_gone_does_not_take_the_gate_along(tmp_path: Path) -> None:
    gone = settings(tmp_path / "line")
    plc = FakePlc()
    supervisor = Supervisor(gone, [sys.executable, "-c", "raise SystemExit(3)"], plc.send)
    shutil.rmtree(gone.state_dir)
    supervisor.start()
    while not supervisor.metrics.status_trouble:
        time.sleep(0.01)
    plc.fire(supervisor.submit, "A")
    assert plc.wait("A").state is State.FAULT
    assert json.loads(supervisor.published[0])["free_mb"] == 0
    supervisor.stop()


def test_a_second_station_on_the_same_state_is_refused(tmp_path: Path) -> None:
    found = settings(tmp_path)
    found.state_dir.mkdir()
    with (found.state_dir / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UnfitError, match="another station uses this state_dir"):
            run_station(found, ["true"], complain=print)


def test_a_source_of_triggers_that_fails_ends_the_station_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the scanner was unplugged")

    monkeypatch.setattr("gonogo.station.triggers.read_trigger_lines", fail)
    with pytest.raises(UnfitError, match="the scanner was unplugged"):
        run_station(settings(tmp_path), [sys.executable, "-c", "raise SystemExit(3)"], complain=print)


def test_http_triggers_are_answered_and_status_and_metrics_are_shown(tmp_path: Path) -> None:
    tormented = settings_for(tmp_path / "line")
    with station_bench(tormented) as line:
        server = StationServer(line.supervisor, host="127.0.0.1", port=0, token="secret", triggers=True).start()

        def ask(method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request(method, path, body=body.encode(), headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

        line.ready()
        allowed = {"Authorization": "Bearer secret"}
        assert ask("POST", "/trigger", "part-1")[0] == 401
        code, text = ask("POST", "/trigger", '{"id": "part-1", "lot": "L"}', **allowed)
        assert (code, json.loads(text)["state"]) == (200, "go")
        assert ask("POST", "/trigger", '{"lot": "L"}', **allowed)[0] == 400
        assert ask("POST", "/trigger", "x" * 5000, **allowed)[0] == 413
        assert ask("GET", "/health") == (200, "running")
        assert ask("GET", "/nothing")[0] == 404
        while '"answers": {}' in (status := ask("GET", "/status")[1]) or '"go": 1' not in status:
            time.sleep(0.05)
        metrics = ask("GET", "/metrics")[1]
        server.close()
    assert 'gonogo_station_answers_total{state="go",station="chaos"} 1.0' in metrics
    assert re.search(r'stage_seconds\{quantile="0.99",stage="total",station="chaos"\} 0\.\d+', metrics)
    assert all(re.fullmatch(r"# .*|[a-z_]+\{[^}]*\} [-+0-9.e]+", text) for text in metrics.strip().split("\n"))


# --- settings and commands


def test_the_example_is_valid_and_its_paths_are_counted_from_its_folder(tmp_path: Path) -> None:
    found = parse_settings(EXAMPLE, folder=tmp_path)
    assert found.ledger == tmp_path / "chip-line-1.ledger"
    assert found.cameras[0].camera.folder == tmp_path / "incoming"  # type: ignore[union-attr]
    for section in ("challenge", "fleet", "centre"):
        before, header, rest = EXAMPLE.partition(f"# [{section}]")
        uncommented = before + re.sub(r"^# (?!pictures)", "", header + rest.partition("\n\n")[0], flags=re.MULTILINE)
        assert getattr(parse_settings(uncommented, folder=tmp_path), section) is not None
    result = CliRunner().invoke(app, ["station", "example"])
    assert result.output == EXAMPLE


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('station = "chip-line-1"', "", "station: Field required"),
        ("window_s = 1.5", 'window_s = "1.5"', "window_s: Input should be a valid number, found '1.5'"),
        ("window_s = 1.5", "windows = 1.5", "windows: Extra inputs are not permitted"),
        ("queue = 8", "queue = 0", "queue: Input should be greater than or equal to 1, found 0"),
        ('kind = "folder"\nfolder = "incoming"\n\n[cameras.health]', 'kind = "webcam"\n\n[cameras.health]', "webcam"),
        ("camera_timeout_s = 0.8", "camera_timeout_s = 2.0", "camera_timeout_s: expected less than window_s"),
        ("stall_s = 5.0", "stall_s = 1.0", "watchdog.stall_s: expected more than window_s"),
        ("[answer]", "[answer", "expected TOML"),
        ("darkest = 40.0", "darkest = 400.0", "cameras.0.health.darkest"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(before: str, after: str, told: str) -> None:
    assert before in EXAMPLE
    with pytest.raises(InputError, match=re.escape(told)):
        parse_settings(EXAMPLE.replace(before, after))


@pytest.mark.slow
def test_check_tries_ledger_bundle_and_camera_and_names_what_fails(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "bundle")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(images.encode_png(fake_frame(1)))
    settings(tmp_path)
    result = CliRunner().invoke(app, ["station", "check", str(tmp_path / "station.toml"), "--json"])
    assert result.exit_code == 0, result.output
    assert all(each["passed"] for each in json.loads(result.output))
    (tmp_path / "bundle" / "classifier.bin").write_bytes(b"?")
    shutil.rmtree(tmp_path / "photos")
    result = CliRunner().invoke(app, ["station", "check", str(tmp_path / "station.toml")])
    assert result.exit_code == 1
    assert result.output.count("FAIL") == 2


@pytest.mark.slow
def test_a_whole_station_runs_from_its_settings_with_a_real_bundle(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "bundle")
    (tmp_path / "incoming").mkdir()
    text = EXAMPLE.replace('"chip.inspector"', '"bundle"').replace("sharpness = 0.1", "sharpness = 0.0")
    text = text.replace("[http]", "[unused]").replace("min_free_mb = 500", "min_free_mb = 1")
    text = re.sub(r"\[unused\].*?\n\n", "", text, flags=re.DOTALL)
    (tmp_path / "station.toml").write_text(text)
    plc, stop = FakePlc(), threading.Event()
    found = parse_settings(text, folder=tmp_path)
    command = worker_command(tmp_path / "station.toml")
    runner = threading.Thread(
        target=run_station, args=(found, command), kwargs={"complain": print, "port": plc, "stop": stop}
    )
    runner.start()
    while (status := read_station_status(found.state_dir)) is None or status["health"] != "running":
        time.sleep(0.05)
    for name, bad in (("good", False), ("bad", True)):
        (tmp_path / "incoming" / f"{name}.png").write_bytes(images.encode_png(fake_frame(1, bad=bad)))
    while len(plc.answers) < 2:
        time.sleep(0.02)
    stop.set()
    runner.join()
    states = {answers[0].part: answers[0].state for answers in plc.answers.values()}
    assert states == {"good": State.GO, "bad": State.NO_GO}
    assert {path.name for path in (tmp_path / "incoming" / "done").iterdir()} == {"good.png", "bad.png"}
    result = CliRunner().invoke(app, ["station", "status", str(tmp_path / "station.toml")])
    assert "not running since" in result.output
    result = CliRunner().invoke(app, ["station", "status", str(tmp_path / "station.toml"), "--json"])
    assert json.loads(result.output)["alive"] is False
    assert os.listdir(tmp_path / "state" / "bundles" / "0")  # noqa: PTH208


# --- shifts


def test_shifts_are_named_in_the_plants_own_time() -> None:
    shifts = parse_shifts("6,14,22", "Europe/Berlin")
    assert shifts.name(shifts.of(datetime(2026, 1, 13, 4, 30, tzinfo=UTC))) == "Mon 12 Jan, night"
    assert shifts.name(shifts.of(datetime(2026, 1, 13, 5, 0, tzinfo=UTC))) == "Tue 13 Jan, early"
    with pytest.raises(InputError, match="ascending start hours"):
        parse_shifts("22,6", "UTC")
    with pytest.raises(InputError, match="time zone"):
        parse_shifts("6", "Nowhere/At all")


def test_the_section_views_of_older_settings_is_read_with_advice_to_rename_it(tmp_path: Path) -> None:
    older = EXAMPLE.replace("[[cameras]]", "[[views]]").replace("[cameras.", "[views.")
    with pytest.warns(FutureWarning, match=r"Rename \[\[views\]\] to \[\[cameras\]\]"):
        assert parse_settings(older, folder=tmp_path) == parse_settings(EXAMPLE, folder=tmp_path)
    both = EXAMPLE + '\n[[views]]\nname = "side"\n'
    with pytest.raises(InputError, match=r"found \[\[views\]\] as well"):
        parse_settings(both, folder=tmp_path)

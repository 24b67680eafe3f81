"""Failures inside a station: ledger, store, cameras, bundles and workers that fail at an unlucky moment."""

from __future__ import annotations

import errno
import queue
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from gonogo.errors import InputError, LedgerError
from gonogo.images import encode_png
from gonogo.ledger import FrameStore, Ledger, Where
from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.line.state import Health
from gonogo.schema import PartIdentity, State, Verdict
from gonogo.station import StationSettings, Supervisor, judging, memory, models, parse_settings, supervisor
from gonogo.station.challenge import CHALLENGE
from gonogo.station.checking import check_station
from gonogo.station.http import StationServer
from gonogo.station.messages import (
    Dying,
    FaultRecorded,
    FaultUnrecordable,
    Housekeep,
    JudgePart,
    NoteHandled,
    PartJudged,
    Ready,
    RecordFault,
    RecordNote,
    Reported,
    ToSupervisor,
    ToWorker,
    WorkerReport,
    decode_for_supervisor,
    decode_for_worker,
    encode,
)
from gonogo.station.metrics import Metrics
from gonogo.station.models import LoadedBundle, ModelSlot
from gonogo.station.publishing import snapshot
from gonogo.station.settings import read_settings
from gonogo.station.status import StationState
from gonogo.station.together import not_together
from gonogo.station.worker import build_station, serve_supervisor
from gonogo.testing import fake_frame, fake_model, write_fake_bundle
from gonogo.testing.station import patiently, settings_for
from test_station import NOW, Line, seal, settle

PATIENCE_S = 300.0


def no_space(*_: object, **__: object) -> NoReturn:
    raise LedgerError("the frame cannot be stored") from OSError(errno.ENOSPC, "No space left on device")


def fails_at(line: Line, *calls: int) -> None:
    """Let the ledger be opened, but for these calls from now on."""
    opened, count = line.station._ledger.open, iter(range(1000))

    def sometimes() -> Ledger:
        if next(count) in calls:
            raise LedgerError("the disk hiccups")
        return opened()

    line.station._ledger.open = sometimes  # type: ignore[method-assign]


# --- judging


def test_a_fault_that_cannot_be_recorded_is_answered_as_one(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.settings.ledger.rename(tmp_path / "away")
    answer = line.station.record_fault(Trigger(id="A", at=NOW, due_s=0.0), Cause.OVERRUN, "too many", answered=True)
    assert (answer.state, answer.cause, answer.row) == (State.FAULT, Cause.LEDGER, None)
    assert answer.reason.startswith("the fault (too many) cannot be recorded")
    assert any("the ledger cannot be used" in each for each in line.station.find_troubles())


def test_a_ledger_that_fails_between_two_looks_costs_the_part_and_no_other(tmp_path: Path) -> None:
    line = Line(tmp_path)
    fails_at(line, 1)
    answer = line.judge("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.LEDGER)
    assert answer.reason == "the ledger cannot be used: the disk hiccups"
    assert answer.row is not None, "it came back before the record was written"
    assert line.judge("B").state is State.GO


def test_a_part_whose_earlier_verdicts_cannot_be_asked_for_is_a_fault(tmp_path: Path) -> None:
    identity = PartIdentity(part="P7", codes=("P7",))
    line = Line(tmp_path, inspect=lambda _: Verdict(state=State.GO, score=-90.0, reason="good", identity=identity))
    assert line.judge("A").state is State.GO
    fails_at(line, 2)
    answer = line.judge("B")
    assert (answer.cause, answer.reason) == (
        Cause.LEDGER,
        "the ledger cannot be asked for a duplicate: the disk hiccups",
    )
    assert line.judge("C").state is State.REVIEW, "it was judged before"


def test_a_frame_that_cannot_be_stored_makes_its_part_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(tmp_path, views=("top", "side"))
    with monkeypatch.context() as full:
        full.setattr(FrameStore, "put", no_space)
        answer = line.judge("A")
    assert (answer.state, answer.cause) == (State.FAULT, Cause.DISK_FULL)
    assert "the frame cannot be stored" in answer.reason
    assert answer.row is not None
    assert line.judge("B").state is State.GO


TESTED = '[challenge]\nevery_s = 3600.0\nparts = ["KNOWN-*"]\nmust_be = ["no_go"]'


def test_a_test_that_cannot_be_recorded_stays_due(tmp_path: Path) -> None:
    line = Line(tmp_path, extra=TESTED, inspect=lambda _: Verdict(state=State.NO_GO, score=90.0, reason="bad"))
    assert line.station.challenges is not None
    before = line.station.challenges.standing()
    fails_at(line, 3)
    assert line.judge("A", part="KNOWN-1").state is State.NO_GO
    with line.ledger() as ledger:
        assert list(ledger.actions(Where(action=CHALLENGE))) == []
    assert line.station.challenges.standing() == before
    line.settings.ledger.rename(tmp_path / "away")
    line.station.idle()  # nothing can be read; an overdue test holds the station
    (tmp_path / "away").rename(line.settings.ledger)
    assert line.judge("B", part="KNOWN-1").state is State.NO_GO
    assert line.station.challenges.standing().last_passed is not None


def test_a_stop_stays_while_the_ledger_cannot_be_asked_for_its_acknowledgement(tmp_path: Path) -> None:
    extra = (
        '[http]\nport = 8791\nallow_without_token = true\n[reject]\ntrack = "encoder"\ndistance = 100\ntolerance = 3'
    )
    line = Line(tmp_path, extra=extra)
    assert line.station.acknowledged_stop() == ""
    line.settings.ledger.rename(tmp_path / "away")
    assert line.station.acknowledged_stop() == ""
    assert Line(tmp_path / "plain").station.acknowledged_stop() == ""


def test_a_worker_knows_its_bundles_and_how_long_a_camera_hangs(tmp_path: Path) -> None:
    line = Line(tmp_path)
    assert line.station.slots == (line.slot,)
    assert line.station.stuck_s == 0.0


# --- bundles


def started(tmp_path: Path, *, load: Callable[[Path], LoadedBundle] = fake_model) -> ModelSlot:
    if not (tmp_path / "bundle").exists():
        seal(tmp_path / "bundle", "one")
    slot = ModelSlot(tmp_path / "bundle", tmp_path / "copies", loader=load)
    slot.start()
    return slot


def test_a_place_without_a_bundle_says_what_was_expected_there(tmp_path: Path) -> None:
    (tmp_path / "pointer").write_text("")
    for place in (tmp_path / "absent", tmp_path / "pointer"):
        slot = ModelSlot(place, tmp_path / "copies", loader=fake_model)
        assert "expected a bundle or a text file with its path, found neither" in slot.start().refused
    (tmp_path / "pointer").write_bytes(b"\xff\xfe")
    slot = ModelSlot(tmp_path / "pointer", tmp_path / "copies", loader=fake_model)
    assert "codec can't decode" in slot.start().refused
    assert not slot.unsettled, "it is not tried again until the file changes"


def test_a_bundle_whose_loading_ends_without_a_result_leaves_the_one_in_use(tmp_path: Path) -> None:
    def load(path: Path) -> LoadedBundle:
        if (path / "SHA256SUMS").read_text() == "exits":
            raise SystemExit("a library called exit")
        return fake_model(path)

    slot = started(tmp_path, load=load)
    before = slot.model
    seal(tmp_path / "bundle", "exits")
    slot.poll()
    assert slot._thread is not None
    slot._thread.join(60)
    assert slot.poll() is None
    assert (slot.model, slot.loading) == (before, False)


def test_the_bundle_in_use_is_copied_again_if_its_copy_was_damaged_and_stays_if_that_fails_too(tmp_path: Path) -> None:
    failures = list[Path]()

    def load(path: Path) -> LoadedBundle:
        if failures:
            raise RuntimeError(f"damaged {failures.pop().name}")
        return fake_model(path)

    slot = started(tmp_path, load=load)
    assert slot.model is not None
    copy = slot.model.path
    for times, trouble in ((1, ""), (2, "damaged x")):
        failures[:] = [Path("x")] * times
        (tmp_path / "bundle" / "touched").write_text(str(times))
        settle(SimpleNamespace(slot=slot, station=SimpleNamespace(idle=slot.poll)))  # type: ignore[arg-type]
        assert slot.trouble == trouble
        assert slot.model is not None
        assert slot.model.path == copy
        assert (copy / "SHA256SUMS").exists()


def test_only_the_latest_copies_are_kept_and_never_without_the_one_in_use(tmp_path: Path) -> None:
    slot = started(tmp_path)
    for number in range(models._KEPT + 2):
        seal(tmp_path / "bundle", f"bundle {number}")
        settle(SimpleNamespace(slot=slot, station=SimpleNamespace(idle=slot.poll)))  # type: ignore[arg-type]
    assert slot.model is not None
    copies = [path for path in (tmp_path / "copies").iterdir() if path.is_dir()]
    assert len(copies) == models._KEPT
    assert slot.model.path in copies
    assert len(list((tmp_path / "copies").glob("*.proven"))) == models._KEPT


def test_a_bundle_that_was_unloaded_is_loaded_again_when_it_is_wanted(tmp_path: Path) -> None:
    slot = started(tmp_path)
    slot.release("no room")
    assert (slot.model, slot.trouble) == (None, "no room")
    settle(SimpleNamespace(slot=slot, station=SimpleNamespace(idle=slot.poll)))  # type: ignore[arg-type]
    assert slot.model is not None


@pytest.mark.slow
def test_memory_is_measured_and_given_back_and_where_it_is_not_measured_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = memory.resident_bytes()
    assert found is not None
    assert found > 1_000_000
    memory.give_back()
    monkeypatch.setattr(memory, "_STATM", Path("/nonexistent"))
    assert memory.resident_bytes() is None


def test_bundles_of_several_cameras_judge_only_as_they_were_certified() -> None:
    def bundle(name: str, *cameras: str, certified: tuple[str, ...] = (), part_id: str = "p") -> LoadedBundle:
        part = SimpleNamespace(cameras=certified, id=part_id) if certified else None
        return SimpleNamespace(name=name, cameras=cameras, part=part, sha256=name)  # type: ignore[return-value]

    both = ("left", "top")
    assert not_together({"top": bundle("a"), "left": bundle("b")}) == ""
    good = {"top": bundle("a", "top", certified=both), "left": bundle("b", "left", certified=both)}
    assert not_together(good) == ""
    assert "a, which judges camera top, is not certified together" in not_together(good | {"top": bundle("a", "top")})
    alone = bundle("a", "top", certified=("top",))
    assert not_together(good | {"top": alone}) == "a is certified for parts seen by top, and this station has left, top"
    swapped = bundle("a", "left", certified=both)
    assert not_together(good | {"top": swapped}) == "a is certified for camera left, and judges camera top"
    other = bundle("a", "top", certified=both, part_id="q")
    assert "were not certified together" in not_together(good | {"top": other})


# --- the supervisor and a worker that follows a script


Script = Callable[["Scripted", ToWorker], None]


class Scripted:
    """A worker's process: each job is given to a script, which answers or ends it."""

    pid = 4711

    def __init__(self, script: Script) -> None:
        self.script, self.stdin, self.stdout = script, self, self  # type: ignore[assignment]
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.ended, self.code = threading.Event(), 0
        self.say(Ready(report=WorkerReport()))

    def say(self, message: ToSupervisor) -> None:
        self.lines.put(encode(message))

    def die(self, code: int) -> None:
        if not self.ended.is_set():
            self.code = code
            self.ended.set()
            self.lines.put(None)

    def write(self, text: str) -> None:
        if self.ended.is_set():
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self.script(self, decode_for_worker(text))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.die(0)

    def kill(self) -> None:
        self.die(-9)

    def wait(self, timeout: float | None = None) -> int:
        assert self.ended.wait(timeout or PATIENCE_S)
        return self.code

    def __iter__(self) -> Iterator[str]:
        while (line := self.lines.get()) is not None:
            yield line


class Bench:
    """A supervisor with scripted workers, its answers, and the jobs that the workers got."""

    def __init__(self, folder: Path, react: Script, settings: StationSettings | None = None) -> None:
        self.jobs: list[ToWorker] = []
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.react, self.children = react, list[Scripted]()
        self.settings = settings or settings_for(folder, window_s=60.0, stall_s=90.0)
        self.supervisor = Supervisor(self.settings, ["worker"], self.answers.put, spawn=self._spawn)

    def _spawn(self, _: object) -> Scripted:
        self.children.append(Scripted(self._job))
        return self.children[-1]

    def _job(self, child: Scripted, job: ToWorker) -> None:
        self.jobs.append(job)
        self.react(child, job)
        if child.ended.is_set():
            return
        match job:
            case Housekeep():
                child.say(Reported(report=WorkerReport()))
            case RecordNote():
                child.say(NoteHandled(retry=False))
            case JudgePart():
                child.say(PartJudged(answer=recorded(job.trigger, State.GO)))
            case RecordFault():
                child.say(FaultRecorded(answer=recorded(job.trigger, State.FAULT, job.cause)))

    def notes(self) -> list[str]:
        return [job.action for job in self.jobs if isinstance(job, RecordNote)]

    def answer(self) -> Answer:
        return self.answers.get(timeout=PATIENCE_S)

    def __enter__(self) -> Bench:
        self.supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()


def recorded(trigger: Trigger, state: State, cause: Cause | None = None) -> Answer:
    return Answer(trigger_id=trigger.id, part=trigger.part, state=state, cause=cause, reason="seen", row=7)


def once(kind: type, act: Callable[[Scripted], None]) -> Script:
    """Act on the first job of a kind."""
    done = list[ToWorker]()

    def react(child: Scripted, job: ToWorker) -> None:
        if isinstance(job, kind) and not done:
            done.append(job)
            act(child)

    return react


@pytest.mark.parametrize(("code", "kept"), [(1, False), (-9, True)], ids=["crashes", "is killed"])
def test_a_note_that_crashes_a_worker_is_dropped_and_one_whose_worker_was_killed_is_kept(
    code: int, kept: bool, tmp_path: Path
) -> None:
    with Bench(tmp_path / "line", once(RecordNote, lambda child: child.die(code))) as bench:
        bench.supervisor.undelivered(fault(Trigger(id="A", at=NOW, due_s=0.0), Cause.LATE, "late"), "no line")
        patiently(lambda: "worker_restarted" in bench.notes(), "no note of the restart")
    assert bench.notes().count("undelivered") == 1 + kept
    assert bench.supervisor.metrics.events["undelivered"] == 1


def test_a_worker_that_dies_between_parts_is_replaced_and_the_next_part_is_judged(tmp_path: Path) -> None:
    def act(child: Scripted) -> None:
        child.say(Dying(reason="MemoryError"))
        child.die(1)

    with Bench(tmp_path / "line", once(Housekeep, act)) as bench:
        patiently(lambda: len(bench.children) == 2, "no second worker")
        bench.supervisor.submit("A")
        assert bench.answer().state is State.GO
        patiently(lambda: "worker_restarted" in bench.notes(), "no note of the restart")
    (reason,) = [job.details["reason"] for job in bench.jobs if isinstance(job, RecordNote)]
    assert "exit code 1: MemoryError" in reason


@pytest.mark.parametrize("kind", [RecordFault, RecordNote])
def test_a_ledger_that_fails_rests_before_it_is_tried_again(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_RETRY_S", 0.01)
    tries = list[ToWorker]()

    def react(child: Scripted, job: ToWorker) -> None:
        if isinstance(job, JudgePart):
            child.die(3)
        if isinstance(job, kind):
            tries.append(job)

    bench = Bench(tmp_path / "line", react)
    answer = bench._job

    def failing_first(child: Scripted, job: ToWorker) -> None:
        if isinstance(job, kind) and len(tries) == 0:
            tries.append(job)
            bench.jobs.append(job)
            if isinstance(job, RecordFault):
                child.say(FaultRecorded(answer=fault(job.trigger, Cause.LEDGER, "locked")))
            else:
                child.say(NoteHandled(retry=True))
            return
        answer(child, job)

    bench._job = failing_first  # type: ignore[method-assign]
    with bench:
        bench.supervisor.submit("A")
        assert (found := bench.answer()).state is State.FAULT
        assert found.row == 7, "a part whose worker died waits for its record"
        patiently(lambda: len(tries) >= 2 and "worker_restarted" in bench.notes(), "not tried again")
    assert bench.supervisor.unrecorded == 0


def test_a_fault_that_no_ledger_takes_is_answered_and_set_aside(tmp_path: Path) -> None:
    def react(child: Scripted, job: ToWorker) -> None:
        if isinstance(job, JudgePart):
            child.die(3)

    bench = Bench(tmp_path / "line", react)
    answer = bench._job

    def unrecordable(child: Scripted, job: ToWorker) -> None:
        if isinstance(job, RecordFault):
            child.say(FaultUnrecordable(reason="ValueError: no such name"))
        else:
            answer(child, job)

    bench._job = unrecordable  # type: ignore[method-assign]
    with bench:
        bench.supervisor.submit("A")
        assert (bench.answer().cause, bench.supervisor.unrecorded) == (Cause.PROCESS, 0)
        patiently(lambda: "cannot be recorded" in bench.supervisor.published[0], "no alarm")
    assert (bench.settings.state_dir / "unrecordable.jsonl").exists()


def test_a_worker_that_was_replaced_is_not_heard_any_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "line", lambda *_: None)
    with bench:
        patiently(lambda: bench.supervisor.health is Health.RUNNING, "not ready")
        report = WorkerReport(held="never")
        bench.supervisor._hear(SimpleNamespace(), Reported(report=report))  # type: ignore[arg-type]
        bench.supervisor._hear(SimpleNamespace(), None)  # type: ignore[arg-type]
        assert bench.supervisor.report != report
        assert len(bench.children) == 1


def test_a_station_may_be_stopped_from_its_own_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "line", lambda *_: None)
    bench.supervisor._send = lambda answer: (bench.answers.put(answer), bench.supervisor.stop())[0]
    with bench:
        bench.supervisor.submit("A")
        assert bench.answer().state is State.GO
        patiently(lambda: not bench.supervisor.alive, "it waits for itself")


def test_a_verdict_that_the_line_did_not_wait_for_is_a_fault_from_then_on(tmp_path: Path) -> None:
    with Bench(tmp_path / "line", lambda *_: None) as bench:
        bench.supervisor.submit("A")
        assert bench.answer().state is State.GO
        bench.supervisor.expired("A", "the handshake\nended")
        bench.supervisor.submit("A")
        again = bench.answer()
        assert (again.state, again.cause, again.repeated) == (State.FAULT, Cause.LATE, True)
        assert "\n" not in again.reason


def test_a_product_is_selected_only_if_the_station_has_it_and_the_line_sees_which(tmp_path: Path) -> None:
    with Bench(tmp_path / "line", lambda *_: None) as bench:
        with pytest.raises(ValueError, match=r"\(none: it has no \[products\]\), found 'chip'"):
            bench.supervisor.select("chip", who="line")
        with pytest.raises(ValueError, match=r"expected a station with \[reject\]"):
            bench.supervisor.line(SimpleNamespace(), lambda _: None)  # type: ignore[arg-type]
    several = settings_for(tmp_path / "several", window_s=60.0, stall_s=90.0)
    text = (tmp_path / "several" / "station.toml").read_text().replace('bundle = "bundle"\n', "", 1)
    several = parse_settings(text + '[products]\nchip = "bundle"\npill = "bundle"\n', folder=tmp_path / "several")
    with Bench(tmp_path / "several", lambda *_: None, several) as bench:
        bench.supervisor.select("pill", who="line")
        patiently(lambda: bool(bench.notes()), "not asked for")
        (job,) = [job for job in bench.jobs if isinstance(job, RecordNote)]
        assert job.details == {"product": "pill", "by": "line", "asked_by": "line"}
        bench.supervisor.submit("A", product="pill")
        assert bench.answer().state is State.GO
        found = bench.supervisor.line_state()
        assert (found.product, found.products, found.bundle_sha256) == (None, ("chip", "pill"), None)
        assert found.answers == {"go": 1}


def test_a_worker_that_crashes_beyond_its_budget_is_an_alarm(tmp_path: Path) -> None:
    state = StationState(
        health=Health.DOWN, worker_pid=None, report=WorkerReport(), faulting="", alarms=(), waiting=0, unrecorded=0
    )
    found = snapshot(settings_for(tmp_path / "line"), Metrics("s1"), state, free_bytes=0)
    assert found["alarms"] == ["the worker keeps crashing and may not be restarted yet: every part is a fault"]


# --- the worker


def serve(station: judging.Station, *lines: str) -> tuple[int, list[ToSupervisor]]:
    said = list[str]()
    results = SimpleNamespace(write=said.append, flush=lambda: None)
    code = serve_supervisor(station, iter(lines), results)  # type: ignore[arg-type]
    return code, [decode_for_supervisor(each) for each in said]


def test_a_worker_does_its_jobs_and_a_note_that_no_ledger_takes_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tmp_path)
    trigger = Trigger(id="A", at=NOW, due_s=0.0)
    failures: dict[str, Exception] = {"busy": LedgerError("locked"), "odd": TypeError("not JSON")}
    noted = line.station.note

    def note(action: Any) -> None:
        if (failure := failures.get(action.action)) is not None:
            raise failure
        noted(action)

    monkeypatch.setattr(line.station, "note", note)
    jobs = [
        encode(job)
        for job in (
            RecordFault(trigger=trigger, cause=Cause.LATE, reason="late", answered=True),
            *(RecordNote(action=name, details={}) for name in ("fine", "busy", "odd")),
            Housekeep(),
        )
    ]
    code, said = serve(line.station, *jobs)
    assert code == 0
    assert [each.retry for each in said if isinstance(each, NoteHandled)] == [False, True, False]
    assert "TypeError: not JSON" in capsys.readouterr().err
    assert [type(each) for each in said] == [Ready, FaultRecorded, NoteHandled, NoteHandled, NoteHandled, Reported]

    monkeypatch.setattr(line.station, "record_fault", lambda *_, **__: (_ for _ in ()).throw(TypeError("odd")))
    _, said = serve(line.station, jobs[0])
    assert said[1] == FaultUnrecordable(reason="TypeError: odd")
    with pytest.raises(Exception, match="message"):
        serve(line.station, "{}\n")


def test_a_worker_whose_camera_hangs_asks_to_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(tmp_path)
    monkeypatch.setattr(judging.Station, "stuck_s", property(lambda _: 1e9))
    code, said = serve(line.station, encode(Housekeep()), encode(Housekeep()))
    assert code == 70
    assert len([each for each in said if isinstance(each, Reported)]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "code"), [("RuntimeError('no camera')", 1), ("KeyboardInterrupt", 0), ("BrokenPipeError", 0)]
)
def test_a_worker_ends_with_its_reason_or_quietly_with_its_supervisor(failure: str, code: int) -> None:
    program = f"from gonogo.station.worker import worker_main\ndef make(): raise {failure}\nworker_main(make)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    if code:
        assert decode_for_supervisor(done.stdout) == Dying(reason="RuntimeError: no camera")
        assert "Traceback" in done.stderr
    else:
        assert done.stdout == ""


def test_cameras_with_one_bundle_share_it_and_products_have_their_own_copies(tmp_path: Path) -> None:
    folder = tmp_path / "line"
    settings_for(folder)
    (folder / "none").mkdir()
    second = '[[cameras]]\nname = "side"\ncamera = { kind = "fake", pictures = "none" }\n'
    text = (folder / "station.toml").read_text()
    one = build_station(parse_settings(text + second, folder=folder), loader=fake_model)
    assert len(one.slots) == 1
    text = text.replace('bundle = "bundle"\n', "", 1)
    products = '[products]\nchip = "bundle"\npill = "bundle"\n'
    several = build_station(parse_settings(text + products, folder=folder), loader=fake_model)
    places = {str(slot._copies) for slot in several.slots}
    assert len(places) == 2, "the last good copy of one product never judges another"


# --- status and triggers over HTTP


def server(folder: Path, **changes: Any) -> StationServer:
    station = SimpleNamespace(
        settings=SimpleNamespace(window_s=0.01, reject=None),
        published=('{"station": "s1"}', "gonogo_up 1\n"),
        health=Health.RUNNING,
        faulting="",
        submit=lambda *_, **__: None,
    )
    vars(station).update(changes)
    return StationServer(station, host="127.0.0.1", port=0, token="s" * 32, triggers=True)  # type: ignore[arg-type]


def test_health_says_whether_parts_are_judged(tmp_path: Path) -> None:
    found = server(tmp_path)
    assert found.get("/status")[2] == '{"station": "s1"}'
    assert found.get("/metrics")[1].startswith("text/plain; version=")
    assert found.get("/health") == (HTTPStatus.OK, "text/plain", "running")
    assert found.get("/")[0] == HTTPStatus.NOT_FOUND
    found.close()  # it was never started
    for changes, said in (({"health": Health.DOWN}, "down"), ({"faulting": "no disk"}, "faulting: no disk")):
        with_trouble = server(tmp_path, **changes)
        assert with_trouble.get("/health") == (HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", said)
        with_trouble.close()


def test_a_trigger_over_http_needs_the_token_the_right_place_and_an_answer(tmp_path: Path) -> None:
    found = server(tmp_path)
    own, none = Message(), Message()
    own["Authorization"] = f"Bearer {'s' * 32}"
    foreign = Message()
    foreign["Origin"] = "https://elsewhere.example"
    assert found.post("/line", b"{}", own)[0] == HTTPStatus.NOT_FOUND
    assert found.post("/trigger", b"A", foreign)[0] == HTTPStatus.FORBIDDEN
    assert found.post("/trigger", b"A", none)[0] == HTTPStatus.UNAUTHORIZED
    assert found.post("/trigger", b"\xff", own)[0] == HTTPStatus.BAD_REQUEST
    status, _, said = found.post("/trigger", b"A", own)
    assert (status, said) == (
        HTTPStatus.GATEWAY_TIMEOUT,
        "the supervisor has not answered; treat the part as a fault",
    )
    taken = found._server.server_address[1]
    with pytest.raises(InputError, match="cannot listen on this address"):
        StationServer(found._supervisor, host="127.0.0.1", port=taken, token=None, triggers=True)
    found.start()
    request = urllib.request.Request(f"http://127.0.0.1:{found.port}/trigger", data=b"x" * 5000, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    assert refused.value.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    found.close()


# --- gonogo station check


def test_check_names_every_file_and_disk_that_is_not_as_the_station_needs_it(tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "bundle")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(encode_png(fake_frame(1)))
    for name, text in (("token", "t" * 32), ("url", "postgresql://u:p@h/d"), ("secret", "s" * 32)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = """
station = "s1"
bundle = "bundle"
bundle_sha256 = "%s"
ledger = "s1.ledger"
state_dir = "state"
min_free_mb = 1000000000
[[cameras]]
name = "folder"
camera = { kind = "folder", folder = "pictures" }
[[cameras]]
name = "push"
camera = { kind = "push", port = 8792, token_file = "token" }
[trigger]
kind = "http"
[answer]
kind = "http"
url = "http://127.0.0.1:1"
token_file = "token"
[http]
port = 8791
token_file = "token"
[centre]
url_file = "url"
[[results]]
name = "hook"
kind = "webhook"
url = "https://mes.example/x"
secret_file = "secret"
[[results]]
name = "files"
kind = "folder"
folder = "out"
"""
    settings = parse_settings(text % ("0" * 64), folder=tmp_path)
    found = {each.what: (each.passed, each.detail) for each in check_station(settings)}
    assert found["ledger"][0] is False
    assert "expected 1,000,000,000 MB of free disk space" in found["ledger"][1]
    assert found["token"] == (True, f"{tmp_path / 'token'} contains a token")
    assert found["centre"][1].endswith("is there and private; rows are forwarded every 1 s")
    assert found["results hook"] == (True, "webhook; secret")
    assert found["results files"] == (True, "folder; no file with secrets")
    assert found["bundle bundle"][0] is False
    assert f"expected bundle {'0' * 64}, found" in found["bundle bundle"][1]
    assert found["camera folder"] == (True, f"{tmp_path / 'pictures'} exists, 1 entries")
    assert found["camera push"] == (True, "waits for pictures at 127.0.0.1:8792")
    (tmp_path / "url").chmod(0o644)
    found = {each.what: (each.passed, each.detail) for each in check_station(settings)}
    assert found["centre"][0] is False
    assert "chmod 600" in found["centre"][1]


# --- settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[challenge]\nevery_s = 60.0", "challenge: expected parts or pictures, found neither"),
        ('[challenge]\nparts = ["K"]\nmust_be = []', "must_be: expected no_go, review or both, found neither"),
        ('[fleet]\nchannel = "a"', "fleet: expected either folder or url"),
        ('[[cameras]]\ncamera = { kind = "fake", pictures = "x" }', "cameras: expected a different name for each"),
        ('[products]\nchip = "chip"', "expected either bundle or [products], found both"),
        ("memory_mb = 5", "memory_mb: expected [products], found none"),
        (f'bundle_sha256 = "{0:064d}"\n[fleet]\nchannel = "a"\nfolder = "x"', "fleet: expected no bundle_sha256"),
        ('[trigger]\nkind = "http"', "trigger: an HTTP trigger needs [http] with a port"),
        ('[reject]\ntrack = "encoder"\ndistance = 9\ntolerance = 1', "reject: the line reports its belt over HTTP"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(change: str, message: str, tmp_path: Path) -> None:
    settings_for(tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text()
    lines = change.splitlines()
    top = [line for line in lines if "=" in line and not change.startswith("[")][:1]
    section = "\n".join(line for line in lines if line not in top)
    if section.startswith("[trigger]"):
        text = text.replace('[trigger]\nkind = "stdin"\n[answer]\nkind = "stdout"\n', "")
    with pytest.raises(InputError) as refused:
        parse_settings("\n".join([*top, text, section]), folder=tmp_path / "line")
    assert message in str(refused.value)


def test_triggers_need_answers_and_a_station_needs_triggers(tmp_path: Path) -> None:
    settings_for(tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text()
    answer, trigger = '[answer]\nkind = "stdout"\n', '[trigger]\nkind = "stdin"\n'
    with pytest.raises(InputError, match=r"expected \[answer\] for the answers"):
        parse_settings(text.replace(answer, ""), folder=tmp_path)
    with pytest.raises(InputError, match=r"expected \[trigger\] or \[\[adapters\]\], found neither"):
        parse_settings(text.replace(answer, "").replace(trigger, ""), folder=tmp_path)
    adapter = '[[adapters]]\nname = "plc"\nkind = "tcp"\nport = 0\nallow_without_token = true\n'
    with pytest.raises(InputError, match="adapters: expected a different name for each, found plc, plc"):
        parse_settings(text + 2 * adapter, folder=tmp_path)
    own = text.replace('pictures = "none" }', 'pictures = "none" }\nbundle = "other"')
    with pytest.raises(InputError, match="fleet: expected one bundle for all cameras"):
        parse_settings(f'{own}[fleet]\nchannel = "a"\nfolder = "x"\n', folder=tmp_path)


def test_products_name_every_bundle_themselves(tmp_path: Path) -> None:
    settings_for(tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text().replace('bundle = "bundle"\n', "", 1)
    products = '[products]\nchip = "chip"\npill = { main = "pill" }\n'
    found = parse_settings(text + products, folder=tmp_path)
    assert {name: [each.name for each in places] for name, places in found.sources().items()} == {
        "chip": ["chip"],
        "pill": ["pill"],
    }
    with pytest.raises(InputError, match=r"products\.pill: expected one bundle for each camera \(main\), found side"):
        parse_settings(text + products.replace("main", "side"), folder=tmp_path)
    with pytest.raises(InputError, match=r"fleet: expected none with \[products\]"):
        parse_settings(f'{text}{products}[fleet]\nchannel = "a"\nfolder = "x"\n', folder=tmp_path)
    with pytest.raises(InputError, match="found neither"):
        parse_settings(text, folder=tmp_path)


def test_a_file_of_settings_that_cannot_be_read_says_where_an_example_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Print an example with: gonogo station example"):
        read_settings(tmp_path / "absent.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "odd.toml")
    (tmp_path / "odd.toml").write_text("station = ")
    with pytest.raises(InputError, match="expected TOML"):
        read_settings(tmp_path / "odd.toml")

"""Tracking from the camera to the gate: the state machine, and a station that uses it."""

from __future__ import annotations

import json
import random
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.errors import InputError
from gonogo.ledger import Ledger
from gonogo.line.messages import Trigger, fault
from gonogo.schema import State
from gonogo.station import Cause, Health, StationSettings, parse_settings, read_station_status
from gonogo.station.http import StationServer
from gonogo.station.reject import RejectControl, parse_line
from gonogo.station.tracking import Carried, LineTotals, Tracker
from gonogo.station.tracking_settings import Deviation, RejectSettings
from gonogo.testing.belt import FakeBelt, PhysicalPart, TrackedStation
from gonogo.testing.station import StationBench, patiently, settings_for, station_bench
from server_kit import Browser, beat, make_app

ENCODER = RejectSettings(track="encoder", distance=1_000, tolerance=30)


class Gate:
    """A tracker, and a line that reports to it."""

    def __init__(self, settings: RejectSettings = ENCODER, before: Carried | None = None, *, at: int = 0) -> None:
        self.tracker = Tracker(settings, before or Carried())
        self.count, self.gate, self.rejected, self.now_s = at, 0, 0, 0.0
        self.report()

    def report(self, *, after_s: float = 0.01) -> int | None:
        self.now_s += after_s
        self.tracker.line(LineTotals(count=self.count, gate=self.gate, rejected=self.rejected), self.now_s)
        return None if self.tracker.order is None else self.tracker.order.number

    def move(self, by: int) -> int | None:
        self.count += by
        return self.report()

    def see(self) -> str | None:
        """A part at the gate: return the reason of the order to reject it, ``None`` if it may pass."""
        before = self.tracker.order
        self.gate += 1
        self.report()
        order = self.tracker.order
        return None if order is None or order is before else order.why

    def confirm(self) -> None:
        self.rejected += 1
        self.report()

    def part(self, name: str, verdict: State | None = State.GO) -> None:
        self.tracker.part(name, self.count)
        if verdict is not None:
            self.tracker.judged(name, verdict)

    @property
    def stop(self) -> str:
        return "" if self.tracker.stopped is None else self.tracker.stopped.why


def test_a_go_passes_and_a_no_go_is_fired_at_the_gate_and_confirmed() -> None:
    gate = Gate()
    gate.part("A")
    gate.move(200)
    gate.part("B", State.NO_GO)
    gate.move(800)
    assert gate.see() is None
    gate.move(200)
    assert gate.see() == "judged no_go"
    assert gate.tracker.order is not None
    assert (gate.tracker.order.part, gate.tracker.order.number, gate.tracker.order.count) == ("B", 1, 1_200)
    gate.confirm()
    assert (gate.stop, gate.tracker.unconfirmed) == ("", 0)
    assert [each.action for each in gate.tracker.take()] == ["reject_ordered", "reject_confirmed"]


@pytest.mark.parametrize(
    ("verdict", "passes"), [(State.REVIEW, False), (State.FAULT, False), (State.NO_GO, False), (None, False)]
)
def test_nothing_but_a_go_passes_the_gate(verdict: State | None, passes: bool) -> None:
    gate = Gate()
    gate.part("A", verdict)
    gate.move(1_000)
    assert (gate.see() is None) is passes


def test_parts_in_review_pass_only_where_a_person_decides_behind_the_gate() -> None:
    gate = Gate(ENCODER.model_copy(update={"pass_review": True}))
    gate.part("A", State.REVIEW)
    gate.move(1_000)
    assert gate.see() is None


def test_a_verdict_that_comes_after_its_part_has_reached_the_gate_is_too_late() -> None:
    gate = Gate()
    gate.part("A", None)
    gate.move(990)
    assert gate.see() == "it has no verdict yet"
    gate.tracker.judged("A", State.GO)
    gate.confirm()
    assert gate.stop == ""


def test_a_second_verdict_can_only_make_a_part_worse() -> None:
    gate = Gate()
    gate.part("A")
    gate.tracker.judged("A", State.FAULT)
    gate.tracker.judged("A", State.GO)
    gate.move(1_000)
    assert gate.see() == "judged fault"


def test_an_order_is_repeated_to_a_line_that_asks_again_and_withdrawn_when_its_part_is_gone() -> None:
    gate = Gate()
    gate.part("A", State.NO_GO)
    gate.move(1_000)
    gate.see()
    assert gate.report() == 1
    assert gate.move(30) == 1
    assert gate.move(1) is None


def test_a_reject_without_confirmation_stops_the_line_until_a_person_acknowledges_that_stop() -> None:
    gate = Gate()
    gate.part("A", State.NO_GO)
    gate.move(1_000)
    gate.see()
    gate.report(after_s=1.2)
    assert gate.stop == "the reject of A was not confirmed in time"
    gate.part("B")
    gate.tracker.acknowledge("another stop")
    gate.move(1_000)
    assert gate.see() == f"the line is stopped: {gate.stop}"
    assert gate.tracker.stopped is not None
    gate.tracker.acknowledge(gate.tracker.stopped.id)
    gate.move(500)
    assert gate.see() == "it was on the belt before the line was released"
    gate.confirm()
    gate.part("C")
    gate.move(1_000)
    assert gate.see() is None
    assert gate.stop == ""


@pytest.mark.parametrize("after_s", [0.0, 0.05])
def test_a_failed_reject_is_not_confirmed_by_the_next_one(after_s: float) -> None:
    gate = Gate(ENCODER.model_copy(update={"confirm_after_s": after_s}))
    for name in "AB":
        gate.part(name, State.NO_GO)
        gate.move(100)
    gate.move(800)
    gate.see()
    gate.move(100)
    gate.see()
    gate.report(after_s=after_s)
    gate.confirm()
    assert gate.stop == "the reject of A was not confirmed in time"


def test_two_rejects_on_a_long_way_to_the_second_sensor_are_confirmed_in_turn_and_not_too_early() -> None:
    def fired() -> Gate:
        gate = Gate(ENCODER.model_copy(update={"confirm_after_s": 0.3, "confirm_within_s": 0.35}))
        for name in "AB":
            gate.part(name, State.NO_GO)
            gate.move(100)
        gate.move(800)
        gate.see()
        gate.report(after_s=0.1)
        gate.move(100)
        gate.see()
        return gate

    gate = fired()
    for after_s in (0.2, 0.1):
        gate.report(after_s=after_s - 0.01)
        gate.confirm()
    assert (gate.stop, gate.tracker.counts["confirmed"]) == ("", 2)
    gate = fired()
    gate.confirm()
    assert gate.stop == "the second sensor confirmed a reject that was not ordered"


def test_a_part_to_be_rejected_that_never_comes_to_the_gate_stops_the_line() -> None:
    gate = Gate()
    gate.part("A", State.NO_GO)
    gate.move(1_031)
    assert gate.stop == "A had to be rejected (no_go) and did not come to the gate"


@pytest.mark.parametrize(("listed", "stops"), [((), False), (("missing", "unexpected", "backwards", "silent"), True)])
def test_each_deviation_rejects_everything_in_flight_or_stops_the_line_as_set(
    listed: tuple[Deviation, ...], stops: bool
) -> None:
    def missing(gate: Gate) -> None:
        gate.move(600)

    def unexpected(gate: Gate) -> None:
        gate.move(100)
        gate.see()
        gate.confirm()

    def backwards(gate: Gate) -> None:
        gate.move(-40)
        gate.move(40)

    def silent(gate: Gate) -> None:
        gate.now_s += 6.0
        gate.tracker.tick(gate.now_s)
        assert gate.tracker.silent

    for deviate in (missing, unexpected, backwards, silent):
        gate = Gate(ENCODER.model_copy(update={"stop_on": listed}))
        gate.move(1_000)
        gate.part("A")
        gate.move(500)
        gate.part("B")
        deviate(gate)
        assert bool(gate.stop) is stops, deviate
        gate.move(1_500 + 1_000 - gate.count)
        assert gate.see() is not None, deviate  # B, which was judged go


def test_a_confirmation_without_an_order_stops_the_line_unless_it_is_only_to_be_recorded() -> None:
    gate = Gate()
    gate.confirm()
    assert gate.stop == "the second sensor confirmed a reject that was not ordered"
    gate = Gate(ENCODER.model_copy(update={"stop_on": ()}))
    gate.confirm()
    assert (gate.stop, gate.tracker.counts["unasked"]) == ("", 1)


def test_two_parts_in_the_place_of_one_stop_the_line_because_one_has_passed() -> None:
    gate = Gate()
    gate.part("A")
    gate.move(990)
    assert gate.see() is None
    gate.move(15)
    assert gate.see() is not None
    assert gate.stop == "two parts came to the gate in the place of A, and one of them has passed"


def test_parts_whose_windows_overlap_pass_only_if_both_are_go() -> None:
    for second in (State.GO, State.NO_GO):
        gate = Gate()
        gate.part("A")
        gate.move(40)
        gate.part("B", second)
        gate.move(975)
        assert (gate.see() is None) is (second is State.GO)
        gate.move(25)
        assert (gate.see() is None) is (second is State.GO)


def test_parts_that_came_to_the_gate_between_two_reports_stop_the_line() -> None:
    gate = Gate()
    gate.part("A")
    gate.move(1_000)
    gate.gate += 1
    assert gate.see() is not None
    assert gate.stop == "2 parts came to the gate between two reports, 1 of them without an order"
    gate = Gate()
    gate.gate = 100
    gate.report()
    assert gate.stop.startswith("the total of parts at the gate went from 0 to 100")


def test_after_a_restart_everything_in_flight_is_rejected_and_new_parts_are_not() -> None:
    first = Gate()
    first.part("A")
    first.move(500)
    gate = Gate(before=first.tracker.carried(), at=500)
    assert [each.action for each in gate.tracker.take()] == ["tracking_lost"]
    gate.part("B")
    gate.move(500)
    assert gate.see() == "it was on the belt before the station started"
    gate.confirm()
    gate.move(500)
    assert gate.see() is None
    assert gate.stop == ""


def test_a_restart_between_a_reject_and_its_confirmation_stops_the_line() -> None:
    first = Gate()
    first.part("A", State.NO_GO)
    first.move(1_000)
    first.see()
    again = Gate(before=first.tracker.carried(), at=1_000)
    assert again.stop == "before a restart, A was rejected without a confirmation"
    third = Gate(before=again.tracker.carried(), at=1_000)
    assert third.tracker.stopped == again.tracker.stopped


@pytest.mark.parametrize(("seen", "rejected", "stops"), [(0, 0, False), (2, 2, False), (2, 1, True)])
def test_parts_that_passed_the_gate_while_the_station_was_away_stop_the_line(
    seen: int, rejected: int, stops: bool
) -> None:
    before = Carried(totals=LineTotals(count=7, gate=2**32 - 1, rejected=5))
    gate = Gate(before=before)
    gate.tracker = Tracker(ENCODER, before)
    gate.gate, gate.rejected = (2**32 - 1 + seen) % 2**32, 5 + rejected
    gate.report()
    assert bool(gate.stop) is stops


def test_a_line_that_was_restarted_counts_from_zero_without_an_alarm() -> None:
    gate = Gate(before=Carried(totals=LineTotals(count=70_000, gate=400, rejected=20)))
    assert gate.stop == ""


def test_a_part_whose_trigger_came_before_the_first_report_is_rejected() -> None:
    tracker = Tracker(ENCODER)
    tracker.part("A", 0)
    tracker.judged("A", State.GO)
    assert not tracker.in_flight


def test_a_shift_register_tells_parts_by_their_place() -> None:
    gate = Gate(RejectSettings(track="shift_register", distance=4))
    found = []
    for number in range(12):
        gate.part(str(number), State.NO_GO if number == 5 else State.GO)
        gate.move(1)
        if gate.count >= 4:
            found.append(gate.see())
            if found[-1] is not None:
                gate.confirm()
    assert [number for number, why in enumerate(found) if why is not None] == [5]
    assert gate.stop == ""


# --- the belt


def run_belt(
    parts: list[PhysicalPart],
    *,
    bits: int = 16,
    offset: int = 0,
    jitter: int = 0,
    moves: Callable[[], int] = lambda: 1,
    restarts: tuple[int, ...] = (),
    seed: int = 0,
) -> tuple[FakeBelt, TrackedStation]:
    chance = random.Random(seed)
    chosen = RejectSettings.model_validate(
        {**ENCODER.model_dump(), "tolerance": 40, "counter_bits": bits, "confirm_within_s": 0.2}
    )
    station = TrackedStation(chosen)
    belt = FakeBelt(
        settings=chosen,
        station=station,
        speed=20,
        offset=offset,
        jitter=lambda: chance.randint(-jitter, jitter),
        moves=moves,
    )
    steps = iter(range(1_000_000))
    belt.run(parts, between=lambda: station.restart() if next(steps) in restarts else None)
    return belt, station


@st.composite
def lines(draw: st.DrawFn, *, faults: bool) -> list[PhysicalPart]:
    place, parts = 100, []
    for _ in range(draw(st.integers(1, 15))):
        place += draw(st.integers(100, 400))
        part = PhysicalPart(
            place=place,
            verdict=draw(st.sampled_from(list(State))),
            judged_after=draw(st.sampled_from([0, 300, 900])),
            slip=draw(st.integers(-10, 10)),
        )
        match draw(st.integers(0, 9)) if faults else 0:
            case 1:
                part.lost = True
            case 2:
                part.slip = draw(st.integers(-200, 200))
            case 3:
                part.judged_after = draw(st.sampled_from([1_200, None]))
            case 4:
                part.stays = True
        parts.append(part)
    return parts


@settings(deadline=None, max_examples=20)
@given(lines(faults=False), st.sampled_from([16, 32]), st.integers(0, 2_000), st.integers(0, 8))
def test_without_faults_exactly_the_bad_parts_are_rejected_also_over_a_rollover(
    parts: list[PhysicalPart], bits: int, before_rollover: int, jitter: int
) -> None:
    belt, station = run_belt(parts, bits=bits, offset=(1 << bits) - before_rollover, jitter=jitter)
    assert station.stops == []
    assert belt.rejected == [part for part in parts if part.bad]
    assert belt.passed == [part for part in parts if not part.bad]
    assert [order.part for order in station.orders] == [part.triggers[0] for part in belt.rejected]


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(lines(faults=True), st.lists(st.integers(0, 600), max_size=2), st.randoms(use_true_random=False), st.booleans())
def test_no_bad_part_passes_unnoticed_whatever_happens_between_camera_and_gate(
    parts: list[PhysicalPart], restarts: list[int], chance: random.Random, unsteady: bool
) -> None:
    ahead: list[int] = []

    def moves() -> int:
        if not ahead:
            ahead.extend(chance.choice([[1] * 60, [0] * 20, [-1] * chance.randint(1, 15)]) if unsteady else [1])
        return ahead.pop()

    belt, station = run_belt(parts, jitter=4, moves=moves, restarts=tuple(restarts), offset=65_000)
    assert belt.unnoticed == []
    slid = any(abs(part.slip) > 10 for part in parts)  # such a part may come in the place of another
    assert slid or belt.wrong_pulses == []
    assert all(not part.bad for part in belt.passed) or station.stops


# --- the station


def tracking_station(folder: Path) -> StationSettings:
    settings_for(folder, window_s=5.0, stall_s=30.0)
    toml = folder / "station.toml"
    text = toml.read_text() + (
        "[http]\nport = 1\ntoken_file = 'token'\n[reject]\ntrack = 'encoder'\ndistance = 1000\ntolerance = 30\n"
        "confirm_within_s = 60.0\nsilent_s = 3600.0\n"
    )
    (folder / "token").write_text("secret\n")
    toml.write_text(text)
    return parse_settings(text, folder=folder)


class Plc:
    """Reports over HTTP, with the token of the station."""

    def __init__(self, line: StationBench) -> None:
        self.server = StationServer(line.supervisor, host="127.0.0.1", port=0, token="secret", triggers=False).start()

    def report(self, count: int, gate: int = 0, rejected: int = 0) -> dict[str, Any]:
        return self.post({"count": count, "gate": gate, "rejected": rejected})

    def post(self, body: object, token: str = "secret") -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}/line",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def test_a_station_fires_at_the_gate_records_it_stops_and_goes_on_after_a_person(tmp_path: Path) -> None:
    chosen = tracking_station(tmp_path / "line")
    toml = str(tmp_path / "line" / "station.toml")
    with station_bench(chosen) as line:
        line.ready()
        plc = Plc(line)
        try:
            assert plc.report(0) == {"fire": None, "stop": ""}
            line.plc.fire(line.supervisor.submit, "good-1", count=0)
            line.plc.fire(line.supervisor.submit, "camera-dark-2", count=200)
            assert line.plc.wait("good-1", timeout_s=60).state is State.GO
            assert line.plc.wait("camera-dark-2", timeout_s=60).state is State.FAULT
            patiently(lambda: len(read_tracking(chosen)["parts"]) == 2, "the status does not show the parts")
            assert plc.report(1_000, gate=1)["fire"] is None
            fire = plc.report(1_200, gate=2)["fire"]
            assert (fire["part"], fire["number"], fire["why"]) == ("camera-dark-2", 1, "judged fault")
            assert plc.report(1_210, gate=2, rejected=1)["stop"] == ""
            line.plc.fire(line.supervisor.submit, "model-raise-3", count=1_300)
            line.plc.wait("model-raise-3", timeout_s=60)
            assert "did not come to the gate" in plc.report(2_400, gate=2, rejected=1)["stop"]
            assert line.supervisor.health is Health.HELD
            line.plc.fire(line.supervisor.submit, "good-4", count=2_400)
            stopped = line.plc.wait("good-4", timeout_s=60)
            assert (stopped.state, stopped.cause) == (State.FAULT, Cause.LINE_STOPPED)
            patiently(lambda: "line_stopped" in actions(chosen), "the stop is not recorded")
            result = CliRunner().invoke(app, ["station", "acknowledge", toml, "--what", "line", "--who", "A. Frueh"])
            assert result.exit_code == 0, result.output
            patiently(lambda: line.supervisor.health is Health.RUNNING, "the line is not released")
            line.plc.fire(line.supervisor.submit, "good-5", count=2_500)
            assert line.plc.wait("good-5", timeout_s=60).state is State.GO
            again = CliRunner().invoke(app, ["station", "acknowledge", toml, "--what", "line", "--who", "A. Frueh"])
            assert isinstance(again.exception, InputError)
            assert "already acknowledged" in str(again.exception)
            line.settled()
        finally:
            plc.server.close()
    expected = ["reject_ordered", "reject_confirmed", "line_stopped", "line_acknowledged", "line_released"]
    assert [each for each in actions(chosen) if each in expected] == expected
    assert (
        'gonogo_station_gate_total{event="confirmed",station="chaos"} 1.0'
        in (chosen.state_dir / "metrics.prom").read_text()
    )


def actions(chosen: StationSettings) -> list[str]:
    with Ledger.open(chosen.ledger, create=False) as ledger:
        return [row.record.action for row in ledger.actions()]


def read_tracking(chosen: StationSettings) -> dict[str, Any]:
    status = read_station_status(chosen.state_dir)
    return {"parts": []} if status is None else status["tracking"]


def test_reports_need_the_token_and_the_right_form(tmp_path: Path) -> None:
    with station_bench(tracking_station(tmp_path / "line")) as line:
        plc = Plc(line)
        try:
            for body, token, status in (
                ({"count": 1, "gate": 0, "rejected": 0}, "wrong", 401),
                ({"count": 1, "gate": 0}, "secret", 400),
                ({"count": -1, "gate": 0, "rejected": 0}, "secret", 400),
                ({"count": 1 << 32, "gate": 0, "rejected": 0}, "secret", 400),
                ("[", "secret", 400),
            ):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    plc.post(body, token)
                assert refused.value.code == status
        finally:
            plc.server.close()
    with pytest.raises(ValueError, match=r"below 2\^16"):
        parse_line('{"count": 65536, "gate": 0, "rejected": 0}', ENCODER.model_copy(update={"counter_bits": 16}))


def test_a_stop_survives_a_restart_of_the_station_and_a_damaged_file_stops_the_line(tmp_path: Path) -> None:
    noted: list[str] = []
    control = RejectControl(ENCODER, tmp_path, lambda action, details: noted.append(action))
    control.line(LineTotals(count=0, gate=0, rejected=0))
    control.line(LineTotals(count=1, gate=0, rejected=1))
    assert control.stopped
    again = RejectControl(ENCODER, tmp_path, lambda action, details: noted.append(action))
    assert again.stopped == control.stopped
    assert noted == ["reject_unasked", "line_stopped", "line_stopped"]  # again, should the first row be lost
    again.acknowledged(again.state().stop_id)
    assert not RejectControl(ENCODER, tmp_path, lambda action, details: None).stopped
    (tmp_path / "tracking.json").write_text("{")
    assert "cannot be read" in RejectControl(ENCODER, tmp_path, lambda action, details: None).stopped


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("track = 'encoder'\ndistance = 100", "at least 1 count"),
        ("track = 'shift_register'\ndistance = 4\ntolerance = 4", "less than distance"),
        ("track = 'conveyor'\ndistance = 4", "reject.track"),
        ("track = 'shift_register'\ndistance = 4\nstop_on = ['rain']", "stop_on"),
        ("track = 'shift_register'\ndistance = 4", "expected \\[http\\]"),
    ],
)
def test_wrong_settings_of_the_gate_are_refused(tmp_path: Path, section: str, complaint: str) -> None:
    settings_for(tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text() + f"[reject]\n{section}\n"
    with pytest.raises(InputError, match=complaint):
        parse_settings(text, folder=tmp_path)


def test_a_station_without_tracking_has_nothing_to_acknowledge(tmp_path: Path) -> None:
    settings_for(tmp_path / "line")
    toml = str(tmp_path / "line" / "station.toml")
    result = CliRunner().invoke(app, ["station", "acknowledge", toml, "--what", "line", "--who", "A. Frueh"])
    assert isinstance(result.exception, InputError)
    assert "[reject]" in str(result.exception)


def test_reports_from_many_threads_are_taken_one_after_the_other(tmp_path: Path) -> None:
    with station_bench(tracking_station(tmp_path / "line")) as line:
        plc = Plc(line)
        try:
            threads = [threading.Thread(target=plc.report, args=(0,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert plc.report(0) == {"fire": None, "stop": ""}
        finally:
            plc.server.close()


def test_the_station_page_shows_the_parts_between_camera_and_gate(tmp_path: Path) -> None:
    app = make_app(tmp_path / "plant")
    browser = Browser(app)
    browser.login("operator")
    space = app.state.components.workspace
    control = RejectControl(ENCODER, tmp_path, lambda action, details: None)
    for count, name in ((0, "A1"), (300, "A2"), (600, "A3")):
        control.line(LineTotals(count=count, gate=0, rejected=0))
        control.came(name, None)
    control.answered(fault(Trigger(id="A1", at=datetime.now(UTC), due_s=0.0), Cause.DARK, "too dark"))
    beat(space)
    path = space.station_state / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tracking": asdict(control.state())}))
    page = browser.get("/station").text
    assert "From camera to gate" in page
    assert "3 parts on the belt" in page
    assert re.findall(r'<g class="(\w+)"><title>(\w+)', page) == [("no_go", "A1"), ("wait", "A2"), ("wait", "A3")]

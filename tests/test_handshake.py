"""The timing diagram of the handshake, state by state: what each side may do wrong, and that no go is left behind."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from gonogo.line.handshake import (
    Action,
    Delivered,
    Handshake,
    Judge,
    Phase,
    Result,
    Select,
    StationView,
    Undelivered,
    Withdrawn,
)
from gonogo.line.messages import Cause
from gonogo.line.plc_image import (
    COMMAND_LATE,
    COMMAND_REFUSED,
    CONTROL_MEANING,
    CONTROL_PLACES,
    CONTROL_REGISTERS,
    FAULT_CODES,
    STATUS_MEANING,
    STATUS_PLACES,
    STATUS_REGISTERS,
    Control,
    Inputs,
    Outputs,
    Place,
    ResultCode,
    Status,
    control_inputs,
    control_registers,
    read_text_registers,
    status_outputs,
    status_registers,
    text_registers,
)
from gonogo.testing.plc_program import PlcProgram, Step

ENABLE, TRIGGER, ACK = Control.TRIGGER_ENABLE, Control.TRIGGER, Control.INSPECTION_RESULTS_ACK
BUFFER = Control.BUFFER_RESULTS_ENABLE
WINDOW_S, TIMEOUT_S = 1.0, 2.0
VERDICTS = Status.JOB_PASS | Status.NO_GO | Status.REVIEW | Status.FAULT


class Bench:
    """A handshake, its station by hand, and a clock."""

    def __init__(self, *, plc_heartbeat_s: float | None = None, first: int = 0) -> None:
        self.handshake = Handshake(plc_timeout_s=TIMEOUT_S, plc_heartbeat_s=plc_heartbeat_s, first=first)
        self.station = StationView(ready=True, job_id=1)
        self.now_s = 100.0
        self.done: list[Action] = []
        self.control = Control(0)

    def write(self, control: Control, *, part: str = "", command: int = 0, after_s: float = 0.01) -> Outputs:
        self.now_s += after_s
        self.control = control
        inputs = Inputs(control=control, part=part, command=command)
        self.done += self.handshake.step(inputs, self.station, self.now_s)
        return self.read()

    def read(self, after_s: float = 0.0) -> Outputs:
        self.now_s += after_s
        self.done += self.handshake.tick(self.station, self.now_s)
        found = self.handshake.outputs(self.now_s)
        assert_consistent(found)
        return found

    def answer(self, code: ResultCode = ResultCode.GO, *, number: int | None = None, after_s: float = 0.1) -> Outputs:
        self.now_s += after_s
        number = self.triggers()[-1] if number is None else number
        result = Result(code=code, due_s=self.now_s - after_s + WINDOW_S, score=-1.5, part="A")
        self.done += self.handshake.answered(number, result, self.now_s)
        return self.read()

    def triggers(self) -> list[int]:
        return [each.number for each in self.done if isinstance(each, Judge) and not each.missed]

    def found(self, kind: type) -> list[Action]:
        return [each for each in self.done if isinstance(each, kind)]

    def until(self, phase: Phase, *, enable: Control = ENABLE) -> Outputs:
        """Bring the handshake to a phase on the usual way, with a go in hand."""
        steps: dict[Phase, Callable[[], Outputs]] = {
            Phase.GONE: self.read,
            Phase.IDLE: lambda: self.write(enable),
            Phase.JUDGING: lambda: self.write(enable | TRIGGER, part="A"),
            Phase.RESULT: self.answer,
            Phase.RELEASING: lambda: self.write(enable | ACK),
        }
        found = self.read()
        for each, step in steps.items():
            found = step()
            assert self.handshake.phase is each
            if each is phase:
                break
        return found


def assert_consistent(found: Outputs) -> None:
    """Check what must hold for everything that a PLC can ever read."""
    shown = found.status & VERDICTS
    assert (Status.RESULTS_VALID in found.status) == (found.result_code is not ResultCode.NONE)
    assert (Status.JOB_PASS in found.status) == (found.result_code is ResultCode.GO)
    assert shown.bit_count() == (Status.RESULTS_VALID in found.status)
    assert not (Status.TRIGGER_READY in found.status and Status.SYSTEM_BUSY in found.status)
    assert (found.fault_code != 0) <= (found.result_code is ResultCode.FAULT)


EVERY_PHASE = pytest.mark.parametrize("phase", list(Phase))
WITH_A_PART = pytest.mark.parametrize("phase", [Phase.JUDGING, Phase.RESULT])


def test_a_part_goes_through_the_timing_diagram() -> None:
    line = Bench()
    assert Status.TRIGGER_READY not in line.read().status
    assert Status.TRIGGER_READY in line.write(ENABLE).status
    found = line.write(ENABLE | TRIGGER, part="A")
    assert found.status & (Status.TRIGGER_READY | Status.TRIGGER_ACK | Status.SYSTEM_BUSY) == (
        Status.TRIGGER_ACK | Status.SYSTEM_BUSY
    )
    assert found.acquisition_id == 1
    assert Status.TRIGGER_ACK not in line.write(ENABLE).status
    found = line.answer()
    assert found.status & (VERDICTS | Status.RESULTS_VALID | Status.SYSTEM_BUSY) == (
        Status.JOB_PASS | Status.RESULTS_VALID
    )
    assert Status.INSPECTION_COMPLETED | Status.EXPOSURE_COMPLETE in found.status
    assert (found.inspection_id, found.score, found.part, found.fault_code) == (1, -1.5, "A", 0)
    found = line.write(ENABLE | ACK)
    assert not found.status & (VERDICTS | Status.RESULTS_VALID | Status.TRIGGER_READY)
    assert Status.RESULT_TAKEN in found.status
    assert Status.TRIGGER_READY in line.write(ENABLE).status
    assert line.done == [Judge(number=1, part="A"), Delivered(number=1)]


@pytest.mark.parametrize(
    ("code", "bit"),
    [(ResultCode.NO_GO, Status.NO_GO), (ResultCode.REVIEW, Status.REVIEW), (ResultCode.FAULT, Status.FAULT)],
)
def test_every_verdict_has_its_bit(code: ResultCode, bit: Status) -> None:
    line = Bench()
    line.until(Phase.JUDGING)
    assert line.answer(code).status & VERDICTS == bit


@EVERY_PHASE
def test_a_plc_that_is_gone_leaves_no_go_and_starts_anew(phase: Phase) -> None:
    line = Bench()
    line.until(phase)
    found = line.read(TIMEOUT_S + 0.1)
    assert line.handshake.phase is Phase.GONE
    assert not found.status & (VERDICTS | Status.RESULTS_VALID | Status.TRIGGER_ACK | Status.TRIGGER_READY)
    if phase is Phase.JUDGING:
        line.answer()
    assert len(line.found(Undelivered)) == (phase in (Phase.JUDGING, Phase.RESULT))
    line.control = ENABLE
    assert not line.write(line.control | ACK).status & VERDICTS
    line.write(ENABLE)
    line.write(ENABLE | TRIGGER)
    assert Status.JOB_PASS in line.answer().status


@EVERY_PHASE
def test_a_lost_connection_leaves_no_go(phase: Phase) -> None:
    line = Bench()
    line.until(phase)
    line.done += line.handshake.lose("cut")
    assert not line.read().status & (VERDICTS | Status.RESULTS_VALID | Status.SYSTEM_BUSY)
    if phase is Phase.JUDGING:
        assert not line.answer().status & VERDICTS
    assert bool(line.found(Undelivered)) == (phase in (Phase.JUDGING, Phase.RESULT))


@EVERY_PHASE
def test_a_restarted_station_has_no_result_and_needs_a_new_edge(phase: Phase) -> None:
    before = Bench()
    before.until(phase)
    after = Bench(first=40_000)
    found = after.write(before.control)
    assert not found.status & (VERDICTS | Status.RESULTS_VALID | Status.TRIGGER_ACK | Status.SYSTEM_BUSY)
    assert not after.done
    after.write(ENABLE)
    assert after.write(ENABLE | TRIGGER).acquisition_id == 40_001


@EVERY_PHASE
def test_a_restarted_plc_needs_a_new_edge(phase: Phase) -> None:
    line = Bench()
    line.until(phase)
    line.done += line.handshake.lose("cut")
    asked = len(line.triggers())
    line.write(ENABLE | TRIGGER, part="A")
    line.write(ENABLE | TRIGGER, part="A")
    assert len(line.triggers()) == asked
    line.write(ENABLE)
    line.write(ENABLE | TRIGGER, part="A")
    assert len(line.triggers()) == asked + 1


@WITH_A_PART
def test_two_triggers_at_once_are_both_accounted_and_neither_is_go(phase: Phase) -> None:
    line = Bench()
    line.until(phase, enable=ENABLE | BUFFER)
    line.write(ENABLE | BUFFER)
    found = line.write(ENABLE | BUFFER | TRIGGER, part="B")
    assert Status.MISSED_ACQ in found.status
    assert Status.TRIGGER_ACK not in found.status
    assert (found.trigger_count, found.acquisition_id) == (2, 1)
    assert line.done[-1] == Judge(number=2, part="B", missed=True)
    if phase is Phase.JUDGING:
        found = line.answer(number=1)
    assert (found.result_code, found.fault_code, found.inspection_id) == (
        ResultCode.FAULT,
        FAULT_CODES[Cause.OVERRUN],
        1,
    )
    assert line.found(Withdrawn)
    line.answer(number=2)
    assert line.found(Undelivered) == [Undelivered(number=2, why="the trigger came without TriggerReady")]
    line.write(ENABLE | BUFFER)
    line.write(ENABLE | BUFFER | ACK, after_s=0.0)
    line.write(ENABLE | BUFFER, after_s=0.0)
    assert Delivered(number=1) in line.done
    found = line.write(ENABLE | BUFFER | TRIGGER)
    assert Status.MISSED_ACQ not in found.status
    assert Status.JOB_PASS in line.answer().status


def test_without_buffering_the_next_trigger_replaces_the_result() -> None:
    line = Bench()
    assert Status.TRIGGER_READY in (line.until(Phase.RESULT), line.write(ENABLE))[1].status
    found = line.write(ENABLE | TRIGGER)
    assert not found.status & VERDICTS
    assert Status.RESULTS_BUFFER_OVERRUN in found.status
    assert line.found(Undelivered) == [Undelivered(number=1, why="the next trigger came before the acknowledgement")]


def test_without_an_acknowledgement_go_becomes_a_fault_at_its_deadline() -> None:
    line = Bench()
    line.until(Phase.RESULT)
    for _ in range(8):
        found = line.write(ENABLE, after_s=0.1)
        assert Status.JOB_PASS in found.status
    found = line.write(ENABLE, after_s=0.2)
    assert found.status & VERDICTS == Status.FAULT
    assert found.fault_code == found.error_code == FAULT_CODES[Cause.LATE]
    assert [type(each) for each in line.done] == [Judge, Withdrawn]
    line.write(ENABLE | ACK)
    assert Delivered(number=1) in line.done


def test_an_acknowledgement_that_crosses_the_deadline_is_not_taken_for_the_fault() -> None:
    line = Bench()
    line.until(Phase.RESULT)
    found = line.write(ENABLE | ACK, after_s=WINDOW_S + 0.1)
    assert found.status & (VERDICTS | Status.RESULTS_VALID | Status.RESULT_TAKEN) == Status.FAULT | Status.RESULTS_VALID
    line.write(ENABLE)
    assert Status.RESULT_TAKEN in line.write(ENABLE | ACK).status


def test_a_plc_that_never_lowers_the_crossed_acknowledgement_is_released_after_its_timeout() -> None:
    line = Bench()
    line.until(Phase.RESULT)
    for _ in range(4):
        found = line.write(ENABLE | ACK, after_s=TIMEOUT_S - 0.5)
    assert Status.RESULT_TAKEN in found.status


def test_a_late_answer_is_a_fault() -> None:
    line = Bench()
    line.until(Phase.JUDGING)
    line.write(ENABLE, after_s=0.5)
    result = Result(code=ResultCode.GO, due_s=line.now_s - 0.1)
    line.done += line.handshake.answered(1, result, line.now_s)
    assert line.read().fault_code == FAULT_CODES[Cause.LATE]
    assert Withdrawn(number=1, why="the answer came too late") in line.done


def test_a_slow_plc_gets_its_result() -> None:
    line, plc = Bench(), PlcProgram(timeout_s=10.0)
    plc.ask("A", line.now_s)
    read = line.read()
    for cycle in range(12):
        inputs = plc.scan(read, line.now_s)
        read = line.write(inputs.control, part=inputs.part, after_s=0.4)
        if cycle == 3:
            read = line.answer()
    assert [each.verdict for each in plc.taken] == [ResultCode.GO]


def test_a_result_waits_for_the_end_of_the_last_acknowledgement() -> None:
    line = Bench()
    line.until(Phase.RELEASING)
    line.write(ENABLE)
    line.write(ENABLE | TRIGGER | ACK)
    assert Status.RESULTS_VALID not in line.answer().status
    assert Status.JOB_PASS in line.write(ENABLE).status


def test_a_hidden_result_becomes_a_fault_at_its_deadline() -> None:
    line = Bench()
    line.until(Phase.IDLE)
    line.write(ENABLE | TRIGGER | ACK)
    line.answer()
    line.write(ENABLE | ACK, after_s=WINDOW_S)
    assert line.write(ENABLE).fault_code == FAULT_CODES[Cause.LATE]


@WITH_A_PART
def test_a_product_change_applies_only_after_the_part_in_hand(phase: Phase) -> None:
    line = Bench()
    line.until(phase)
    command = ENABLE | Control.EXECUTE_COMMAND
    assert Status.COMMAND_EXECUTING in line.write(command, command=2).status
    assert not line.found(Select)
    if phase is Phase.JUDGING:
        line.answer()
    line.write(command | ACK, command=3)  # the number is that of the edge
    assert not line.found(Select)
    found = line.write(command)
    assert line.found(Select) == [Select(job_id=2)]
    assert Status.TRIGGER_READY not in found.status
    line.station = StationView(ready=True, job_id=2)
    found = line.write(command)
    assert found.current_job_id == 2
    assert Status.COMMAND_COMPLETED in found.status
    assert Status.COMMAND_EXECUTING not in found.status
    found = line.write(ENABLE)
    assert Status.COMMAND_COMPLETED not in found.status
    assert Status.TRIGGER_READY in found.status


def test_a_trigger_during_a_product_change_is_missed() -> None:
    line = Bench()
    line.until(Phase.IDLE)
    line.write(ENABLE | Control.EXECUTE_COMMAND, command=2)
    assert Status.MISSED_ACQ in line.write(ENABLE | Control.EXECUTE_COMMAND | TRIGGER, command=2).status


def test_a_product_change_that_fails_says_so() -> None:
    line = Bench()
    line.until(Phase.IDLE)
    line.write(ENABLE | Control.EXECUTE_COMMAND, command=9)
    line.handshake.command_refused(COMMAND_REFUSED)
    found = line.read()
    assert Status.COMMAND_FAILED | Status.ERROR in found.status
    assert found.error_code == COMMAND_REFUSED
    line.write(ENABLE)
    line.write(ENABLE | Control.EXECUTE_COMMAND, command=2)
    for _ in range(40):
        found = line.write(ENABLE | Control.EXECUTE_COMMAND, command=2, after_s=1.0)
    assert Status.COMMAND_FAILED in found.status
    assert found.error_code == COMMAND_LATE


def test_a_stopped_heartbeat_is_a_plc_that_is_gone_and_its_next_beat_brings_it_back() -> None:
    line, beat = Bench(plc_heartbeat_s=0.5), Control.HEARTBEAT
    assert Status.TRIGGER_READY not in line.write(ENABLE).status
    assert Status.TRIGGER_READY in line.write(ENABLE | beat).status
    line.write(ENABLE | beat | TRIGGER)
    assert Status.JOB_PASS in line.answer().status
    for _ in range(3):
        found = line.write(ENABLE | beat, after_s=0.3)
    assert not found.status & (VERDICTS | Status.TRIGGER_READY)
    assert line.handshake.phase is Phase.GONE
    line.write(ENABLE)
    assert Status.TRIGGER_READY in line.write(ENABLE | beat).status


def test_the_stations_heartbeat_counts_and_toggles() -> None:
    line = Bench()
    found = [line.read(0.5) for _ in range(4)]
    assert [each.heartbeat - found[0].heartbeat for each in found] == [0, 1, 2, 3]
    assert {Status.HEARTBEAT in each.status for each in found} == {True, False}


@pytest.mark.parametrize("step_s", [-1e6, 1e6])
def test_a_stepped_clock_never_brings_go_back(step_s: float) -> None:
    line = Bench()
    line.until(Phase.RESULT)
    line.write(ENABLE, after_s=WINDOW_S + 0.1)
    assert line.write(ENABLE, after_s=step_s).status & VERDICTS in (Status.FAULT, Status(0))


def test_a_station_that_cannot_judge_is_offline() -> None:
    line = Bench()
    line.station = StationView(ready=False, job_id=0)
    found = line.write(ENABLE)
    assert found.status & (Status.ONLINE | Status.TRIGGER_READY | Status.OFFLINE_REASON_0) == Status.OFFLINE_REASON_0
    line.station = StationView(ready=True, job_id=1)
    found = line.write(ENABLE | Control.SET_OFFLINE)
    assert int(found.status) >> 4 & 7 == 3
    assert Status.TRIGGER_READY not in found.status
    assert Status.TRIGGER_READY in line.write(ENABLE).status


def test_a_trigger_means_nothing_without_trigger_enable() -> None:
    line = Bench()
    line.write(Control(0))
    line.write(TRIGGER)
    assert not line.done


def test_clear_error_clears_what_is_kept() -> None:
    line = Bench()
    line.until(Phase.JUDGING)
    line.write(ENABLE)
    line.write(ENABLE | TRIGGER)
    line.answer(number=1)
    assert Status.ERROR | Status.MISSED_ACQ in line.read().status
    found = line.write(ENABLE | Control.CLEAR_ERROR)
    assert not found.status & (Status.ERROR | Status.MISSED_ACQ)
    assert found.error_code == 0
    assert found.status & VERDICTS == Status.FAULT


def test_the_other_bits_of_in_sight_answer() -> None:
    line = Bench()
    line.until(Phase.RESULT)
    found = line.write(ENABLE | Control.SET_USER_DATA | Control.CLEAR_EXPOSURE_COMPLETE)
    assert Status.SET_USER_DATA_ACK in found.status
    assert Status.EXPOSURE_COMPLETE not in found.status


def test_an_answer_that_nobody_expects_is_not_shown() -> None:
    line = Bench()
    line.until(Phase.IDLE)
    line.done += line.handshake.answered(7, Result(code=ResultCode.GO, due_s=1e9), line.now_s)
    assert not line.read().status & VERDICTS
    assert line.found(Undelivered)


def test_numbers_wrap_without_zero() -> None:
    line = Bench(first=65_535)
    line.until(Phase.IDLE)
    assert line.write(ENABLE | TRIGGER).acquisition_id == 1


@pytest.mark.parametrize("seed", range(30))
def test_whatever_both_sides_do_every_trigger_is_accounted_once_and_go_is_never_alone(seed: int) -> None:
    draw = random.Random(seed)
    line, given = Bench(plc_heartbeat_s=draw.choice([None, 0.5])), set[int]()
    for _ in range(600):
        waiting = [each.number for each in line.done if isinstance(each, Judge) and each.number not in given]
        match draw.randrange(8):
            case 0:
                line.read(draw.choice([0.0, 0.01, 0.3, WINDOW_S, TIMEOUT_S + 0.1]))
            case 1 | 2 if waiting:
                given.add(number := draw.choice(waiting))
                line.answer(draw.choice(list(ResultCode)[1:]), number=number, after_s=0.01)
            case 3 if draw.random() < 0.1:
                line.done += line.handshake.lose("cut")
            case _:
                control = Control(sum(each for each in Control if draw.random() < 0.4))
                line.write(control, command=draw.randrange(3), after_s=draw.choice([0.0, 0.01, 0.1]))
    asked = [each.number for each in line.done if isinstance(each, Judge)]
    for number in sorted(set(asked) - given):
        line.answer(number=number, after_s=0.0)
    line.done += line.handshake.lose("the end")
    assert sorted(each.number for each in line.done if isinstance(each, Delivered | Undelivered)) == sorted(asked)


def test_the_image_survives_the_registers() -> None:
    outputs = Outputs(
        status=Status.ONLINE | Status.FAULT, score=-1.5, part="Teil-7 ü", heartbeat=9, result_code=ResultCode.FAULT
    )
    for order in ("high_first", "low_first"):
        assert status_outputs(status_registers(outputs, order=order), order=order) == outputs  # type: ignore[arg-type]
    inputs = Inputs(control=Control.HEARTBEAT | TRIGGER, command=3, part="A")
    assert control_inputs(control_registers(inputs)) == inputs
    assert len(status_registers(outputs)) == STATUS_REGISTERS
    assert len(control_registers(inputs)) == CONTROL_REGISTERS


def test_a_name_is_cut_between_characters_and_garbage_is_no_name() -> None:
    assert read_text_registers(text_registers("ü" * 40)) == "ü" * 16
    assert read_text_registers(text_registers("x" + "ü" * 40)) == "x" + "ü" * 15
    assert "\\" in read_text_registers([0xFFFF] * 16)


@pytest.mark.parametrize("places", [CONTROL_PLACES, STATUS_PLACES])
def test_the_documented_registers_leave_no_gap(places: tuple[Place, ...]) -> None:
    for before, after in itertools.pairwise(places):
        assert before.first + before.count == after.first


def test_every_bit_and_cause_is_documented() -> None:
    assert list(CONTROL_MEANING) == list(Control)
    assert list(STATUS_MEANING) == list(Status)
    assert set(FAULT_CODES) == set(Cause)
    assert len(set(FAULT_CODES.values())) == len(FAULT_CODES)


def test_a_plc_without_a_result_in_time_gives_up() -> None:
    plc = PlcProgram(timeout_s=1.0)
    plc.ask("A", 0.0)
    plc.scan(Outputs(), 2.0)
    assert (plc.step, plc.taken[0].verdict) == (Step.NOTHING, ResultCode.NONE)

"""The state machines of OPC 40100-1, without a server."""

from __future__ import annotations

import itertools

import pytest

from gonogo.line.opcua.machine import TRANSITIONS, Machine, RefusedTransitionError, Stage
from gonogo.line.opcua.model import fields


def at(stage: Stage) -> Machine:
    machine = Machine()
    machine.stage = stage
    return machine


def test_after_power_up_the_station_becomes_ready_by_itself() -> None:
    machine = Machine()
    numbers = [machine.move(target).number for target in (Stage.INITIALIZED, Stage.READY)]
    assert numbers == [150, 560]


def test_a_job_and_its_end() -> None:
    machine = at(Stage.READY)
    assert machine.move(Stage.SINGLE_EXECUTION, "StartSingleJob").number == 671
    assert machine.move(Stage.READY).number == 760


def test_an_error_ends_every_automatic_state() -> None:
    for stage in (Stage.INITIALIZED, Stage.READY, Stage.SINGLE_EXECUTION, Stage.CONTINUOUS_EXECUTION):
        machine = at(stage)
        assert machine.move(Stage.ERROR).number == 430
        assert machine.move(Stage.INITIALIZED).number == 340


ALLOWED = {(each.source, each.target, each.cause) for each in TRANSITIONS}
INNERMOST = [stage for stage in Stage if stage is not Stage.OPERATIONAL]


@pytest.mark.parametrize("cause", ["", "StartSingleJob", "Stop", "Abort", "Halt", "Reset", "SelectModeAutomatic"])
def test_only_the_transitions_of_the_model_are_allowed(cause: str) -> None:
    for source, target in itertools.product(INNERMOST, repeat=2):
        check(source, target, cause)


def check(source: Stage, target: Stage, cause: str) -> None:
    aims = {target, Stage.OPERATIONAL} if target is Stage.INITIALIZED else {target}
    allowed = any((each, aim, cause) in ALLOWED for each in (source, source.outer) for aim in aims)
    machine = at(source)
    if allowed:
        machine.move(target, cause)
        assert machine.stage is target
    else:
        with pytest.raises(RefusedTransitionError, match="not possible"):
            machine.move(target, cause)
        assert machine.stage is source


def test_numbers_name_the_states_they_connect() -> None:
    assert len({each.number for each in TRANSITIONS}) == len(TRANSITIONS)
    for each in TRANSITIONS:
        assert each.name.startswith(f"{each.source.label}To{each.target.label}")


def test_fields_are_parsed() -> None:
    plain, listed, maybe = fields("A:String B:Int32[] C:Byte?")
    assert (plain.name, plain.type) == ("A", "String")
    assert (listed.array, listed.optional) == (True, False)
    assert (maybe.optional, maybe.type) == (True, "Byte")

"""The state machines of OPC 40100-1: states, transitions with their numbers, and what is allowed when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gonogo.errors import GonogoError


class Stage(Enum):
    """A state, with its number in the model; those above 4 are inside ``Operational``."""

    PREOPERATIONAL = ("Preoperational", 1)
    HALTED = ("Halted", 2)
    ERROR = ("Error", 3)
    OPERATIONAL = ("Operational", 4)
    INITIALIZED = ("Initialized", 5)
    READY = ("Ready", 6)
    SINGLE_EXECUTION = ("SingleExecution", 7)
    CONTINUOUS_EXECUTION = ("ContinuousExecution", 8)

    @property
    def label(self) -> str:
        """Name in the model."""
        return self.value[0]

    @property
    def number(self) -> int:
        """Number in the model."""
        return self.value[1]

    @property
    def outer(self) -> Stage:
        """The state of the outer machine that it belongs to."""
        return Stage.OPERATIONAL if self.number > Stage.OPERATIONAL.number else self


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A transition; without a method as its cause the station makes it by itself."""

    name: str
    number: int
    source: Stage
    target: Stage
    cause: str = ""

    @property
    def inner(self) -> bool:
        """Whether it stands in the machine of the automatic mode."""
        return self.source.number > Stage.OPERATIONAL.number


_TABLE = """
PreoperationalToHalted 121 Halt; PreoperationalToHaltedAuto 120; PreoperationalToErrorAuto 130
PreoperationalToOperational 141 SelectModeAutomatic; PreoperationalToOperationalAuto 140
PreoperationalToInitialized 151 SelectModeAutomatic; PreoperationalToInitializedAuto 150
HaltedToPreoperational 211 Reset; HaltedToPreoperationalAuto 210
ErrorToPreoperational 311 Reset; ErrorToPreoperationalAuto 310; ErrorToHalted 321 Halt; ErrorToHaltedAuto 320
ErrorToOperationalAuto 340
OperationalToPreoperational 411 Reset; OperationalToPreoperationalAuto 410; OperationalToHalted 421 Halt
OperationalToHaltedAuto 420; OperationalToErrorAuto 430
InitializedToReadyAuto 560; InitializedToReadyRecipe 561 PrepareRecipe; InitializedToReadyProduct 562 PrepareProduct
ReadyToInitializedAuto 650; ReadyToInitializedRecipe 651 UnprepareRecipe
ReadyToInitializedProduct 652 UnprepareProduct
ReadyToSingleExecution 671 StartSingleJob; ReadyToSingleExecutionAuto 670
ReadyToContinuousExecution 681 StartContinuous; ReadyToContinuousExecutionAuto 680
SingleExecutionToReadyAuto 760; SingleExecutionToReadyStop 761 Stop; SingleExecutionToReadyAbort 762 Abort
ContinuousExecutionToReadyAuto 860; ContinuousExecutionToReadyStop 861 Stop; ContinuousExecutionToReadyAbort 862 Abort
"""
_STAGES = {stage.number: stage for stage in Stage}


def _parsed() -> tuple[Transition, ...]:
    found = []
    for entry in _TABLE.replace("\n", ";").split(";"):
        if words := entry.split():
            number = int(words[1])
            source, target = _STAGES[number // 100], _STAGES[number // 10 % 10]
            cause = words[2] if len(words) > 2 else ""
            found.append(Transition(name=words[0], number=number, source=source, target=target, cause=cause))
    return tuple(found)


TRANSITIONS = _parsed()
"""Every transition of both machines: the first digits of a number are those of its two states."""


class RefusedTransitionError(GonogoError):
    """A method is not allowed in the present state."""


class Machine:
    """Both state machines as one: the present state is always the innermost."""

    def __init__(self) -> None:
        self.stage = Stage.PREOPERATIONAL

    def move(self, target: Stage, cause: str = "") -> Transition:
        """Go to a state, and return the transition that leads there.

        Raises:
            RefusedTransitionError: the model has no such transition from the present state.
        """
        # The operational state is entered at Initialized, also where the transition names only the outer state.
        aims = (target, Stage.OPERATIONAL) if target is Stage.INITIALIZED else (target,)
        for aim in aims:
            for each in TRANSITIONS:
                if each.target is aim and each.cause == cause and each.source in (self.stage, self.stage.outer):
                    self.stage = target
                    return each
        raise RefusedTransitionError(
            f"{cause or target.label} is not possible in state {self.stage.label}. Wait for another state, or call "
            "Reset."
        )

"""What a PLC and a station exchange: the bits, the words, and where each lies in the registers.

Names and places of the control and status bits are those of the Modbus blocks of Cognex's In-Sight cameras (firmware 5
and later), so that PLC code for one of them fits. Bits that In-Sight leaves free carry what it does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Literal, TypeAlias

from gonogo.line.messages import Cause

FloatOrder: TypeAlias = Literal["high_first", "low_first"]
"""Which half of a 32-bit number lies in the register with the lower address."""

PART_REGISTERS = 16
"""Registers of the part's name: two characters of UTF-8 each, the first one in the high byte; 0 ends it."""


class Control(IntFlag):
    """What the PLC tells the station: the first two control registers."""

    TRIGGER_ENABLE = 1 << 0
    TRIGGER = 1 << 1
    BUFFER_RESULTS_ENABLE = 1 << 2
    INSPECTION_RESULTS_ACK = 1 << 3
    EXECUTE_COMMAND = 1 << 4
    SET_OFFLINE = 1 << 7
    SET_USER_DATA = 1 << 16
    CLEAR_ERROR = 1 << 18
    CLEAR_EXPOSURE_COMPLETE = 1 << 19
    HEARTBEAT = 1 << 24


class Status(IntFlag):
    """What the station tells the PLC: the first two status registers."""

    TRIGGER_READY = 1 << 0
    TRIGGER_ACK = 1 << 1
    MISSED_ACQ = 1 << 3
    OFFLINE_REASON_0 = 1 << 4
    OFFLINE_REASON_1 = 1 << 5
    OFFLINE_REASON_2 = 1 << 6
    ONLINE = 1 << 7
    SYSTEM_BUSY = 1 << 8
    INSPECTION_COMPLETED = 1 << 9
    RESULTS_BUFFER_OVERRUN = 1 << 10
    RESULTS_VALID = 1 << 11
    COMMAND_EXECUTING = 1 << 12
    COMMAND_COMPLETED = 1 << 13
    COMMAND_FAILED = 1 << 14
    ERROR = 1 << 15
    SET_USER_DATA_ACK = 1 << 16
    EXPOSURE_COMPLETE = 1 << 19
    JOB_PASS = 1 << 20
    NO_GO = 1 << 21
    REVIEW = 1 << 22
    FAULT = 1 << 23
    HEARTBEAT = 1 << 24
    RESULT_TAKEN = 1 << 25


class ResultCode(IntEnum):
    """The verdict as a number. 0 is none, so a register that was never written is not a go."""

    NONE = 0
    GO = 1
    NO_GO = 2
    REVIEW = 3
    FAULT = 4


NO_CONTROL, NO_STATUS = Control(0), Status(0)

CONTROL_MEANING = {
    Control.TRIGGER_ENABLE: "triggers are accepted; without it `Trigger` means nothing",
    Control.TRIGGER: "rising edge: a part is in front of the camera; hold it until `TriggerAck`",
    Control.BUFFER_RESULTS_ENABLE: "no new trigger is accepted until the result is acknowledged",
    Control.INSPECTION_RESULTS_ACK: "the PLC has read the result; hold it until `ResultsValid` is 0",
    Control.EXECUTE_COMMAND: "rising edge: select the product with the number in `Command`",
    Control.SET_OFFLINE: "no triggers are accepted while it is 1",
    Control.SET_USER_DATA: "mirrored in `SetUserDataAck`; the part's name is read at the trigger, with or without it",
    Control.CLEAR_ERROR: "rising edge: clears `Error`, `ErrorCode`, `MissedAcq` and `ResultsBufferOverrun`",
    Control.CLEAR_EXPOSURE_COMPLETE: "clears `ExposureComplete`",
    Control.HEARTBEAT: "In-Sight: `SoftEvent0`. To be toggled by the PLC if `plc_heartbeat_s` is set",
}
STATUS_MEANING = {
    Status.TRIGGER_READY: "a trigger is accepted",
    Status.TRIGGER_ACK: "the trigger was accepted; 0 when `Trigger` is 0",
    Status.MISSED_ACQ: "a trigger came without `TriggerReady`; it and the part in hand are faults",
    Status.OFFLINE_REASON_0: "with the next two a number: 0 online, 1 the station cannot judge, 3 `SetOffline`",
    Status.OFFLINE_REASON_1: "",
    Status.OFFLINE_REASON_2: "",
    Status.ONLINE: "the station judges",
    Status.SYSTEM_BUSY: "a part is being judged",
    Status.INSPECTION_COMPLETED: "changes with every new result",
    Status.RESULTS_BUFFER_OVERRUN: "a result was lost because it was not acknowledged",
    Status.RESULTS_VALID: "the result is valid; 0 after it is acknowledged",
    Status.COMMAND_EXECUTING: "the product is being changed",
    Status.COMMAND_COMPLETED: "the product was changed; 0 when `ExecuteCommand` is 0",
    Status.COMMAND_FAILED: "the product was not changed; 0 when `ExecuteCommand` is 0",
    Status.ERROR: "see `ErrorCode`; 0 after `ClearError`",
    Status.SET_USER_DATA_ACK: "mirrors `SetUserData`",
    Status.EXPOSURE_COMPLETE: "the picture of the part is taken",
    Status.JOB_PASS: "go, only together with `ResultsValid`",
    Status.NO_GO: "no-go. Reserved by In-Sight, like the next two",
    Status.REVIEW: "a person decides",
    Status.FAULT: "the part could not be judged, see `FaultCode`",
    Status.HEARTBEAT: "In-Sight: `SoftEventAck0`. Toggles every `heartbeat_s`",
    Status.RESULT_TAKEN: "In-Sight: `SoftEventAck1`. The acknowledgement was in time; 0 when it is 0",
}

FAULT_CODES = {
    Cause.CAMERA_LOST: 1,
    Cause.NO_FRAME: 2,
    Cause.UNMATCHED: 3,
    Cause.UNREADABLE: 4,
    Cause.FROZEN: 5,
    Cause.DARK: 6,
    Cause.SATURATED: 7,
    Cause.BLURRED: 8,
    Cause.BLOCKED: 9,
    Cause.WRONG_SIZE: 10,
    Cause.MODEL: 20,
    Cause.INSPECTOR: 21,
    Cause.CODE: 22,
    Cause.LATE: 30,
    Cause.OVERRUN: 31,
    Cause.PROCESS: 32,
    Cause.LEDGER: 33,
    Cause.DISK_FULL: 34,
    Cause.REUSED_ID: 35,
    Cause.CHALLENGE: 40,
    Cause.LINE_STOPPED: 41,
}
"""The number of each cause in ``FaultCode`` and ``ErrorCode``; numbers are never reused."""
REFUSED_PART, COMMAND_REFUSED, COMMAND_LATE = 50, 51, 52
OWN_CODES = {
    REFUSED_PART: "the part's name is not allowed",
    COMMAND_REFUSED: "the station has no product with this number",
    COMMAND_LATE: "the product was not changed in time",
}
"""The codes besides the causes."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the PLC wrote."""

    control: Control = NO_CONTROL
    command: int = 0
    """Number of the product that ``EXECUTE_COMMAND`` selects, from 1."""
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the PLC reads; everything is 0 before the first part."""

    status: Status = NO_STATUS
    current_job_id: int = 0
    error_code: int = 0
    acquisition_id: int = 0
    inspection_id: int = 0
    result_code: ResultCode = ResultCode.NONE
    score: float = 0.0
    fault_code: int = 0
    trigger_count: int = 0
    heartbeat: int = 0
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Registers of one value, counted from the start of its block."""

    name: str
    first: int
    count: int
    kind: str
    meaning: str


CONTROL_PLACES = (
    Place(name="Control", first=0, count=2, kind="32 bits", meaning="the control bits"),
    Place(name="Command", first=2, count=1, kind="uint16", meaning="number of a product, for `ExecuteCommand`"),
    Place(name="UserData", first=3, count=PART_REGISTERS, kind="text", meaning="name of the part, up to 32 bytes"),
)
STATUS_PLACES = (
    Place(name="Status", first=0, count=2, kind="32 bits", meaning="the status bits"),
    Place(name="CurrentJobID", first=2, count=1, kind="uint16", meaning="number of the selected product; 0 none"),
    Place(name="ErrorCode", first=3, count=1, kind="uint16", meaning="the last error, until `ClearError`"),
    Place(name="AcquisitionID", first=4, count=1, kind="uint16", meaning="number of the last accepted trigger"),
    Place(name="InspectionID", first=5, count=1, kind="uint16", meaning="number of the trigger of the result"),
    Place(
        name="InspectionResultCode", first=6, count=1, kind="uint16", meaning="0 none, 1 go, 2 no-go, 3 review, 4 fault"
    ),
    Place(name="Score", first=7, count=2, kind="float32", meaning="score of the part; 0 with a fault"),
    Place(name="FaultCode", first=9, count=1, kind="uint16", meaning="why the result is a fault"),
    Place(name="TriggerCount", first=10, count=1, kind="uint16", meaning="number of the last trigger, missed ones too"),
    Place(name="Heartbeat", first=11, count=1, kind="uint16", meaning="counts up every `heartbeat_s`"),
    Place(name="ResultPart", first=12, count=PART_REGISTERS, kind="text", meaning="name of the part of the result"),
)
CONTROL_REGISTERS, STATUS_REGISTERS = 3 + PART_REGISTERS, 12 + PART_REGISTERS
KNOWN_CONTROL = sum(Control)


def name_of(bit: Control | Status) -> str:
    """Return the name of a bit as PLC programs write it: ``TriggerReady``."""
    return "".join(word.capitalize() for word in (bit.name or "").split("_"))


def text_registers(text: str) -> list[int]:
    """Return the registers of a part's name; what does not fit is cut off between characters."""
    data = text.encode()[: 2 * PART_REGISTERS].decode(errors="ignore").encode()
    return list(struct.unpack(f">{PART_REGISTERS}H", data.ljust(2 * PART_REGISTERS, b"\0")))


def read_text_registers(registers: Sequence[int]) -> str:
    """Return the name in these registers; bytes that are not UTF-8 become escapes, which no name may contain."""
    data = struct.pack(f">{len(registers)}H", *registers)
    return data.split(b"\0")[0].decode(errors="backslashreplace").rstrip(" ")


def control_inputs(registers: Sequence[int]) -> Inputs:
    """Return what the control registers say; unknown bits are dropped."""
    bits = registers[0] | registers[1] << 16
    return Inputs(control=Control(bits & KNOWN_CONTROL), command=registers[2], part=read_text_registers(registers[3:]))


def control_registers(inputs: Inputs) -> list[int]:
    """Return the control registers, as a PLC writes them."""
    return [inputs.control & 0xFFFF, inputs.control >> 16, inputs.command, *text_registers(inputs.part)]


def status_registers(outputs: Outputs, *, order: FloatOrder = "high_first") -> list[int]:
    """Return the status registers."""
    score = list(struct.unpack(">2H", struct.pack(">f", outputs.score)))
    return [
        outputs.status & 0xFFFF,
        outputs.status >> 16,
        outputs.current_job_id,
        outputs.error_code,
        outputs.acquisition_id,
        outputs.inspection_id,
        outputs.result_code,
        *(score if order == "high_first" else reversed(score)),
        outputs.fault_code,
        outputs.trigger_count,
        outputs.heartbeat,
        *text_registers(outputs.part),
    ]


def status_outputs(registers: Sequence[int], *, order: FloatOrder = "high_first") -> Outputs:
    """Return what the status registers say, as a PLC reads them."""
    score = registers[7:9] if order == "high_first" else list(reversed(registers[7:9]))
    return Outputs(
        status=Status(registers[0] | registers[1] << 16),
        current_job_id=registers[2],
        error_code=registers[3],
        acquisition_id=registers[4],
        inspection_id=registers[5],
        result_code=ResultCode(registers[6]),
        score=struct.unpack(">f", struct.pack(">2H", *score))[0],
        fault_code=registers[9],
        trigger_count=registers[10],
        heartbeat=registers[11],
        part=read_text_registers(registers[12:]),
    )

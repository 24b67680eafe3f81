"""One inspection station on a line: trigger, camera, verdict, record, answer.

A station consists of two processes. The `Supervisor` talks to the line, keeps the deadlines and monitors the worker;
the worker's `Station` acquires, judges and records. An answer other than ``fault`` is given only after its record is
on disk, and every failure becomes a fault within the window. See ``docs/station.md``.
"""

from gonogo.line.messages import Answer, Cause, Trigger
from gonogo.line.state import Health
from gonogo.station.answers import AnswerError, Port, Sender
from gonogo.station.cameras import CameraParts
from gonogo.station.cycle import FOLLOWS, Cycle, Step
from gonogo.station.example import EXAMPLE
from gonogo.station.judging import ANSWERED_FAULT, Station
from gonogo.station.models import LoadedBundle, ModelSlot, Swap
from gonogo.station.running import run_station, worker_command
from gonogo.station.settings import StationSettings, parse_settings, read_settings
from gonogo.station.status import read_station_status
from gonogo.station.supervisor import Supervisor

__all__ = [
    "ANSWERED_FAULT",
    "EXAMPLE",
    "FOLLOWS",
    "Answer",
    "AnswerError",
    "CameraParts",
    "Cause",
    "Cycle",
    "Health",
    "LoadedBundle",
    "ModelSlot",
    "Port",
    "Sender",
    "Station",
    "StationSettings",
    "Step",
    "Supervisor",
    "Swap",
    "Trigger",
    "parse_settings",
    "read_settings",
    "read_station_status",
    "run_station",
    "worker_command",
]

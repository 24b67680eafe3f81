"""The messages between supervisor and worker."""

from __future__ import annotations

import io
import json
import sys
import time
import typing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gonogo.line.messages import Answer
from gonogo.schema import State
from gonogo.station import Cause, Health, Supervisor, Trigger
from gonogo.station.changeover import Changeover
from gonogo.station.messages import (
    VERSION,
    BundleReport,
    Dying,
    ExpectPicture,
    FaultRecorded,
    FaultUnrecordable,
    Housekeep,
    JudgePart,
    MessageError,
    NoteHandled,
    PartFaulted,
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
from gonogo.testing.station import settings_for

NOW = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
TRIGGER = Trigger(id="A", part="P", lot="L", at=NOW, due_s=12.5)
GO = Answer(trigger_id="A", state=State.GO, reason="ok", score=-1.5, row=7, timings_ms={"a": 1.0}, sole_until_s=3.0)
FAULT = Answer(trigger_id="A", state=State.FAULT, reason="dark", cause=Cause.DARK)
REPORT = WorkerReport(
    bundles=(BundleReport(name="caps", sha256="ab", path="/b", trouble=""),),
    pictures={"main": {"waiting": 1}},
    troubles=("disk",),
    held="overdue",
    challenge_due=NOW,
)
FOR_WORKER = [
    JudgePart(trigger=TRIGGER),
    RecordFault(trigger=TRIGGER, cause=Cause.LATE, reason="slow", answered=True),
    RecordNote(action="undelivered", details={"row": 3, "why": "gone"}),
    Housekeep(),
    ExpectPicture(trigger_id="A", came_s=1.5),
    PartFaulted(at_s=2.5),
]
FOR_SUPERVISOR = [
    Ready(report=REPORT),
    PartJudged(answer=GO),
    FaultRecorded(answer=FAULT),
    FaultUnrecordable(reason="no"),
    NoteHandled(retry=True),
    Reported(report=WorkerReport()),
    Dying(reason="lens \u00e4"),
]


def test_every_message_arrives_as_it_was_sent() -> None:
    assert {type(each) for each in FOR_WORKER} == set(typing.get_args(ToWorker))
    assert {type(each) for each in FOR_SUPERVISOR} == set(typing.get_args(ToSupervisor))
    for for_worker in FOR_WORKER:
        assert decode_for_worker(encode(for_worker)) == for_worker
    for for_supervisor in FOR_SUPERVISOR:
        assert decode_for_supervisor(encode(for_supervisor)) == for_supervisor


def test_text_that_is_no_text_does_not_break_a_message() -> None:
    found = decode_for_supervisor(encode(Dying(reason="/b\udce4d")))
    assert found == Dying(reason="/b\\udce4d")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[1]",
        '{"do": "idle"}',
        json.dumps({"version": VERSION + 1, "message": {"kind": "housekeep"}}),
        json.dumps({"message": {"kind": "housekeep"}}),
        json.dumps({"version": VERSION, "message": {"kind": "dance"}}),
        json.dumps({"version": VERSION, "message": {"kind": "housekeep", "more": 1}}),
        json.dumps({"version": VERSION, "message": {"kind": "judge_part"}}),
        encode(Ready(report=REPORT)),
        encode(JudgePart(trigger=TRIGGER))[:60],
    ],
)
def test_a_message_of_another_version_kind_or_direction_is_an_error_that_says_what_was_expected(line: str) -> None:
    with pytest.raises(MessageError, match=rf"expected a message of version {VERSION}.*same installation"):
        decode_for_worker(line)


def test_a_worker_ends_at_a_message_that_it_does_not_know() -> None:
    from gonogo.station.worker import serve_supervisor

    class Idle:
        challenges, slots, changeover = None, (), Changeover({None: ()}, station="s1", resident=lambda: None)

        def start(self) -> None: ...

        def pictures(self) -> dict[str, dict[str, int]]:
            return {}

        def find_troubles(self) -> list[str]:
            return []

        def acknowledged_stop(self) -> str:
            return ""

    results = io.StringIO()
    with pytest.raises(MessageError, match="dance"):
        serve_supervisor(Idle(), io.StringIO('{"version": 3, "message": {"kind": "dance"}}\n'), results)  # type: ignore[arg-type]
    assert decode_for_supervisor(results.getvalue()) == Ready(report=WorkerReport())


def test_a_worker_of_another_version_is_killed_and_the_status_says_why(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "line")
    settings = settings.model_copy(update={"watchdog": settings.watchdog.model_copy(update={"restarts": 1})})
    script = 'import time; print(\'{"version": 1, "message": {"kind": "ready"}}\', flush=True); time.sleep(60)'
    supervisor = Supervisor(settings, [sys.executable, "-c", script], lambda _: None)
    supervisor.start()
    while supervisor.health is not Health.DOWN:
        time.sleep(0.01)
    notes = [note.details["reason"] for note in supervisor._notes]
    supervisor.stop()
    assert all(f"expected a message of version {VERSION}" in str(reason) for reason in notes)
    assert notes

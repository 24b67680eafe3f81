"""The ledger: an append-only, hash-chained record of every verdict, with the frames stored next to it.

One SQLite file and one folder of frames::

    line1.ledger             rows; with -wal and -shm files while open
    line1.ledger-frames/     stored frames, named by the SHA-256 of their bytes

Typical use, with one `Ledger` per thread or process; any number of them may append concurrently::

    with Ledger.open("line1.ledger") as ledger:
        frame_sha256 = ledger.frames.put(data)            # on disk before the row
        row = ledger.append_verdict(VerdictRecord(...))   # durable when it returns
        ledger.append_action(Action(action="review", who="anna", about=row.seq, label=Label.BAD, defect="scratch"))

        ledger.find("station-1", "trigger-17")            # the stored verdict, or None
        ledger.verdicts(Where(states=(State.REVIEW,)), newest_first=True, limit=50)
        ledger.tally((By.HOUR, By.STATE), Where(since=...))
"""

from gonogo.ledger.anchors import Anchor, publish_anchor, read_anchors
from gonogo.ledger.exporting import export
from gonogo.ledger.frames import FrameStore
from gonogo.ledger.queries import By, Where
from gonogo.ledger.records import (
    REVIEW,
    Action,
    ChainHead,
    Opened,
    Record,
    Row,
    RowKind,
    StoredRow,
    Tombstone,
    VerdictRecord,
    View,
    worst_state,
)
from gonogo.ledger.retention import Policy, Retained, retain
from gonogo.ledger.store import DuplicateTrigger, Ledger
from gonogo.ledger.verifying import Break, Flaw, RecordCheck, verify

__all__ = [
    "REVIEW",
    "Action",
    "Anchor",
    "Break",
    "By",
    "ChainHead",
    "DuplicateTrigger",
    "Flaw",
    "FrameStore",
    "Ledger",
    "Opened",
    "Policy",
    "Record",
    "RecordCheck",
    "Retained",
    "Row",
    "RowKind",
    "StoredRow",
    "Tombstone",
    "VerdictRecord",
    "View",
    "Where",
    "export",
    "publish_anchor",
    "read_anchors",
    "retain",
    "verify",
    "worst_state",
]

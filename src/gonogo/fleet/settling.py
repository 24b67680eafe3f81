"""Flips: which parts people must decide, and their decision, which is that of the review page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonogo.errors import InputError
from gonogo.fleet.evidence import EvidenceReader, LedgerFile
from gonogo.fleet.release_server import ReleaseServer
from gonogo.fleet.releases import RUNNING
from gonogo.ledger import REVIEW, Action, FrameStore, Ledger, RowKind, VerdictRecord
from gonogo.ledger.frames import frames_folder
from gonogo.schema import Label


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A part that is newly go and that a person still has to decide."""

    part: str
    ledger: Path
    row: int
    """Row of its verdict."""
    frames: tuple[Path, ...]
    """Its stored pictures."""


def flips_to_settle(server: ReleaseServer) -> list[Flip]:
    """List the undecided flips of a running roll-out, oldest first.

    Raises:
        LedgerError: a ledger cannot be read.
        UnfitError: the channel has no release.
    """
    release = server.judge().release
    if release.stage not in RUNNING:
        return []
    reader = EvidenceReader(server.places, release)
    reader.read()
    found = []
    for part in reader.undecided():
        number, seq = part.about[0]
        place = server.places[number]
        with place.open() as ledger:
            row = ledger.row(seq)
            record = None if row is None else row.record
            views = record.views if isinstance(record, VerdictRecord) else ()
        path = place.path if isinstance(place, LedgerFile) else Path(str(place))
        store = FrameStore(frames_folder(path))
        frames = tuple(store.path(view.frame_sha256) for view in views if view.frame_sha256 is not None)
        found.append(Flip(part=part.name, ledger=path, row=seq, frames=frames))
    return found


def settle(path: Path, seq: int, label: str, *, who: str) -> int:
    """Record a person's decision on a part and return its row.

    Raises:
        InputError: the label is none, or the row is no verdict.
        LedgerError: it cannot be recorded.
    """
    if label not in (*Label, "none"):
        raise InputError(f"--label: expected good, bad or none, found {label!r}.")
    with Ledger.open(path, create=False) as ledger:
        row = ledger.row(seq)
        if row is None or row.kind is not RowKind.VERDICT or not isinstance(row.record, VerdictRecord):
            raise InputError(f"{path}: expected the row of a verdict, found {seq}. List them with: gonogo fleet flips")
        action = Action(
            action=REVIEW,
            who=who,
            about=seq,
            station=row.record.station,
            label=None if label == "none" else Label(label),
            details={"settled": True},
        )
        return ledger.append_action(action).seq

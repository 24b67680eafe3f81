"""Retention: delete old frames by a policy. Rows are never deleted; a tombstone row records each deletion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gonogo.errors import InputError, LedgerError
from gonogo.ledger.cursors import unpublished_after
from gonogo.ledger.forwarded import read_mark
from gonogo.ledger.frames import FrameStore
from gonogo.ledger.queries import Where
from gonogo.ledger.records import REVIEW, Row, RowKind, Tombstone, VerdictRecord
from gonogo.ledger.sqlite import SqliteEngine
from gonogo.progress import track
from gonogo.schema import Label, State

if TYPE_CHECKING:
    from gonogo.ledger.store import Ledger

_BATCH = 200
"""Frames per tombstone; deleting a batch delays the line's next commit by some milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Retention policy. Frames of parts that still wait for review are always kept."""

    keep_days: float
    """Keep frames that are younger than this number of days."""
    keep_bad: bool = False
    """Keep frames of parts that were judged no-go or labelled bad indefinitely."""

    def __post_init__(self) -> None:
        if not 1 <= self.keep_days < 100_000:
            raise InputError(f"keep_days: expected at least one day, found {self.keep_days}.")

    def __str__(self) -> str:
        return f"keep {self.keep_days:g} days{', keep bad parts' if self.keep_bad else ''}"


@dataclass(frozen=True, kw_only=True)
class Retained:
    """Result of a retention run, or of a dry run."""

    deleted: int
    """Number of deleted frames."""
    freed_bytes: int
    kept: int
    """Number of frames of rows that are still stored."""
    unforwarded: int = 0
    """Those of them that are old, and stay only until the centre and the destinations of results have them; see
    `gonogo.ledger.forwarded` and `gonogo.ledger.cursors`."""


def retain(ledger: Ledger, policy: Policy, *, who: str, now: datetime | None = None, dry_run: bool = False) -> Retained:
    """Delete old frames by a policy. A tombstone is written for each batch before its files are deleted.

    Old files without a row are deleted too: a station that died left them before it could record the part.

    May run while the line records: a frame that a new row uses is kept. May be interrupted: frames of a tombstone that
    still exist are deleted the next time.

    A ledger that is forwarded to a centre keeps the frames of every row that the centre does not have yet; one whose
    results are delivered with pictures, those of every row that a destination does not have yet.

    Raises:
        LedgerError: the ledger or a frame cannot be written, or the ledger is not a local one.
    """
    frames = _local_frames(ledger)
    until = (now or datetime.now(UTC)) - timedelta(days=policy.keep_days)
    seen = ledger.head().seq
    old, kept, unforwarded = _sorted_frames(ledger, policy, until)
    going = [digest for digest in old if digest not in kept and frames.holds(digest)]
    freed, deleted = _sweep(ledger, frames, old | kept, until, seen, dry_run=dry_run)
    for start in track(range(0, len(going), _BATCH), "deleting frames"):
        batch = going[start : start + _BATCH]
        if dry_run:
            freed += sum(frames.path(digest).stat().st_size for digest in batch)
            deleted += len(batch)
            continue
        ledger.append_tombstone(Tombstone(frames_sha256=tuple(batch), policy=str(policy), who=who))
        # With the write lock, no row that uses one of these frames can be appended.
        with ledger.writing():
            wanted_again = _named_since(ledger, seen)
            for digest in batch:
                if digest not in wanted_again:
                    freed += frames.remove(digest)
                    deleted += 1
    stored = sum(frames.holds(digest) for digest in old | kept)
    return Retained(
        deleted=deleted,
        freed_bytes=freed,
        kept=stored - (len(going) if dry_run else 0),
        unforwarded=sum(frames.holds(digest) for digest in unforwarded),
    )


def _local_frames(ledger: Ledger) -> FrameStore:
    if not isinstance(ledger.frames, FrameStore) or not isinstance(ledger.engine, SqliteEngine):
        raise LedgerError(f"{ledger.name}: expected a local ledger. Frames in a shared store expire by its own rules.")
    return ledger.frames


def _forwarded(ledger: Ledger) -> int | None:
    """Return the last row whose frames the centre and every destination have; ``None`` if nobody waits for frames."""
    assert isinstance(ledger.engine, SqliteEngine), "checked by the caller"
    mark, published = read_mark(ledger.engine.path), unpublished_after(ledger.engine.path)
    return min((seq for seq in (None if mark is None else mark.seq, published) if seq is not None), default=None)


def _sweep(
    ledger: Ledger, frames: FrameStore, named: set[str], until: datetime, seen: int, *, dry_run: bool
) -> tuple[int, int]:
    """Delete old files without a row; return the bytes freed and the number of files."""
    old = [
        path
        for path in track(frames.files(), "searching for frames without a row")
        if path.name not in named and path.stat().st_mtime < until.timestamp()
    ]
    if dry_run:
        return sum(path.stat().st_size for path in old), len(old)
    freed = deleted = 0
    for start in range(0, len(old), _BATCH):
        with ledger.writing():
            named_again = _named_since(ledger, seen)
            for path in old[start : start + _BATCH]:
                if path.name not in named_again:
                    freed += frames.delete(path)
                    deleted += 1
    return freed, deleted


def _named_since(ledger: Ledger, seen: int) -> set[str]:
    return {digest for row in ledger.verdicts(after=seen) for digest in _frames(row)}


def _sorted_frames(ledger: Ledger, policy: Policy, until: datetime) -> tuple[set[str], set[str], set[str]]:
    """Return the frames that may be deleted, those that must be kept, and those kept only to be forwarded.

    A frame can be in the first two sets; the third is part of the second.
    """
    # Of several reviews of a row, the last stays in the dictionary.
    decided = {row.record.about: row.record.label for row in ledger.actions(Where(action=REVIEW))}
    forwarded = _forwarded(ledger)
    old: set[str] = set()
    kept: set[str] = set()
    unforwarded: set[str] = set()
    for row in track(ledger.verdicts(), "reading the ledger", total=ledger.count(kind=RowKind.VERDICT)):
        label = decided.get(row.seq)
        bad = row.record.state is State.NO_GO or label is Label.BAD
        waits = row.record.state is State.REVIEW and label is None
        if row.at >= until or waits or (policy.keep_bad and bad):
            kept.update(_frames(row))
        elif forwarded is not None and row.seq > forwarded:
            unforwarded.update(_frames(row))
        else:
            old.update(_frames(row))
    return old, kept | unforwarded, unforwarded - kept


def _frames(row: Row[VerdictRecord]) -> list[str]:
    return [view.frame_sha256 for view in row.record.views if view.frame_sha256 is not None]

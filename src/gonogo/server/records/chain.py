"""Verification of the ledger's chain: one row with its neighbours at once, the whole chain in the background.

The result of a whole verification is an action in the ledger, so it is there after a restart and for everyone.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from gonogo.errors import InputError, LedgerError
from gonogo.ledger import Action, Anchor, Ledger, Row, Where, read_anchors, verify
from gonogo.ledger.records import NO_HASH, Record, row_hash
from gonogo.progress import reported_to
from gonogo.server.background_work import Asked, Task, Worker, WorkKind
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.signed_actions import SignatureCheck

VERIFIED = "chain_verified"
"""The action that records a verification of the whole chain and its result."""
_KEY = "chain"
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class RowProof:
    """What was found for one row and its neighbours, computed from their bytes."""

    content_matches: bool
    """Whether the hash of the row's content is the hash in the row."""
    follows: bool
    """Whether it holds the hash of the row before; for row 1, no hash."""
    followed: bool | None
    """Whether the next row holds its hash; ``None`` if it is the last row."""

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts."""
        return self.content_matches and self.follows and self.followed is not False


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """The latest verification of the whole chain."""

    at: datetime
    who: str
    last: int
    """Every row from 1 to this one was verified."""
    sha256: str
    """Hash of that row."""
    findings: int
    found: tuple[str, ...]
    """The first findings, in sentences."""
    anchors: int
    """How many anchors the rows were compared with."""
    anchored: int
    """The last row that an anchor protects; 0 without anchors."""
    seq: int
    """The row that recorded it."""


def prove_row(ledger: Ledger, row: Row[Record]) -> RowProof:
    """Check a row's own hash and its links to its neighbours."""
    before = ledger.row(row.seq - 1) if row.seq > 1 else None
    after = ledger.row(row.seq + 1)
    return RowProof(
        content_matches=row_hash(row.previous, row.seq, row.kind, row.body.encode()) == row.sha256,
        follows=row.previous == (NO_HASH if row.seq == 1 else before.sha256 if before is not None else ""),
        followed=None if after is None else after.previous == row.sha256,
    )


class ChainCheck:
    """Verifies the whole chain in the background, once at a time, and reads the latest result."""

    def __init__(self, ledger_pool: LedgerPool, worker: Worker) -> None:
        self._ledger_pool, self._worker = ledger_pool, worker
        self._starting = threading.Lock()

    def start(self, who: str, anchor_lines: str = "") -> None:
        """Start a verification; a person who asks while one is running gets the result of that one.

        Args:
            who: The person, for the record.
            anchor_lines: Contents of an anchor file that was kept elsewhere; empty for none.

        Raises:
            RefusedError: these are no anchors, or a verification without them is running.
        """
        anchors = _anchors(anchor_lines)
        with self._starting:
            running = self.task()
            if running is not None and not running.over and anchors:
                raise RefusedError(N_("The chain is being verified. Wait until that is done, then use your anchors."))
            self._worker.submit(
                _KEY,
                N_("Verifying the chain"),
                lambda task: self._verify(task, who, anchors),
                asked=Asked(kind=WorkKind.VERIFY, who=who, arguments={"anchors": anchor_lines}),
            )

    def task(self) -> Task | None:
        """The verification that is waiting, running or done; ``None`` if none was started here."""
        return self._worker.task(_KEY)

    def latest(self) -> ChainReport | None:
        """The result of the latest one; ``None`` if there was none."""
        with self._ledger_pool.reading() as ledger:
            row = next(ledger.actions(Where(action=VERIFIED), newest_first=True, limit=1), None)
        return None if row is None else _report(row)

    def _verify(self, task: Task, who: str, anchors: tuple[Anchor, ...]) -> None:
        with self._ledger_pool.reading() as ledger:
            head = ledger.head()
        task.step(0, head.seq)
        with reported_to(task.step):
            findings = verify(self._ledger_pool.path, anchors=anchors, also=SignatureCheck())
        found: list[JsonValue] = [each.what[:300] for each in findings[:_SHOWN]]
        self._ledger_pool.act(
            VERIFIED,
            who,
            last=head.seq,
            sha256=head.sha256,
            findings=len(findings),
            anchors=len(anchors),
            anchored=max((anchor.seq for anchor in anchors), default=0),
            found=found or None,
        )


def _anchors(lines: str) -> tuple[Anchor, ...]:
    if not lines.strip():
        return ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "anchors"
        path.write_text(lines, "utf-8", errors="replace")
        try:
            return read_anchors(path)
        except InputError as error:
            raise RefusedError(
                N_("This is not an anchor file: expected lines as gonogo ledger anchor writes them.")
            ) from error


def _report(row: Row[Action]) -> ChainReport | None:
    said = row.record.details
    try:
        found = said.get("found")
        return ChainReport(
            at=row.at,
            who=row.record.who,
            last=int(str(said["last"])),
            sha256=str(said["sha256"]),
            findings=int(str(said["findings"])),
            found=tuple(map(str, found)) if isinstance(found, list) else (),
            anchors=int(str(said["anchors"])),
            anchored=int(str(said["anchored"])),
            seq=row.seq,
        )
    except (KeyError, ValueError) as error:
        raise LedgerError(f"row {row.seq}: expected the result of a verification, found {dict(said)}.") from error

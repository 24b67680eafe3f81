"""Copy a whole local ledger to the centre and prove on both sides that every hash is the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gonogo.centre.database import Centre
from gonogo.centre.forwarding import Forwarder
from gonogo.centre.frames import open_frames
from gonogo.centre.verifying import verify_chain
from gonogo.errors import UnfitError
from gonogo.ledger import Anchor, Break, Ledger, verify
from gonogo.progress import track

_ROWS_PER_BATCH = 5000


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Result of a migration."""

    chain: str
    rows: int
    """Number of rows of the chain at the centre."""
    sent: int
    """Number of rows that this run sent; the others were there already."""
    seconds: float
    """Time for sending, without verification."""
    frames_sent: int
    frames_missing: int
    head_sha256: str

    @property
    def rows_per_s(self) -> float:
        """Rows sent per second."""
        return self.sent / max(self.seconds, 1e-9)


def move(ledger: Path, centre: Centre, chain: str, *, frames_url: str | None = None) -> Moved:
    """Copy a ledger to the centre; interrupted, the next call goes on where this one ended.

    The ledger stays as it is, and can be forwarded afterwards. Rows that are appended meanwhile are not included.

    Raises:
        UnfitError: the ledger, or the chain at the centre, is not intact.
        ChainForked: the centre holds another chain under this name.
        LedgerError: the ledger cannot be read, or the centre cannot be reached.
    """
    _require_intact(verify(ledger), str(ledger))
    centre.prepare()
    frames = None if frames_url is None else open_frames(frames_url)
    forwarder = Forwarder(
        ledger,
        centre,
        chain,
        frames=frames,
        frames_url=frames_url,
        rows_per_batch=_ROWS_PER_BATCH,
        keeps_mark=False,  # it may never be forwarded
    )
    began_s = time.monotonic()
    with Ledger.open(ledger, create=False, read_only=True) as opened:
        head = opened.head()
    present = centre.forwarded_chain(chain).head.seq
    for _ in track(_copied(forwarder, present), "copying rows", total=max(0, head.seq - present)):
        pass
    seconds = time.monotonic() - began_s
    anchor = Anchor(seq=head.seq, sha256=head.sha256, at=datetime.now(UTC))
    _require_intact(verify_chain(centre, chain, anchors=[anchor]), f"{centre.name} chain {chain}")
    link = forwarder.link()
    return Moved(
        chain=chain,
        rows=head.seq,
        sent=link.rows_sent,
        seconds=seconds,
        frames_sent=link.frames_sent,
        frames_missing=link.frames_missing,
        head_sha256=head.sha256,
    )


def _copied(forwarder: Forwarder, present: int) -> Iterator[int]:
    """Yield each row as its batch is committed."""
    for seq in forwarder.catch_up():
        yield from range(present, seq)
        present = seq


def _require_intact(findings: list[Break], place: str) -> None:
    if findings:
        raise UnfitError(
            f"{place}: {len(findings)} signs of tampering or damage, the first: {findings[0].what}. "
            "List them with: gonogo ledger verify"
        )

"""Store and forward: send the rows and frames of a local ledger to the centre, each exactly once.

The ledger itself is the queue, and the centre's last row is the cursor: after every interruption the forwarder asks for
it and goes on from there. A batch is committed at the centre as a whole. If its acknowledgement is lost, the next
question shows that it was stored. Memory is bounded by one batch of rows and a few frames.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gonogo.centre import chains
from gonogo.centre.database import Centre
from gonogo.errors import GonogoError, LedgerError
from gonogo.ledger import ChainHead, Ledger, RowKind, StoredRow
from gonogo.ledger.forwarded import Mark, expect_forwarding, write_mark
from gonogo.ledger.frames import Frames, FrameStore

ROWS_PER_BATCH = 500
_MOST_BATCH_BYTES = 4_000_000
_FRAMES_AT_ONCE = 4
_REMEMBERED_FRAMES = 10_000
_CONTACT_EVERY_S = 30.0
_MARK_EVERY_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


@dataclass(frozen=True, kw_only=True)
class Link:
    """State of the connection between a ledger and the centre."""

    at: datetime
    chain: str
    centre: str
    """Address of the centre, without the password."""
    local_seq: int
    """Last row of the ledger."""
    centre_seq: int
    """Last row that the centre has; every frame that the rows up to it name is in the store."""
    lag_s: float
    """Age of the oldest row that the centre does not have, by this machine's clock; 0 if it has all."""
    clock_ahead_s: float | None
    """This machine's clock minus the centre's, in seconds; ``None`` before the first contact."""
    rows_sent: int
    frames_sent: int
    frames_missing: int
    """Frames that could not be sent because they are missing or damaged here."""
    trouble: str
    """Why nothing is sent at present; empty if all is well."""
    refused: bool
    """Whether the centre refuses the ledger, which a person must look into."""

    @property
    def lag_rows(self) -> int:
        """Number of rows that the centre does not have."""
        return max(0, self.local_seq - self.centre_seq)


class Forwarder:
    """Forwards one ledger. Several may forward the same ledger: each row is still stored once."""

    def __init__(
        self,
        ledger: Path,
        centre: Centre,
        chain: str,
        *,
        frames: Frames | None = None,
        frames_url: str | None = None,
        rows_per_batch: int = ROWS_PER_BATCH,
        keeps_mark: bool = True,
        say: Callable[[Link], None] = lambda link: None,
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            ledger: The local ledger.
            centre: The centre.
            chain: Name of the chain at the centre, usually the station's.
            frames: Store for the frames at the centre; ``None`` forwards rows alone.
            frames_url: URL of that store, told to the centre.
            rows_per_batch: Largest number of rows in one transaction.
            keeps_mark: Keep the mark beside the ledger, so that retention waits; see `gonogo.ledger.forwarded`.
            say: Called with the state after every step.
        """
        self.path, self.chain = ledger, chain
        self._centre, self._frames, self._frames_url = centre, frames, frames_url
        self._rows_per_batch, self._keeps_mark, self._say = rows_per_batch, keeps_mark, say
        self._target: chains.Chain | None = None
        self._head: ChainHead | None = None
        self._ledger: Ledger | None = None
        self._opened_file: tuple[int, int] | None = None
        self._marked, self._marked_s = -1, float("-inf")
        self._contact_s = float("-inf")
        self._known_frames: OrderedDict[str, None] = OrderedDict()
        self._rows_sent = self._frames_sent = self._frames_missing = 0
        self._local_seq = self._centre_seq = 0
        self._oldest: datetime | None = None
        self._clock_ahead_s: float | None = None

    def run(self, stop: threading.Event, *, every_s: float = 1.0) -> None:
        """Forward until ``stop`` is set; errors are told by ``say`` and tried again, with growing pauses.

        Pauses are random, so that a thousand stations do not return at the same moment.
        """
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            try:
                while self.step() and not stop.is_set():
                    self._say(self.link())
                pause_s = _FIRST_PAUSE_S
                self._say(self.link())
                stop.wait(every_s * random.uniform(0.8, 1.2))
            except GonogoError as error:
                self._target = None
                self._say(self.link(error))
                stop.wait(random.uniform(0.3, 1.0) * pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._end()

    def catch_up(self) -> Iterator[int]:
        """Forward every row that the ledger has now, and yield the number of rows at the centre after each batch.

        Raises:
            LedgerError: see `step`.
        """
        until = None
        while until is None or self._centre_seq < until:
            more = self.step()
            until = self._local_seq if until is None else until
            self._say(self.link())
            yield self._centre_seq
            if not more:
                break
        self._end()

    def step(self) -> bool:
        """Send the next batch: first its frames, then its rows.

        Returns:
            Whether more rows wait.

        Raises:
            ChainForked: the ledger does not continue the chain at the centre; an alarm is recorded there.
            LedgerError: the ledger cannot be read, the centre or the store cannot be reached or is full. Send again.
            InputError: the mark of the ledger cannot be written.
        """
        try:
            ledger = self._opened()
            target, head = self._cursor(ledger)
            batch = _limited(ledger.stored(after=head.seq, limit=self._rows_per_batch))
            self._observe(ledger, head, batch)
            if batch:
                assert isinstance(ledger.frames, FrameStore), "a local ledger"
                self._send_frames(ledger.frames, batch)
                head = self._centre.receive(target, batch)
                self._rows_sent += len(batch)
                self._observe(ledger, head, ledger.stored(after=head.seq, limit=1))
        except BaseException:  # BLE001: closed whatever happened, and raised again
            self.close()
            raise
        self._head = head
        self._mark(head)
        return self._centre_seq < self._local_seq

    def close(self) -> None:
        """Close the ledger; the next step opens it again."""
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def _opened(self) -> Ledger:
        """Return the open ledger; where the file was replaced, the one that is there now."""
        file = self._file()
        if self._ledger is None or file != self._opened_file:
            self.close()
            if self._keeps_mark:
                expect_forwarding(self.path)
            self._ledger, self._opened_file = Ledger.open(self.path, create=False, read_only=True), file
        return self._ledger

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _contact_due(self) -> bool:
        return time.monotonic() - self._contact_s > _CONTACT_EVERY_S

    def link(self, error: GonogoError | None = None) -> Link:
        """Return the present state, after an error or a step without one."""
        now = datetime.now(UTC)
        lag_s = 0.0 if self._oldest is None else max(0.0, (now - self._oldest).total_seconds())
        return Link(
            at=now,
            chain=self.chain,
            centre=self._centre.name,
            local_seq=self._local_seq,
            centre_seq=self._centre_seq,
            lag_s=round(lag_s, 3),
            clock_ahead_s=self._clock_ahead_s,
            rows_sent=self._rows_sent,
            frames_sent=self._frames_sent,
            frames_missing=self._frames_missing,
            trouble="" if error is None else str(error),
            refused=isinstance(error, chains.ChainForked),
        )

    def _cursor(self, ledger: Ledger) -> tuple[chains.Chain, ChainHead]:
        """Return the last row at the centre: asked for at the start, after an error, and every 30 seconds.

        In between, the last acknowledgement says it; it is forgotten until the next one comes.
        """
        head, self._head = self._head, None
        if self._target is None:
            self._target = self._centre.forwarded_chain(self.chain)
        if head is None or self._contact_due():
            try:
                head = self._contact(ledger, self._target)
            except chains.ChainForked as fork:
                self._centre.alarm(self._target, str(fork))
                raise
        return self._target, head

    def _contact(self, ledger: Ledger, target: chains.Chain) -> ChainHead:
        """Ask for the last row, and tell the centre that this station is there and how its clock differs."""
        with self._centre.begin(autocommit=True) as connection:
            before = time.time()
            head, clock_s = chains.read_head_and_clock(connection, target.id)
            ahead_s = round((before + time.time()) / 2 - clock_s, 3)
            self._require_continuation(ledger, head)
            chains.record_contact(connection, target.id, clock_ahead_s=ahead_s, frames=self._frames_url)
        self._clock_ahead_s, self._contact_s = ahead_s, time.monotonic()
        return head

    def _require_continuation(self, ledger: Ledger, head: ChainHead) -> None:
        """Compare the centre's last row with the same row here, before anything is sent."""
        own = ledger.stored(after=head.seq - 1, limit=1) if head.seq else []
        if head.seq and (not own or own[0].sha256 != head.sha256):
            found = "another row" if own else f"a ledger that ends at row {ledger.head().seq}"
            raise chains.ChainForked(
                f"{self.chain}: expected row {head.seq} of the centre in {self.path.name}, found {found}; nothing was "
                "sent. Another machine forwards under this name, or the ledger was replaced, set back or changed. "
                "Compare the machines; give a new ledger a new name."
            )

    def _observe(self, ledger: Ledger, head: ChainHead, waiting: Sequence[StoredRow]) -> None:
        self._local_seq, self._centre_seq = ledger.head().seq, head.seq
        self._oldest = datetime.fromisoformat(json.loads(waiting[0].body)["at"]) if waiting else None

    def _end(self) -> None:
        """Write the mark up to the last acknowledgement and close the ledger."""
        self.close()
        if self._head is not None:
            self._mark(self._head, now=True)

    def _mark(self, head: ChainHead, *, now: bool = False) -> None:
        """Write the mark, at most every 10 seconds: a flush would delay the line, and an old mark only keeps frames."""
        due = now or time.monotonic() - self._marked_s > _MARK_EVERY_S
        if self._keeps_mark and head.seq != self._marked and due:
            write_mark(self.path, Mark(seq=head.seq))
            self._marked, self._marked_s = head.seq, time.monotonic()

    def _send_frames(self, local: FrameStore, rows: Sequence[StoredRow]) -> None:
        if self._frames is None:
            return
        named = dict.fromkeys(digest for row in rows for digest in frames_of(row))
        new = [digest for digest in named if digest not in self._known_frames]
        with ThreadPoolExecutor(_FRAMES_AT_ONCE) as threads:
            for digest, sent in zip(new, threads.map(lambda each: self._send_frame(local, each), new), strict=True):
                self._frames_sent += sent is True
                self._frames_missing += sent is None
                self._known_frames[digest] = None
        while len(self._known_frames) > _REMEMBERED_FRAMES:
            self._known_frames.popitem(last=False)

    def _send_frame(self, local: FrameStore, digest: str) -> bool | None:
        """Send a frame; return whether it had to be sent, ``None`` if it is missing or damaged here."""
        assert self._frames is not None, "checked by the caller"
        if self._frames.holds(digest):
            return False
        try:
            data = local.read(digest)
        except LedgerError:
            return None
        self._frames.put(data)
        return True


def frames_of(row: StoredRow) -> list[str]:
    """Return the frames that a row names."""
    if row.kind != RowKind.VERDICT:
        return []
    views = json.loads(row.body)["record"]["views"]
    return [view["frame_sha256"] for view in views if view["frame_sha256"] is not None]


def _limited(rows: list[StoredRow]) -> list[StoredRow]:
    """Cut a batch off at its largest size; at least one row stays."""
    size = 0
    for number, row in enumerate(rows):
        size += len(row.body)
        if size > _MOST_BATCH_BYTES and number:
            return rows[:number]
    return rows

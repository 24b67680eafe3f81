"""The chains at the centre: one for each forwarded ledger; receiving rows exactly once, refusing forks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from gonogo.errors import LedgerError
from gonogo.ledger import ChainHead, StoredRow


class ChainForked(LedgerError):  # noqa: N818  an event to handle, not an error of the program
    """Rows do not continue the chain at the centre: two machines use one name, or a ledger was set back or changed."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One chain at the centre."""

    id: int
    name: str
    forwarded: bool
    """Whether its rows come from a ledger elsewhere; only others take rows of this program's own."""
    head: ChainHead
    """``seq`` is 0 while the chain has no rows."""
    seen_at: datetime
    """Last contact, by the centre's clock."""
    clock_ahead_s: float | None
    """The station's clock minus the centre's, in seconds, at the last contact; ``None`` if unknown."""
    frames: str | None
    """URL of the store of its frames; ``None`` if they are not forwarded."""
    alarm: str | None
    """The latest alarm of the last 24 hours; ``None`` if there is none."""


_SELECT = """SELECT id, name, forwarded, seq, sha256, seen_at, clock_ahead_s, frames,
 (SELECT what FROM alarms WHERE alarms.chain = chains.id AND alarms.last_at > clock_timestamp() - interval '1 day'
  ORDER BY last_at DESC LIMIT 1) FROM chains"""


def read_chains(connection: Connection, name: str | None = None) -> list[Chain]:
    """Return all chains, or the one of a name, in order of their names."""
    condition = "" if name is None else " WHERE name = :name"
    found = connection.execute(text(f"{_SELECT}{condition} ORDER BY name"), {} if name is None else {"name": name})
    return [_chain(*row) for row in found]


def _chain(
    number: int, name: str, forwarded: bool, seq: int, sha256: str, seen: datetime, ahead: float | None, *rest: Any
) -> Chain:
    return Chain(
        id=number,
        name=name,
        forwarded=forwarded,
        head=ChainHead(seq=seq, sha256=sha256),
        seen_at=seen,
        clock_ahead_s=ahead,
        frames=rest[0],
        alarm=rest[1],
    )


def create_chain(connection: Connection, name: str, *, forwarded: bool, frames: str | None = None) -> None:
    """Create a chain without rows; an existing one is left unchanged, also one that another process creates now."""
    connection.execute(
        text(
            "INSERT INTO chains (name, forwarded, frames) VALUES (:name, :forwarded, :frames)"
            " ON CONFLICT (name) DO NOTHING"
        ),
        {"name": name, "forwarded": forwarded, "frames": frames},
    )


def lock(connection: Connection, chain: int) -> None:
    """Wait for the right to append to a chain; held until the transaction ends."""
    connection.execute(text("SELECT id FROM chains WHERE id = :chain FOR NO KEY UPDATE"), {"chain": chain})


def read_head(connection: Connection, chain: int) -> ChainHead:
    """Return the last row of a chain; ``seq`` is 0 and the hash 64 zeros while it has none."""
    seq, sha256 = connection.execute(text("SELECT seq, sha256 FROM chains WHERE id = :id"), {"id": chain}).one()
    return ChainHead(seq=seq, sha256=sha256)


def read_head_and_clock(connection: Connection, chain: int) -> tuple[ChainHead, float]:
    """Return the last row of a chain, and the centre's clock in seconds since 1970."""
    asked = text("SELECT seq, sha256, extract(epoch FROM clock_timestamp()) FROM chains WHERE id = :id")
    seq, sha256, clock_s = connection.execute(asked, {"id": chain}).one()
    return ChainHead(seq=seq, sha256=sha256), float(clock_s)


def receive(connection: Connection, chain: Chain, rows: Sequence[StoredRow]) -> ChainHead:
    """Append rows that the chain does not have yet, in one statement: one round trip, committed or not as a whole.

    Rows that it has already, of another forwarder or of a batch whose acknowledgement was lost, are compared, not
    stored again. The database checks every hash once more as it stores the rows.

    Args:
        connection: A connection in a transaction, or one on which each statement commits by itself.
        chain: The chain.
        rows: Consecutive rows of the station's ledger, the first of which may be known already.

    Returns:
        The chain's head after it.

    Raises:
        ChainForked: a row has another hash than the one that is stored, or does not follow the head.
        LedgerError: rows are missing between the head and the first one; nothing is wrong with the rows.
    """
    driver: Any = connection.connection.driver_connection
    first = rows[0]
    texts = [_SEPARATOR.join(column) for column in ([getattr(row, name) for row in rows] for name in _TEXTS)]
    outcome, seq, sha256 = driver.execute(_RECEIVE, [chain.id, first.seq, first.previous, *texts]).fetchone()
    if outcome == "forked":
        raise ChainForked(
            f"{chain.name}, row {rows[0].seq}: expected a row that continues the chain at the centre, found another "
            "one; nothing was stored. Two machines forward under this name, or the ledger was replaced, set back or "
            "changed. Compare the machines; give a new ledger a new name."
        )
    if outcome == "gap":
        raise LedgerError(
            f"{chain.name}: expected row {seq + 1}, found row {rows[0].seq}; nothing was stored. The centre was "
            "restored from a backup, or rows were sent out of order: ask for its last row and send what follows."
        )
    return ChainHead(seq=seq, sha256=sha256)


# Past SQLAlchemy, whose part would be a third of the time of a small batch.
_RECEIVE = "SELECT * FROM receive(%s::integer, %s::bigint, %s::text, %s::text, %s::text, %s::text)"
_TEXTS = ("kind", "body", "sha256")
_SEPARATOR = "\x1e"  # no JSON text holds it


def store(connection: Connection, chain: int, row: StoredRow) -> None:
    """Insert a row after the head of its chain; the triggers check it."""
    connection.execute(
        text(
            "INSERT INTO entries (chain, seq, kind, body, previous, sha256)"
            " VALUES (:chain, :seq, :kind, :body, :previous, :sha256)"
        ),
        {"chain": chain, **row._asdict()},
    )


def record_contact(connection: Connection, chain: int, *, clock_ahead_s: float, frames: str | None) -> None:
    """Note that a station was heard, how far its clock is ahead, and where its frames are."""
    connection.execute(
        text(
            "UPDATE chains SET seen_at = clock_timestamp(), clock_ahead_s = :ahead, frames = coalesce(:frames, frames)"
            " WHERE id = :id"
        ),
        {"id": chain, "ahead": clock_ahead_s, "frames": frames},
    )


def record_alarm(connection: Connection, chain: int, what: str) -> None:
    """Record why rows were refused; the same alarm again only counts up."""
    values = {"chain": chain, "what": what}
    lock(connection, chain)
    again = connection.execute(
        text(
            "UPDATE alarms SET times = times + 1, last_at = clock_timestamp(), peer = inet_client_addr() WHERE id ="
            " (SELECT id FROM alarms WHERE chain = :chain ORDER BY id DESC LIMIT 1) AND what = :what"
        ),
        values,
    )
    if not again.rowcount:
        connection.execute(text("INSERT INTO alarms (chain, what) VALUES (:chain, :what)"), values)

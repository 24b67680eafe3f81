"""Verify a chain at the centre: read every row without trusting the database, as for a ledger file."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from gonogo.centre.chains import Chain
from gonogo.centre.database import Centre
from gonogo.ledger import Anchor, Break, Flaw, RecordCheck
from gonogo.ledger.verifying import RowChecks
from gonogo.progress import track

_PAGE = 2000
_GUARDS = ("entries_follow", "entries_grow")


def verify_chain(
    centre: Centre,
    name: str,
    *,
    anchors: Sequence[Anchor] = (),
    frames: bool = False,
    also: RecordCheck | None = None,
) -> list[Break]:
    """Check the whole chain of one station at the centre, and compare it with anchors kept elsewhere.

    Args:
        centre: The centre.
        name: Name of the chain.
        anchors: Heads published earlier, at the station or here.
        frames: Also read every stored frame and compare it with its hash.
        also: A further check of the records, such as `gonogo.signed_actions.SignatureCheck`.

    Returns:
        The findings in order of the rows; empty for an intact chain.

    Raises:
        InputError: there is no such chain.
        LedgerError: the centre cannot be read.
    """
    chain = centre.chain(name)
    checks = RowChecks(anchors, also)
    with centre.begin() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        _check_schema(connection, checks)
        _check_rows(connection, chain, checks)
    checks.check_anchors()
    if frames:
        checks.check_frames(centre.frames(chain))
    return checks.findings


def _check_schema(connection: Connection, checks: RowChecks) -> None:
    """Check what keeps rows as they are: the triggers, and that the facts are computed."""
    enabled = set(
        connection.execute(
            text("SELECT tgname FROM pg_trigger WHERE tgrelid = 'entries'::regclass AND tgenabled IN ('O', 'A')")
        ).scalars()
    )
    for guard in _GUARDS:
        if guard not in enabled:
            checks.add(Flaw.SCHEMA, None, f"missing or disabled: trigger {guard}")
    computed = connection.execute(
        text("SELECT attgenerated FROM pg_attribute WHERE attrelid = 'entries'::regclass AND attname = 'facts'")
    ).scalar()
    if computed != "s":
        checks.add(Flaw.SCHEMA, None, "missing or changed: facts, computed from body")


def _check_rows(connection: Connection, chain: Chain, checks: RowChecks) -> None:
    head = connection.execute(text("SELECT seq, sha256 FROM chains WHERE id = :id"), {"id": chain.id}).one()
    rows = connection.execution_options(yield_per=_PAGE).execute(
        text(
            "SELECT seq, kind, body, previous, sha256, facts IS NOT DISTINCT FROM row_facts(body) FROM entries"
            " WHERE chain = :chain ORDER BY seq"
        ),
        {"chain": chain.id},
    )
    for seq, kind, body, previous, digest, agrees in track(rows, f"verifying {chain.name}", total=head[0]):
        checks.check_row(seq, kind, body.encode(), previous, digest)
        if not agrees:
            checks.add(Flaw.EDITED, seq, f"row {seq} has facts that do not agree with its body")
    if head[0] == 0 and checks.last_seq == 0:
        return
    if (checks.last_seq, checks.last_hash) != tuple(head):
        checks.add(Flaw.MISSING, None, f"the last row is {checks.last_seq}, but {head[0]} rows were received")

"""``gonogo ledger``: list, verify, anchor, export, replay, delete old frames, forward to a centre, publish results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli import centre
from gonogo.cli.centre import ChainName, LedgerFile, Place
from gonogo.cli.output import print_json
from gonogo.cli.publish import publish_command
from gonogo.cli.replay import replay_command
from gonogo.cli.sampling import sample_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gonogo.ledger import Anchor, Break, Record, Row

app = typer.Typer(
    help="The record of every verdict: list, verify, export, replay, delete old frames, forward, publish.",
    no_args_is_help=True,
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command("list")
def list_command(
    ledger: Place,
    state: Annotated[list[str] | None, typer.Option(help="Only verdicts with this state; may be repeated.")] = None,
    station: Annotated[str | None, typer.Option(help="Only this station.")] = None,
    part: Annotated[str | None, typer.Option(help="Only this part.")] = None,
    lot: Annotated[str | None, typer.Option(help="Only this lot.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows.")] = 50,
    chain: ChainName = None,
    as_json: _Json = False,
) -> None:
    """List the latest rows, newest first."""
    from gonogo.errors import InputError
    from gonogo.ledger import RowKind, Where
    from gonogo.schema import State

    unknown = set(state or ()) - set(State)
    if unknown:
        raise InputError(f"--state: expected one of {', '.join(State)}, found {', '.join(sorted(unknown))}.")
    where = Where(station=station, part=part, lot=lot, states=tuple(State(each) for each in state or ()))
    kind = RowKind.VERDICT if state else None
    with centre.opened(ledger, chain) as opened:
        for row in opened.rows(where, kind=kind, limit=limit, newest_first=True):
            if as_json:
                print_json(_as_json(row), ensure_ascii=False)
            else:
                typer.echo(_line(row))


@app.command("show")
def show_command(
    ledger: Place,
    seq: Annotated[int, typer.Argument(min=1, help="Number of the row.")],
    chain: ChainName = None,
    as_json: _Json = False,
) -> None:
    """Show one row in full, and the actions that refer to it."""
    from gonogo.errors import InputError
    from gonogo.ledger import Where

    with centre.opened(ledger, chain) as opened:
        row = opened.row(seq)
        if row is None:
            raise InputError(f"{ledger}: expected a row from 1 to {opened.head().seq}, found {seq}.")
        about = list(opened.actions(Where(about=seq)))
    if as_json:
        print_json(_as_json(row) | {"actions": [_as_json(each) for each in about]}, ensure_ascii=False)
        return
    print_json(_as_json(row), indent=2, ensure_ascii=False)
    for each in about:
        typer.echo(_line(each))


@app.command("verify")
def verify_command(
    ledger: Place,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(help="File of anchors, kept on another machine; may be repeated.", show_default=False),
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="Also verify every stored frame.")] = False,
    chain: Annotated[
        str | None, typer.Option("--chain", help="Only this chain at the centre. [default: all]", show_default=False)
    ] = None,
    as_json: _Json = False,
) -> None:
    """Check a ledger or a centre for tampering. Exit code 0: intact, 1: tampered with or damaged, 2: no ledger."""
    from gonogo.errors import UnfitError
    from gonogo.ledger import read_anchors

    anchors = [each for path in anchor or () for each in read_anchors(path)]
    found = signatures = 0
    for name, findings, verified in _verified(ledger, chain, anchors, frames=frames):
        found, signatures = found + len(findings), signatures + verified
        for finding in findings:
            shown = {"flaw": finding.flaw.value, "seq": finding.seq, "what": finding.what}
            start = "" if name is None else f"{name}: "
            named = shown if name is None else shown | {"chain": name}
            if as_json:
                print_json(named)
            else:
                typer.echo(f"{finding.flaw.value:10s}{start}{finding.what}")
    if found:
        place = "the centre" if centre.is_centre(ledger) else ledger
        raise UnfitError(f"{place}: {found} signs of tampering or damage. Keep the file as evidence.")
    if signatures:
        typer.echo(f"personal signatures: {signatures}, all right", err=as_json)
    if anchors:
        typer.echo(f"intact; matches the anchors up to row {max(each.seq for each in anchors)}", err=as_json)
    else:
        reach = "intact, as far as the file shows: only an anchor (--anchor) reveals a chain that was recomputed"
        typer.echo(reach, err=as_json)


def _verified(
    place: str, chain: str | None, anchors: list[Anchor], *, frames: bool
) -> Iterator[tuple[str | None, list[Break], int]]:
    """Verify a file, or the chains of a centre one after the other; yield name, findings and right signatures."""
    from gonogo.errors import InputError
    from gonogo.ledger import verify
    from gonogo.signed_actions import SignatureCheck

    check = SignatureCheck()
    if not centre.is_centre(place):
        yield None, verify(centre.ledger_file(place, chain), anchors=anchors, frames=frames, also=check), check.verified
        return
    if anchors and chain is None:
        raise InputError("--anchor: expected --chain with the name of the chain that was anchored.")
    with centre.connected(place) as opened:
        from gonogo.centre import verify_chain

        for name in [each.name for each in opened.chains()] if chain is None else [chain]:
            check = SignatureCheck()
            yield name, verify_chain(opened, name, anchors=anchors, frames=frames, also=check), check.verified


@app.command("anchor")
def anchor_command(
    ledger: Place,
    to: Annotated[Path, typer.Option(help="File to append to; keep it where the line's machines cannot write.")],
    chain: ChainName = None,
) -> None:
    """Append the hash of the ledger's last row to a file, as later proof of all rows up to it."""
    from gonogo.ledger import publish_anchor

    with centre.opened(ledger, chain) as opened:
        published = publish_anchor(opened, to)
    typer.echo(f"row {published.seq}  {published.sha256}")


@app.command("export")
def export_command(
    ledger: Place,
    out: Annotated[Path, typer.Option(help="File to write, .parquet or .csv.")],
    chain: ChainName = None,
) -> None:
    """Export all rows as a table."""
    from gonogo.ledger import export as write_table

    with centre.opened(ledger, chain) as opened:
        count = write_table(opened, out)
    typer.echo(f"Wrote {count} rows to {out}")


@app.command("retain")
def retain_command(
    ledger: LedgerFile,
    keep_days: Annotated[float, typer.Option(min=1, help="Keep frames that are younger than this number of days.")],
    keep_bad: Annotated[bool, typer.Option("--keep-bad", help="Keep the frames of bad parts indefinitely.")] = False,
    who: Annotated[str, typer.Option(help="Name of the person responsible, for the record.")] = "gonogo ledger retain",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be deleted, but delete nothing.")
    ] = False,
) -> None:
    """Delete old frames. Their rows stay; a new row records the deletion."""
    from gonogo.ledger import Ledger, Policy, retain

    with Ledger.open(ledger, create=False) as opened:
        done = retain(opened, Policy(keep_days=keep_days, keep_bad=keep_bad), who=who, dry_run=dry_run)
    verb = "Would delete" if dry_run else "Deleted"
    typer.echo(f"{verb} {done.deleted} frames ({done.freed_bytes / 1e6:.1f} MB); {done.kept} kept")
    if done.unforwarded:
        typer.echo(f"{done.unforwarded} of the kept frames are old, and stay until they are forwarded")


def _as_json(row: Row[Record]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(row.body)
    return {"seq": row.seq, "kind": row.kind.value, "previous": row.previous, "sha256": row.sha256} | content


def _line(row: Row[Record]) -> str:
    from gonogo.ledger import Action, VerdictRecord

    start = f"{row.seq:8d}  {row.at:%Y-%m-%d %H:%M:%S}  "
    record = row.record
    if isinstance(record, VerdictRecord):
        score = "" if record.score is None else f"{record.score:.3f}"
        name = f"{record.station}/{record.trigger_id}"
        whose = f"{name}  {record.part or '-'}  {record.lot or '-'}"
        return f"{start}{record.state.value:8s}{score:>9s}  {whose}  {record.reason}"
    if isinstance(record, Action):
        about = "" if record.about is None else f" row {record.about}"
        decision = " ".join(filter(None, (record.label, record.defect)))
        return f"{start}{record.action}{about} by {record.who} {decision}".rstrip()
    return f"{start}{row.kind.value}"


app.command("replay")(replay_command)
app.command("sample")(sample_command)
app.command("prepare")(centre.prepare_command)
app.command("migrate")(centre.migrate_command)
app.command("forward")(centre.forward_command)
app.command("publish")(publish_command)
app.command("chains")(centre.chains_command)
app.command("capacity")(centre.capacity_command)

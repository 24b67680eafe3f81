"""``gonogo ledger replay``: judge the stored frames of a ledger again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gonogo.replay import Rejudged, Skipped


def replay_command(
    ledger: Annotated[Path, typer.Argument(help="The ledger, for example line1.ledger.", metavar="LEDGER")],
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle that judges. [default: the one that judged each part then]")
    ] = None,
    station: Annotated[str | None, typer.Option(help="Only this station.", show_default=False)] = None,
    lot: Annotated[str | None, typer.Option(help="Only this lot.", show_default=False)] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only rows from this time on, UTC.", show_default=False)
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Only rows before this time, UTC.", show_default=False)] = None,
    after: Annotated[int, typer.Option(min=0, help="Continue after this row.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line; the last is the summary.")] = False,
) -> None:
    """Judge stored frames again and list every verdict that would change.

    Exit code 1 if the same bundle does not give bit-equal scores, or if frames are missing or were changed.
    """
    from datetime import UTC

    from gonogo.errors import UnfitError
    from gonogo.inspector import Inspector
    from gonogo.ledger import Ledger, Where
    from gonogo.progress import track
    from gonogo.replay import replay_ledger as judge_again

    since, until = (moment and moment.replace(tzinfo=UTC) for moment in (since, until))
    where = Where(station=station, lot=lot, since=since, until=until)
    tally = _Tally()
    with Ledger.open(ledger, create=False, read_only=True) as opened:
        inspector = None if bundle is None else Inspector.load(bundle)
        found = judge_again(opened, inspector, where=where, after=after)
        try:
            for each in track(found, "judging again", total=None if after else opened.count(where)):
                told = tally.add(each)
                if told is not None:
                    typer.echo(json.dumps(told) if as_json else _line(told))
        except KeyboardInterrupt:
            typer.echo(f"Interrupted. Go on with: gonogo ledger replay {ledger} --after {tally.last}", err=True)
            raise typer.Exit(130) from None
        finally:
            typer.echo(json.dumps(tally.summary()) if as_json else tally.text())
    if tally.unequal or tally.skipped["lost"]:
        raise UnfitError(
            f"{ledger}: {tally.unequal} parts do not score the same with the same bundle (by at most "
            f"{tally.largest_difference:g}), and the frames of {tally.skipped['lost']} are missing or were changed. "
            "Was it judged on another processor? Else look into it: gonogo ledger verify --frames"
        )


@dataclass
class _Tally:
    parts: int = 0
    same_bundle: int = 0
    unequal: int = 0
    changed: int = 0
    largest_difference: float = 0.0
    changes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    last: int = 0

    def add(self, each: Rejudged | Skipped) -> dict[str, Any] | None:
        """Count one part; what to tell of it, or ``None`` where nothing is to be told."""
        from gonogo.replay import Gap, Skipped

        self.last = each.row.seq
        record = each.row.record
        told: dict[str, Any] = {"seq": each.row.seq, "station": record.station, "trigger_id": record.trigger_id}
        told |= {"part": record.part, "lot": record.lot}
        if isinstance(each, Skipped):
            self.skipped[each.gap.value] += 1
            return told | {"skipped": each.gap.value, "why": each.why} if each.gap is Gap.LOST else None
        self.parts += 1
        self.same_bundle += each.same_bundle
        unequal = each.same_bundle and not each.equal
        self.unequal += unequal
        if unequal and each.score_before is not None and each.score_after is not None:
            self.largest_difference = max(self.largest_difference, abs(each.score_after - each.score_before))
        self.changed += each.changed
        if each.changed:
            self.changes[f"{each.state_before.value} -> {each.state_after.value}"] += 1
        if not (each.changed or unequal):
            return None
        return told | {
            "same_bundle": each.same_bundle,
            "state_before": each.state_before.value,
            "state_after": each.state_after.value,
            "score_before": each.score_before,
            "score_after": each.score_after,
        }

    def summary(self) -> dict[str, Any]:
        return {
            "summary": True,
            "parts": self.parts,
            "same_bundle": self.same_bundle,
            "unequal": self.unequal,
            "changed": self.changed,
            "changes": dict(self.changes),
            "skipped": dict(self.skipped),
            "last_seq": self.last,
        }

    def text(self) -> str:
        changes = "".join(f"\n  {change}: {count}" for change, count in sorted(self.changes.items()))
        skipped = ", ".join(f"{count} {gap}" for gap, count in sorted(self.skipped.items()))
        equal = f"{self.same_bundle - self.unequal} of {self.same_bundle} bit-equal with the same bundle"
        return f"{self.parts} parts judged again; {equal}; {self.changed} verdicts would change{changes}" + (
            f"\nskipped: {skipped}" if skipped else ""
        )


def _line(told: dict[str, Any]) -> str:
    who = f"row {told['seq']}  {told['station']}/{told['trigger_id']}"
    if "skipped" in told:
        return f"{who}  {told['skipped']}: {told['why']}"
    states = f"{told['state_before']} -> {told['state_after']}"
    return f"{who}  {states}  score {told['score_before']} -> {told['score_after']}"

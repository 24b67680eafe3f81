"""``gonogo ledger replay``: judge the stored frames of a ledger again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli import centre
from gonogo.cli.centre import ChainName, Place
from gonogo.cli.device import DeviceOption
from gonogo.cli.engine import Engine, EngineOption, JournalOption, RayAddressOption, RayOptions, say_how_to_resume
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.ledger import ReplaySummary
    from gonogo.ledger import Ledger, Where
    from gonogo.replay import Rejudged, Skipped


def replay_command(
    ledger: Place,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to judge with. [default: the one that judged each part]")
    ] = None,
    station: Annotated[str | None, typer.Option(help="Only this station.", show_default=False)] = None,
    lot: Annotated[str | None, typer.Option(help="Only this lot.", show_default=False)] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only rows from this time on, UTC.", show_default=False)
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Only rows before this time, UTC.", show_default=False)] = None,
    after: Annotated[int, typer.Option(min=0, help="Start after the row with this number.")] = 0,
    device: DeviceOption = None,
    chain: ChainName = None,
    engine: EngineOption = Engine.PROCESSES,
    ray_address: RayAddressOption = None,
    journal: JournalOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line; the last is the summary.")
    ] = False,
) -> None:
    """Judge the stored frames again and list every verdict that would change.

    Exit code 1 if the same bundle does not give bit-equal scores, or if frames are missing or were changed.
    """
    from datetime import UTC

    from gonogo.errors import UnfitError
    from gonogo.ledger import Where
    from gonogo.progress import track

    options = RayOptions(engine=engine, address=ray_address, journal=journal)
    on_ray = options.chosen
    since, until = (moment and moment.replace(tzinfo=UTC) for moment in (since, until))
    where = Where(station=station, lot=lot, since=since, until=until)
    tally = _Tally()
    with centre.opened(ledger, chain) as opened:
        found = (_on_ray if on_ray else _here)(opened, bundle, where, after, options, tally)
        try:
            with closing(found):
                for each in track(found, "judging again", total=None if after else opened.count(where)):
                    row = tally.add(each)
                    if row is not None:
                        if as_json:
                            print_json(row)
                        else:
                            typer.echo(_line(row))
        except KeyboardInterrupt:
            if options.journal is not None:
                say_how_to_resume(options)
                raise
            again = " ".join([ledger, *(["--chain", chain] if chain else [])])
            typer.echo(f"Interrupted. Continue with: gonogo ledger replay {again} --after {tally.last}", err=True)
            raise typer.Exit(130) from None
        finally:
            if as_json:
                print_json(tally.summary())
            else:
                typer.echo(tally.text())
    if tally.unequal or tally.skipped["lost"]:
        raise UnfitError(f"{ledger}: {tally.problem()}")


def _here(
    opened: Ledger, bundle: Path | None, where: Where, after: int, options: RayOptions, tally: _Tally
) -> Generator[Rejudged | Skipped]:
    from gonogo.inspector import Inspector
    from gonogo.replay import replay_ledger

    inspector = None if bundle is None else Inspector.load(bundle)
    return (each for each in replay_ledger(opened, inspector, where=where, after=after))


def _on_ray(
    opened: Ledger, bundle: Path | None, where: Where, after: int, options: RayOptions, tally: _Tally
) -> Generator[Rejudged | Skipped]:
    from gonogo.cli.engine import on_cluster, other_processors

    with on_cluster(options) as cluster:
        from gonogo.cluster import Used, replay_on

        used = Used()
        yield from replay_on(cluster, opened, bundle, where=where, after=after, journal=options.journal, used=used)
    tally.other_processors = other_processors(used)


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
    other_processors: dict[str, int] | None = None
    """Parts by kind of processor, where that is another one than this machine's; ``None`` on one machine."""

    def add(self, each: Rejudged | Skipped) -> dict[str, Any] | None:
        """Count one part, and return the row to print; ``None`` if there is nothing to report."""
        from gonogo.replay import Gap, Skipped

        self.last = each.row.seq
        record = each.row.record
        shown: dict[str, Any] = {"seq": each.row.seq, "station": record.station, "trigger_id": record.trigger_id}
        shown |= {"part": record.part, "lot": record.lot}
        if isinstance(each, Skipped):
            self.skipped[each.gap.value] += 1
            return shown | {"skipped": each.gap.value, "why": each.why} if each.gap is Gap.LOST else None
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
        return shown | {
            "same_bundle": each.same_bundle,
            "state_before": each.state_before.value,
            "state_after": each.state_after.value,
            "score_before": each.score_before,
            "score_after": each.score_after,
        }

    def summary(self) -> ReplaySummary:
        summary: ReplaySummary = {
            "summary": True,
            "parts": self.parts,
            "same_bundle": self.same_bundle,
            "unequal": self.unequal,
            "changed": self.changed,
            "changes": dict(self.changes),
            "skipped": dict(self.skipped),
            "last_seq": self.last,
        }
        if self.other_processors is not None:
            summary["other_processors"] = self.other_processors
        return summary

    def problem(self) -> str:
        return (
            f"{self.unequal} parts have another score with the same bundle (largest difference "
            f"{self.largest_difference:g}), and the frames of {self.skipped['lost']} parts are missing or changed. "
            "Scores differ on another processor or device; otherwise run: gonogo ledger verify --frames"
        )

    def text(self) -> str:
        changes = "".join(f"\n  {change}: {count}" for change, count in sorted(self.changes.items()))
        skipped = ", ".join(f"{count} {gap}" for gap, count in sorted(self.skipped.items()))
        equal = f"{self.same_bundle - self.unequal} of {self.same_bundle} bit-equal with the same bundle"
        return f"{self.parts} parts judged again; {equal}; {self.changed} verdicts would change{changes}" + (
            f"\nskipped: {skipped}" if skipped else ""
        )


def _line(row: dict[str, Any]) -> str:
    who = f"row {row['seq']}  {row['station']}/{row['trigger_id']}"
    if "skipped" in row:
        return f"{who}  {row['skipped']}: {row['why']}"
    states = f"{row['state_before']} -> {row['state_after']}"
    return f"{who}  {states}  score {row['score_before']} -> {row['score_after']}"

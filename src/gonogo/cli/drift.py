"""``gonogo simulate-drift``: how soon this bundle's alarm finds a change, and how often it cries wolf."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.errors import InputError, UnfitError

if TYPE_CHECKING:
    from gonogo.dataset import Dataset, Sample
    from gonogo.drift import Signs
    from gonogo.drift.simulate import Waits
    from gonogo.inspector import Inspector

_NEW_KIND_SHARE = 0.1
_CHANGED_PARTS = 1000
_BEFORE = 500


def simulate_drift(
    bundle: Annotated[Path, typer.Argument(help="An inspector set by gonogo operate.", metavar="BUNDLE")],
    dataset: Annotated[Path, typer.Argument(help="Labelled parts to draw lines from.", metavar="DATASET")],
    split: Annotated[str, typer.Option(help="Which split to draw from, or all.")] = "test",
    new_kind: Annotated[
        list[str] | None,
        typer.Option(help="A defect kind that was not in training; may be repeated.", show_default=False),
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="Number of lines to simulate.")] = 200,
    length: Annotated[int, typer.Option(min=100, help="Number of parts per line on which nothing changes.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how soon the drift alarm notices a dimmer lamp, a defocused lens or a new defect kind.

    Parts are drawn with replacement, bad ones as often as the bundle expects. A change comes after 500 parts.
    """
    from gonogo.dataset import Dataset, Split
    from gonogo.inspector import Inspector

    inspector, data = Inspector.load(bundle), Dataset.read(dataset)
    if inspector.drift is None or not inspector.drift.watches:
        raise UnfitError(f"{bundle}: has no drift limits. Write them with: gonogo operate {bundle} DATASET")
    if split != "all" and split not in set(Split):
        raise InputError(f"--split: expected {', '.join(Split)} or all, found {split!r}.")
    pictures = [s for s in data.samples if s.label is not None and (split == "all" or s.split == split)]
    chosen = list({sample.part_id: sample for sample in reversed(pictures)}.values())  # the first picture of each part
    found = _simulate(inspector, data, chosen, frozenset(new_kind or ()), lines=lines, length=length, seed=seed)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print(found)


def _simulate(
    inspector: Inspector,
    dataset: Dataset,
    samples: list[Sample],
    new_kinds: frozenset[str],
    *,
    lines: int,
    length: int,
    seed: int,
) -> dict[str, Any]:
    import numpy as np

    from gonogo.drift.simulate import defocus, dim, mixture, run_lines, strange_parts
    from gonogo.progress import track
    from gonogo.schema import Label

    assert inspector.drift is not None, "checked by the caller"
    watches, bad_share = inspector.drift.watches, inspector.drift.bad_share
    novel = [sample for sample in samples if sample.defect in new_kinds]
    known = [sample for sample in samples if sample.defect not in new_kinds]
    good = [sample for sample in known if sample.label is Label.GOOD]
    bad = [sample for sample in known if sample.label is Label.BAD]
    if not good:
        raise InputError(f"{dataset.root}: expected good parts to draw from, found none. Choose another --split.")
    pool = {
        "unchanged": _observe(inspector, dataset, good, "as they are"),
        "dimmed": _observe(inspector, dataset, good, "dimmed", dim),
        "defocused": _observe(inspector, dataset, good, "defocused", defocus),
    }
    strange = {name: strange_parts(watches, signs) for name, signs in pool.items()}
    strange_bad = strange_parts(watches, _observe(inspector, dataset, bad, "bad parts"))
    rng = np.random.default_rng(seed)
    usual = mixture(strange["unchanged"], strange_bad, share=bad_share, lines=lines)
    quiet = run_lines(
        watches, usual, lines=lines, length=length, rng=rng, track=functools.partial(track, description="unchanged")
    )
    # What takes over after the change, and the share of parts that it takes.
    others = {"dimmed": (strange["dimmed"], 1.0), "defocused": (strange["defocused"], 1.0)}
    guard = inspector.drift.guard
    stopped = {}
    if novel:
        seen = _observe(inspector, dataset, novel, "new kind")
        strange["new_kind"] = strange_parts(watches, seen)
        others["new_kind"] = (strange["new_kind"], _NEW_KIND_SHARE)
        pool["new_kind"] = seen
    if guard is not None:
        stopped = {name: sum(guard.stops(s.distance) for s in seen) / len(seen) for name, seen in pool.items()}
    found: dict[str, Any] = {
        "lines": lines,
        "parts_per_line": length,
        "pool_good": len(good),
        "pool_bad": len(bad),
        "pool_new_kind": len(novel),
        "reference_parts": inspector.drift.parts,
        "bad_share": bad_share,
        "false_alarm_lines": quiet.alarms,
        "false_alarms_per_10000_parts": _per_10000(quiet),
        "stopped_by_guard": stopped,
        "beyond_limits": {
            name: [
                {"sign": watch.sign, "above": watch.above, "allowed": watch.rate, "share": float(share)}
                for watch, share in zip(watches, shares.mean(axis=0), strict=True)
            ]
            for name, shares in strange.items()
        },
        "changes": {},
    }
    for name, (other, share) in others.items():
        for start in (0, _BEFORE):
            draw = mixture(strange["unchanged"], other, share=share, lines=lines, start=start)
            waits = run_lines(watches, draw, lines=lines, length=start + _CHANGED_PARTS, rng=rng)
            after = [wait - start for wait in waits.parts.tolist() if wait > start]
            found["changes"].setdefault(name, {})["at_once" if start == 0 else f"after_{start}"] = _waits(after)
    return found


def _observe(
    inspector: Inspector, dataset: Dataset, samples: list[Sample], name: str, change: Any = None
) -> list[Signs]:
    from gonogo.drift import observe
    from gonogo.images import Photograph, encode_png
    from gonogo.progress import track

    assert inspector.drift is not None, "checked by the caller"
    signs = []
    for sample in track(samples, name):
        photograph = Photograph(dataset.path(sample).read_bytes(), name=str(dataset.path(sample)))
        if change is not None:
            photograph = Photograph(encode_png(change(photograph.frame)))
        verdict = inspector.inspect(photograph)
        seen = observe(photograph, verdict, inspector.drift.taught, inspector.recipe)
        if seen is not None:
            signs.append(seen)
    return signs


def _per_10000(quiet: Waits) -> float:
    """Alarms per 10,000 parts watched; a line is watched until its alarm."""
    import numpy as np

    return 1e4 * quiet.alarms / float(np.minimum(quiet.parts, quiet.length).sum())


def _waits(after: list[float]) -> dict[str, Any]:
    import numpy as np

    ends = np.quantile(after, [0.5, 0.95], method="higher").tolist() if after else [float("inf")] * 2
    median, late = (value if np.isfinite(value) else None for value in ends)
    return {
        "lines": len(after),
        "alarms": int(np.isfinite(after).sum()),
        "median_parts": median,
        "parts_95": late,
    }


def _print(found: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{found['lines']} lines of {found['parts_per_line']} parts on which nothing changes, "
        f"{found['bad_share']:.1%} of them bad: {found['false_alarm_lines']} lines with a false alarm, "
        f"{found['false_alarms_per_10000_parts']:.3g} per 10,000 parts"
    )
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    for heading in (
        "change",
        "from the start: median",
        "95 %",
        f"after {_BEFORE} parts: median",
        "95 %",
        "guard stops",
    ):
        table.add_column(heading, justify="left" if heading == "change" else "right")
    names = {"dimmed": "lamp dimmed by 20 %", "defocused": "lens defocused"}
    names["new_kind"] = f"{_NEW_KIND_SHARE:.0%} of a new kind"
    stopped = found["stopped_by_guard"]
    for name, waits in found["changes"].items():
        cells = [_cell(waits[when][key]) for when in waits for key in ("median_parts", "parts_95")]
        table.add_row(names[name], *cells, f"{stopped[name]:.1%}" if name in stopped else "-")
    table.add_row("nothing", "", "", "", "", f"{stopped['unchanged']:.1%}" if stopped else "-")
    console.print(table)


def _cell(value: float | None) -> str:
    return f"> {_CHANGED_PARTS}" if value is None else f"{value:.0f}"

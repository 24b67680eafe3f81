"""Measure delay and false-alarm rate of the drift alarm on lines simulated from measured parts.

``make drift``, or ``python benchmarks/drift.py BUNDLE DATASET --new-kind KIND``: a dimmer lamp, a defocused lens or a
new defect kind, after 500 parts. Parts are drawn with replacement, bad ones as often as the bundle expects. Without a
bundle one is trained on rendered close-ups. ``QUICK=1`` simulates 20 lines of 1,000 parts, not 200 of
10,000. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float64
from rich import box
from rich.console import Console
from rich.table import Table

from command import print_figures, run
from gonogo.certification import recertify
from gonogo.dataset import Dataset, Fractions, ImportOptions, Sample, Split, import_folder
from gonogo.drift import observe
from gonogo.drift.alarm import RISK, Watch
from gonogo.drift.signs import Signs
from gonogo.errors import InputError, UnfitError
from gonogo.images import Photograph, encode_png
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.operating_point.audit import bet, kept_back
from gonogo.progress import track
from gonogo.schema import Frame, Label
from gonogo.synthetic import write_close_ups
from gonogo.workflow import TrainingOptions, train_inspector

DIMMED = 0.8
"""Share of the light that is left."""
DEFOCUS_PIXELS = 2.0
"""Standard deviation of the blur, for a picture whose longer side has 640 pixels."""

_NEW_KIND_SHARE = 0.1
_CHANGED_PARTS = 1000
_BEFORE = 500
_RENDERED_PARTS, _RENDERED_SPLITS = 240, Fractions.parse("30/10/40/20")

_ENCODED = np.arange(256) / 255
_LINEAR = np.where(_ENCODED <= 0.04045, _ENCODED / 12.92, ((_ENCODED + 0.055) / 1.055) ** 2.4)


def dim(frame: Frame, left: float = DIMMED) -> Frame:
    """Dim a frame to this share of the light (sRGB, IEC 61966-2-1); clipped highlights stay clipped."""
    light = _LINEAR * left
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(cv2.LUT(frame, np.rint(encoded * 255).astype(np.uint8)), np.uint8)


def defocus(frame: Frame, pixels: float = DEFOCUS_PIXELS) -> Frame:
    """Blur a frame like a defocused lens, with a Gaussian."""
    sigma = pixels * max(frame.shape[:2]) / 640
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Number of parts until the alarm on each simulated line; infinite without an alarm."""

    parts: Float64[np.ndarray, " lines"]
    length: int
    """Number of parts of each line."""

    @property
    def alarms(self) -> int:
        """Number of lines with an alarm."""
        return int(np.isfinite(self.parts).sum())

    def quantile(self, share: float) -> float | None:
        """Return the number of parts after which this share of lines had an alarm; ``None`` if it was never reached."""
        value = float(np.quantile(self.parts, share, method="higher"))
        return value if math.isfinite(value) else None


def strange_parts(watches: Sequence[Watch], pool: Sequence[Signs]) -> Bool[np.ndarray, "parts watches"]:
    """Return which parts are strange for which watch."""
    return np.array([[watch.strange(signs) for watch in watches] for signs in pool], bool).reshape(-1, len(watches))


def run_lines(
    watches: Sequence[Watch],
    draw: Callable[[np.random.Generator, int], Bool[np.ndarray, "lines watches"]],
    *,
    lines: int,
    length: int,
    rng: np.random.Generator,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Waits:
    """Run the drift test on many lines at once, as `DriftTest` would on each.

    Args:
        watches: The bundle's watches.
        draw: Returns the strangeness of each line's next part, given the generator and the number of earlier parts.
        lines: Number of lines.
        length: Number of parts of each line.
        rng: Seeded.
        track: Shows progress over the parts.
    """
    rates = np.array([watch.rate for watch in watches])
    stakes = [np.zeros((lines, 3)) for _ in watches]
    waits = np.full(lines, np.inf)
    for before in track(range(length)):
        strange = draw(rng, before)
        total = np.full(lines, len(watches) * kept_back(before + 1))
        for number, rate in enumerate(rates.tolist()):
            stakes[number] = bet(stakes[number], before + 1, strange[:, number], rate)
            total += stakes[number].sum(axis=1)
        alarmed = total / len(watches) * RISK / 2 >= 1.0
        waits[alarmed & np.isinf(waits)] = before + 1
    return Waits(parts=waits, length=length)


def mixture(
    usual: Bool[np.ndarray, "parts watches"],
    other: Bool[np.ndarray, "others watches"],
    *,
    share: float,
    lines: int,
    start: int = 0,
) -> Callable[[np.random.Generator, int], Bool[np.ndarray, "lines watches"]]:
    """Draw usual parts with replacement, and from part ``start`` on a share of others."""

    def draw(rng: np.random.Generator, before: int) -> Bool[np.ndarray, "lines watches"]:
        parts = usual[rng.integers(len(usual), size=lines)]
        if before < start or not len(other) or not share:
            return parts
        swapped = rng.random(lines) < share
        return np.where(swapped[:, None], other[rng.integers(len(other), size=lines)], parts)

    return draw


def main() -> None:
    """Simulate, print the table and the figures."""
    given = _arguments()
    if given.split != "all" and given.split not in set(Split):
        raise InputError(f"--split: expected {', '.join(Split)} or all, found {given.split!r}.")
    with tempfile.TemporaryDirectory() as folder:
        if given.bundle is None:
            given.bundle, given.dataset = _trained(Path(folder))
        elif given.dataset is None:
            raise InputError("expected BUNDLE and DATASET, or neither of them. Add the parts to draw lines from.")
        inspector, data = Inspector.load(given.bundle), Dataset.read(given.dataset)
        if inspector.drift is None or not inspector.drift.watches:
            raise UnfitError(
                f"{given.bundle}: has no drift limits. Write them with: gonogo operate {given.bundle} DATASET"
            )
        pictures = [s for s in data.samples if s.label is not None and given.split in ("all", s.split)]
        chosen = list({sample.part_id: sample for sample in reversed(pictures)}.values())  # each part's first picture
        lines = given.lines or (20 if given.quick else 200)
        length = given.length or (1_000 if given.quick else 10_000)
        found = _simulate(
            inspector, data, chosen, frozenset(given.new_kind), lines=lines, length=length, seed=given.seed
        )
    _print(found)
    print_figures(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", help="A certified inspector; one is trained where omitted.")
    parser.add_argument("dataset", type=Path, nargs="?", help="Labelled parts to draw lines from.")
    parser.add_argument("--quick", action="store_true", help="20 lines of 1,000 parts.")
    parser.add_argument("--split", default="test", help="Which split to draw from, or all.")
    parser.add_argument(
        "--new-kind", action="append", default=[], help="A defect kind that was not in training; may be repeated."
    )
    parser.add_argument("--lines", type=int, help="Number of lines to simulate, in place of 200.")
    parser.add_argument("--length", type=int, help="Parts per line on which nothing changes, in place of 10,000.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed.")
    return parser.parse_args()


def _trained(folder: Path) -> tuple[Path, Path]:
    """Train and certify a bundle on rendered close-ups; return it with its data set."""
    write_close_ups(folder / "photos", _RENDERED_PARTS)
    options = ImportOptions(mask_suffix="_mask.png", fractions=_RENDERED_SPLITS)
    dataset = import_folder(folder / "photos", folder / "parts", options).dataset
    bundle = train_inspector(dataset, folder / "rendered.inspector", TrainingOptions()).bundle
    recertify(Inspector.load(bundle.root), dataset, Promise(max_escape=0.1, max_overkill=0.1, bad_share=0.05))
    return bundle.root, dataset.root


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
    from drift import defocus, dim, mixture, run_lines, strange_parts
    from gonogo.progress import track

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
    assert inspector.drift is not None, "checked by the caller"
    signs = []
    for sample in track(samples, name):
        photograph = Photograph(dataset.path(sample).read_bytes(), name=str(dataset.path(sample)))
        if change is not None:
            photograph = Photograph(encode_png(change(photograph.frame)))
        verdict = inspector.inspect(photograph)
        seen = observe(photograph, verdict, inspector.drift.features, inspector.recipe)
        if seen is not None:
            signs.append(seen)
    return signs


def _per_10000(quiet: Waits) -> float:
    """Alarms per 10,000 parts watched; a line is watched until its alarm."""
    return 1e4 * quiet.alarms / float(np.minimum(quiet.parts, quiet.length).sum())


def _waits(after: list[float]) -> dict[str, Any]:
    ends = np.quantile(after, [0.5, 0.95], method="higher").tolist() if after else [float("inf")] * 2
    median, late = (value if np.isfinite(value) else None for value in ends)
    return {
        "lines": len(after),
        "alarms": int(np.isfinite(after).sum()),
        "median_parts": median,
        "parts_95": late,
    }


def _print(found: dict[str, Any]) -> None:
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


if __name__ == "__main__":
    run(main)

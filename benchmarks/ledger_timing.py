"""Measure commit and query times of a ledger on this machine and disk, filled with simulated parts.

``make ledger-timing``, or ``python benchmarks/ledger_timing.py --folder FOLDER`` for the disk of that folder.
``QUICK=1`` fills it with 5,000 parts instead of 100,000. The last line holds the figures as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from command import print_figures, run
from gonogo.ledger.queries import By, Where
from gonogo.ledger.records import REVIEW, Action, RowKind, VerdictRecord, View
from gonogo.ledger.store import Ledger
from gonogo.ledger.verifying import verify
from gonogo.progress import track
from gonogo.schema import Label, State

_STATES = (State.GO, State.NO_GO, State.REVIEW, State.FAULT)
_SHARES = (0.9, 0.03, 0.06, 0.01)
_START = datetime(2026, 1, 5, 6, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time of one operation over its repetitions."""

    what: str
    median_ms: float
    p95_ms: float


def measure(path: Path, *, rows: int, repeats: int = 20, seed: int = 0) -> list[Timing]:
    """Fill a new ledger with parts, and time commits, the queries of the pages, and verification.

    Args:
        path: The ledger to create, on the disk to measure.
        rows: Number of parts to record; a tenth of those in review stay undecided.
        repeats: How often each query is timed.
        seed: Of the made-up parts.
    """
    timings = [_timed(f"encode a frame as {name}", 10, call) for name, call in _encoders(seed).items()]
    with Ledger.open(path) as ledger:
        timings += [_timed("store a frame of 300 kB", 100, _storing(ledger, seed))]
        fill(ledger, rows=rows, seed=seed)
        commits = parts(ledger, count=200, first=rows, seed=seed + 1)
        timings.append(_timed("commit a verdict", 200, lambda: ledger.append_verdict(next(commits))))
    with Ledger.open(path, read_only=True) as reader:
        timings += [_timed(what, repeats, query) for what, query in _queries(reader, rows).items()]
    return [*timings, _timed("verify the chain", 1, lambda: verify(path))]


def fill(ledger: Ledger, *, rows: int, seed: int) -> None:
    """Record simulated parts, one every two seconds, and decide most of those in review."""
    rng = np.random.default_rng(seed)
    clock = iter(_START + timedelta(seconds=2 * step) for step in range(2 * rows))
    stamped = Ledger(ledger.engine, ledger.frames, now=lambda: next(clock))
    with stamped.writing():  # one transaction, as this is not timed
        for record in track(parts(ledger, count=rows, first=0, seed=seed), "filling", total=rows):
            row = stamped._append(RowKind.VERDICT, record)
            if record.state is State.REVIEW and rng.random() < 0.9:
                defect = str(rng.choice(["scratch", "crack", "hole"])) if rng.random() < 0.5 else None
                label = Label.GOOD if defect is None else Label.BAD
                who = f"person{rng.integers(5)}"
                action = Action(action=REVIEW, who=who, about=row.seq, label=label, defect=defect)
                stamped._append(RowKind.ACTION, action)


def parts(ledger: Ledger, *, count: int, first: int, seed: int) -> Iterator[VerdictRecord]:
    """Yield made-up verdicts; their frame is put into the ledger's store."""
    rng = np.random.default_rng(seed)
    frame = ledger.frames.put(b"a made-up frame")
    bundle = hashlib.sha256(b"a made-up bundle").hexdigest()
    for number in range(first, first + count):
        state = _STATES[int(rng.choice(4, p=_SHARES))]
        score = None if state is State.FAULT else float(rng.normal())
        view = View(frame_sha256=frame, state=state, score=score, reason="made up", box_xyxy=(0.0, 0.0, 640.0, 480.0))
        yield (
            VerdictRecord(
                station=f"station-{number % 2}",
                trigger_id=f"{number}",
                part=f"part-{number}",
                lot=f"lot-{number // 500}",
                state=state,
                score=score,
                reason="made up, to be about as long as a real reason is",
                cause=str(rng.choice(["camera_lost", "late", "dark"])) if state is State.FAULT else None,
                go_below=-1.0,
                no_go_above=1.0,
                bundle_sha256=bundle,
                bundle="/opt/line/tile.inspector",
                device="CPU",
                views=(view,),
                triggered_at=_START + timedelta(seconds=2 * number),
                timings_ms={"roi": 0.1, "resize": 0.3, "network": 6.1, "total": 6.5},
            )
        )


def _storing(ledger: Ledger, seed: int) -> Callable[[], object]:
    rng = np.random.default_rng(seed)
    return lambda: ledger.frames.put(rng.bytes(300_000))


def _encoders(seed: int) -> dict[str, Callable[[], object]]:
    """Return encoders for lossless formats, on 1.2 megapixels of a smooth scene with camera noise."""
    rng = np.random.default_rng(seed)
    scene = cv2.resize(rng.integers(40, 220, (12, 16, 3), np.uint8), (1280, 960), interpolation=cv2.INTER_CUBIC)
    frame = np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
    return {
        "BMP": lambda: cv2.imencode(".bmp", frame),
        "PNG, level 1": lambda: cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        "lossless WebP": lambda: cv2.imencode(".webp", frame, [cv2.IMWRITE_WEBP_QUALITY, 101]),
    }


def _queries(ledger: Ledger, rows: int) -> dict[str, Callable[[], object]]:
    """Return the queries of the pages: over everything, and over a day, a lot or a page."""
    day = Where(since=_START + timedelta(seconds=rows), until=_START + timedelta(seconds=rows, days=1))
    doubtful = Where(states=(State.REVIEW,), undecided=True)
    decided_bad = Where(action=REVIEW, label=Label.BAD, latest=True)
    seconds = Where(states=(State.NO_GO, State.FAULT))
    return {
        "find a trigger": lambda: ledger.find("station-1", "1001"),
        "latest 50 rows": lambda: list(ledger.rows(limit=50, newest_first=True)),
        "latest 50 of a station": lambda: list(
            ledger.verdicts(Where(station="station-1"), limit=50, newest_first=True)
        ),
        "50 rows from the middle": lambda: list(ledger.verdicts(before=rows // 2, limit=50, newest_first=True)),
        "latest 50 no-go and faults": lambda: list(ledger.verdicts(seconds, limit=50, newest_first=True)),
        "one part": lambda: list(ledger.verdicts(Where(part=f"part-{rows // 2}"))),
        "one lot": lambda: list(ledger.verdicts(Where(lot="lot-7"))),
        "the first 50 of a day": lambda: list(ledger.verdicts(day, limit=50)),
        "latest 50 actions": lambda: list(ledger.actions(limit=50, newest_first=True)),
        "next 10 to review": lambda: list(ledger.verdicts(doubtful, limit=10)),
        "how many to review": lambda: ledger.count(doubtful),
        "count by state": lambda: ledger.tally((By.STATE,)),
        "count by hour and state": lambda: ledger.tally((By.HOUR, By.STATE)),
        "one day by hour and state": lambda: ledger.tally((By.HOUR, By.STATE), day),
        "count by lot and state": lambda: ledger.tally((By.LOT, By.STATE)),
        "faults by cause": lambda: ledger.tally((By.CAUSE,), Where(states=(State.FAULT,))),
        "bad parts by defect kind": lambda: ledger.tally((By.DEFECT,), decided_bad, kind=RowKind.ACTION),
    }


def _timed(what: str, repeats: int, call: Callable[[], object]) -> Timing:
    taken_ms = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken_ms.append((time.perf_counter() - start) * 1e3)
    return Timing(what=what, median_ms=float(np.median(taken_ms)), p95_ms=float(np.quantile(taken_ms, 0.95)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 parts.")
    parser.add_argument("--rows", type=int, help="Number of parts in the ledger, in place of 100,000.")
    parser.add_argument("--folder", type=Path, default=Path(), help="Measure the disk of this folder.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix=".gonogo-time.") as place:
        timings = measure(Path(place) / "time.ledger", rows=given.rows or (5_000 if given.quick else 100_000))
    for each in timings:
        print(f"{each.what:36s}median {each.median_ms:9.1f} ms  p95 {each.p95_ms:9.1f} ms")  # noqa: T201
    print_figures({each.what: {"median_ms": each.median_ms, "p95_ms": each.p95_ms} for each in timings})


if __name__ == "__main__":
    run(main)

"""The workspace of `clicks`: trays of unlabelled pictures, an inspector without training, and judged parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from gonogo import bundle
from gonogo.certification import recertify
from gonogo.dataset import Dataset, Sample, Split, fingerprint, write_metadata
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.operating_point import Promise
from gonogo.progress import track
from gonogo.schema import Frame, Label, State
from gonogo.server import Workspace
from gonogo.testing.bundle import write_fake_bundle

INSPECTOR, DATASET, TRAYS = "part.inspector", "part", ("tray-1", "tray-2")
PARTS = 400
"""Parts in the ledger; the one that is looked for was judged in the middle of them."""
BAD_OF = 5
"""One of so many pictures that are labelled is bad."""
BEFORE_PERCENT = 5
"""The limit of bad parts that pass, and of good parts that are rejected, with which the line has run."""
SPLITS = {Split.TRAIN: 40, Split.VAL: 80, Split.CALIBRATE: 240, Split.TEST: 40}
SIDE = 64


def furnish(space: Workspace, pictures: int, *, parts: int = PARTS) -> VerdictRecord:
    """Two equal trays of unlabelled pictures, a certified inspector in use and its line; returns a part that passed."""
    rng = np.random.default_rng(7)
    shown = [(f"images/{number:03d}.png", picture(bad=number % BAD_OF == 3, rng=rng)) for number in range(pictures)]
    for tray in TRAYS:
        (space.datasets / tray / "images").mkdir(parents=True)
        for file, frame in shown:
            (space.datasets / tray / file).write_bytes(encode_png(frame))
        write_metadata(space.datasets / tray, [Sample(file_name=file) for file, _ in shown])
    dataset = labelled_parts(space.datasets / DATASET, rng)
    fake = write_fake_bundle(space.bundles / INSPECTOR, name="part")
    print_of = fingerprint(dataset, dataset.split(Split.TRAIN, Split.VAL))
    changed = {"data_fingerprint": print_of, "operating_point": None}
    bundle.write_manifest(fake.root, fake.manifest.model_copy(update=changed))
    limit = BEFORE_PERCENT / 100
    recertify(Inspector.load(fake.root), dataset, Promise(max_escape=limit, max_overkill=limit))
    space.activate(INSPECTOR)
    return line(space, Inspector.load(fake.root), parts, rng)


def picture(*, bad: bool, rng: np.random.Generator) -> Frame:
    """A part; a bad one is reddish, which is all that the inspector sees."""
    frame = rng.uniform(60, 140, (SIDE, SIDE, 3))
    frame[..., 0] = rng.normal(170 if bad else 90, 12) + rng.uniform(-30, 30, (SIDE, SIDE))
    return np.clip(frame, 0, 255).astype(np.uint8)


def labelled_parts(root: Path, rng: np.random.Generator) -> Dataset:
    """The data set of the inspector: half good, half bad."""
    (root / "images").mkdir(parents=True)
    samples = []
    for split, count in SPLITS.items():
        for number in range(count):
            file, bad = f"images/{split}-{number:03d}.png", number % 2 == 1
            (root / file).write_bytes(encode_png(picture(bad=bad, rng=rng)))
            label = Label.BAD if bad else Label.GOOD
            samples.append(Sample(file_name=file, label=label, part=f"{split}-{number}", split=split))
    dataset = Dataset(root=root, samples=tuple(samples))
    dataset.write()
    return dataset


def line(space: Workspace, judge: Inspector, parts: int, rng: np.random.Generator) -> VerdictRecord:
    """Parts of a line in the ledger, one in ten of them bad; returns a part in the middle, which passed."""
    point = judge.operating_point
    assert point is not None, "it was certified"
    records = []
    with Ledger.open(space.ledger) as ledger:
        for number in track(range(parts), "judging"):
            frame = picture(bad=number % 10 == 9, rng=rng)
            verdict = judge.inspect(frame)
            record = VerdictRecord(
                station="line-1",
                trigger_id=f"t{number}",
                part=f"P-{number:04d}",
                lot=f"L-{number // 50}",
                state=verdict.state,
                score=verdict.score,
                reason=verdict.reason,
                go_below=point.go_below,
                no_go_above=point.no_go_above,
                bundle_sha256=judge.bundle_sha256,
                bundle=str(judge.path),
                views=(View.of(verdict, frame_sha256=ledger.frames.put(encode_png(frame))),),
                triggered_at=datetime.now(UTC) - timedelta(seconds=parts - number),
            )
            ledger.append_verdict(record)
            records.append(record)
    return next(record for record in records[parts // 2 :] if record.state is State.GO)


def is_bad(file: str) -> bool:
    """What a person sees on a picture of `furnish`."""
    return int(Path(file).stem) % BAD_OF == 3

"""Data sets of the study of claims, and the judged parts of each split seed, kept in files.

A finished split is a file of ``OUT/claims``; an interrupted study goes on with the splits that are missing.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gonogo.dataset import Dataset, Fractions, ImportOptions, Sample, Split, import_folder, resplit, with_groups
from gonogo.demo.photos import write_photos
from gonogo.evaluate import Evaluation, evaluate
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.operating_point import best_rate
from gonogo.schema import Label, State
from gonogo.synthetic import write_close_ups
from gonogo.workflow import Promise, TrainingOptions, train_inspector
from study_sets import SETS, Given, thinned

CELLS, PLAIN_BOARDS, FAINT_BOARDS = "solar cells", "plain boards", "faint boards"
DIFFICULTY = {PLAIN_BOARDS: 0.0, FAINT_BOARDS: 0.5}
"""At 0.5 a person has to look for some defects (docs/synthetic.md)."""
BOARDS = 640
BOARDS_SEED = 7
QUICK_BOARDS = 80
FRACTIONS = Fractions.parse("40/5/30/25")
"""Splits of the boards and photographs: 96 bad boards calibrate, 80 are judged."""
CELL_FRACTIONS = Fractions.parse("45/5/25/25")
"""Splits of the solar cells: those of ``gonogo demo --photos``."""
WANTED = 0.05
"""Escape and overkill rate to certify where the parts allow it."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One judged part."""

    part: str
    bad: bool
    score: float | None
    """``None`` for a fault."""
    state: str
    """The verdict at the certified operating point."""
    probability: float | None = None
    """Probability of a defect by the experts' label; solar cells only."""
    size: float | None = None
    """Share of the picture that the defect covers; ``None`` without a mask."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All that one split of one data set gives."""

    calibrate: tuple[Judged, ...]
    test: tuple[Judged, ...]
    max_escape: float
    """The escape rate that was certified."""
    max_overkill: float
    certified: bool

    @classmethod
    def read(cls, path: Path) -> Judgement:
        """Read what `write` wrote."""
        record = json.loads(path.read_text("utf-8"))
        for name in ("calibrate", "test"):
            record[name] = tuple(Judged(**each) for each in record[name])
        return cls(**record)

    def write(self, path: Path) -> None:
        """Write all parts as JSON."""
        write_beside(path, json.dumps(asdict(self)).encode() + b"\n")


def names(given: Given) -> tuple[str, ...]:
    """Return the data sets of a run: cells where installed, boards, and the photographs in the folder ``--data``."""
    from importlib.util import find_spec

    cells = (CELLS,) if find_spec("elpv_dataset") else ()
    photographs = () if given.data is None else tuple(name for name in SETS if (given.data / name).is_dir())
    known = (FAINT_BOARDS, *cells, PLAIN_BOARDS, *photographs)
    chosen = tuple(name for name in known if not given.only or name in given.only)
    return chosen[:1] if given.quick else chosen


def dataset_of(given: Given, name: str) -> Dataset:
    """Return a data set, made on the first call; photographs with near-duplicate groups.

    Rendered boards of one product all look alike, but each is a part of its own.
    """
    if name in SETS:
        return given.dataset(name)
    folder = given.out / "sets" / (name.replace(" ", "-") + ("-quick" if given.quick else ""))
    if not folder.exists():
        photos = folder.with_name(folder.name + "-photos")
        if not photos.exists():
            if name == CELLS:
                write_photos(photos)
            else:
                parts = QUICK_BOARDS if given.quick else BOARDS
                write_close_ups(photos, parts, difficulty=DIFFICULTY[name])
        import_folder(photos, folder, ImportOptions(mask_suffix=None if name == CELLS else "_mask.png"))
    found = Dataset.read(folder)
    if name != CELLS:
        alone = [sample.model_copy(update={"group": None, "part": sample.file_name}) for sample in found.samples]
        return replace(found, samples=tuple(alone))
    grouped = replace(found, samples=with_groups(found))
    return thinned(grouped) if given.quick else grouped


def judge(given: Given, name: str, seed: int) -> Judgement:
    """Return the judged parts of a split seed; trained, certified and judged if the file is missing."""
    suffix = "-quick" if given.quick else ""
    path = given.out / "claims" / f"{name.replace(' ', '-')}-{seed}{suffix}.json"
    if not path.exists():
        _measure(dataset_of(given, name), name, seed).write(path)
    return Judgement.read(path)


def _measure(dataset: Dataset, name: str, seed: int) -> Judgement:
    fractions = CELL_FRACTIONS if name == CELLS else FRACTIONS
    data = replace(dataset, samples=resplit(dataset.samples, fractions, seed, within_lots=False), study=True)
    bad, good = (parts_of(data.split(Split.CALIBRATE), label) for label in (Label.BAD, Label.GOOD))
    promise = Promise(max_escape=lowest(bad), max_overkill=lowest(good), confidence=CONFIDENCE)
    with tempfile.TemporaryDirectory() as folder:
        made = train_inspector(data, Path(folder) / "claims.inspector", TrainingOptions(seed=seed, promise=promise))
        test = evaluate(Inspector.load(made.bundle.root), data, (Split.TEST,))
    point = made.certified.point
    return Judgement(
        calibrate=tuple(_judged(made.certified.calibrate, data)),
        test=tuple(_judged(test, data)),
        max_escape=point.escape.max_rate,
        max_overkill=point.overkill.max_rate,
        certified=point.escape.holds,
    )


def parts_of(samples: Sequence[Sample], label: Label) -> int:
    """Count the parts; a part with a bad picture is bad."""
    bad = {sample.part_id for sample in samples if sample.label is Label.BAD}
    everything = {sample.part_id for sample in samples if sample.label is not None}
    return len(bad) if label is Label.BAD else len(everything - bad)


def lowest(parts: int) -> float:
    """Return 5 %, or the lowest rate that this many parts can certify, rounded up to a tenth of a percent."""
    return min(0.999, max(WANTED, math.ceil(best_rate(parts, 1 - CONFIDENCE) * 1000) / 1000))


def _judged(evaluation: Evaluation, dataset: Dataset) -> Iterator[Judged]:
    records = {sample.file_name: sample for sample in dataset.samples}
    for part in evaluation.parts:
        yield Judged(
            part=part.part,
            bad=part.label is Label.BAD,
            score=None if part.state is State.FAULT else part.score,
            state=str(part.state),
            probability=getattr(records[part.file], "probability", None),
            size=part.mask_share,
        )

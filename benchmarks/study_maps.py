"""Measure how well maps find defects: ``python benchmarks/study_maps.py --data FOLDER`` (``make study-maps DATA=...``).

Class-activation maps with average, maximum and log-sum-exp pooling, Grad-CAM and LayerCAM, and gonogo's own evidence
map, all on the same frozen EfficientNet-Lite0, judged on the masks of pictures whose parts were left out of training.
The heads learn from the labels of pictures only. Maps are kept in ``OUT/maps`` fold by fold as they finish; delete that
folder to start again. The last line has a row for each map, with 95 % intervals from a bootstrap over parts, and the
time of each method, as JSON.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from command import print_figures, run
from gonogo import runtime
from gonogo.backbone import pretrained
from gonogo.dataset import Dataset, Sample
from gonogo.evidence import FeatureTable, measure_shift
from gonogo.files import write_beside
from gonogo.progress import console
from gonogo.schema import Label
from gonogo.source import TrainingSource
from study_evidence import BACKBONE, FOLDS, Features, SizeWh, folds
from study_maps_made import EVIDENCE, JOINED, LAST, Fold, fit_heads, fit_weighted, fold_maps, name_of, ratios
from study_maps_scores import ScoredMaps, TestPictures, score_fold
from study_sets import Given, read_arguments

REFERENCE = name_of(EVIDENCE, JOINED)
"""The map that differences refer to: gonogo's default, which learns from labels here like the others."""
TURNS = 60


def balanced(dataset: Dataset) -> Dataset:
    """Keep all bad pictures and about as many good ones, whole parts at random."""
    bad = [sample for sample in dataset.samples if sample.label is Label.BAD]
    good: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        if sample.label is Label.GOOD:
            good.setdefault(sample.part_id, []).append(sample)
    kept: list[Sample] = []
    for number in np.random.default_rng(0).permutation(len(good)):
        if len(kept) < len(bad):
            kept += list(good.values())[number]
    return replace(dataset, samples=(*bad, *kept))


def split(table: FeatureTable) -> Iterator[Fold]:
    """Yield the folds, by part; a fifth of each training part chooses the penalty of the heads."""
    for train, test in folds(table):
        parts = np.array(table.groups)[train]
        inner = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        fitted, val = next(inner.split(parts, table.bad[train], parts))
        yield Fold(train=train[fitted], val=train[val], test=test)


def shifts(size_wh: SizeWh) -> dict[int, tuple[float, float]]:
    """Offset of the cells of the maps of strides 16 and 32; the joined maps have that of stride 16."""
    graph = runtime.compile_graph(pretrained(BACKBONE).graph(size_wh))
    return {
        stride: measure_shift(lambda picture: graph(picture)[f"stride_{stride}"][0], size_wh)  # noqa: B023
        for stride in (16, 32)
    }


def measured(given: Given, name: str) -> dict[str, Any]:
    """Compute the maps of every fold of a data set, or read them, and score them on the masks."""
    dataset = balanced(given.dataset(name))
    features = Features(dataset=dataset, folder=given.out / "maps" / f"{name}{'-quick' if given.quick else ''}")
    size_wh = features.sizes()[0]  # the smallest that training would try: every method has the same pixels
    console.print(f"{name}: {len(dataset.samples)} pictures at {size_wh[0]} x {size_wh[1]} pixels", highlight=False)
    table, offsets = features.at(size_wh), shifts(size_wh)
    source, scored = TrainingSource(dataset=dataset, size_wh=size_wh), ScoredMaps()
    for number, fold in enumerate(split(table)):
        samples = [dataset.samples[row] for row in fold.test]
        file = features.folder / f"fold-{number}.npz"
        if not file.exists():
            buffer = io.BytesIO()
            np.savez(buffer, **fold_maps(source, table, fold, samples))  # type: ignore[arg-type]
            write_beside(file, buffer.getvalue())
        with np.load(file) as held:
            _score(
                scored,
                {key: held[key] for key in held.files},
                dataset,
                samples,
                np.array(table.groups)[fold.test],
                offsets,
            )
        console.print(f"{name}: fold {number + 1} of {FOLDS} is scored", highlight=False)
    first = next(split(table))
    heads, weighted = fit_heads(table, first), fit_weighted(table, first, masks=False)
    times = ratios(size_wh, heads, weighted, repeats=TURNS // 6 if given.quick else TURNS)
    return {"size_wh": list(size_wh), "shift": offsets, **scored.table(REFERENCE), "times_ms": times}


def _score(
    scored: ScoredMaps,
    maps: Mapping[str, np.ndarray],
    dataset: Dataset,
    samples: Sequence[Sample],
    parts: np.ndarray,
    offsets: Mapping[int, tuple[float, float]],
) -> None:
    test = TestPictures.read(dataset, samples, parts)
    names = {sample.file_name for sample in test.samples}
    rows = [index for index, sample in enumerate(samples) if sample.file_name in names]
    for key, values in maps.items():
        of_last = key.startswith("CAM") and key.endswith(LAST)
        scored.add(key, score_fold(test, values[rows], offsets[32 if of_last else 16]))


def main() -> None:
    """Run the study."""
    given: Given = read_arguments(__doc__).given
    print_figures({name: measured(given, name) for name in given.names if _masked(given, name)})


def _masked(given: Given, name: str) -> bool:
    return any(sample.mask_file_name for sample in given.dataset(name).samples)


if __name__ == "__main__":
    run(main)

"""Learning from one missed defect, on photographs of magnetic tiles."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from gonogo.dataset import Dataset, ImportOptions, Sample, Split, import_folder
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Label, State
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.learning import learn_bundle
from tests.conftest import SHARED

TILES = SHARED / "data" / "magnetic_tile"
DEALT = (Split.VAL, Split.CALIBRATE, Split.TRAIN, Split.TEST, Split.TRAIN)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TILES.is_dir(), reason="needs the photographs of magnetic tiles in ../shared/data"),
]


def tiles(root: Path) -> tuple[Dataset, list[Sample]]:
    """Good and blowholed tiles with their splits, and the exposures of one cracked tile, which are in none."""
    rng = np.random.default_rng(0)
    for kind, count in (("MT_Free", 200), ("MT_Blowhole", 60), ("MT_Crack", 57)):
        (root / "photos" / kind).mkdir(parents=True)
        for file in rng.permutation(sorted((TILES / kind / "Imgs").glob("*.jpg")))[:count]:
            shutil.copy(file, root / "photos" / kind)
    found = import_folder(root / "photos", root / "tiles", ImportOptions(good="MT_Free")).dataset
    groups: dict[int | None, list[Sample]] = defaultdict(list)
    for sample in found.samples:
        groups[sample.group].append(sample)
    cracked = [each for each in groups.values() if any(sample.defect == "MT_Crack" for sample in each)]
    whole = [each for each in groups.values() if each not in cracked]
    dealt = {Label.GOOD: 0, Label.BAD: 0}
    samples = []
    for number in rng.permutation(len(whole)):
        label = whole[number][0].label
        assert label is not None
        split = DEALT[dealt[label] % len(DEALT)]
        dealt[label] += 1
        samples += [sample.model_copy(update={"split": split}) for sample in whole[number]]
    dataset = Dataset(root=found.root, samples=tuple(samples))
    dataset.write()
    return dataset, max(cracked, key=len)


def test_one_missed_crack_changes_the_verdict_on_other_photographs_of_it(tmp_path: Path) -> None:
    dataset, crack = tiles(tmp_path)
    options = TrainingOptions(size_wh=(128, 160), promise=Promise(max_escape=0.6, max_overkill=0.6))
    train_inspector(dataset, tmp_path / "old.inspector", options)
    old = Inspector.load(tmp_path / "old.inspector")
    missed, others = crack[0], crack[1:]
    assert old.inspect(dataset.load(missed)).state is State.GO
    learned = missed.model_copy(update={"split": Split.TRAIN})
    Dataset(root=dataset.root, samples=(*dataset.samples, learned)).write()
    learn_bundle(old, dataset.root, tmp_path / "new.inspector", force=True)
    new = Inspector.load(tmp_path / "new.inspector")
    passed = [sum(each.inspect(dataset.load(other)).state is State.GO for other in others) for each in (old, new)]
    assert passed[0] >= 10
    assert passed[1] <= passed[0] / 2

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gonogo.augment import PLAIN
from gonogo.dataset import Dataset, Fractions
from gonogo.dataset.judged import judged_before
from gonogo.workflow import TrainingOptions
from study_seeds import MASKS, TUNED, Way, measure, summary
from study_sets import Row, Rows

OPTIONS = TrainingOptions(size_wh=(96, 64), augmentation=PLAIN)
WAY = Way(options=OPTIONS, fractions=Fractions())
KEY = {"set": "discs", "backbone": OPTIONS.backbone, "mode": MASKS}


@pytest.fixture(scope="module")
def exposures(discs: Dataset) -> Dataset:
    """Three shots of every part, as far as the records say."""
    parts = {sample.file_name: f"part-{index // 6}-{sample.label}" for index, sample in enumerate(discs.samples)}
    named = [sample.model_copy(update={"part": parts[sample.file_name], "group": None}) for sample in discs.samples]
    return Dataset(root=discs.root, samples=tuple(s.model_copy(update={"group": i}) for i, s in enumerate(named)))


def study(dataset: Dataset, folder: Path, ways: list[Way], seeds: list[int]) -> Rows:
    rows = Rows(path=folder / "rows.jsonl")
    for way in ways:
        for seed in seeds:
            rows.once(way.key("discs", MASKS, seed), lambda: measure(dataset, way, MASKS, seed))  # noqa: B023
    return rows


@pytest.mark.slow
def test_parts_are_counted_and_the_leaky_twin_counts_pictures(exposures: Dataset, tmp_path: Path) -> None:
    noted = judged_before(exposures)
    rows = study(exposures, tmp_path, [WAY, replace(WAY, variant="leaky", leaky=True)], [0])
    honest, leaky = rows.where(variant=None), rows.where(variant="leaky")
    assert len(honest) == len(leaky) == 1
    assert not honest[0]["certified"]
    assert honest[0]["bad_parts_calibrate"] < leaky[0]["bad_parts_calibrate"]
    assert judged_before(exposures) == noted


def test_fine_tuning_is_compared_split_by_split(tmp_path: Path) -> None:
    def row(variant: str | None, seed: int, auroc: float, **losses: float) -> Row:
        return {**KEY, "variant": variant, "seed": seed, "auroc": auroc, "test_share": 0.2, **losses}

    losses = {"start_val_loss": 0.5, "val_loss": 0.4}
    heads = [row(None, 0, 0.80), row(None, 1, 0.90)]
    tuned = [row(TUNED, 0, 0.85, **losses), row(TUNED, 1, 0.93, **losses)]
    found = summary(Rows(path=tmp_path / "rows.jsonl", rows=heads + tuned))
    assert found[f"discs, {OPTIONS.backbone}, {MASKS}"]["auroc"][0] == pytest.approx(0.85)
    gained = found[f"discs, {OPTIONS.backbone}, {TUNED}, {MASKS}"]
    mean, low, high = gained["gain"]
    assert mean == pytest.approx(0.04)
    assert low < mean < high
    assert gained["never_worse_on_val"] is True


@pytest.mark.slow
def test_fine_tuning_never_leaves_a_network_worse_on_val(exposures: Dataset) -> None:
    from gonogo.train import FineTuning

    options = replace(OPTIONS, backbone="resnet18", weights="none", cuts=("layer1",), fine_tuning=FineTuning(epochs=1))
    row = measure(exposures, Way(options=options, variant=TUNED, fractions=Fractions.parse("50/20/10/20")), MASKS, 0)
    assert row["val_loss"] <= row["start_val_loss"]

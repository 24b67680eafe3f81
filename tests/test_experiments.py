from __future__ import annotations

from dataclasses import replace

import pytest
from gonogo.experiments import seed_study, summary

from gonogo.augment import PLAIN
from gonogo.dataset import Dataset, Fractions
from gonogo.dataset.judged import judged_before
from gonogo.workflow import TrainingOptions

OPTIONS = TrainingOptions(size_wh=(96, 64), augmentation=PLAIN, seed=0)


@pytest.fixture(scope="module")
def exposures(discs: Dataset) -> Dataset:
    """Three shots of every part, as far as the records say."""
    parts = {sample.file_name: f"part-{index // 6}-{sample.label}" for index, sample in enumerate(discs.samples)}
    named = [sample.model_copy(update={"part": parts[sample.file_name], "group": None}) for sample in discs.samples]
    return Dataset(root=discs.root, samples=tuple(s.model_copy(update={"group": i}) for i, s in enumerate(named)))


def test_a_seed_study_counts_parts_and_its_leaky_twin_counts_pictures(exposures: Dataset) -> None:
    noted = judged_before(exposures)
    honest = seed_study(exposures, OPTIONS, [0, 1])
    leaky = seed_study(exposures, OPTIONS, [0], leaky=True)
    assert [row.seed for row in honest] == [0, 1]
    assert honest[0].bad_parts_calibrate < leaky[0].bad_parts_calibrate
    assert not honest[0].certified
    found = summary(honest)
    assert found["head_auroc_parts"] == pytest.approx((honest[0].auroc_parts + honest[1].auroc_parts) / 2)
    assert "finetune_gain" not in found
    assert judged_before(exposures) == noted


def test_fine_tuning_is_compared_pair_by_pair(exposures: Dataset) -> None:
    from gonogo.train import FineTuning

    options = replace(OPTIONS, fine_tuning=FineTuning(epochs=1))
    rows = seed_study(exposures, options, [0, 1], fractions=Fractions.parse("50/20/10/20"))
    found = summary(rows)
    heads, tuned = rows[0::2], rows[1::2]
    gains = [b.auroc_pictures - a.auroc_pictures for a, b in zip(heads, tuned, strict=True)]
    assert found["finetune_gain"] == pytest.approx(sum(gains) / 2)
    assert found["finetune_never_worse_on_val"] is True
    assert found["finetune_gain_low"] <= found["finetune_gain"] <= found["finetune_gain_high"]  # type: ignore[operator]

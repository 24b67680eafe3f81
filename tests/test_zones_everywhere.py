"""Zones on every way to a bundle: windows, fine-tuning, distillation, cascades, INT8, imported networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gonogo.augment import PLAIN, Augmentation
from gonogo.config import Tiling
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError
from gonogo.evidence.cells import pool_log_sum_exp
from gonogo.inspector import Inspector
from gonogo.train import Distillation, FineTuning
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.cascading import CascadeOptions, join_cascade
from gonogo.workflow.distilling import DistillingOptions, distill_bundle
from gonogo.workflow.quantizing import Allowed, QuantizingOptions, quantize_bundle
from test_zones import CODE, KEEP, LEFT, frame_of, scribbled

pytestmark = pytest.mark.slow
LOOSE = QuantizingOptions(pictures=16, control=False, allowed=Allowed(flips=0.3, moves=0.4, pointing_loss=0.4))


def assert_blind(inspector: Inspector, dataset: Dataset) -> None:
    """Nothing inside the ignore zone changes a judgement."""
    for index in (0, 1):
        frame = frame_of(dataset, index)
        first, second = inspector.inspect(frame), inspector.inspect(scribbled(frame))
        assert first.score is not None
        assert first.score == second.score, first.reason


@pytest.fixture(scope="module")
def teacher(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoned") / "teacher.inspector"
    train_inspector(discs, out, TrainingOptions(size_wh=(96, 64), zones=(CODE,), promise=KEEP))
    return out


@pytest.fixture(scope="module")
def tiled(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an ignore and an inspect zone that judges windows; trained on a part of the discs."""
    out = tmp_path_factory.mktemp("zoned") / "tiled.inspector"
    few = replace(discs, samples=tuple(s for n, s in enumerate(discs.samples) if n % 14 > 3 or n < 90))
    options = TrainingOptions(size_wh=(64, 64), tiling=Tiling(overlap_px=16), zones=(CODE, LEFT), promise=KEEP)
    train_inspector(few, out, options)
    return out


def test_windows_of_tiling_leave_ignored_cells_out(tiled: Path, discs: Dataset) -> None:
    inspector, frame = Inspector.load(tiled), frame_of(discs, 0)
    first, second = inspector.inspect(frame), inspector.inspect(scribbled(frame))
    assert first.windows > 1
    assert first.score == second.score
    assert first.zone_numbers is not None
    assert first.zone_numbers.shape == first.heatmap.shape  # type: ignore[union-attr]
    assert set(np.unique(first.zone_numbers)) == {0, 1, 2}
    assert [zone.name for zone in first.zones] == ["left", "rest"]
    assert max(zone.score for zone in first.zones) == pytest.approx(first.score, abs=1e-5)
    good, bad = ([inspector.inspect(frame_of(discs, n)).score for n in range(start, 20, 2)] for start in (0, 1))
    assert np.mean(bad) > np.mean(good)


def test_windows_of_a_part_with_zones_are_quantized(tiled: Path, discs: Dataset, tmp_path: Path) -> None:
    few = replace(discs, samples=tuple(s for n, s in enumerate(discs.samples) if n % 14 > 3 or n < 90))
    quantize_bundle(Inspector.load(tiled), few, tmp_path / "int8.inspector", LOOSE)
    made = Inspector.load(tmp_path / "int8.inspector")
    assert_blind(made, discs)
    assert [zone.name for zone in made.inspect(frame_of(discs, 0)).zones] == ["left", "rest"]


def test_a_fine_tuned_network_pools_its_zones_alone(discs: Dataset, tmp_path: Path) -> None:
    options = TrainingOptions(
        backbone="resnet18",
        weights="none",
        cuts=("layer1",),
        size_wh=(64, 64),
        augmentation=PLAIN,
        fine_tuning=FineTuning(epochs=1),
        zones=(CODE, LEFT),
        promise=KEEP,
    )
    train_inspector(discs, tmp_path / "tuned.inspector", options)
    inspector = Inspector.load(tmp_path / "tuned.inspector")
    assert_blind(inspector, discs)
    for index in range(6):
        verdict = inspector.inspect(frame_of(discs, index))
        assert verdict.zone_numbers is not None
        assert verdict.heatmap is not None
        for number, (zone, stated) in enumerate(
            zip(verdict.zones, inspector.bundle.manifest.classifier.zones, strict=True), start=1
        ):
            cells = verdict.heatmap[verdict.zone_numbers == number]
            pooled = pool_log_sum_exp(cells, 2.0 / stated.factor)
            assert pooled + stated.bias == pytest.approx(zone.score, abs=1e-3)
        assert max(zone.score for zone in verdict.zones) == pytest.approx(verdict.score, abs=1e-4)


def test_a_student_and_its_cascade_are_as_blind_as_the_teacher(teacher: Path, discs: Dataset, tmp_path: Path) -> None:
    options = DistillingOptions(
        backbone="resnet18",
        cuts=("layer1",),
        size_wh=(48, 48),
        augmentation=Augmentation(crops=2, rotations=2, flips=True),
        recipe=Distillation(epochs=2),
        split=Split.VAL,
    )
    distill_bundle(Inspector.load(teacher), discs, tmp_path / "student.inspector", options)
    student = Inspector.load(tmp_path / "student.inspector")
    assert student.recipe.zones == (CODE,)
    assert_blind(student, discs)
    out = tmp_path / "cascade.inspector"
    join_cascade(student, Inspector.load(teacher), discs, out, CascadeOptions(strange=0.05))
    cascade = Inspector.load(out)
    asked = [cascade.inspect(frame_of(discs, index)) for index in range(30)]
    assert any(verdict.doubt for verdict in asked)
    for index, verdict in enumerate(asked):
        assert cascade.inspect(scribbled(frame_of(discs, index))).score == verdict.score
        assert verdict.zone_numbers is not None
        assert verdict.heatmap is not None
        assert verdict.zone_numbers.shape == verdict.heatmap.shape


def test_a_cascade_of_networks_with_different_zones_is_refused(
    teacher: Path, trained: Path, discs: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="different zones"):
        join_cascade(Inspector.load(trained), Inspector.load(teacher), discs, tmp_path / "x.inspector")


def test_a_network_pools_kept_cells_in_evaluation_and_all_cells_in_training() -> None:
    from gonogo.model import HeadZones, MapHead, Pool
    from gonogo.zoning import ZoneScale

    torch.manual_seed(0)
    head = MapHead(3, Pool.LSE, context=True)
    torch.nn.init.normal_(head.conv.weight)
    assert head.context is not None
    torch.nn.init.normal_(head.context.weight)
    numbers = torch.tensor([[0, 1, 2], [0, 1, 2]], dtype=torch.uint8)
    head.zones = HeadZones(numbers=numbers, scales=(ZoneScale(factor=2.0, offset=1.0), ZoneScale()))
    features = torch.randn(4, 3, 2, 3)
    other = features.clone()
    other[..., 0] += 9
    assert torch.allclose(head.eval()(features)[0], head.eval()(other)[0])
    assert not torch.allclose(head.train()(features)[0], head.train()(other)[0])


def test_an_inspect_zone_cannot_be_distilled(discs: Dataset, tiled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"windows|inspect zones"):
        distill_bundle(Inspector.load(tiled), discs, tmp_path / "x.inspector")
    assert np.isfinite(Inspector.load(tiled).inspect(frame_of(discs, 0)).score or np.nan)

"""What the picture shows is what the verdict says: pooled as stated, the maps of every kind of bundle are its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special

from gonogo import images
from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Sample, Split
from gonogo.evidence import pool
from gonogo.heatmap import DefectMap
from gonogo.inspector import Inspector
from gonogo.manifest import Classifier
from gonogo.schema import Label
from gonogo.train import Distillation
from gonogo.workflow import (
    Allowed,
    CascadeOptions,
    QuantizingOptions,
    TrainingOptions,
    join_cascade,
    quantize_bundle,
    train_inspector,
)
from gonogo.workflow.distilling import DistillingOptions, distill_bundle

ANYTHING = Allowed(flips=1.0, moves=1.0, pointing_loss=1.0, correlation=-1.0)
INT8 = QuantizingOptions(pictures=16, control=False, allowed=ANYTHING)


def pooled(heatmap: DefectMap, evidence: np.ndarray | None, classifier: Classifier) -> float:
    """The score that a map must pool to."""
    if evidence is not None:
        weights = {each.kind: each.weight for each in classifier.evidence}
        kinds = zip(weights, evidence, strict=True)
        return sum(pool(kind, each, weights.get("cells", 1.0)) for kind, each in kinds) + classifier.bias
    assert classifier.pool == "lse"
    cells = classifier.sharpness * heatmap.astype(np.float64).ravel()
    return float((special.logsumexp(cells) - np.log(len(cells))) / classifier.sharpness + classifier.bias)


class Bundles:
    """Every kind of bundle, made on first use: most are made from another."""

    def __init__(self, discs: Dataset, trained: Path, fine_tuned: Path, folder: Path) -> None:
        self._discs, self._folder = discs, folder
        self._made = {"evidence": trained, "fine-tuned": fine_tuned}

    def __getitem__(self, kind: str) -> Inspector:
        out = self._folder / f"{kind}.inspector"
        if kind not in self._made:
            self._make(kind, out)
            self._made[kind] = out
        return Inspector.load(self._made[kind])

    def _make(self, kind: str, out: Path) -> None:
        if kind == "good parts only":
            good = tuple(
                sample
                for sample in self._discs.samples
                if sample.label is Label.GOOD or sample.split in (Split.CALIBRATE, Split.TEST)
            )
            train_inspector(Dataset(root=self._discs.root, samples=good), out, TrainingOptions(size_wh=(64, 64)))
        elif kind == "without masks":
            train_inspector(self._discs, out, TrainingOptions(size_wh=(64, 64), masks=False))
        elif kind.endswith(", INT8"):
            quantize_bundle(self[kind.removesuffix(", INT8")], self._discs, out, INT8)
        elif kind == "student":
            recipe = Distillation(epochs=4, learning_rate=0.02)
            views = Augmentation(crops=1, rotations=2)
            options = DistillingOptions(
                backbone="resnet18", cuts=("layer1",), size_wh=(48, 48), augmentation=views, recipe=recipe
            )
            distill_bundle(self["evidence"], self._discs, out, options)
        else:
            student, teacher = kind.removeprefix("cascade of ").split(" and ")
            join_cascade(self[student], self[teacher], self._discs, out, CascadeOptions(strange=0.05))


@pytest.fixture(scope="module")
def bundles(discs: Dataset, trained: Path, fine_tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(discs, trained, fine_tuned, tmp_path_factory.mktemp("kinds"))


def shown(discs: Dataset) -> tuple[Sample, ...]:
    return discs.split(Split.TEST)[:8]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["evidence", "good parts only", "without masks", "fine-tuned", "student", "evidence, INT8", "fine-tuned, INT8"],
)
def test_pooled_maps_add_up_to_the_score(kind: str, bundles: Bundles, discs: Dataset) -> None:
    inspector = bundles[kind]
    classifier = inspector.bundle.manifest.classifier
    for sample in shown(discs):
        frame = discs.load(sample)
        verdict = inspector.inspect(frame)
        assert verdict.score is not None
        assert verdict.heatmap is not None
        assert verdict.region is not None
        found = inspector._graph(images.cut(frame, verdict.region, inspector.recipe.size_wh))
        evidence = found["evidence"][0] if classifier.evidence else None
        if evidence is not None:
            assert np.allclose(evidence.sum(0), verdict.heatmap, rtol=1e-5, atol=1e-5)
        assert pooled(verdict.heatmap, evidence, classifier) == pytest.approx(verdict.score, rel=1e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cascade of student and evidence", "cascade of fine-tuned and student"])
def test_pooled_maps_of_a_cascade_add_up_to_its_score_whoever_judged(
    kind: str, bundles: Bundles, discs: Dataset
) -> None:
    inspector = bundles[kind]
    assert inspector.cascade is not None
    rule, own = inspector.cascade.rule, inspector.bundle.manifest.classifier
    asked = set()
    for sample in (*discs.split(Split.VAL), *shown(discs)):
        frame = discs.load(sample)
        verdict = inspector.inspect(frame)
        assert verdict.score is not None
        assert verdict.heatmap is not None
        assert verdict.region is not None
        asked.add(bool(verdict.doubt))
        if verdict.doubt:
            found = inspector.cascade._teacher(images.cut(frame, verdict.region, rule.size_wh))
            evidence = found["evidence"][0] if rule.teacher.evidence else None
            expected = pooled(verdict.heatmap, evidence, rule.teacher)
        elif rule.map_offset is None:
            expected = pooled(verdict.heatmap, None, replace_bias(own, inspector.bias))
        else:
            own_map = (verdict.heatmap - rule.map_offset) / rule.map_scale
            found = inspector._graph(images.cut(frame, verdict.region, inspector.recipe.size_wh))
            shift = rule.good_shift if found["score"][0] < rule.ask_from else rule.bad_shift
            expected = pooled(own_map, None, own) + shift
        assert expected == pytest.approx(verdict.score, rel=1e-5, abs=1e-4), "in FP32, moved twice"
    assert asked == {True, False}


def replace_bias(classifier: Classifier, bias: float) -> Classifier:
    return classifier.model_copy(update={"bias": bias})


@pytest.mark.slow
def test_a_students_clear_answer_looks_as_hot_as_its_teachers(bundles: Bundles, discs: Dataset) -> None:
    both, teacher = bundles["cascade of student and evidence"], bundles["evidence"]
    hottest: dict[Label, list[float]] = {Label.GOOD: [], Label.BAD: []}
    for sample in discs.split(Split.VAL, Split.TEST):
        verdict = both.inspect(discs.load(sample))
        if not verdict.doubt and verdict.heatmap is not None and sample.label is not None:
            hottest[sample.label].append(float(teacher.heat_scale.heat(verdict.heatmap).max()))
    assert np.median(hottest[Label.GOOD]) < 0.2
    assert np.median(hottest[Label.BAD]) > 0.5

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gonogo import bundle, runtime
from gonogo.augment import Augmentation
from gonogo.certification import recertify
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.errors import BundleError, InputError, UnfitError
from gonogo.inspector import Inspector
from gonogo.model import IMAGENET, FeatureNetwork, MapHead, Network, Pool, load_backbone
from gonogo.operating_point import Promise
from gonogo.source import TrainingSource
from gonogo.train import Distillation, DistillationSet, make_distillation_set, run_teacher, train_student
from gonogo.train import distillation as module
from gonogo.train.distillation import cell_units, softened_divergence
from gonogo.workflow import CascadeOptions, join_cascade
from gonogo.workflow import distilling as workflow
from gonogo.workflow.cascading import outer_score
from gonogo.workflow.distilling import DistillingOptions, distill_bundle
from gonogo.workflow.quantizing import quantize_bundle

VIEWS = Augmentation(crops=1, rotations=2)
QUICK = DistillingOptions(
    backbone="resnet18",
    cuts=("layer1",),
    size_wh=(48, 48),
    augmentation=VIEWS,
    recipe=Distillation(epochs=4, learning_rate=0.02),
)
"""Smaller pictures than the teacher's 64 pixels."""
LENIENT = CascadeOptions(strange=0.05)
"""There are 40 val parts."""


@pytest.fixture(scope="module")
def teacher(trained: Path) -> Inspector:
    return Inspector.load(trained)


@pytest.fixture(scope="module")
def student(teacher: Inspector, discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    out = tmp_path_factory.mktemp("students") / "student.inspector"
    distill_bundle(teacher, discs, out, QUICK)
    return Inspector.load(out)


@pytest.fixture(scope="module")
def joined(
    student: Inspector, teacher: Inspector, discs: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Inspector:
    out = tmp_path_factory.mktemp("cascades") / "both.inspector"
    join_cascade(student, teacher, discs, out, LENIENT)
    return Inspector.load(out)


def small_network() -> Network:
    stack = load_backbone("resnet18", weights="none", cuts=("layer1",), seed=0).eval()
    return Network(FeatureNetwork(stack, IMAGENET), MapHead(64, Pool.LSE)).eval()


def few_targets(count: int, views: int, *, seed: int = 0) -> DistillationSet:
    """Pictures whose red part a teacher has seen."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 120, (count, views, 32, 32, 3), dtype=np.uint8)
    bad = np.arange(count) % 2
    pictures[bad == 1, :, :16, :16, 0] = 250
    maps = np.full((count, views, 8, 8), -4, np.float32)
    maps[bad == 1, :, :4, :4] = 4
    scores = np.where(bad == 1, 3.0, -3.0).astype(np.float32)[:, None].repeat(views, 1)
    return DistillationSet(pictures=pictures, bad=bad, scores=scores, maps=maps, weights=np.ones_like(scores))


def test_the_softened_divergence_is_that_of_two_coins() -> None:
    student, teacher = torch.tensor([0.5, -2.0]), torch.tensor([0.5, 3.0])
    p, q = 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(1.0))
    by_hand = 4 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    found = softened_divergence(student, teacher, 2.0)
    assert found.tolist() == [pytest.approx(0.0, abs=1e-6), pytest.approx(by_hand, rel=1e-5)]


@pytest.mark.slow
def test_teacher_and_student_see_the_same_views_and_the_teacher_sees_them_once(
    teacher: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    graph = runtime.compile_graph(teacher.bundle.classifier, many=True)
    source = TrainingSource(dataset=discs, size_wh=teacher.recipe.size_wh)
    samples = discs.split(Split.TRAIN)[:6]
    views = Augmentation(crops=2, rotations=2)
    watched = {"seed": 3, "cache": tmp_path, "teacher_sha256": teacher.bundle_sha256}
    seen = run_teacher(graph, source, samples, views, **watched)  # type: ignore[arg-type]
    given = {"bias": teacher.bias, "shift_xy": (0.0, 0.0), "threshold": 0.0, "near_weight": 2.0}
    lessons = make_distillation_set(
        source,
        samples,
        views,
        seen,
        seed=3,
        grid=(4, 4),
        scratch=tmp_path / "scratch",
        **given,  # type: ignore[arg-type]
    )
    for row, view in itertools.product(range(6), range(4)):
        again = float(graph(np.ascontiguousarray(lessons.pictures[row, view]))["score"][0])
        assert again == pytest.approx(float(seen.scores[row, view]), abs=1e-4)

    def must_not_run(*_: object) -> None:
        raise AssertionError("judged again")

    graph.stream = must_not_run  # type: ignore[method-assign, assignment]
    cached = run_teacher(graph, source, samples, views, **watched)  # type: ignore[arg-type]
    assert np.array_equal(cached.maps, seen.maps)


def test_a_map_lies_over_the_picture_as_the_teacher_looked_at_it() -> None:
    maps = np.zeros((1, 1, 4, 4), np.float32)
    maps[0, 0, 1, 1] = 1.0
    straight = module._on_grid(maps, (8, 8), (0.0, 0.0))[0, 0]
    assert straight.sum(0).argmax() in (2, 3)
    moved = module._on_grid(maps, (8, 8), (1.0, 0.0))[0, 0]
    assert moved.sum(0).argmax() - straight.sum(0).argmax() == 2
    assert np.allclose(moved.sum(1), straight.sum(1), atol=1e-5)


def test_cells_of_an_evidence_map_become_logits_by_its_heat_scale() -> None:
    scale, bias = cell_units(cold=8.0, hot=20.0, go_below=-1.0, bad_score=5.0)
    assert scale * 8.0 + bias == pytest.approx(-1.0), "a cell at which heat begins just passes"
    assert scale * 20.0 + bias == pytest.approx(5.0), "a hot one looks as bad as a typical bad part"
    upright, _ = cell_units(cold=8.0, hot=20.0, go_below=5.0, bad_score=-1.0)
    assert upright > 0, "heat stays heat where the scores overlap"


@pytest.mark.slow
def test_lessons_from_evidence_have_cells_in_the_unit_of_the_score(teacher: Inspector, discs: Dataset) -> None:
    samples = {split: discs.split(split)[:12] for split in (Split.TRAIN, Split.VAL)}
    few = Dataset(root=discs.root, samples=(*samples[Split.TRAIN], *samples[Split.VAL]))
    source = TrainingSource(dataset=few, size_wh=(48, 48))
    train, _ = workflow._distillation_sets(teacher, source, small_network(), QUICK)
    hottest = train.maps.max((2, 3))
    good, bad = hottest[train.bad == 0], hottest[train.bad == 1]
    assert np.median(bad) == pytest.approx(float(np.median(train.scores[train.bad == 1])), rel=0.6)
    assert np.median(good) < np.median(bad) - 2.0
    assert train.maps.min() > -100.0, "no cell teaches more than the score does"


def test_classes_weigh_the_same_and_doubtful_parts_more() -> None:
    bad = np.array([0, 0, 0, 1])
    scores = np.array([[-9.0], [-1.0], [-9.0], [9.0]], np.float32)
    flat = module._weights(bad, scores, None, 3.0)[:, 0]
    assert flat[:3].sum() == pytest.approx(flat[3])
    near = module._weights(bad, scores, -1.0, 3.0)[:, 0]
    assert near[1] / near[0] > 1.5
    assert near.mean() == pytest.approx(1.0)


@pytest.mark.slow
def test_a_student_learns_the_verdict_and_the_place(tmp_path: Path) -> None:
    network, train, val = small_network(), few_targets(48, 2), few_targets(16, 1, seed=1)
    recipe = Distillation(epochs=6, batch=8, learning_rate=0.02)
    rows = train_student(network, train, val, recipe, seed=0, work=tmp_path)
    assert [row["epoch"] for row in rows] == list(range(7))
    assert min(row["val_loss"] for row in rows) < 0.5 * rows[0]["val_loss"]
    with torch.no_grad():
        score, cells, _ = network(torch.from_numpy(val.pictures[:, 0]))
    assert bool(((score > 0).numpy() == (val.bad == 1)).all())
    inside, outside = cells[1::2, :4, :4].mean(), cells[1::2, 4:, 4:].mean()
    assert float(inside - outside) > 1.0


@pytest.mark.slow
def test_an_interrupted_lesson_is_taken_up_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = few_targets(16, 2), few_targets(8, 1, seed=1)
    recipe = Distillation(epochs=3, batch=8, learning_rate=0.01)
    whole = small_network()
    train_student(whole, train, val, recipe, seed=0, work=tmp_path / "whole")
    calls, real = itertools.count(), module._train_epoch

    def stops_at_the_second(*args: object, **kwargs: object) -> float:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_train_epoch", stops_at_the_second)
    rows = train_student(small_network(), train, val, recipe, seed=0, work=tmp_path / "halves")
    assert len(rows) == 2, "epoch 0 and the one that was completed"
    halves = small_network()
    train_student(halves, train, val, recipe, seed=0, work=tmp_path / "halves")
    for one, other in zip(whole.state_dict().values(), halves.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_lesson_that_diverges_gives_back_the_start(tmp_path: Path) -> None:
    network = small_network()
    train_student(
        network, few_targets(8, 1), few_targets(8, 1), Distillation(epochs=1, learning_rate=1e9), seed=0, work=tmp_path
    )
    assert float(network.head.conv.weight.detach().abs().sum()) == 0.0


@pytest.mark.slow
def test_a_student_is_certified_for_its_teachers_promise_and_says_who_taught_it(
    student: Inspector, teacher: Inspector
) -> None:
    ours, theirs = student.operating_point, teacher.operating_point
    assert ours is not None
    assert theirs is not None
    assert (ours.escape.max_rate, ours.overkill.max_rate) == (theirs.escape.max_rate, theirs.overkill.max_rate)
    assert ours.escape.holds
    assert ours.data_fingerprint == theirs.data_fingerprint, "certified on the same parts"
    record = student.bundle.manifest.distilled
    assert record is not None
    assert record.teacher_sha256 == teacher.bundle_sha256
    assert record.itself.parts_good + record.itself.parts_bad == 40
    assert student.recipe.size_wh == (48, 48)
    assert "Distilled from the inspector" in (student.path / bundle.MODEL_CARD).read_text()


def test_a_teacher_that_promises_nothing_is_refused(trained: Path, discs: Dataset, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "idle.inspector")
    opened = bundle.read_bundle(tmp_path / "idle.inspector")
    bundle.write_manifest(opened.root, opened.manifest.model_copy(update={"operating_point": None}))
    with pytest.raises(UnfitError, match="expected a certified escape rate"):
        distill_bundle(Inspector.load(opened.root), discs, tmp_path / "student.inspector", QUICK)
    assert not (tmp_path / "student.inspector").exists()


def test_the_outer_score_goes_beyond_what_was_seen(rng: np.random.Generator) -> None:
    scores = rng.exponential(1.0, 200_000)
    assert outer_score(-scores, 1e-4) == pytest.approx(-math.log(1e4), rel=0.05)
    few = -rng.exponential(1.0, 50)
    assert outer_score(few, 1e-4) < few.min()
    assert outer_score(few, 0.5) == pytest.approx(float(np.median(few)))


@pytest.mark.slow
def test_each_part_of_a_cascade_has_one_score_from_whoever_judged_it(
    joined: Inspector, student: Inspector, teacher: Inspector, discs: Dataset
) -> None:
    rule = joined.bundle.manifest.cascade
    assert rule is not None
    assert student.heat_scale.shift_xy != teacher.heat_scale.shift_xy
    asked = 0
    for sample in discs.split(Split.VAL, Split.TEST):
        frame = discs.load(sample)
        found, first, second = (each.inspect(frame) for each in (joined, student, teacher))
        assert found.score is not None
        assert first.score is not None
        assert second.score is not None
        assert found.heatmap is not None
        asked += bool(found.doubt)
        assert found.shift_xy == (second if found.doubt else first).shift_xy, "whose grid it is"
        if found.doubt:
            assert found.score == pytest.approx(second.score, abs=1e-5)
            assert "second network was asked" in found.reason
        else:
            assert not rule.ask_from <= first.score <= rule.ask_to
            clearly_good = first.score < rule.ask_from
            shift = rule.good_shift if clearly_good else rule.bad_shift
            assert found.score == pytest.approx(first.score + shift, abs=1e-4)
        assert found.feature_vector is not None
        assert np.array_equal(found.feature_vector, first.feature_vector)  # type: ignore[arg-type]
    assert 0 < asked < len(discs.split(Split.VAL, Split.TEST))


@pytest.mark.slow
def test_a_cascade_certifies_its_one_score_and_replays_both_networks(joined: Inspector, teacher: Inspector) -> None:
    manifest = joined.bundle.manifest
    point = joined.operating_point
    assert point is not None
    assert point.escape.holds
    frames = {name: joined.inspect(frame) for name, frame, _ in joined.bundle.golden()}
    assert not frames["golden/student.png"].doubt
    assert frames["golden/teacher.png"].doubt
    assert manifest.cascade is not None
    assert manifest.cascade.compared is not None
    assert manifest.cascade.compared.teacher_sha256 == teacher.bundle_sha256
    assert 0 < manifest.cascade.asked < manifest.cascade.pictures == 40
    assert (joined.path / bundle.TEACHER).read_bytes() == teacher.bundle.classifier.read_bytes()


@pytest.mark.slow
def test_what_the_student_never_saw_goes_to_the_teacher(joined: Inspector, rng: np.random.Generator) -> None:
    strange = rng.integers(0, 256, (72, 96, 3), dtype=np.uint8)
    assert joined.inspect(strange).doubt


@pytest.mark.slow
def test_a_changed_teacher_is_refused(joined: Inspector, tmp_path: Path) -> None:
    shutil.copytree(joined.path, tmp_path / "both.inspector")
    weights = (tmp_path / "both.inspector" / bundle.TEACHER).with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match="changed after it was sealed"):
        Inspector.load(tmp_path / "both.inspector")


@pytest.mark.slow
def test_a_cascade_of_cascades_or_of_different_regions_is_refused(
    joined: Inspector, student: Inspector, teacher: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="found a cascade"):
        join_cascade(joined, teacher, discs, tmp_path / "out")
    with pytest.raises(InputError, match="found a cascade"):
        distill_bundle(joined, discs, tmp_path / "out", QUICK)
    with pytest.raises(InputError, match="found a cascade"):
        quantize_bundle(joined, discs, tmp_path / "out")
    with pytest.raises(InputError, match="same region"):
        join_cascade(student, _with(teacher, roi="fixed"), discs, tmp_path / "out")
    with pytest.raises(InputError, match="at 1/2"):
        join_cascade(student, _with(teacher, reduction=2), discs, tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_too_few_val_parts_for_the_guard_say_how_many_it_takes(
    student: Inspector, teacher: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UnfitError, match="requires 49 val parts, found 40"):
        join_cascade(student, teacher, discs, tmp_path / "out")


@pytest.mark.slow
def test_the_commands_print_both_sides(trained: Path, student: Inspector, discs: Dataset, tmp_path: Path) -> None:
    wrong = CliRunner().invoke(
        app, ["bundle", "distill", str(trained), str(discs.root), "--out", "x", "--split", "train"]
    )
    assert isinstance(wrong.exception, InputError)
    out = tmp_path / "both.inspector"
    command = [
        "bundle",
        "cascade",
        str(student.path),
        str(trained),
        str(discs.root),
        "--out",
        str(out),
        "--strange",
        "0.05",
    ]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "The cascade is as safe as its teacher" in shown.output
    assert "review" in shown.output
    again = CliRunner().invoke(app, [*command, "--overwrite", "--json"])
    record = json.loads(again.stdout)
    assert record["as_safe"]
    assert record["itself"]["bundle_sha256"] != record["teacher"]["bundle_sha256"]
    assert 0 < record["asked"] < record["pictures"]


@pytest.mark.slow
def test_the_limits_of_a_cascade_are_set_like_those_of_any_inspector(
    joined: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(joined.path, tmp_path / "both.inspector")
    request = Promise(max_escape=0.06, max_overkill=0.06, joint=False, guard=0.05)
    made = recertify(Inspector.load(tmp_path / "both.inspector"), discs, request)
    assert not made.refusals
    again = Inspector.load(tmp_path / "both.inspector")
    assert again.cascade is not None
    assert again.drift is not None
    assert again.drift.guard is not None


def _with(inspector: Inspector, **changes: object) -> Inspector:
    """The same with another recipe."""
    manifest = inspector.bundle.manifest
    recipe = manifest.recipe.model_copy(update=changes)
    return Inspector(
        replace(inspector.bundle, manifest=manifest.model_copy(update={"recipe": recipe})), inspector._graph
    )

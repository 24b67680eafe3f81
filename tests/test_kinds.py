"""Which kind of defect: taught by labelled kinds, computed by the graph, named in verdicts, records and reports."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from typer.testing import CliRunner

from gonogo import bundle, images, runtime
from gonogo.cli import app
from gonogo.dataset import Dataset, Sample, Split
from gonogo.defect_kinds import UNLIKE, KnownKinds, describe_kind
from gonogo.evaluate import evaluate
from gonogo.evidence import (
    FeatureTable,
    classifier_graph,
    fit_defect_kinds,
    fit_evidence,
    judge_reference,
    out_of_fold,
)
from gonogo.evidence.context import pooled_vector
from gonogo.evidence.graph import PREFIX
from gonogo.inspector import Inspector
from gonogo.ledger import VerdictRecord, View
from gonogo.manifest import Manifest
from gonogo.schema import State, Verdict
from tests.test_evidence import Maps, as_frame, features_as_input, random_maps, table_of

KINDS = ("crack", "hole", "stain")


def maps_of(kind: str | None, rng: np.random.Generator) -> Maps:
    """A defect of each kind raises channels of its own of the middle map, in one cell."""
    maps = random_maps(rng)
    if kind is not None:
        channel = {"crack": 0, "hole": 1, "stain": 2, "dent": 3}[kind]
        maps[1][channel, rng.integers(0, 4), rng.integers(0, 6)] += 9
    return maps


def kinds_table(rng: np.random.Generator, *, each: int = 15, good: int = 60) -> FeatureTable:
    defects = [None] * good + [kind for kind in KINDS for _ in range(each)]
    table = table_of([maps_of(kind, rng) for kind in defects], [int(kind is not None) for kind in defects])
    return replace(table, defects=tuple(defects))


def test_kinds_are_named_right_and_an_unlabelled_kind_is_unlike_any(rng: np.random.Generator) -> None:
    fitted = fit_defect_kinds(kinds_table(rng), seed=0)
    assert fitted is not None
    assert fitted.known.names == KINDS
    named = [(kind, fitted.known.name(fitted.logits(pooled_vector(maps_of(kind, rng))))[0]) for kind in KINDS * 20]
    assert np.mean([found == kind for kind, found in named]) > 0.75
    assert np.mean([found not in (kind, UNLIKE) for kind, found in named]) < 0.1
    for other in ("dent", None):
        strange = [fitted.known.name(fitted.logits(pooled_vector(maps_of(other, rng))))[0] for _ in range(60)]
        assert np.mean([found == UNLIKE for found in strange]) > 0.8, other


def test_the_limit_withholds_about_a_tenth_of_the_right_names(rng: np.random.Generator) -> None:
    fitted = fit_defect_kinds(kinds_table(rng, each=40), seed=0)
    assert fitted is not None
    known = fitted.known
    right = withheld = 0
    for kind in KINDS * 60:
        logits = fitted.logits(pooled_vector(maps_of(kind, rng)))
        if known.names[int(logits.argmax())] == kind:
            right += 1
            withheld += known.name(logits)[0] == UNLIKE
    assert 0.02 < withheld / right < 0.2


@pytest.mark.parametrize(
    ("defects", "why"),
    [
        ((None,) * 12, "no kind is labelled"),
        (("crack",) * 12, "there is one kind alone"),
        (("crack",) * 10 + ("hole",) * 2, "the other kind has two parts"),
        (("crack",) * 6 + ("ho\nle",) * 6, "the other kind's name has two lines"),
        (("crack",) * 6 + ("ho\ud800le",) * 6, "the other kind's name is no text"),
        (("crack", "hole") * 6, "the kinds cannot be told apart"),
    ],
)
def test_without_kinds_to_tell_apart_there_is_no_head(
    defects: tuple[str | None, ...], why: str, rng: np.random.Generator
) -> None:
    pictures = [random_maps(rng) for _ in range(40)] + [random_maps(rng, defect=(2, 3)) for _ in defects]
    table = table_of(pictures, [0] * 40 + [1] * len(defects))
    assert fit_defect_kinds(replace(table, defects=(None,) * 40 + defects), seed=0) is None, why


def test_a_table_without_kinds_gives_no_head(rng: np.random.Generator) -> None:
    table = table_of([random_maps(rng) for _ in range(20)], [0, 1] * 10)
    assert fit_defect_kinds(table, seed=0) is None


@pytest.mark.slow
def test_the_graph_names_kinds_as_the_plain_reference_does_and_scores_as_without(rng: np.random.Generator) -> None:
    table = kinds_table(rng)
    without = fit_evidence(table, out_of_fold(table, seed=0), seed=0)
    weighted = replace(without, defect_kinds=fit_defect_kinds(table, seed=0))
    model = classifier_graph(features_as_input(), weighted, labels=("good", "bad"))
    assert model.output(0).get_names() == {"logits"}, "Model API reads the classes from the first output"
    graph = runtime.compile_graph(model)
    plain = runtime.compile_graph(classifier_graph(features_as_input(), without, labels=("good", "bad")))
    assert "kinds" not in plain(as_frame(random_maps(rng))[0])
    for kind in (None, *KINDS):
        frame, maps = as_frame(maps_of(kind, rng))
        expected, found = judge_reference(weighted, maps), graph(frame)
        assert expected.defect_kinds is not None
        assert found["kinds"].shape == (1, len(KINDS))
        np.testing.assert_allclose(found["kinds"][0], expected.defect_kinds, atol=1e-4)
        np.testing.assert_array_equal(found["score"], plain(frame)["score"])


def test_quantization_can_tell_the_head_by_the_names_of_its_nodes(rng: np.random.Generator) -> None:
    table = kinds_table(rng)
    weighted = fit_evidence(table, out_of_fold(table, seed=0), seed=0)
    weighted = replace(weighted, defect_kinds=fit_defect_kinds(table, seed=0))
    features = features_as_input()
    of_backbone = {op.get_friendly_name() for op in features.get_ops()}
    model = classifier_graph(features, weighted, labels=("good", "bad"))
    head = model.output("kinds").get_node().input_value(0).get_node()
    assert {head.get_friendly_name(), head.input_value(0).get_node().get_friendly_name()}.isdisjoint(of_backbone)
    assert head.get_friendly_name().startswith(PREFIX)
    assert head.input_value(0).get_node().get_friendly_name().startswith(PREFIX)


def test_shares_that_are_no_numbers_name_nothing() -> None:
    known = KnownKinds(names=("crack", "hole"), least_share=0.4, named_right=1.0)
    assert known.name(np.array([np.nan, 3.0])) == (UNLIKE, None)
    name, share = known.name(np.array([1e4, 0.0]))
    assert (name, share) == ("crack", pytest.approx(1.0))
    assert describe_kind(name, share) == "crack (100 %)"
    assert known.name(np.array([-5.0, -5.0])) == (UNLIKE, None), "nothing speaks for either"


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Grey parts; cracks are red, holes green, and a kind that is never taught is blue. Test has what train has not."""
    rng = np.random.default_rng(5)
    root = tmp_path_factory.mktemp("painted")
    (root / "images").mkdir()
    samples = []
    for index in range(160):
        kind = (None, "crack", None, "hole")[index % 4]
        split = (Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.TEST)[index // 4 % 4]
        if kind == "hole" and split is Split.TEST and index % 32 == 15:
            kind = "stain"
        frame = rng.normal(120, 12, (64, 64, 3))
        if kind is not None:
            x, y = rng.integers(8, 40, 2)
            frame[y : y + 16, x : x + 16] = 30
            frame[y : y + 16, x : x + 16, ("crack", "hole", "stain").index(kind)] = 230
        name = f"images/{index:03d}.png"
        (root / name).write_bytes(images.encode_png(np.clip(frame, 0, 255).astype(np.uint8)))
        label = "good" if kind is None else "bad"
        samples.append(Sample(file_name=name, label=label, defect=kind, part=f"p{index}", split=split))
    made = Dataset(root=root, samples=tuple(samples))
    made.write()
    return Dataset.read(root)


@pytest.fixture(scope="module")
def inspector(painted: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gonogo.workflow import TrainingOptions, train_inspector

    out = tmp_path_factory.mktemp("bundles") / "painted.inspector"
    train_inspector(painted, out, TrainingOptions(size_wh=(64, 64)))
    return out


@pytest.mark.slow
def test_a_rejected_part_is_named_and_a_good_one_is_not(inspector: Path, painted: Dataset) -> None:
    gauge = Inspector.load(inspector)
    known = gauge.bundle.manifest.classifier.defect_kinds
    assert known is not None
    assert known.names == ("crack", "hole")
    right = []
    for sample in painted.split(Split.TEST):
        verdict = gauge.inspect(painted.load(sample))
        assert (verdict.kind is None) == (verdict.state in (State.GO, State.FAULT))
        assert (verdict.kind_share is None) == (verdict.kind in (None, UNLIKE))
        if sample.defect in known.names and verdict.kind not in (None, UNLIKE):
            right.append(verdict.kind == sample.defect)
    assert len(right) >= 12
    assert all(right)
    assert "Defect kinds: crack, hole" in (inspector / bundle.MODEL_CARD).read_text()


@pytest.mark.slow
def test_inspect_prints_the_kind_and_its_json_has_it(inspector: Path, painted: Dataset) -> None:
    bad = next(painted.path(sample) for sample in painted.split(Split.TEST) if sample.defect == "crack")
    expected = Inspector.load(inspector).inspect(images.load_picture(bad))
    assert expected.kind is not None
    text = CliRunner().invoke(app, ["inspect", str(inspector), str(bad)])
    assert f"kind: {describe_kind(expected.kind, expected.kind_share)}" in text.output
    row = json.loads(CliRunner().invoke(app, ["inspect", str(inspector), str(bad), "--json"]).stdout.splitlines()[0])
    assert (row["kind"], row["kind_share"]) == (expected.kind, pytest.approx(expected.kind_share))


@pytest.mark.slow
def test_evaluation_holds_named_kinds_against_labelled_ones(inspector: Path, painted: Dataset, tmp_path: Path) -> None:
    from gonogo.report import write_report

    gauge = Inspector.load(inspector)
    found = evaluate(gauge, painted, (Split.TEST,))
    naming = found.naming
    assert naming is not None
    assert naming.labelled == ("crack", "hole", "stain")
    assert naming.named[-1] == UNLIKE
    bad = sum(sample.label == "bad" for sample in painted.split(Split.TEST))
    assert sum(sum(row) for row in naming.counts) + sum(naming.not_named) == bad
    assert naming.right.count == sum(
        naming.counts[row][naming.named.index(kind)] for row, kind in enumerate(("crack", "hole"))
    )
    stated = found.to_json()["defect_kinds_named"]
    assert stated["right"] == naming.right.value
    assert {row["labelled"] for row in stated["rows"]} == {"crack", "hole", "stain"}
    json.dumps(stated, allow_nan=False)
    write_report(found, gauge, painted, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Defect kinds named" in page
    assert UNLIKE in page


@pytest.mark.slow
def test_a_bundle_that_knows_no_kinds_judges_as_before(inspector: Path, painted: Dataset, tmp_path: Path) -> None:
    """The same bundle as an earlier version would have made it: no output for kinds, no word of them."""
    old = tmp_path / "old.inspector"
    shutil.copytree(inspector, old)
    model = ov.Core().read_model(old / bundle.CLASSIFIER)
    kept = [result for result in model.get_results() if "kinds" not in result.output(0).get_names()]
    ov.save_model(ov.Model(kept, model.get_parameters(), "old"), tmp_path / "graph.xml", compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        shutil.move(tmp_path / f"graph{suffix}", (old / bundle.CLASSIFIER).with_suffix(suffix))
    stated = json.loads((old / bundle.MANIFEST).read_text())
    del stated["classifier"]["defect_kinds"]
    manifest = Manifest.model_validate_json(json.dumps(stated))
    bundle.write_manifest(old, manifest)
    before, after = Inspector.load(old), Inspector.load(inspector)
    for sample in painted.split(Split.TEST)[:8]:
        frame = painted.load(sample)
        was, now = before.inspect(frame), after.inspect(frame)
        assert (was.state, was.score, was.kind, was.kind_share) == (now.state, now.score, None, None)
    assert evaluate(before, painted, (Split.TEST,)).naming is None


def view(state: State, score: float, kind: str | None, share: float | None) -> View:
    verdict = Verdict(state=state, score=score, reason="because", kind=kind, kind_share=share)
    return View.of(verdict, frame_sha256="0" * 64)


def record(state: State, *views: View, cause: str | None = None) -> VerdictRecord:
    return VerdictRecord(
        station="s",
        trigger_id="t",
        state=state,
        score=max(each.score for each in views if each.score is not None),
        reason="because",
        cause=cause,
        views=views,
        triggered_at=datetime.now(UTC),
    )


def test_a_record_names_the_kind_of_its_worst_view_and_none_for_a_fault() -> None:
    crack, hole = view(State.NO_GO, 2.0, "crack", 0.8), view(State.REVIEW, 0.5, "hole", 0.9)
    sound = view(State.GO, -1.0, None, None)
    assert record(State.NO_GO, sound, hole, crack).named == crack
    assert record(State.GO, sound).named is None
    assert record(State.FAULT, crack, cause="late").named is None


def test_a_record_written_before_there_were_kinds_is_read() -> None:
    body = record(State.NO_GO, view(State.NO_GO, 2.0, None, None)).model_dump(mode="json")
    for each in body["views"]:
        del each["kind"], each["kind_share"]
    read = VerdictRecord.model_validate_json(json.dumps(body))
    assert read.named is None

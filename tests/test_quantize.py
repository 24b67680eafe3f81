from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from typer.testing import CliRunner

from gonogo import bundle
from gonogo.anatomy import dissect
from gonogo.certification import recertify
from gonogo.cli import app
from gonogo.cli.quantize import _as_json as as_printed
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import Agreement, compare_inspectors
from gonogo.evaluate.agreement import correlation
from gonogo.evaluate.verdicts import Verdicts
from gonogo.evidence import PREFIX
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise, upper_bound
from gonogo.schema import Label, Prediction, State
from gonogo.workflow import Allowed, QuantizingOptions, quantize_bundle
from gonogo.workflow.int8 import drift, to_int8
from gonogo.workflow.quantizing import Quantized, require_agreement
from tests.printed_kit import faults

LENIENT = Allowed(flips=0.05, moves=0.15)
"""The guard sends a tenth of the parts to a person, some of them by a hair's breadth."""
OPTIONS = QuantizingOptions(pictures=24, allowed=LENIENT)


@pytest.fixture(scope="module")
def int8(trained: Path, discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    """Made once from a certified bundle, so that it has an out-of-distribution check and drift limits to fit again."""
    folder = tmp_path_factory.mktemp("int8")
    shutil.copytree(trained, folder / "disc.inspector")
    request = Promise(max_escape=0.05, max_overkill=0.05, joint=False, guard=0.1)
    recertify(Inspector.load(folder / "disc.inspector"), discs, request)
    quantize_bundle(Inspector.load(folder / "disc.inspector"), discs, folder / "disc8.inspector", OPTIONS)
    return Inspector.load(folder / "disc8.inspector")


@pytest.fixture(scope="module")
def source(int8: Inspector) -> Inspector:
    return Inspector.load(int8.path.with_name("disc.inspector"))


def row(part: str, state: State, score: float | None = 0.0) -> Prediction:
    return Prediction(file=part, part=part, label=Label.BAD, defect=None, state=state, score=score)


def agreement(before: list[Prediction], after: list[Prediction], correlations: list[float] | None = None) -> Agreement:
    return Agreement(
        before=Verdicts(pictures=tuple(before)),
        after=Verdicts(pictures=tuple(after)),
        correlations=np.array(correlations or [], np.float64),
    )


@pytest.mark.slow
def test_the_layers_really_run_in_int8_and_the_head_does_not(int8: Inspector, source: Inspector) -> None:
    made, before = dissect(int8.bundle), dissect(source.bundle)
    stated = int8.bundle.manifest.quantization
    assert stated is not None
    assert before.heavy_int8 == 0
    assert made.heavy_int8 == stated.int8_layers > 0
    assert stated.float_layers >= 1
    assert made.bin_bytes < before.bin_bytes
    nodes = ov.Core().read_model(int8.bundle.classifier).get_ordered_ops()
    evidence = [node for node in nodes if node.get_friendly_name().startswith(PREFIX)]
    assert {"MatMul", "Convolution", "Exp", "TopK"} <= {node.get_type_name() for node in evidence}
    inside = {node.get_friendly_name() for node in evidence}
    for node in nodes:
        if node.get_type_name() == "FakeQuantize":
            readers = {each.get_node().get_friendly_name() for each in node.output(0).get_target_inputs()}
            assert not readers & inside, "context, memory and cells read what was never rounded to 256 steps"


@pytest.mark.slow
def test_the_head_of_a_network_made_by_torch_is_left_alone_too(fine_tuned: Path) -> None:
    model = ov.Core().read_model(fine_tuned / bundle.CLASSIFIER)
    rng = np.random.default_rng(0)
    made = to_int8(model, [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(4)])
    kinds = [node.get_type_name() for node in made.model.get_ordered_ops()]
    last = len(kinds) - 1 - kinds[::-1].index("FakeQuantize")
    assert made.int8_layers > 0
    assert "Exp" not in kinds[:last], "the pooling to the score is left alone"


@pytest.mark.slow
def test_everything_that_was_proven_in_full_precision_is_proven_again(int8: Inspector, source: Inspector) -> None:
    made, before = int8.bundle.manifest, source.bundle.manifest
    assert made.operating_point is not None
    assert before.operating_point is not None
    assert made.operating_point.scores_sha256 != before.operating_point.scores_sha256
    assert made.operating_point.escape == before.operating_point.escape, "the same promise of as many parts"
    assert [each.file for each in made.golden] == [each.file for each in before.golden]
    assert [each.score for each in made.golden] != [each.score for each in before.golden]
    assert made.heat_scale != before.heat_scale
    assert int8.drift is not None
    assert source.drift is not None
    assert not np.array_equal(int8.drift.features.directions, source.drift.features.directions)


@pytest.mark.slow
def test_the_bundle_states_exact_bounds_on_parts_that_taught_nothing(
    int8: Inspector, source: Inspector, discs: Dataset
) -> None:
    stated = int8.bundle.manifest.quantization
    assert stated is not None
    assert stated.source_sha256 == source.bundle_sha256
    assert stated.flips.of == 160, "calibrate and test"
    assert stated.test_flips is not None
    assert stated.test_flips.of == 40
    assert stated.flips.at_most == upper_bound(stated.flips.count, 160, confidence=0.95)
    again = compare_inspectors(source, int8, discs, (Split.CALIBRATE, Split.TEST))
    assert (again.flips.count, again.moves.count) == (stated.flips.count, stated.moves.count)
    assert stated.pointing_pictures == 80
    card = (int8.path / bundle.MODEL_CARD).read_text()
    assert f"{stated.flips.count} of 160, at most 1.86 % of future parts" in card


@pytest.mark.slow
def test_a_quantization_calibrated_on_noise_is_refused_and_leaves_nothing(
    source: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(126, 130, (64, 96, 3), dtype=np.uint8) for _ in range(8)]
    options = replace(OPTIONS, control=False)
    with pytest.raises(UnfitError, match="nothing was written") as refusal:
        quantize_bundle(source, discs, tmp_path / "bad.inspector", options, pictures=noise)
    assert not list(tmp_path.iterdir())
    assert "Parts with different verdicts, with both scores" in str(refusal.value)
    assert Inspector.load(source.path).bundle_sha256 == source.bundle_sha256


def test_too_few_parts_without_a_flip_prove_too_little_and_the_refusal_says_how_many_it_takes() -> None:
    parts = [row(f"p{number}", State.GO) for number in range(100)]
    with pytest.raises(UnfitError, match=r"0 of 100 parts changed from go to no-go.* requires 598 parts without any"):
        require_agreement(agreement(parts, parts), Allowed(), Path("a"))
    require_agreement(agreement(parts, parts), Allowed(flips=0.03, moves=0.03), Path("a"))


def test_flips_are_counted_apart_from_moves_and_listed_first_with_both_scores() -> None:
    before = [row("a", State.GO, -1.0), row("b", State.GO, -2.0), row("c", State.REVIEW), row("d", State.NO_GO)]
    after = [
        row("a", State.REVIEW, 0.5),
        row("b", State.NO_GO, 3.0),
        row("c", State.FAULT, None),
        row("d", State.NO_GO),
    ]
    found = agreement(before, after)
    assert (found.flips.count, found.moves.count, found.flips.of) == (1, 2, 4)
    assert str(found.changes[0]) == "b (bad): go -2.0000 -> no_go 3.0000"
    with pytest.raises(UnfitError, match=r"scores:\n  b \(bad\): go -2\.0000 -> no_go 3\.0000\n  a .*\n  c .* fault -"):
        require_agreement(found, LENIENT, Path("a"))


def test_maps_that_wander_are_refused_though_every_verdict_agrees() -> None:
    parts = [row(f"p{number}", State.NO_GO) for number in range(100)]
    with pytest.raises(UnfitError, match=r"correlation of the defect maps is 0\.580"):
        require_agreement(agreement(parts, parts, [0.58] * 100), LENIENT, Path("a"))
    hit, miss = ([replace(each, pointing_hit=value) for each in parts] for value in (True, False))
    with pytest.raises(UnfitError, match="0 of 100 marked defects, before quantization on 100"):
        require_agreement(agreement(hit, miss, [1.0] * 100), LENIENT, Path("a"))
    require_agreement(agreement(hit, hit, [0.58] * 100), LENIENT, Path("a"))


def test_maps_correlate_whatever_their_shift_and_scale(rng: np.random.Generator) -> None:
    one = rng.normal(size=(5, 7)).astype(np.float32)
    assert correlation(one, 3 * one + 2) == pytest.approx(1.0)
    assert correlation(one, -one) == pytest.approx(-1.0)
    assert np.isnan(correlation(one, np.zeros_like(one)))


def test_drift_ignores_what_the_thresholds_absorb_and_nothing_else(rng: np.random.Generator) -> None:
    scores = rng.normal(size=200)
    assert drift(scores, 0.7 * scores + 5).max() < 1e-9
    assert drift(scores, scores + rng.normal(size=200) * 0.1).mean() == pytest.approx(0.08, abs=0.02)
    assert drift(scores, np.zeros(200) + rng.normal(size=200) * 1e-3).mean() > 1
    assert drift(scores, -scores).mean() > 1


@pytest.mark.slow
def test_what_the_command_prints_fits_its_schema(int8: Inspector) -> None:
    before, after = [row("p1", State.GO)], [row("p1", State.NO_GO, 2.0)]
    made = Quantized(bundle=int8.bundle, agreement=agreement(before, after))
    assert faults("bundle quantize", json.dumps(as_printed(made), allow_nan=False)) == []


@pytest.mark.slow
def test_bf16_is_another_bundle_with_scores_of_its_own(source: Inspector, discs: Dataset, tmp_path: Path) -> None:
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in BF16")
    made = quantize_bundle(source, discs, tmp_path / "b.inspector", replace(OPTIONS, arithmetic="bf16")).bundle.manifest
    assert made.precision == "bf16"
    assert [each.score for each in made.golden] != [each.score for each in source.bundle.manifest.golden]
    assert made.quantization is not None
    assert made.quantization.int8_layers == 0


@pytest.mark.slow
def test_an_unfit_source_is_refused_before_any_work(
    int8: Inspector, source: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected a full-precision bundle"):
        quantize_bundle(int8, discs, tmp_path / "a.inspector", OPTIONS)
    with pytest.raises(InputError, match="already exists"):
        quantize_bundle(source, discs, int8.path, OPTIONS)
    with pytest.raises(InputError, match="trained on these parts, so they prove nothing"):
        quantize_bundle(source, discs, tmp_path / "a.inspector", replace(OPTIONS, splits=(Split.TRAIN,)))
    opened = source.bundle
    idle = replace(opened, manifest=opened.manifest.model_copy(update={"operating_point": None}))
    with pytest.raises(UnfitError, match="expected a certified escape rate"):
        quantize_bundle(Inspector(idle, source._graph), discs, tmp_path / "a.inspector", OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_graph_command_accounts_for_every_stored_operation(int8: Inspector, source: Inspector) -> None:
    command = ["bundle", "graph", str(int8.path), "--against", str(source.path), "--time", "2", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["torch"] is None
    for name in (int8.path, source.path):
        found = told["bundles"][str(name)]
        model = ov.Core().read_model(name / bundle.CLASSIFIER)
        kinds = [node.get_type_name() for node in model.get_ordered_ops()]
        computing = [kind for kind in kinds if kind not in ("Constant", "Parameter", "Result")]
        assert found["stored"] == len(computing)
        assert sum(fate["executed"] + fate["fused"] + fate["gone"] for fate in found["fates"]) == len(computing)
        assert "BatchNormInference" not in computing
        assert any(fate["kind"] == "Clamp" and fate["executed"] == 0 for fate in found["fates"])
        assert found["run_us"] > 0


@pytest.mark.slow
def test_the_graph_command_shows_what_torch_ran_where_torch_made_the_network(
    source: Inspector, fine_tuned: Path
) -> None:
    result = CliRunner().invoke(app, ["bundle", "graph", str(fine_tuned), "--from-torch", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["torch"]["batch_norm"] == 5
    refused = CliRunner().invoke(app, ["bundle", "graph", str(source.path), "--from-torch"])
    assert isinstance(refused.exception, InputError)
    assert "not made with torch here. Leave out --from-torch" in str(refused.exception)


@pytest.mark.slow
def test_the_graph_command_prints_tables_for_people(source: Inspector) -> None:
    result = CliRunner().invoke(app, ["bundle", "graph", str(source.path)])
    assert result.exit_code == 0, result.output
    assert " convolutions and matrix products, 0 of them in INT8" in " ".join(result.stdout.split())

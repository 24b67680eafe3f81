from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from scipy import stats
from typer.testing import CliRunner

from gonogo.cli.evaluate import evaluate_command as evaluate_command
from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError, ImageError
from gonogo.evaluate import Rate, auroc, average_precision, evaluate, precision_recall, roc, worst_of_part
from gonogo.images import encode_png
from gonogo.schema import Box, Label, Prediction, State
from judged_data import BrightnessJudge, add_marked, make_dataset, operating_point, save, write_picture

GOOD, BAD = Label.GOOD, Label.BAD
JUDGE = BrightnessJudge(operating_point(100, 150))


def mixed(root: Path) -> Dataset:
    """Four good parts (go, go, review, no-go) and five bad ones (go, review, no-go, no-go, fault)."""
    pictures = {
        "g1.png": (GOOD, 10),
        "g2.png": (GOOD, 20),
        "g3.png": (GOOD, 120),
        "g4.png": (GOOD, 160),
        "b1.png": (BAD, 30),
        "b2.png": (BAD, 130),
        "b3.png": (BAD, 170),
        "b4.png": (BAD, 200),
        "b5.png": (BAD, 255),
    }
    defects = {"b1.png": "crack", "b2.png": "crack", "b3.png": "hole", "b4.png": "hole"}
    return make_dataset(root, pictures, defects=defects)


def row(state: State, score: float | None, *, label: Label = GOOD, defect: str | None = None) -> Prediction:
    return Prediction(file=f"{state}.png", part="p", label=label, defect=defect, state=state, score=score)


@pytest.mark.parametrize("levels", [4, 50, 10**9])
def test_ranking_figures_are_those_of_scikit_learn_ties_included(levels: int, rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the train extra")
    for _ in range(5):
        good, bad = (rng.integers(0, levels, n).astype(float) for n in (37, 23))
        bad += levels // 4
        labels, scores = np.repeat([0, 1], [37, 23]), np.concatenate([good, bad])
        assert auroc(good, bad) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(good, bad) == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)
        false_rate, hit_rate, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_allclose(roc(good, bad).x, false_rate)
        np.testing.assert_allclose(roc(good, bad).y, hit_rate)
        precision, recall, _ = metrics.precision_recall_curve(labels, scores)
        np.testing.assert_allclose(precision_recall(good, bad).x, recall[-2::-1])
        np.testing.assert_allclose(precision_recall(good, bad).y, precision[-2::-1])


def test_a_ranking_of_one_class_is_undefined() -> None:
    some, none = np.array([1.0, 2.0]), np.array([])
    assert auroc(some, none) is None
    assert average_precision(none, some) is None
    with pytest.raises(ValueError, match="both labels"):
        roc(some, none)


@pytest.mark.parametrize(("count", "of"), [(0, 92), (3, 92), (92, 92), (1, 1)])
def test_a_rate_carries_its_exact_interval(count: int, of: int) -> None:
    rate = Rate(count=count, of=of)
    exact = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    one_sided = stats.binomtest(count, of, alternative="less").proportion_ci(0.95, "exact")
    assert rate.value == count / of
    assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high))
    assert rate.at_most == pytest.approx(one_sided.high)


def test_a_share_of_nothing_is_undefined_not_zero() -> None:
    rate = Rate(count=0, of=0)
    assert rate.at_most is None
    assert rate.to_json("escape_rate") == {"escape_rate": None, "escape_rate_low": None, "escape_rate_high": None}


def test_every_part_is_counted_once_under_its_verdict(tmp_path: Path) -> None:
    found = evaluate(JUDGE, mixed(tmp_path)).to_json()
    assert found["confusion"] == {
        "good": {"go": 2, "review": 1, "no_go": 1, "fault": 0},
        "bad": {"go": 1, "review": 1, "no_go": 2, "fault": 1},
    }
    assert (found["parts"], found["parts_good"], found["parts_bad"], found["pictures"]) == (9, 4, 5, 9)
    assert found["escape_rate"] == 1 / 5, "the unjudged bad part stays in the denominator and is no escape"
    assert found["overkill_rate"] == 1 / 4
    assert found["review_rate"] == 2 / 9
    assert found["fault_rate"] == 1 / 9
    assert found["escape_rate_low"] < 1 / 5 < found["escape_rate_high"]
    assert found["auroc"] == auroc(np.array([10.0, 20, 120, 160]), np.array([30.0, 130, 170, 200]))
    assert found["faults"] == [{"file": "b5.png", "reason": "the network gave no finite score"}]


def test_each_defect_kind_has_its_recall(tmp_path: Path) -> None:
    kinds = {kind["defect"]: kind for kind in evaluate(JUDGE, mixed(tmp_path)).to_json()["kinds"]}
    assert list(kinds) == ["crack", "hole", None], "unnamed kinds come last"
    assert (kinds["crack"]["recall"], kinds["crack"]["rejected_rate"], kinds["crack"]["go"]) == (0.5, 0.0, 1)
    assert (kinds["hole"]["recall"], kinds["hole"]["auroc"]) == (1.0, 1.0)
    assert kinds["hole"]["recall_low"] == pytest.approx(0.158, abs=0.001)
    assert (kinds[None]["recall"], kinds[None]["fault"]) == (0.0, 1), "a fault caught nothing"


def test_a_part_in_several_pictures_counts_once_by_its_worst(tmp_path: Path) -> None:
    pictures = {"front.png": (BAD, 20), "back.png": (BAD, 180), "other.png": (GOOD, 5)}
    dataset = make_dataset(tmp_path, pictures, parts={"front.png": "A", "back.png": "A"}, defects={"front.png": "dent"})
    evaluation = evaluate(JUDGE, dataset)
    part = next(part for part in evaluation.parts if part.part == "A")
    assert (part.state, part.score, part.file, part.defect) == (State.NO_GO, 180, "back.png", "dent")
    assert (len(evaluation.pictures), len(evaluation.parts)) == (3, 2)
    assert evaluation.escape.count == 0


def test_a_part_with_an_unjudged_picture_is_never_go() -> None:
    part = worst_of_part([row(State.GO, 1.0), row(State.FAULT, None), row(State.REVIEW, 2.0)])
    assert (part.state, part.score) == (State.FAULT, None)


def test_a_rejected_part_stays_rejected_whatever_its_other_pictures_say() -> None:
    part = worst_of_part([row(State.FAULT, None), row(State.NO_GO, 9.0), row(State.GO, 1.0)])
    assert (part.state, part.score) == (State.NO_GO, 9.0)


def test_a_part_is_bad_if_one_of_its_pictures_shows_a_defect() -> None:
    part = worst_of_part([row(State.REVIEW, 3.0), row(State.GO, 1.0, label=BAD, defect="scratch")])
    assert (part.label, part.defect, part.score) == (BAD, "scratch", 3.0)


@pytest.mark.parametrize(
    ("label", "undefined", "defined"),
    [(GOOD, "escape_rate", "overkill_rate"), (BAD, "overkill_rate", "escape_rate")],
)
def test_figures_about_a_missing_class_are_null(tmp_path: Path, label: Label, undefined: str, defined: str) -> None:
    found = evaluate(JUDGE, make_dataset(tmp_path, {"a.png": (label, 10), "b.png": (label, 200)})).to_json()
    assert [found[f"{undefined}{end}"] for end in ("", "_low", "_high")] == [None] * 3
    assert found[defined] == 0.5
    assert found["auroc"] is None
    assert found["average_precision"] is None
    assert found["pointing_game"] is None
    assert found["energy_inside_rejected"] is None


def test_an_inspector_without_thresholds_sends_everything_to_a_person(tmp_path: Path) -> None:
    found = evaluate(BrightnessJudge(None), mixed(tmp_path)).to_json()
    assert found["review_rate"] == 8 / 9
    assert found["escape_rate"] == found["overkill_rate"] == 0
    assert found["operating_point"] is None
    assert found["auroc"] is not None


def test_thresholds_out_of_reach_are_written_as_null(tmp_path: Path) -> None:
    judge = BrightnessJudge(operating_point(-math.inf, math.inf))
    text = json.dumps(evaluate(judge, mixed(tmp_path)).to_json(), allow_nan=False)
    assert json.loads(text)["operating_point"]["go_below"] is None


def test_a_damaged_picture_is_a_fault_and_never_go(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a.png": (BAD, 10), "b.png": (GOOD, 10)})
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    evaluation = evaluate(JUDGE, dataset)
    assert evaluation.escape.count == 0
    assert evaluation.fault.count == 1
    assert "a.png" in evaluation.faults[0].reason


def test_a_missing_picture_is_named_before_anything_is_judged(tmp_path: Path) -> None:
    dataset = mixed(tmp_path)
    (tmp_path / "b4.png").unlink()
    with pytest.raises(DatasetError, match=r"b4\.png.*gonogo dataset check"):
        evaluate(JUDGE, dataset)


def test_an_empty_split_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"split val.*test 9.*--split"):
        evaluate(JUDGE, mixed(tmp_path), [Split.VAL])


def test_only_the_named_splits_are_judged(tmp_path: Path) -> None:
    dataset = mixed(tmp_path)
    moved = [s.model_copy(update={"split": Split.VAL}) if s.file_name < "g" else s for s in dataset.samples]
    dataset = save(tmp_path, moved)
    assert evaluate(JUDGE, dataset).to_json()["parts"] == 4
    assert evaluate(JUDGE, dataset, [Split.VAL, Split.TEST]).to_json()["parts"] == 9


def test_unlabelled_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = mixed(tmp_path)
    dataset = save(tmp_path, [dataset.samples[0].model_copy(update={"label": None}), *dataset.samples[1:]])
    found = evaluate(JUDGE, dataset).to_json()
    assert (found["parts"], found["pictures_unlabelled"]) == (8, 1)


def located(root: Path) -> Dataset:
    """Three marked defects of a cell each: hot on it and rejected, hot beside it and rejected, hot on it and passed."""
    dataset = make_dataset(root, {"good.png": (GOOD, 10)})
    middle = Box(x1=32, y1=24, x2=40, y2=32)
    dataset = add_marked(dataset, "on.png", score=200, hot_cell=(3, 4), mask=middle)
    dataset = add_marked(dataset, "beside.png", score=200, hot_cell=(0, 0), mask=middle)
    return add_marked(dataset, "passed.png", score=20, hot_cell=(1, 1), mask=Box(x1=8, y1=8, x2=16, y2=16))


def test_heat_is_held_against_the_marked_defect_whatever_the_verdict(tmp_path: Path) -> None:
    evaluation = evaluate(JUDGE, located(tmp_path))
    found = evaluation.to_json()
    assert (found["masked_pictures"], found["masked_pictures_rejected"]) == (3, 2)
    assert found["pointing_game"] == 2 / 3
    assert found["pointing_game_rejected"] == 1 / 2
    assert found["pointing_game_low"] < 2 / 3 < found["pointing_game_high"]
    assert found["energy_inside_flat"] == pytest.approx(64 / (48 * 64))
    inside = {picture.file: picture.energy_inside for picture in evaluation.pictures}
    assert inside["beside.png"] == 0
    assert inside["on.png"] > 0.5


def test_the_middle_of_the_picture_is_the_baseline(tmp_path: Path) -> None:
    found = evaluate(JUDGE, located(tmp_path)).to_json()
    assert found["pointing_game_centre"] == 2 / 3, "two of the three marks hold the middle of the picture"
    assert found["pointing_game_centre_rejected"] == 1


def test_a_map_that_stays_cold_has_no_heat_inside_the_defect(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"good.png": (GOOD, 10)})
    dataset = add_marked(dataset, "a.png", score=200, hot_cell=(0, 0), mask=Box(x1=0, y1=0, x2=9, y2=9))
    judge = BrightnessJudge(operating_point(100, 150))
    judge.heat_scale = type(judge.heat_scale)(cold=20.0, hot=30.0)
    assert evaluate(judge, dataset).to_json()["energy_inside"] == 0


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    dataset = located(tmp_path)
    (tmp_path / "on.png.mask.png").write_bytes(encode_png(np.zeros((8, 8), np.uint8)))
    with pytest.raises(ImageError, match=r"on\.png\.mask\.png"):
        evaluate(JUDGE, dataset)


def test_the_evaluation_says_what_was_judged_by_what(tmp_path: Path) -> None:
    dataset = mixed(tmp_path)
    first, again = (evaluate(JUDGE, dataset).to_json() for _ in range(2))
    assert first == again
    assert first["bundle_sha256"] == JUDGE.bundle_sha256
    assert first["timings_ms"]["total"] == {"median": 3.0, "p99": 3.0}
    write_picture(tmp_path / "g1.png", 11)
    assert evaluate(JUDGE, dataset).to_json()["data_fingerprint"] != first["data_fingerprint"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the command with the fake judge in place of a bundle."""
    module = ModuleType("gonogo.inspector")
    module.Inspector = SimpleNamespace(load=lambda _path: JUDGE)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gonogo.inspector", module)
    app = typer.Typer()
    app.command()(evaluate_command)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_prints_one_json_object_and_writes_the_report(run: Callable[..., Any], tmp_path: Path) -> None:
    mixed(tmp_path / "data")
    result = run("tile.inspector", tmp_path / "data", "--json", "--report", tmp_path / "out" / "report.html")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"parts", "auroc", "average_precision", "pointing_game", "pointing_game_centre"} <= set(found)
    for rate in ("escape_rate", "overkill_rate", "review_rate"):
        assert {rate, f"{rate}_low", f"{rate}_high"} <= set(found)
    assert "report.html" in result.stderr
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_the_command_prints_a_table_for_people(run: Callable[..., Any], tmp_path: Path) -> None:
    mixed(tmp_path)
    result = run("tile.inspector", tmp_path)
    assert result.exit_code == 0, result.output
    assert "bad parts passed" in result.stdout
    assert "1 of 5" in result.stdout


def test_the_command_refuses_a_split_that_does_not_exist(run: Callable[..., Any], tmp_path: Path) -> None:
    mixed(tmp_path)
    result = run("tile.inspector", tmp_path, "--split", "holdout")
    assert result.exit_code == 2
    assert "holdout" in result.output

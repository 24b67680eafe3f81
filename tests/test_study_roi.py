from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import run
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.evaluate import Rate, auroc
from gonogo.model import IMAGENET
from gonogo.schema import Label, Prediction, State
from study_roi import QUICK, Stage, Weights, region_study, study
from study_roi.__main__ import main
from study_roi.heads import HeadRow, HeadStudy, MarginRow
from study_roi.pieces import Pieces
from study_roi.pipeline import PipelineRow, area_with_interval
from study_roi.shots import Shot
from study_roi.unseen import Fold, PhotoRow, UnseenRow, of_other_types

WEIGHTS = Weights(file="weights.safetensors", normalisation=IMAGENET)
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SHOT = Shot(picture=PIXEL, caption="a chip")
ROW_KEYS = {"head", "loss", "labels", "iou", "share_above_095", "missed_of_picture", "missed_of_truth"}


def head_row(labels: int) -> HeadRow:
    return HeadRow(
        head="edges",
        loss="giou",
        labels=labels,
        seeds=1,
        iou=0.9714,
        iou_spread=0.0,
        share_above_095=0.8,
        missed_of_picture=1e-4,
        missed_of_truth=1e-3,
        excess_of_truth=0.2,
    )


MARGIN = MarginRow(
    seed=0,
    labels=300,
    miss_rate=0.01,
    calibration_parts=120,
    margin=0.04,
    whole_inside=Rate(count=99, of=100),
    excess_of_truth=0.17,
    whole_inside_fixed=Rate(count=100, of=100),
    excess_of_truth_fixed=0.21,
)


def judged(scores: dict[str, float | None], region: str = "none") -> PipelineRow:
    """Parts named ``b...`` are bad; no score is a fault."""
    pictures = tuple(
        Prediction(
            file=f"{name}.jpg",
            part=name,
            label=Label.BAD if name.startswith("b") else Label.GOOD,
            defect=None,
            state=State.FAULT if score is None else State.REVIEW,
            score=score,
        )
        for name, score in scores.items()
    )
    return PipelineRow(region=region, pictures=pictures)


# --- pieces


def test_a_finished_piece_is_not_made_again_and_reads_back_equal(tmp_path: Path) -> None:
    def must_not() -> Any:
        raise AssertionError("made again")

    made = Pieces(tmp_path, {"parts": 3})
    found = made.once("row", PipelineRow, lambda: judged({"b1": 2.0, "g1": None}))
    again = Pieces(tmp_path, {"parts": 3})
    assert again.once("row", PipelineRow, must_not) == found
    assert again.known("another", PipelineRow) is None


def test_pieces_of_another_study_are_not_mixed_in(tmp_path: Path) -> None:
    Pieces(tmp_path, {"parts": 3, "seeds": 1})
    with pytest.raises(InputError, match=r"other settings \(parts\).*--overwrite"):
        Pieces(tmp_path, {"parts": 4, "seeds": 1})


def test_a_damaged_piece_is_refused_by_name(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path, {})
    (tmp_path / "row.json").write_text('{"region": 3}')
    with pytest.raises(InputError, match=r"row\.json.*Remove the file"):
        pieces.known("row", PipelineRow)


def test_a_piece_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        raise KeyboardInterrupt

    pieces = Pieces(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        pieces.once("row", PipelineRow, broken)
    assert not (tmp_path / "row.json").exists()


# --- the figures of a pipeline


def test_the_plain_rule_calls_bad_from_zero_and_never_passes_what_was_not_found() -> None:
    row = judged({"b1": 0.0, "b2": -0.5, "b3": None, "g1": -1.0, "g2": 1.0, "g3": None})
    assert (row.recall.count, row.recall.of) == (2, 3)
    assert (row.escape.count, row.escape.of) == (1, 3)
    assert (row.overkill.count, row.overkill.of) == (1, 3)
    assert (row.precision.count, row.precision.of) == (1, 2)
    assert (row.judged.fault.count, row.judged.fault.of) == (2, 6)


@pytest.mark.slow
def test_the_area_is_that_of_every_other_report_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        good, bad = rng.normal(0, 1, 40), rng.normal(1, 1, 30)
        row = judged({f"b{n}": float(s) for n, s in enumerate(bad)} | {f"g{n}": float(s) for n, s in enumerate(good)})
        assert row.auroc is not None
        area, low, high = row.auroc
        assert area == pytest.approx(auroc(good, bad))
        covered += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert 178 <= covered <= 199


def test_a_gain_is_counted_on_the_parts_that_both_could_judge() -> None:
    before = judged({"b1": 1.0, "b2": 0.0, "g1": 0.5, "g2": 2.0, "g3": -1.0})
    after = judged({"b1": 3.0, "b2": 2.0, "g1": 0.5, "g2": 1.0, "g3": None}, "DL + DL")
    gain = after.gain_over(before)
    assert gain is not None
    assert gain[0] == pytest.approx(1.0 - 0.25)
    same = before.gain_over(before)
    assert same is not None
    assert same == pytest.approx((0.0, 0.0, 0.0))
    assert judged({"b1": 1.0, "g1": None}).auroc is None
    assert judged({"b1": 1.0, "g1": None}).gain_over(before) is None


def test_one_part_of_a_kind_says_nothing_about_the_spread() -> None:
    wins = np.array([1.0]), np.array([1.0, 1.0])
    assert area_with_interval(wins) == (1.0, 0.0, 1.0)
    assert area_with_interval(wins, least=-1.0) == (1.0, -1.0, 1.0)


# --- the study


@pytest.fixture
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages without their hours of work; the names of those that ran."""
    ran: list[str] = []

    def heads(*_: object, **__: object) -> HeadStudy:
        ran.append("heads")
        return HeadStudy(rows=[head_row(100)], shipped=head_row(300), margins=[MARGIN])

    def pipelines(_: object) -> study.PipelineStudy:
        ran.append("pipelines")
        scores = {"b1": 1.0, "b2": -0.2, "g1": -1.0, "g2": 0.3}
        rows = (judged(scores), judged(scores | {"g2": None}, "CV + DL"), judged(scores | {"b2": 2.0}, "DL + DL"))
        return study.PipelineStudy(rows=rows, shots=(SHOT,) * 3, steps=PIXEL)

    def left_out(_data: object, _options: object, board: str, **__: object) -> UnseenRow:
        ran.append(f"unseen {board}")
        return UnseenRow(
            board=board,
            labels=300,
            pictures=20,
            old_recipe=0.2,
            retuned_recipe=0.8,
            learned=0.7,
            learned_found=17,
            learned_seen=0.9,
            shots=(SHOT,) * 3,
        )

    class Folded:
        def __init__(self, *_: object) -> None: ...

        def try_fold(self, number: int, *_: object, **__: object) -> Fold:
            ran.append(f"fold {number}")
            return Fold(
                training=70, learned=(0.9, 0.8), learned_found=2, classical=(0.5, 0.0), classical_found=1, shots=(SHOT,)
            )

    monkeypatch.setattr(study, "compare_heads", heads)
    monkeypatch.setattr(study._Bench, "_pipelines", pipelines)
    monkeypatch.setattr(study, "leave_out", left_out)
    monkeypatch.setattr(study, "Photographs", Folded)
    monkeypatch.setattr(study, "write_dataset", lambda *_, **__: study.Dataset(root=Path(), samples=()))
    monkeypatch.setattr(study.Dataset, "read", lambda _: None)
    return ran


def test_a_study_runs_what_is_missing_and_shows_all_that_is_there(tmp_path: Path, quick_stages: list[str]) -> None:
    extent = replace(QUICK, boards=2, folds=2)
    region_study(tmp_path, extent, WEIGHTS, stages=[Stage.UNSEEN])
    assert quick_stages == [f"unseen {board}" for board in list(study.BoardType)[:2]]
    first = json.loads((tmp_path / "roi.json").read_text())
    assert (len(first["unseen"]), first["rows"], first["photographs"]) == (2, [], None)
    page = (tmp_path / "roi.html").read_text()
    assert "nobody taught" in page
    assert "Heads and losses" not in page

    quick_stages.clear()
    region_study(tmp_path, extent, WEIGHTS, photos=tmp_path)
    assert quick_stages == ["heads", "pipelines", "fold 0", "fold 1"]
    whole = json.loads((tmp_path / "roi.json").read_text())
    assert set(whole["rows"][0]) > ROW_KEYS | {"excess_of_truth"}
    assert whole["unseen"] == first["unseen"]
    assert whole["pipelines"][2]["recall"] == 1.0
    assert [gain["region"] for gain in whole["gains"]] == ["CV + DL", "DL + DL"]
    assert whole["photographs"]["learned_iou"] == pytest.approx(0.85)
    assert whole["photographs"]["most_training"] == 70
    page = (tmp_path / "roi.html").read_text()
    for told in ("Heads and losses", "help the verdict", "nobody taught", "Real photographs", "step by step", "0.971"):
        assert told in page

    quick_stages.clear()
    region_study(tmp_path, extent, WEIGHTS, photos=tmp_path)
    assert quick_stages == []
    region_study(tmp_path, extent, Weights(), stages=[Stage.HEADS], overwrite=True)
    assert quick_stages == ["heads"]


def test_a_stage_broken_off_keeps_its_finished_part(
    tmp_path: Path, quick_stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extent, whole = replace(QUICK, boards=2), study.leave_out

    def broken(*given: Any, **named: Any) -> UnseenRow:
        if len(quick_stages) == 1:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(study, "leave_out", broken)
    with pytest.raises(KeyboardInterrupt):
        region_study(tmp_path, extent, Weights(), stages=[Stage.UNSEEN])
    monkeypatch.setattr(study, "leave_out", whole)
    region_study(tmp_path, extent, Weights(), stages=[Stage.UNSEEN])
    assert len(quick_stages) == 2
    assert len(set(quick_stages)) == 2


def test_nothing_of_a_type_left_out_teaches_not_even_its_empty_boards(tmp_path: Path) -> None:
    samples = [
        Sample(
            file_name=f"{board}-{number}.png",
            split=Split.TRAIN if present else None,
            present=present,
            box_xyxy=(1, 1, 5, 5) if present else None,
            board=board,
        )
        for board in ("radio", "power")
        for number, present in enumerate((True, True, True, False, False))
    ]
    others = of_other_types(Dataset(root=tmp_path, samples=tuple(samples)), "radio", labels=2, seed=0)
    assert {sample.file_name.partition("-")[0] for sample in others.samples} == {"power"}
    assert len(others.split(Split.TRAIN)) == 2
    assert len(others.without_part(training=True)) == 1


def test_photographs_are_only_run_where_there_are_some(tmp_path: Path, quick_stages: list[str]) -> None:
    with pytest.raises(InputError, match="--photos DATASET"):
        region_study(tmp_path / "out", QUICK, Weights(), stages=[Stage.PHOTOGRAPHS])
    assert not (tmp_path / "out").exists()
    region_study(tmp_path / "out", QUICK, Weights())
    assert "fold 0" not in quick_stages


def test_the_folds_are_pooled_over_photographs() -> None:
    folds = (
        Fold(training=70, learned=(1.0,), learned_found=1, classical=(0.0,), classical_found=0),
        Fold(training=71, learned=(0.4, 0.4), learned_found=2, classical=(0.3, 0.3), classical_found=2),
    )
    row = PhotoRow(folds=folds)
    assert row.learned.mean_iou == pytest.approx(0.6)
    assert (row.most_training, row.classical.found) == (71, 2)
    assert row.to_json()["learned_iou_of_folds"] == pytest.approx([1.0, 0.4])


def test_the_command_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for given, told in (
        (["--out", str(tmp_path / "file")], "found a file"),
        (["--out", str(tmp_path / "new"), "--stage", "photographs"], "--photos"),
        (["--out", str(tmp_path / "new"), "--stage", "nothing"], "heads"),
    ):
        monkeypatch.setattr("sys.argv", ["study_roi", *given])
        with pytest.raises(SystemExit) as end:
            run(main)
        assert end.value.code == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()

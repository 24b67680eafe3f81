"""The renderer of circuit boards: repeatable, exact and fair."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer import Typer
from typer.testing import CliRunner

from gonogo.cli.synth import synth_command
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.schema import Box, Frame, Label
from gonogo.synthetic import BoardType, ChipType, Defect, Mix, render_scene, render_with, write_dataset, writer

SMALL = (160, 120)
PROBE_WH = (96, 72)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Enough small pictures for a chance AUROC to stay within 0.05 of a half (its standard error is 0.028)."""
    return write_dataset(tmp_path_factory.mktemp("series") / "boards", 450, seed=11, size_wh=PROBE_WH, workers=2)


@pytest.fixture(scope="module")
def judged(series: Dataset) -> list[tuple[Frame, Box, bool]]:
    """Frame, box and whether it is bad, for every picture with one chip."""
    samples = [sample for sample in series.samples if sample.label is not None]
    return [(series.load(sample), _box(sample), sample.label is Label.BAD) for sample in samples]


def _box(sample: Sample) -> Box:
    assert sample.box is not None
    return sample.box


def _auroc(features: list[np.ndarray], bad: np.ndarray) -> float:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    scores = cross_val_predict(probe, np.stack(features), bad, cv=5, method="decision_function")
    return float(roc_auc_score(bad, scores))


def _edge_energy(frame: Frame) -> np.ndarray:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    overall = [edges.mean(), edges.std(), (edges**2).mean(), *np.percentile(edges, [50, 75, 90, 95, 99])]
    return np.concatenate([overall, cv2.resize(edges, (4, 4), interpolation=cv2.INTER_AREA).ravel()])


def _without_chip(frame: Frame, box: Box) -> Frame:
    """The frame with the chip and its shadow painted over."""
    margin = 0.06 * frame.shape[1]
    (x1, y1), (x2, y2) = np.maximum((box.x1 - margin, box.y1 - margin), 0), (box.x2 + margin, box.y2 + margin)
    hidden = frame.copy()
    hidden[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 128
    return hidden


def test_one_seed_and_part_give_one_picture_whatever_was_rendered_before() -> None:
    first = render_scene(7, seed=3, size_wh=SMALL)
    render_scene(8, seed=3, size_wh=SMALL)
    again = render_scene(7, seed=3, size_wh=SMALL)
    assert first.jpeg == again.jpeg
    assert (first.box, first.quad, first.label, first.defect) == (again.box, again.quad, again.label, again.defect)
    assert render_scene(7, seed=4, size_wh=SMALL).jpeg != first.jpeg


@pytest.mark.slow
def test_the_pictures_depend_neither_on_workers_nor_on_how_many_are_asked_for(series: Dataset) -> None:
    for index in (0, 8, 311, 449):
        alone = render_scene(index, seed=11, size_wh=PROBE_WH)
        sample = series.samples[index]
        assert series.path(sample).read_bytes() == alone.jpeg
        mask = series.load_mask(sample, (PROBE_WH[1], PROBE_WH[0]))
        assert (mask is None) == (alone.mask is None)
        if mask is not None:
            np.testing.assert_array_equal(mask, alone.mask)


@pytest.mark.slow
def test_a_probe_that_sees_only_the_background_is_at_chance(judged: list[tuple[Frame, Box, bool]]) -> None:
    hidden = [_without_chip(frame, box) for frame, box, _ in judged]
    coarse = [cv2.resize(frame, (12, 9), interpolation=cv2.INTER_AREA).ravel() for frame in hidden]
    features = [np.concatenate([small, _edge_energy(frame)]) for small, frame in zip(coarse, hidden, strict=True)]
    assert 0.45 <= _auroc(features, np.array([bad for *_, bad in judged])) <= 0.55


@pytest.mark.slow
def test_a_probe_on_shuffled_labels_is_at_chance(judged: list[tuple[Frame, Box, bool]]) -> None:
    shuffled = np.random.default_rng(1).permutation([bad for *_, bad in judged])
    assert 0.45 <= _auroc([_edge_energy(frame) for frame, *_ in judged], shuffled) <= 0.55


@pytest.mark.slow
@pytest.mark.parametrize("closer", [False, True])
def test_edge_energy_does_not_give_the_label_away(judged: list[tuple[Frame, Box, bool]], closer: bool) -> None:
    frames = [
        frame[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] if closer else frame for frame, box, _ in judged
    ]
    assert _auroc([_edge_energy(frame) for frame in frames], np.array([bad for *_, bad in judged])) < 0.80


@pytest.mark.parametrize("defect", list(Defect))
@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_the_mask_is_where_the_defect_changed_the_picture(defect: Defect, difficulty: float) -> None:
    size_wh = (320, 240)
    good, bad = (
        render_with(17, defect=kind, seed=5, difficulty=difficulty, size_wh=size_wh) for kind in (None, defect)
    )
    assert good.mask is None
    assert bad.mask is not None
    assert bad.mask.any()
    assert (good.box, good.quad, good.board, good.chip) == (bad.box, bad.quad, bad.board, bad.chip)
    change = np.abs(good.frame.astype(int) - bad.frame).max(axis=2)
    near = cv2.dilate(bad.mask.astype(np.uint8), np.ones((33, 33), np.uint8)) > 0  # a JPEG block pair around it
    assert np.percentile(change[~near], 99.9) <= 3
    assert change[bad.mask].mean() > 4
    assert bad.box is not None
    rows, columns = np.nonzero(bad.mask)
    roomy = bad.box.expanded(12, 12, 12, 12)
    assert roomy.x1 <= columns.min() <= columns.max() <= roomy.x2
    assert roomy.y1 <= rows.min() <= rows.max() <= roomy.y2


@pytest.mark.parametrize("chip", list(ChipType))
def test_the_box_is_tight_around_the_chip(chip: ChipType) -> None:
    mix = Mix(chips=(chip,), boards=(BoardType.CONTROLLER,))
    with_chip, without = (
        render_with(3, defect=None, chips=chips, seed=2, difficulty=0.3, size_wh=(320, 240), mix=mix)
        for chips in (1, 0)
    )
    assert with_chip.box is not None
    assert without.box is None
    changed = np.abs(with_chip.frame.astype(int) - without.frame).max(axis=2) > 30
    x1, y1, x2, y2 = (round(value) for value in with_chip.box.xyxy)
    for edge in (changed[y1:y2, x1 : x1 + 4], changed[y1:y2, x2 - 4 : x2]):
        assert edge.any()
    for edge in (changed[y1 : y1 + 4, x1:x2], changed[y2 - 4 : y2, x1:x2]):
        assert edge.any()
    outside = changed.copy()
    outside[y1 - 14 : y2 + 14, x1 - 14 : x2 + 14] = False  # its shadow falls on the board
    assert outside.mean() < 0.002


@pytest.mark.parametrize("size_wh", [(64, 64), (200, 96), (101, 131)])
def test_the_chip_stays_in_the_picture_at_any_size_and_difficulty(size_wh: tuple[int, int]) -> None:
    for index in range(4):
        rendering = render_with(index, defect=None, difficulty=index / 3, size_wh=size_wh)
        assert rendering.frame.shape == (size_wh[1], size_wh[0], 3)
        assert rendering.box is not None
        x1, y1, x2, y2 = rendering.box.xyxy
        assert 0 <= x1 < x2 <= size_wh[0]
        assert 0 <= y1 < y2 <= size_wh[1]
        assert rendering.box.area > 0.04 * size_wh[0] * size_wh[1]


@pytest.mark.slow
def test_difficulty_makes_defects_smaller() -> None:
    def mask_share(difficulty: float) -> float:
        masks = [
            render_with(index, defect=defect, difficulty=difficulty, size_wh=SMALL).mask
            for index, defect in enumerate(Defect)
        ]
        return float(np.mean([mask.mean() for mask in masks if mask is not None]))

    assert mask_share(0.0) > 1.5 * mask_share(0.5) > 2 * mask_share(1.0)


@pytest.mark.slow
def test_boards_without_a_chip_or_with_two_are_kept_out_of_training(series: Dataset) -> None:
    odd = [sample for sample in series.samples if (sample.model_extra or {})["chips"] != 1]
    assert {(sample.model_extra or {})["chips"] for sample in odd} == {0, 2}
    for sample in odd:
        kept_out = (sample.label, sample.box_xyxy, sample.quad, sample.split, sample.mask_file_name)
        assert kept_out == (None,) * 5
    assert 0.01 < len(odd) / len(series.samples) < 0.08


@pytest.mark.slow
def test_splits_hold_whole_lots_in_the_promised_shares(series: Dataset) -> None:
    splits: dict[str | None, set[Split]] = {}
    labelled = [sample for sample in series.samples if sample.label is not None]
    for sample in labelled:
        assert sample.split is not None
        splits.setdefault(sample.lot, set()).add(sample.split)
    assert all(len(where) == 1 for where in splits.values())
    for split, share in ((Split.TRAIN, 0.5), (Split.VAL, 0.1), (Split.CALIBRATE, 0.25), (Split.TEST, 0.15)):
        members = series.split(split)
        assert len(members) / len(labelled) == pytest.approx(share, abs=0.06)
    for split in (Split.TRAIN, Split.CALIBRATE):
        assert {sample.defect for sample in series.split(split)} == {None, *map(str, Defect)}


@pytest.mark.slow
def test_every_record_names_its_board_and_chip(series: Dataset) -> None:
    columns = [sample.model_extra or {} for sample in series.samples]
    assert {column["board"] for column in columns} == set(map(str, BoardType))
    assert {column["chip"] for column in columns} == set(map(str, ChipType))


@pytest.mark.slow
def test_a_mix_leaves_only_what_was_asked_for() -> None:
    mix = Mix(bad=1, without_chip=0, with_two_chips=0, defects=(Defect.STAIN,), boards=(BoardType.RADIO,))
    renderings = [render_scene(index, size_wh=(64, 64), mix=mix) for index in range(5)]
    assert {(each.board, each.defect, each.label) for each in renderings} == {
        (BoardType.RADIO, Defect.STAIN, Label.BAD)
    }


@pytest.mark.slow
def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(part_index: int, **options: object) -> object:
        if part_index == 5:
            raise KeyboardInterrupt
        return render_scene(part_index, size_wh=(64, 64))

    monkeypatch.setattr(writer, "render_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "boards", 10)
    assert list(tmp_path.iterdir()) == []


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="difficulty from 0"):
        render_scene(0, difficulty=1.2)
    with pytest.raises(InputError, match="64 x 64"):
        render_scene(0, size_wh=(640, 20))
    with pytest.raises(InputError, match="defect only on a single one"):
        render_with(0, defect=Defect.CRACK, chips=2)
    with pytest.raises(InputError, match="shares from 0 to 1"):
        Mix(without_chip=0.7, with_two_chips=0.7)
    with pytest.raises(InputError, match="at least one part"):
        write_dataset(tmp_path / "boards", 0)


def _command(*arguments: object) -> object:
    app = Typer()
    app.command()(synth_command)
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.slow
def test_the_command_writes_a_data_set_and_a_contact_sheet(tmp_path: Path) -> None:
    _command("--parts", 6, "--size", "96x72", "--out", tmp_path / "boards", "--workers", 1, "--chip", "qfp48")
    dataset = Dataset.read(tmp_path / "boards")
    assert len(dataset.samples) == 6
    assert all((sample.model_extra or {})["chip"] == "qfp48" for sample in dataset.samples)
    _command("--sheet", tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_the_command_refuses_what_it_cannot_render(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for arguments, message in (
        (("--out", tmp_path / "x", "--size", "640"), "WIDTHxHEIGHT"),
        (("--out", tmp_path / "x", "--board", "cake"), "--board: expected one of controller"),
        (("--out", tmp_path / "x", "--sheet", tmp_path / "y"), "found both"),
        ((), "found neither"),
        (("--out", tmp_path / "taken", "--parts", 1), "already exists"),
    ):
        with pytest.raises(InputError, match=message):
            _command(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

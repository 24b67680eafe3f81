"""Studies over topology, initialisation and augmentation: what a cell does, and that none is lost or doubled."""

from __future__ import annotations

import csv
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError, InputError
from gonogo.experiment import (
    FULL,
    REDUCED,
    Approach,
    Cell,
    Initialisation,
    Protocol,
    Row,
    Study,
    StudyData,
    differences,
    loop,
    reductions,
    run_cell,
    session,
    tracking,
    write_tables,
)
from gonogo.experiment import data as data_module
from gonogo.experiment.cell import Counts, Epoch, Measured, Timing
from gonogo.experiment.claims import claimed
from gonogo.experiment.comparing import half_width
from gonogo.experiment.tables import flat
from gonogo.model import load_backbone
from gonogo.roi import FixedConfig, FixedRoi
from gonogo.schema import Label
from lines import add
from tests import command_kit as kit

QUICK = Protocol(epochs=2, batch=6)


def parts(root: Path, per_kind: int = 15, *, boxes: bool = False) -> Dataset:
    """Good and spotted parts, each its own group, so that nothing is searched for near-duplicates."""
    made = add(
        Dataset(root=root, samples=()),
        {(Split.TRAIN, "good"): per_kind, (Split.TRAIN, "spot"): per_kind},
        np.random.default_rng(2),
    )
    samples = tuple(
        sample.model_copy(update={"group": number, "box_xyxy": (8.0, 8.0, 80.0, 56.0) if boxes else None})
        for number, sample in enumerate(made.samples)
    )
    found = replace(made, samples=samples)
    found.write()
    return found


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts(tmp_path_factory.mktemp("plates")).root


@pytest.fixture(scope="module")
def data(plates: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return StudyData.read(plates, tmp_path_factory.mktemp("regions"))


def cell(seed: int = 0, **options: object) -> Cell:
    plain = Cell(
        topology="squeezenet1_1",
        initialisation=Initialisation.RANDOM,
        augmentation=Augmentation(crops=1, rotations=2),
        seed=seed,
        side_px=64,
        protocol=QUICK,
        latency_runs=0,
    )
    return replace(plain, **options)  # type: ignore[arg-type]


def fake_row(one: Cell, *, found: int = 4, auroc: float | None = 0.75) -> Row:
    measured = Measured(
        counts=Counts(bad_found=found, bad_missed=5 - found, good_passed=4, good_stopped=1),
        auroc=auroc,
        history=(Epoch(train_loss=0.7, val_loss=0.65), Epoch(train_loss=0.6, val_loss=float("inf"))),
        best_epoch=1,
        pictures=(24, 3, 10),
        whole=0,
        normalisation="ImageNet",
        parameters=723_000,
        size_mb=2.9,
    )
    return Row(cell=one, measured=measured, timing=Timing(seconds=2.0, torch_ms=3.0, openvino_ms=1.5))


def results(study: Study) -> list[tuple[Cell, Measured | None, str]]:
    return [(row.cell, row.measured, row.empty_because) for row in study.rows()]


@pytest.mark.slow
def test_a_study_that_was_killed_in_the_middle_of_a_cell_resumes_with_identical_rows(
    data: StudyData, tmp_path: Path
) -> None:
    cells = [cell(0), cell(1)]
    whole = Study.open(tmp_path / "whole", data)
    for _ in whole.run(cells, lambda each: run_cell(each, data)):
        pass
    torn = Study.open(tmp_path / "torn", data)
    child = multiprocessing.get_context("fork").Process(target=_killed_in_the_second_cell, args=(torn, cells, data))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert [row.cell for row in torn.rows()] == cells[:1]
    ran: list[Cell] = []
    steps = list(torn.run(cells, lambda each: (ran.append(each), run_cell(each, data))[1]))
    assert ran == cells[1:], "the finished cell is not run again, the torn one is"
    assert [(step.done, step.of) for step in steps] == [(2, 2)]
    assert results(torn) == results(whole)
    assert not list(torn.run(cells, lambda each: pytest.fail("nothing is left")))


def _killed_in_the_second_cell(study: Study, cells: list[Cell], data: StudyData) -> None:
    torch.set_num_threads(1)
    epochs = 0
    judge = loop.scores_of

    def killed(*args: object) -> object:
        nonlocal epochs
        epochs += 1
        if epochs == QUICK.epochs + 2:  # after the first epoch of the second cell
            os.kill(os.getpid(), signal.SIGKILL)
        return judge(*args)  # type: ignore[arg-type]

    loop.scores_of = killed  # type: ignore[assignment]
    for _ in study.run(cells, lambda each: run_cell(each, data)):
        pass


def test_a_cell_of_another_process_is_waited_for_and_run_once_if_that_one_dies(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, cells, ran = Study.open(tmp_path / "study", data), [cell(0), cell(1)], list[Cell]()
    monkeypatch.setattr("gonogo.experiment.study.POLL_S", 0.0)

    def run(each: Cell) -> Row:
        ran.append(each)
        return fake_row(each)

    with claimed(study.folder / "cells" / f".{cells[0].key}.lock"):
        steps = study.run(cells, run)
        first, second = next(steps), next(steps)
        assert first.row is not None
        assert first.row.cell == cells[1]
        assert second.row is None, "the other process has the rest"
        assert ran == [cells[1]]
    rest = [step.row for step in steps if step.row is not None]
    assert [row.cell for row in rest] == [cells[0]]
    assert sorted(ran, key=lambda each: each.seed) == cells


def test_splits_are_80_10_10_of_unique_parts_and_no_part_straddles(tmp_path: Path) -> None:
    single = parts(tmp_path / "set", per_kind=20)
    twice = [
        sample.model_copy(update={"file_name": f"again/{number}.png"}) for number, sample in enumerate(single.samples)
    ]
    (tmp_path / "set/again").mkdir()
    for old, new in zip(single.samples, twice, strict=True):
        (tmp_path / "set" / new.file_name).write_bytes(single.path(old).read_bytes())
    replace(single, samples=(*single.samples, *twice)).write()
    data = StudyData.read(tmp_path / "set", tmp_path / "regions")
    for seed in range(3):
        split = data.split(Protocol(), seed)
        sizes = [len(split.split(each)) for each in (Split.TRAIN, Split.VAL, Split.TEST)]
        assert sizes == [64, 8, 8]
        homes: dict[int | None, set[Split | None]] = {}
        for sample in split.samples:
            homes.setdefault(sample.group, set()).add(sample.split)
        assert all(len(each) == 1 for each in homes.values())
    assert data.split(Protocol(), 0) == data.split(Protocol(), 0)
    assert data.split(Protocol(), 0) != data.split(Protocol(), 1)


@pytest.mark.slow
def test_training_is_nesterov_sgd_and_keeps_the_epoch_of_the_lowest_val_loss(
    data: StudyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    plain = torch.optim.SGD

    def recorded(parameters: object, **options: object) -> torch.optim.SGD:
        asked.update(options)
        return plain(parameters, **options)  # type: ignore[arg-type]

    losses, states = iter([0.9, 0.5, 0.7]), list[dict[str, torch.Tensor]]()
    judge = loop.scores_of

    def seen(network: torch.nn.Module, pictures: np.ndarray) -> np.ndarray:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return judge(network, pictures)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(torch.optim, "SGD", recorded)
    monkeypatch.setattr(loop, "scores_of", seen)
    monkeypatch.setattr(loop, "cross_entropy", lambda *_: next(losses))
    network = load_network()
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (13, 64, 64, 3), np.uint8)
    found = loop.train_network(
        network, views, np.arange(13) % 2, views[:4], np.arange(4) % 2, replace(QUICK, epochs=3), seed=0
    )
    assert asked == {"lr": 1e-3, "momentum": 0.9, "nesterov": True}
    assert (Protocol().batch, Protocol().epochs, Protocol().learning_rate) == (12, 24, 1e-3)
    assert found.best_epoch == 2
    assert [epoch.val_loss for epoch in found.history] == [0.9, 0.5, 0.7]
    kept = network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in states[1].items())
    assert not all(torch.equal(kept[name], value) for name, value in states[2].items())
    assert [len(each) for each in loop.batches(np.arange(13), 6)] == [6, 7], "no batch of one"


def load_network() -> "loop.Network":
    from gonogo.model import IMAGENET, FeatureNetwork, MapHead, Network, Pool

    torch.manual_seed(0)
    stack = load_backbone("squeezenet1_1", weights="none")
    return Network(FeatureNetwork(stack, IMAGENET), MapHead(512, Pool.MEAN))


@pytest.mark.slow
def test_a_row_without_weights_says_why_and_a_file_fills_it(data: StudyData, tmp_path: Path) -> None:
    study, asked = Study.open(tmp_path / "study", data), cell(initialisation=Initialisation.PRETRAINED)
    (step,) = study.run([asked], lambda each: run_cell(each, data))
    assert step.row is not None
    assert step.row.measured is None
    assert "--weights squeezenet1_1=FILE" in step.row.empty_because
    write_tables(study.rows(), study.folder, data_name="plates")
    assert "Empty: no pretrained weights of squeezenet1_1" in (study.folder / "report.html").read_text()
    body = load_backbone("squeezenet1_1", weights="none").body
    safetensors.torch.save_file(body.state_dict(), tmp_path / "own.safetensors")
    filled = replace(asked, weights=str(tmp_path / "own.safetensors"), weights_id="ab" * 32)
    list(study.run([filled], lambda each: run_cell(each, data)))
    (row,) = study.rows()
    assert row.cell == filled
    assert row.measured is not None
    assert row.measured.normalisation in ("ImageNet", "[-1, 1]")


@pytest.mark.slow
def test_regions_are_found_once_per_seed_and_a_lost_part_is_shown_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = parts(tmp_path / "set", boxes=True).root
    data, calls = StudyData.read(root, tmp_path / "regions"), []

    def search(approach: Approach, dataset: Dataset, *_: object) -> FixedRoi:
        calls.append((approach, len(dataset.split(Split.TEST))))
        return FixedRoi(FixedConfig(box_xyxy=(10.0, 6.0, 60.0, 50.0)))

    monkeypatch.setattr(data_module, "_search", search)
    found = data.regions(Approach.CV, QUICK, 0)
    assert found == data.regions(Approach.CV, QUICK, 0)
    assert len(calls) == 1
    assert found.by_name is not None
    assert len(found.by_name) == 30
    assert found.whole == 0
    row = run_cell(cell(approach=Approach.CV), data)
    assert row.measured is not None
    assert row.measured.counts.parts == row.measured.pictures[2]


def test_the_key_depends_on_every_option_but_not_on_the_name_of_the_weights() -> None:
    plain = cell()
    changed = [
        cell(1),
        cell(side_px=96),
        cell(approach=Approach.CV),
        cell(initialisation=Initialisation.PRETRAINED),
        cell(protocol=replace(QUICK, learning_rate=1e-2)),
        cell(augmentation=Augmentation(crops=1, rotations=2, flips=True)),
        cell(weights_id="ab"),
    ]
    assert len({each.key for each in [plain, *changed]}) == 8
    assert replace(plain, weights="elsewhere/file").key == plain.key


def test_rows_say_what_they_were_reduced_by() -> None:
    reduced = cell(protocol=REDUCED.protocol, augmentation=REDUCED.augmentation, side_px=128)
    assert reductions(reduced) == ["128 px instead of 224", "8 epochs instead of 24", "2 x 2 views instead of 2 x 4"]
    full = cell(protocol=FULL.protocol, augmentation=FULL.augmentation, side_px=FULL.side_px("squeezenet1_1"))
    assert reductions(full) == []
    assert FULL.side_px("inception_v3") == 299
    assert REDUCED.side_px("squeezenet1_1") == 128


def test_differences_are_paired_by_seed_with_the_interval_of_overlapping_splits() -> None:
    rows = [
        fake_row(cell(seed, initialisation=start), found=4 if start is Initialisation.PRETRAINED else 2 + seed % 2)
        for seed in range(4)
        for start in Initialisation
    ]
    lonely = fake_row(cell(9, initialisation=Initialisation.PRETRAINED), found=0)
    accuracy, auroc = differences([*rows, lonely])
    gains = np.array([0.2, 0.1, 0.2, 0.1])
    assert accuracy.where == "squeezenet1_1, none, 1x2"
    assert accuracy.seeds == 4, "a seed on one side only is left out"
    assert accuracy.difference == pytest.approx(0.15)
    half = 3.182446 * gains.std(ddof=1) * np.sqrt(1 / 4 + 0.1 / 0.8)
    assert (accuracy.low, accuracy.high) == (pytest.approx(0.15 - half, abs=1e-6), pytest.approx(0.15 + half, abs=1e-6))
    assert (auroc.difference, auroc.low) == (0.0, 0.0)
    assert half_width(np.array([0.3, 0.3]), test_share=0.1, train_share=0.8) is None
    grown = [
        fake_row(cell(seed, augmentation=Augmentation(crops=1, rotations=n)), found=n)
        for seed in (0, 1)
        for n in (1, 2, 4)
    ]
    found = [each for each in differences(grown) if each.figure == "accuracy"]
    assert [(each.value, each.baseline) for each in found] == [("1x2", "1x1"), ("1x4", "1x1")]


def test_the_tables_are_one_page_without_outside_resources_and_one_csv(data: StudyData, tmp_path: Path) -> None:
    study = Study.open(tmp_path / "study", data)
    cells = [cell(seed, augmentation=Augmentation(crops=1, rotations=n)) for seed in (0, 1) for n in (1, 4)]
    list(study.run(cells, lambda each: fake_row(each, found=1 + each.augmentation.rotations % 3)))
    write_tables(study.rows(), study.folder, data_name="<plates>", waiting=3)
    page = (study.folder / "report.html").read_text()
    assert "&lt;plates&gt;" in page
    assert "<plates>" not in page
    assert "3 still to come" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 3, "accuracy over the views, and the losses of two augmentations"
    with (study.folder / "table.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 4
    assert {"accuracy", "accuracy_low", "fnr_high", "auroc_low", "ratio", "seconds", "size_mb"} <= set(records[0])
    assert float(records[0]["ratio"]) == 2.0
    json.dumps([flat(row) for row in study.rows()], allow_nan=False)


def test_cells_go_to_mlflow_and_tensorboard_once_where_these_are_installed(
    data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, logged = Study.open(tmp_path / "study", data), list[tuple[str, str]]()
    list(study.run([cell(0), cell(1)], fake_row))
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    assert tracking.log_rows(study.folder, study.rows()) == []
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: types.SimpleNamespace())
    monkeypatch.setattr(tracking, "_to_tensorboard", lambda _, row: logged.append(("tensorboard", row.cell.key)))
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(logged))
    for _ in range(2):
        assert tracking.log_rows(study.folder, study.rows()) == ["mlflow", "tensorboard"]
    keys = [cell(0).key, cell(1).key]
    assert sorted(logged) == sorted((name, key) for name in ("mlflow", "tensorboard") for key in keys)


def fake_mlflow(logged: list[tuple[str, str]]) -> types.ModuleType:
    fake = types.ModuleType("mlflow")

    class Run:
        def __init__(self, run_name: str) -> None:
            logged.append(("mlflow", run_name))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def nothing(*_: object, **__: object) -> None: ...

    def params(found: dict[str, object]) -> None:
        assert found["topology"] == "squeezenet1_1"

    for name, value in {
        "set_tracking_uri": nothing,
        "set_experiment": nothing,
        "start_run": Run,
        "log_params": params,
        "log_metrics": nothing,
    }.items():
        setattr(fake, name, value)
    return fake


GRID = ["--topology", "squeezenet1_1", "--init", "random", "--views", "1x1", "--epochs", "1", "--side", "64"]


@pytest.mark.slow
def test_the_command_runs_a_grid_and_prints_it_as_json(plates: Path, tmp_path: Path) -> None:
    words = ["experiment", str(plates), "--out", str(tmp_path / "study"), *GRID, "--json"]
    ended = kit.run_here(words)
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)["rows"]
    assert row["approach"] == "none"
    assert row["reduced"] == "64 px instead of 224; 1 epoch instead of 24; 1 x 1 views instead of 2 x 4"
    assert row["torch_ms"] > 0
    assert row["ratio"] == pytest.approx(row["torch_ms"] / row["openvino_ms"], abs=0.01)
    assert "1/1 none squeezenet1_1 random 1x1 seed 0" in ended.err
    again = kit.run_here(words)
    assert "1 of them finished already" in again.err
    assert json.loads(again.out)["rows"] == [row], "times included: nothing is run twice"


def test_ctrl_c_says_what_is_kept_and_ends_as_interrupted(
    plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(each: Cell, *_: object, **__: object) -> Row:
        if each.seed == 1:
            raise KeyboardInterrupt
        return fake_row(each)

    monkeypatch.setattr(session, "run_cell", run)
    words = ["experiment", str(plates), "--out", str(tmp_path / "study"), *GRID, "--seeds", "3"]
    ended = kit.run_here(words)
    assert ended.code == 130
    assert "1 of 3 networks are kept" in ended.err
    assert "The same command resumes" in ended.err
    assert "2 still to come" in (tmp_path / "study/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--approach", "magic"], "--approach: expected one of cv, learned, none, found 'magic'"),
        (["--approach", "cv"], "--approach cv: needs at least 26 labelled boxes"),
        (["--topology", "resnet9"], "--topology: expected one of"),
        (["--init", "lucky"], "--init: expected one of pretrained, random"),
        (["--views", "2by4"], "--views: expected crops x rotations such as 2x4"),
        (["--views", "0x4"], "--views: expected crops x rotations such as 2x4"),
        (["--weights", "resnet50"], "--weights: expected TOPOLOGY=FILE"),
        (["--weights", "resnet50=nowhere"], "found no file nowhere"),
        (["--weights", "resnet9=nowhere"], "found 'resnet9'"),
        (["--splits", "50/10/25/15"], "expected train/val/test, such as 80/10/10"),
        (["--preset", "other"], "--preset: expected deka-mittal-2018"),
        (["--device", "cuda:77"], "torch cannot use 'cuda:77'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_trained(
    plates: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    ended = kit.run_here(["experiment", str(plates), "--out", str(tmp_path / "study"), *words])
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "study" / "study.json").exists()


def test_other_data_and_other_folders_are_refused(data: StudyData, plates: Path, tmp_path: Path) -> None:
    Study.open(tmp_path / "study", data)
    samples = Dataset.read(plates).samples
    Study.open(tmp_path / "study", data)
    moved = [sample.model_copy(update={"split": Split.TEST}) for sample in samples]
    other = replace(Dataset.read(plates), samples=tuple(moved))
    assert _read_as(other, tmp_path / "moved", plates).sha256 == data.sha256, "splits do not count"
    turned = [samples[0].model_copy(update={"label": Label.BAD}), *samples[1:]]
    changed = _read_as(replace(other, samples=tuple(turned)), tmp_path / "turned", plates)
    with pytest.raises(InputError, match="holds a study of other data"):
        Study.open(tmp_path / "study", changed)
    newer = tmp_path / "study" / "study.json"
    newer.write_text(newer.read_text("utf-8").replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="expected format 1, found 2"):
        Study.open(tmp_path / "study", data)
    newer.write_text(newer.read_text("utf-8").replace('"format": 2', '"format": 1'))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="found other files in it"):
        Study.open(tmp_path / "full", data)
    (tmp_path / "study/cells").mkdir()
    (tmp_path / "study/cells/odd.json").write_text("{}")
    with pytest.raises(InputError, match=r"odd\.json: expected a row of a study"):
        Study.open(tmp_path / "study", data).rows()
    few = replace(other, samples=samples[:4])
    with pytest.raises(DatasetError, match="at least 3 good and 3 bad pictures"):
        _read_as(few, tmp_path / "few", plates)


def _read_as(dataset: Dataset, root: Path, pictures: Path) -> StudyData:
    root.mkdir()
    (root / "images").symlink_to(pictures / "images")
    replace(dataset, root=root).write()
    return StudyData.read(root, root / "regions")


@pytest.mark.slow
def test_networks_on_a_cluster_give_the_rows_of_one_process(
    plates: Path, data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra ray")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = Study.open(tmp_path / "alone", data)
        words = ["experiment", str(plates), *GRID, "--seeds", "2", "--no-latency"]
        assert kit.run_here([*words, "--out", str(alone.folder)]).code == 0
    finally:
        torch.set_num_threads(threads)
    ended = kit.run_here([*words, "--out", str(tmp_path / "spread"), "--engine", "ray"])
    assert ended.code == 0, ended.err
    assert results(Study.open(tmp_path / "spread", data)) == results(alone)
    again = kit.run_here([*words, "--out", str(tmp_path / "spread"), "--engine", "ray"])
    assert "2 of them finished already" in " ".join(again.err.split())

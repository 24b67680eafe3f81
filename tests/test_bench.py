from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import stages
from bench.clock import take_turns
from bench.making import REFERENCE, given, make
from bench.records import Benchmark, Row
from bench.rivals import GradCam, peer
from bench.starting import measure_start
from bench.study import QUICK, fastest_as_safe, run_bench
from bench.throughput import PROCESSES, measure_throughput
from gonogo import images
from gonogo.dataset import Dataset, Split
from gonogo.errors import GonogoError, ImageError, InputError
from gonogo.inspector import Inspector


@pytest.fixture(scope="module")
def inspector(trained: Path) -> Inspector:
    return Inspector.load(trained)


@pytest.fixture(scope="module")
def photo(discs: Dataset) -> Path:
    return discs.path(discs.split(Split.TEST)[0])


@pytest.mark.slow
def test_contenders_take_turns_and_warm_up_first() -> None:
    order: list[str] = []
    found = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=5)
    assert order == ["a", "b"] * 8
    assert len(found["a"].ms) == 5
    assert found["a"].median_ms <= found["a"].p99_ms


@pytest.mark.slow
def test_the_shares_of_the_stages_add_up_to_the_judgement(inspector: Inspector, photo: Path) -> None:
    rows = stages.measure_stages(inspector, photo.read_bytes(), repeats=5)
    shares = {row.name: row.ratio for row in rows if row.table == "stages"}
    assert set(shares) == {"decode", "roi", "resize", "network", "the rest", "judgement"}
    assert shares.pop("judgement") == 1.0
    assert sum(share for share in shares.values() if share is not None) == pytest.approx(1.0)
    assert any(row.table == "drawing" for row in rows)


@pytest.mark.slow
def test_sizes_regions_and_streams_are_held_against_the_smallest(inspector: Inspector, photo: Path) -> None:
    frame = images.load_picture(photo)
    assert [row.name for row in stages.measure_regions(inspector, frame, repeats=2)] == ["1", "2", "4", "8"]
    streams = stages.measure_streams(inspector, frame, seconds=0.1, rounds=1, cores=2)
    assert [row.name for row in streams] == ["1", "2", "4"]
    assert streams[0].ratio == 1.0
    assert {row.table for row in stages.measure_batches(inspector, frame, repeats=2)} == {"batch"}


@pytest.mark.slow
def test_a_start_is_the_real_command_and_its_memory(trained: Path, photo: Path, tmp_path: Path) -> None:
    found = measure_start(trained, photo, tmp_path)
    assert 0 < found.bare_s < found.first_verdict_s < 60  # it does all that the bare script does
    assert found.rss_mb > found.bare_rss_mb > 30


@pytest.mark.slow
def test_a_command_that_fails_is_no_start(tmp_path: Path, photo: Path) -> None:
    with pytest.raises(GonogoError, match="expected a verdict"):
        measure_start(tmp_path, photo, tmp_path)


@pytest.mark.slow
def test_every_way_of_judging_many_pictures_is_measured(trained: Path, photo: Path) -> None:
    rows = measure_throughput(trained, images.load_picture(photo), seconds=1, rounds=1)
    assert PROCESSES in [row.name for row in rows]
    assert all(row.facts["pictures_per_s"] > 0 for row in rows[1:])


def test_a_benchmark_without_its_reference_says_why(
    discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise GonogoError("the exported graph differs from the trained network.")

    shutil.copytree(discs.root, tmp_path / "boards")
    (tmp_path / "chip.toml").touch()
    monkeypatch.setattr("bench.making.train_inspector", refuse)
    with pytest.raises(GonogoError, match=rf"{REFERENCE} could not be made: the exported graph differs .* --bundles"):
        make(tmp_path, QUICK.making, workers=1)


@pytest.mark.slow
def test_grad_cam_gives_the_same_map_however_far_the_gradient_runs() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (score, heat), (same_score, same_heat) = GradCam(whole=True)(picture), GradCam(whole=False)(picture)
    assert score == pytest.approx(same_score, abs=1e-5)
    assert heat.shape == (2, 2)
    assert np.allclose(heat, same_heat, atol=1e-6)


def test_a_peer_that_is_not_there_is_told_and_not_hidden(tmp_path: Path) -> None:
    assert "no environment given" in str(peer(tmp_path / "x.py", None))
    assert "no such file" in str(peer(tmp_path / "x.py", tmp_path / "python"))


def safety(name: str, review: float, certified: float | None) -> Row:
    return Row(table="safety", name=name, ratio=review, facts={"certified_escape": certified})


def test_the_headline_is_the_fastest_that_is_as_safe_not_the_fastest() -> None:
    speeds = [
        Row(table="judgement", name=name, ratio=ratio)
        for name, ratio in ((REFERENCE, 12.0), ("unsafe", 90.0), ("lazy", 80.0), ("student", 40.0))
    ]
    certified = [
        safety(REFERENCE, 0.10, 0.05),
        safety("unsafe", 0.05, None),
        safety("lazy", 0.11, 0.05),
        safety("student", 0.10, 0.05),
    ]
    found = fastest_as_safe([*speeds, *certified])
    assert found is not None
    assert found.name == "student"
    assert fastest_as_safe(speeds) is None


def test_the_figures_are_plain_json() -> None:
    row = Row(table="safety", name="x", ratio=0.1, facts={"auroc": 0.9})
    found = Benchmark(headlines={"rss_mb": None}, rows=[row], machine={"threads": "2"}).to_json()
    assert json.loads(json.dumps(found))["rows"][0]["auroc"] == 0.9
    assert found["rss_mb"] is None


def test_a_folder_without_the_reference_is_refused(tmp_path: Path, trained: Path, discs: Dataset) -> None:
    shutil.copytree(trained, tmp_path / "mine.inspector")
    with pytest.raises(InputError, match=r"resnet50-int8\.inspector, found mine"):
        given(tmp_path, discs.root)


def test_a_photo_that_no_bundle_can_judge_is_refused_before_anything_is_timed(
    tmp_path: Path, trained: Path, discs: Dataset
) -> None:
    shutil.copytree(trained, tmp_path / "bundles" / f"{REFERENCE}.inspector")
    (tmp_path / "part.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"part\.jpg"):
        run_bench(
            tmp_path / "out", QUICK, bundles=tmp_path / "bundles", dataset=discs.root, photo=tmp_path / "part.jpg"
        )

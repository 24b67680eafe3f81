from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from gonogo.augment import PLAIN, Augmentation, rotated, variant, variants
from gonogo.backbone import PACKAGES
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError, ParityError, WeightsError
from gonogo.evidence.cells import cell_targets
from gonogo.export import check_parity, export_classifier, frozen_networks, network_shift
from gonogo.model import (
    ARCHITECTURES,
    IMAGENET,
    SHARPNESS,
    FeatureNetwork,
    MapHead,
    Network,
    Pool,
    batch_norms,
    load_backbone,
    pool_map,
)
from gonogo.runtime import compile_graph
from gonogo.schema import Box, Frame, Label
from gonogo.source import SourceView, TrainingSource, labels, masked
from gonogo.train import (
    METRICS,
    FineTuning,
    LabelledCells,
    Pooled,
    balanced_loss,
    defect_maps,
    discriminants,
    fine_tune,
    fit_mean,
    fit_score,
    gather_cells,
    pooled_features,
    restore_statistics,
)
from gonogo.train.finetune import fit_scale_and_bias
from gonogo.train.head import CellLogit
from gonogo.workflow import TrainingOptions, fine_tuned, sealing, train_inspector

SIZE_WH = (64, 48)


def small_network(pool: Pool = Pool.MEAN, *, cuts: tuple[str, ...] = ("layer1",), seed: int = 0) -> Network:
    stack = load_backbone("resnet18", weights="none", cuts=cuts, seed=seed).eval()
    channels = stack(torch.zeros(1, 3, 64, 64)).shape[1]
    network = Network(FeatureNetwork(stack, IMAGENET), MapHead(channels, pool)).eval()
    torch.nn.init.normal_(network.head.conv.weight, std=0.3)
    torch.nn.init.constant_(network.head.bias, 0.7)
    return network


def pictures(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    width, height = SIZE_WH
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


INSTALLED = sorted(
    name
    for name in ARCHITECTURES
    if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name].module) is not None
)
"""Backbones whose weights package is there, if they have one; those of EfficientNet-Lite1 and 2 are optional."""


@pytest.fixture
def source(discs: Dataset) -> TrainingSource:
    return TrainingSource(dataset=discs, size_wh=(64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTALLED)
def test_every_backbone_gives_a_map_that_pools_to_its_score(name: str) -> None:
    chosen = ARCHITECTURES[name]
    stack = load_backbone(name, weights="none").eval()
    with torch.no_grad():
        channels = stack(torch.zeros(1, 3, chosen.side, chosen.side)).shape[1]
        network = Network(FeatureNetwork(stack, chosen.normalisation), MapHead(channels, Pool.MEAN)).eval()
        torch.nn.init.normal_(network.head.conv.weight)
        picture = torch.randint(0, 256, (1, chosen.side, chosen.side, 3), dtype=torch.uint8)
        score, defect_map, vector = network(picture)
    assert vector.shape == (1, channels)
    assert float(defect_map.mean() + network.head.bias.detach()) == pytest.approx(float(score), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pool", list(Pool))
def test_the_exported_graph_pools_its_map_to_its_score_and_agrees_with_torch(
    pool: Pool, rng: np.random.Generator
) -> None:
    network = small_network(pool, cuts=("layer1", "layer2"))
    graph = compile_graph(export_classifier(network, SIZE_WH, labels=("good", "bad")))
    shots = pictures(4, rng)
    assert check_parity(network, graph, shots) < 1e-3
    for shot in shots:
        found = graph(shot)
        assert set(found) == {"score", "heatmap", "feature_vector", "logits"}
        pooled = pool_map(torch.from_numpy(found["heatmap"]), pool, SHARPNESS) + network.head.bias.detach()
        assert float(pooled) == pytest.approx(float(found["score"][0]), abs=1e-4)
        assert found["logits"].tolist() == [[0.0, pytest.approx(float(found["score"][0]))]]


@pytest.mark.slow
def test_the_exported_graph_describes_itself_to_other_tools() -> None:
    model = export_classifier(small_network(), SIZE_WH, labels=("good", "bad"))
    assert model.get_rt_info(["model_info", "model_type"]).astype(str) == "Classification"
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "good bad"
    assert model.output(0).get_names() == {"logits"}, "Model API reads the classes from the first output"
    assert model.input().get_element_type().get_type_name() == "u8"


@pytest.mark.slow
def test_an_export_that_differs_from_torch_is_refused(rng: np.random.Generator) -> None:
    graph = compile_graph(export_classifier(small_network(), SIZE_WH, labels=("good", "bad")))
    with pytest.raises(ParityError, match="differs"):
        check_parity(small_network(seed=1), graph, pictures(2, rng))


def test_the_shift_of_an_unpadded_pyramid_is_none_and_of_a_strided_one_is_up_and_left() -> None:
    class Halved(torch.nn.Module):
        def forward(self, shots: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(shots.permute(0, 3, 1, 2).float(), 8)

    class Strided(torch.nn.Module):
        def forward(self, shots: torch.Tensor) -> torch.Tensor:
            blurred = torch.nn.functional.avg_pool2d(shots.permute(0, 3, 1, 2).float(), 9, 1, 4)
            return blurred[:, :, ::8, ::8]

    right, down = network_shift(Halved(), (96, 96))  # type: ignore[arg-type]
    assert abs(right) < 0.1
    assert abs(down) < 0.1
    right, down = network_shift(Strided(), (96, 96))  # type: ignore[arg-type]
    assert right == pytest.approx(-0.44, abs=0.12)
    assert down == pytest.approx(-0.44, abs=0.12)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    other = load_backbone("squeezenet1_1", weights="none")
    safetensors.torch.save_file(dict(other.body.state_dict()), path)
    with pytest.raises(WeightsError, match=r"other\.safetensors.*backbone of the weights"):
        load_backbone("resnet18", weights=path)


@pytest.mark.slow
def test_weights_that_end_early_serve_an_early_cut(tmp_path: Path) -> None:
    whole = load_backbone("resnet18", weights="none", seed=3).body.state_dict()
    path = tmp_path / "early.safetensors"
    safetensors.torch.save_file({key: value for key, value in whole.items() if not key.startswith("layer4")}, path)
    with pytest.raises(WeightsError, match="earlier --cut"):
        load_backbone("resnet18", weights=path)
    early = load_backbone("resnet18", weights=path, cuts=("layer2",))
    assert torch.equal(early.body.state_dict()["conv1.weight"], whole["conv1.weight"])


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_a_damaged_weights_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        load_backbone("resnet18", weights=path)


def test_an_unknown_backbone_or_cut_says_what_there_is() -> None:
    with pytest.raises(InputError, match="mobilenet_v2"):
        load_backbone("resnet19", weights="none")
    with pytest.raises(InputError, match=r"features\.18"):
        load_backbone("mobilenet_v2", weights="none", cuts=("layer3",))


def test_restoring_folded_statistics_leaves_the_function_as_it_was(rng: np.random.Generator) -> None:
    network = small_network()
    for norm in batch_norms(network):  # folded: an identity that carries the bias
        torch.nn.init.normal_(norm.bias)
    shots = pictures(8, rng)
    batch = torch.from_numpy(np.stack(shots))
    with torch.no_grad():
        before = network(batch)[0]
        assert restore_statistics(network, iter(shots))
        after = network(batch)[0]
    assert torch.allclose(before, after, atol=1e-3)
    assert all(float(norm.running_var.std()) > 0 for norm in batch_norms(network))  # type: ignore[union-attr]
    assert not restore_statistics(network, iter(shots))


def test_views_are_crops_times_rotations_with_the_untouched_one_first(frame: Frame) -> None:
    box = Box(x1=20, y1=10, x2=140, y2=110)
    views = list(variants(frame, box, (60, 60), Augmentation(crops=3, rotations=4), np.random.default_rng(0)))
    assert len(views) == 12
    assert np.array_equal(np.rot90(views[0], 2), views[2])
    plain = next(variants(frame, box, (60, 60), PLAIN, np.random.default_rng(5)))
    assert np.array_equal(plain, views[0])
    assert not np.array_equal(views[0], views[4])


def test_odd_turns_keep_the_size(frame: Frame) -> None:
    assert rotated(frame, 30.0).shape == frame.shape
    assert rotated(frame, 90.0).shape == frame.shape


def test_a_window_shows_a_share_of_the_region_mirrored_and_transposed_at_random() -> None:
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    frame = np.dstack([across, down, np.zeros_like(across)]).astype(np.uint8)
    box = Box(x1=20, y1=40, x2=180, y2=200)
    ways = set()
    for seed in range(60):
        seen = variant(frame, box, (80, 80), Augmentation(window=0.5), np.random.default_rng(seed)).astype(int)
        for values, start in ((seen[..., 0], 20), (seen[..., 1], 40)):
            assert values.min() >= start, "nothing beside the region is shown"
            assert values.max() <= start + 160
            assert 0.5 * 160 - 3 <= np.ptp(values) + 1 <= 160
        right, below = seen[0, -1] - seen[0, 0], seen[-1, 0] - seen[0, 0]
        transposed = bool(abs(right[1]) > abs(right[0]))
        ways.add((transposed, *(bool(end[int(transposed) ^ axis] > 0) for axis, end in enumerate((right, below)))))
    assert len(ways) == 8, "every mirror image in every turn"


def test_flips_brightness_and_blur_change_every_view_but_the_first_and_leave_masks_sharp() -> None:
    frame = np.random.default_rng(0).integers(40, 200, (80, 100, 3), np.uint8)
    box = Box(x1=10, y1=10, x2=90, y2=70)
    varied = Augmentation(crops=2, rotations=2, flips=True, brightness=0.4, blur=1.5)
    plain = list(variants(frame, box, (60, 60), Augmentation(crops=2, rotations=2), np.random.default_rng(3)))
    views = list(variants(frame, box, (60, 60), varied, np.random.default_rng(3)))
    geometry = list(variants(frame, box, (60, 60), varied.geometry, np.random.default_rng(3)))
    assert np.array_equal(views[0], plain[0])
    assert all(not np.array_equal(view, other) for view, other in zip(views[1:], plain[1:], strict=True))
    # A mask goes through `geometry`: the same crops, rotations and flips as the picture, no new grey values.
    assert all(
        abs(float(view.mean()) / float(other.mean()) - 1) < 0.41 for view, other in zip(views, geometry, strict=True)
    )
    light = Augmentation(flips=True, brightness=0.4)
    for seed in range(6):
        seen = variant(frame, box, (60, 60), light, np.random.default_rng(seed)).astype(float)
        mask = variant(frame, box, (60, 60), light.geometry, np.random.default_rng(seed)).astype(float)
        ratio = seen[mask > 0] / mask[mask > 0]
        assert 0.55 < np.median(ratio) < 1.45
        assert np.ptp(ratio[seen[mask > 0] < 255]) < 0.05


@pytest.mark.slow
def test_features_come_from_the_cache_the_second_time(source: TrainingSource, tmp_path: Path) -> None:
    frozen = frozen_networks(load_backbone("resnet18", weights="none", cuts=("layer1",)), [IMAGENET])[0]
    graph = compile_graph(frozen.pooled(source.size_wh), many=True)
    samples = source.dataset.split(Split.VAL)
    options = {"seed": 0, "cache": tmp_path, "identity": "x"}
    first = pooled_features(graph, source, samples, PLAIN, **options)  # type: ignore[arg-type]

    def must_not_run(*_: object) -> None:
        raise AssertionError("computed again")

    graph.stream = must_not_run  # type: ignore[method-assign, assignment]
    backwards = pooled_features(graph, source, samples[::-1], PLAIN, **options)  # type: ignore[arg-type]
    assert np.array_equal(first.vectors, backwards.vectors[::-1])
    assert np.array_equal(first.bad, backwards.bad[::-1])


@pytest.mark.slow
def test_streaming_keeps_the_order(rng: np.random.Generator) -> None:
    graph = compile_graph(export_classifier(small_network(), SIZE_WH, labels=("good", "bad")), many=True)
    shots = pictures(12, rng)
    streamed = [float(result["score"][0]) for result in graph.stream(iter(shots))]
    assert streamed == [pytest.approx(float(graph(shot)["score"][0]), abs=1e-5) for shot in shots]


def test_the_head_finds_a_separable_direction_and_prefers_val(rng: np.random.Generator) -> None:
    def draw(count: int) -> Pooled:
        bad = rng.integers(0, 2, count)
        vectors = rng.normal(0, 1, (count, 2, 20)).astype(np.float32)
        vectors[:, :, 3] += 3 * bad[:, None]
        return Pooled(vectors=vectors, bad=bad)

    head = fit_mean(draw(200), draw(100))
    assert int(np.argmax(np.abs(head.weight))) == 3
    assert head.val_loss < 0.4


def test_the_balanced_loss_does_not_care_how_many_are_good() -> None:
    few = balanced_loss(np.array([-1.0, 2.0]), np.array([0, 1]))
    many = balanced_loss(np.array([-1.0] * 9 + [2.0]), np.array([0] * 9 + [1]))
    assert few == pytest.approx(many)


def test_masks_go_the_way_of_their_pictures(source: TrainingSource) -> None:
    samples = [sample for sample in source.dataset.split(Split.TRAIN) if sample.label is Label.BAD][:6]
    turned = Augmentation(crops=2, rotations=3)
    views = list(source.views(samples, turned, seed=4, masks=True))
    assert len(views) == 6 * turned.views
    for view in [*views, *source.drawn(samples, turned, seed=4, masks=True)]:
        assert view.marks is not None
        inside, outside = view.picture[view.marks == 255].mean(), view.picture[view.marks == 0].mean()
        assert inside < outside - 30, "the spots are dark"


def test_a_window_of_a_mask_is_that_of_its_picture_under_whatever_light(source: TrainingSource) -> None:
    samples = [sample for sample in source.dataset.split(Split.TRAIN) if sample.label is Label.BAD]
    windows = Augmentation(window=0.5)
    views = list(source.drawn(samples, windows, seed=4, masks=True))
    shown = 0
    for picture, marked in [(view.picture, view.marks) for view in views]:
        assert marked is not None
        assert marked.min() == 0, "a mask is not lit"
        if (marked == 255).sum() > 50:
            shown += 1
            assert picture[marked == 255].mean() < picture[marked == 0].mean() - 15, "the spots are dark"
    assert len(samples) / 3 < shown < len(samples), "some windows lie beside the spot"
    again = list(source.drawn(samples, windows, seed=4))
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(views, again, strict=True))
    brightness = [view.picture.mean() for view in views]
    assert np.ptp(brightness) > 40, "the light differs"


def test_a_good_part_has_no_defect_anywhere_and_a_bad_one_without_a_mask_may_have_it_everywhere(
    source: TrainingSource,
) -> None:
    samples = source.dataset.split(Split.TRAIN)
    good = next(sample for sample in samples if sample.label is Label.GOOD)
    bad = next(sample for sample in samples if sample.label is Label.BAD).model_copy(update={"mask_file_name": None})
    assert not masked([good, bad])
    marks = [view.marks for view in source.views([good, bad], PLAIN, seed=0, masks=True)]
    assert [set(np.unique(cell_targets(each, (4, 4), (0.0, 0.0)))) for each in marks] == [{0}, {-1}]


def test_cells_under_the_mask_are_defective_their_rim_is_not_asked_and_the_rest_is_sound() -> None:
    marks = np.zeros((80, 80), np.uint8)
    marks[20:40, 30:50] = 255
    targets = cell_targets(marks, (8, 8), (0.0, 0.0))
    assert np.argwhere(targets == 1).tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert (targets == -1).sum() == 12
    assert (targets == 0).sum() == 64 - 16
    looks_up_and_left = cell_targets(marks, (8, 8), (-0.9, -0.9))
    assert np.argwhere(looks_up_and_left == 1).tolist()[-1] == [4, 5]


def test_a_defect_smaller_than_a_cell_still_has_one() -> None:
    marks = np.zeros((80, 80), np.uint8)
    cv2.circle(marks, (35, 25), 1, 255, -1)
    assert np.argwhere(cell_targets(marks, (8, 8), (0.0, 0.0)) == 1).tolist() == [[2, 3]]


def planted(rng: np.random.Generator, count: int, channels: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature maps whose surface varies much along one direction, and in half of them a cell shifted along another."""
    bad = np.arange(count) % 2
    maps = rng.normal(0, 0.2, (count, channels, 5, 5))
    maps[:, 0] += 8 * rng.normal(0, 1, (count, 5, 5))
    targets = np.zeros((count, 5, 5), np.int8)
    for index in np.flatnonzero(bad):
        row, column = rng.integers(0, 5, 2)
        maps[index, :2, row, column] += 2.0  # along the loud direction and a quiet one
        targets[index, row, column] = 1
    return maps.astype(np.float16), targets, bad


@pytest.mark.parametrize("pool", [Pool.MAX, Pool.LSE])
def test_the_head_taught_on_cells_finds_a_planted_defect(pool: Pool, rng: np.random.Generator) -> None:
    maps, targets, _ = planted(rng, 120)
    flat = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])
    view = np.repeat(np.arange(len(maps)), 25)
    cells = LabelledCells(features=flat, defective=targets.ravel(), view=view)
    val, val_targets, val_bad = planted(rng, 60)
    tried = discriminants(cells)
    maps = defect_maps(([each] for each in val.astype(np.float32)), tried)
    pictures = Pooled(vectors=val.mean((2, 3), dtype=np.float32)[:, None], bad=val_bad)
    silent = np.zeros(val.shape[1], np.float32)
    head = fit_score(tried, maps, pictures, context=silent, pool=pool, sharpness=SHARPNESS, shift_xy=(0.0, 0.0))
    assert abs(head.weight[0]) < 0.2 * abs(head.weight[1]), "the loud direction tells little"
    assert head.val_loss < 0.3
    found = np.einsum("c,nchw->nhw", head.weight, val.astype(np.float32))
    hottest = found.reshape(60, -1).argmax(1)
    hits = val_targets.reshape(60, -1)[np.arange(60), hottest] == 1
    assert hits[val_bad == 1].mean() > 0.9
    scores = pool_map(torch.from_numpy(found), pool, SHARPNESS).numpy() + head.bias
    assert balanced_loss(scores.astype(np.float64), val_bad) == pytest.approx(head.val_loss, abs=1e-3)


def test_what_only_the_whole_picture_tells_is_added_to_every_cell(rng: np.random.Generator) -> None:
    maps, targets, _ = planted(rng, 40)
    cells = LabelledCells(
        features=maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]),
        defective=targets.ravel(),
        view=np.repeat(np.arange(len(maps)), 25),
    )
    shaded = rng.normal(0, 0.2, (30, maps.shape[1], 5, 5)).astype(np.float32)
    bad = np.arange(30) % 2
    shaded[:, 4] += bad[:, None, None]  # all over the part, in a direction that says nothing of cells
    tried = discriminants(cells)
    pictures = Pooled(vectors=shaded.mean((2, 3))[:, None], bad=bad)
    context = np.eye(maps.shape[1], dtype=np.float32)[4] * 10
    seen = defect_maps(([each] for each in shaded), tried)
    head = fit_score(tried, seen, pictures, context=context, pool=Pool.LSE, sharpness=SHARPNESS, shift_xy=(0.0, 0.0))
    assert head.context is not None
    assert head.context[4] > 0
    network = MapHead(maps.shape[1], Pool.LSE, context=True)
    with torch.no_grad():
        network.conv.weight.copy_(torch.from_numpy(head.weight)[None, :, None, None])
        assert network.context is not None
        network.context.weight.copy_(torch.from_numpy(head.context)[None])
        network.bias.fill_(head.bias)
        score, defect_map = network(torch.from_numpy(shaded))
        local = network.local(torch.from_numpy(shaded))
    assert torch.allclose(pool_map(defect_map, Pool.LSE) + head.bias, score, atol=1e-4)
    raised = (defect_map - local).flatten(1)
    assert torch.allclose(raised, raised[:, :1].expand_as(raised), atol=1e-4)
    assert balanced_loss(score.double().numpy(), bad) == pytest.approx(head.val_loss, abs=1e-3)


@pytest.mark.slow
def test_cells_are_drawn_from_both_kinds_and_masks_that_mark_nothing_are_refused(source: TrainingSource) -> None:
    frozen = frozen_networks(load_backbone("resnet18", weights="none", cuts=("layer1", "layer2")), [IMAGENET])[0]
    graph = compile_graph(frozen.maps(source.size_wh), many=True)
    samples = source.dataset.split(Split.TRAIN)[:16]
    cells = gather_cells(graph, source, samples, PLAIN, seed=0, shift_xy=(0.0, 0.0))
    assert cells.features.shape == (len(cells.view), 64 + 128)
    assert set(cells.view[cells.defective == 1]) == {i for i, each in enumerate(samples) if each.label is Label.BAD}
    assert set(cells.view[cells.defective == 0]) == set(range(16))
    good = [sample for sample in samples if sample.label is Label.GOOD]
    with pytest.raises(InputError, match="mark nothing"):
        gather_cells(graph, source, good, PLAIN, seed=0, shift_xy=(0.0, 0.0))


def test_maps_on_their_own_grids_are_judged_as_joined_ones(rng: np.random.Generator) -> None:
    network = small_network(Pool.LSE, cuts=("layer1", "layer2"))
    shots = torch.from_numpy(np.stack(pictures(3, rng)))
    with torch.no_grad():
        score, defect_map, vector = network(shots)
        joined = network.features(shots)
        score_joined, map_joined = network.head(joined)
    assert torch.allclose(score, score_joined, atol=1e-5)
    assert torch.allclose(defect_map, map_joined, atol=1e-5)
    assert torch.allclose(vector, joined.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("name", INSTALLED)
def test_every_backbone_has_two_finer_maps_for_masks_to_teach(name: str) -> None:
    chosen = ARCHITECTURES[name]
    stack = load_backbone(name, weights="none", cuts=chosen.fine).eval()
    with torch.no_grad():
        found = stack.body(torch.zeros(1, 3, chosen.side, chosen.side))
    strides = [chosen.side / found[cut].shape[-1] for cut in chosen.fine]
    assert strides == pytest.approx([8, 16], rel=0.12)


RECIPE = FineTuning(epochs=3, batch=12, learning_rate=3e-3)


def tuned(
    source: TrainingSource, work: Path, recipe: FineTuning, *, device: str = "cpu"
) -> tuple[Network, list[dict[str, float]]]:
    network = small_network(Pool.LSE)
    torch.nn.init.zeros_(network.head.conv.weight)
    train, val = source.dataset.split(Split.TRAIN)[:48], source.dataset.split(Split.VAL)
    return network, fine_tune(network, source, train, val, recipe, PLAIN, seed=0, work=work, device=device)


@pytest.mark.slow
def test_fine_tuning_never_returns_worse_than_its_start(source: TrainingSource, tmp_path: Path) -> None:
    _, rows = tuned(source, tmp_path / "good", RECIPE)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    wild = FineTuning(epochs=1, learning_rate=1e6)
    network, rows = tuned(source, tmp_path / "wild", wild)
    assert rows[1]["val_loss"] > rows[0]["val_loss"]
    with torch.no_grad():
        assert float(network.head.conv.weight.abs().sum()) == 0.0, "epoch 0 must come back"


@pytest.mark.slow
def test_a_network_too_sure_of_itself_is_settled_by_val_not_discarded(source: TrainingSource) -> None:
    network = small_network(Pool.LSE)
    val = source.dataset.split(Split.VAL)
    shots, bad = list(source.plain(val)), labels(val)
    bad[::5] = 1 - bad[::5]
    with torch.no_grad():
        network.head.conv.weight *= 4
    before = fit_scale_and_bias(network, shots, bad)
    with torch.no_grad():
        network.head.conv.weight *= 4
    after = fit_scale_and_bias(network, shots, bad)
    assert after.val_loss == pytest.approx(before.val_loss, rel=1e-3)
    assert after.scale == before.scale / 4
    network.load_state_dict(after.of(network.state_dict()))
    with torch.no_grad():
        scores = np.array([float(network(torch.from_numpy(shot[None]))[0]) for shot in shots])
    assert balanced_loss(scores, bad) == pytest.approx(after.val_loss, rel=1e-4)
    with torch.no_grad():
        network.head.conv.weight *= np.nan
    assert fit_scale_and_bias(network, shots, bad).val_loss == np.inf


@pytest.mark.slow
def test_a_window_beside_the_defect_does_not_teach_that_the_part_is_good_or_bad(
    source: TrainingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(name: str, augmentation: Augmentation) -> float:
        network = small_network(Pool.LSE)
        torch.nn.init.zeros_(network.head.conv.weight)
        torch.nn.init.zeros_(network.head.bias)
        train, val = source.dataset.split(Split.TRAIN)[:48], source.dataset.split(Split.VAL)
        still = FineTuning(epochs=1, batch=48, learning_rate=0.0, cell_weight=0.0)
        cells = CellLogit(bias=0.0, shift_xy=(0.0, 0.0))
        rows = fine_tune(network, source, train, val, still, augmentation, seed=0, work=tmp_path / name, cells=cells)
        return rows[1]["train_loss"]

    drawn = TrainingSource.drawn

    def beside(self: TrainingSource, *given: Any, **more: Any) -> Iterator[SourceView]:
        return (replace(view, marks=np.zeros((64, 64), np.uint8)) for view in drawn(self, *given, **more))

    assert loss("seen", Augmentation(window=1.0)) == pytest.approx(np.log(2), rel=1e-3)
    monkeypatch.setattr(TrainingSource, "drawn", beside)
    assert loss("lost", Augmentation(window=1.0)) == pytest.approx(np.log(2) / 2, rel=1e-3), "the good ones alone"


@pytest.mark.slow
def test_cells_that_masks_taught_look_where_they_were_taught_to_after_fine_tuning_too(
    discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuned, "network_shift", lambda *_: (9.0, 9.0))
    options = TrainingOptions(
        backbone="resnet18",
        weights="none",
        cuts=("layer1",),
        size_wh=(64, 64),
        augmentation=PLAIN,
        fine_tuning=replace(RECIPE, epochs=1),
    )
    taught = train_inspector(discs, tmp_path / "masks.inspector", options)
    features = FeatureNetwork(load_backbone("resnet18", weights="none", cuts=("layer1",)).eval(), IMAGENET)
    assert taught.bundle.manifest.heat_scale.shift_xy == network_shift(features, (64, 64))
    unmarked = train_inspector(discs, tmp_path / "labels.inspector", replace(options, masks=False))
    assert unmarked.bundle.manifest.heat_scale.shift_xy == (9.0, 9.0), "nobody taught its cells"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card that torch can use")
def test_a_graphics_card_trains_what_the_processor_trains(source: TrainingSource, tmp_path: Path) -> None:
    _, rows = tuned(source, tmp_path / "cpu", RECIPE)
    network, again = tuned(source, tmp_path / "card", RECIPE, device="cuda")
    assert [row["val_loss"] for row in again] == pytest.approx([row["val_loss"] for row in rows], rel=0.05)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_computed(
    name: str, discs: Dataset, tmp_path: Path
) -> None:
    options = TrainingOptions(backbone="resnet18", weights="none", fine_tuning=RECIPE, device=name)
    with pytest.raises(InputError, match=f"--device: torch cannot use '{name}' on this machine"):
        train_inspector(discs, tmp_path / "x.inspector", options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_run_is_taken_up_where_it_ended(
    source: TrainingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rows = tuned(source, tmp_path / "whole", RECIPE)
    import gonogo.train.finetune as module

    calls = itertools.count()
    real = module._train_epoch

    def stops_at_the_second(*args: object, **kwargs: object) -> float:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_train_epoch", stops_at_the_second)
    tuned(source, tmp_path / "cut", RECIPE)
    assert len((tmp_path / "cut" / METRICS).read_text().splitlines()) == 2
    monkeypatch.setattr(module, "_train_epoch", real)
    resumed, again = tuned(source, tmp_path / "cut", RECIPE)
    assert [row["val_loss"] for row in again] == pytest.approx([row["val_loss"] for row in rows], rel=1e-3)
    assert torch.allclose(whole.head.conv.weight, resumed.head.conv.weight, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("scored", "kept"), [(-9.0, "efficientnet_lite0 evidence"), (9.0, "efficientnet_lite0 lse")])
def test_fine_tuning_is_kept_only_if_it_is_better_on_pictures_that_fitted_nothing(
    scored: float, kept: str, discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    real = fine_tuned._losses_on

    def losses(built: sealing.Built, held_out: list[Sample]) -> np.ndarray:
        """What the comparison measures, the default method made worse by so much."""
        used = built.source.dataset.split(Split.TRAIN, Split.VAL)
        seen.append({sample.part_id for sample in used} & {sample.part_id for sample in held_out})
        return real(built, held_out) + scored * (built.classifier.pool == "evidence")

    monkeypatch.setattr(fine_tuned, "_losses_on", losses)
    options = TrainingOptions(size_wh=(96, 64), augmentation=PLAIN, fine_tuning=replace(RECIPE, epochs=1))
    made = train_inspector(discs, tmp_path / "x.inspector", options).bundle.manifest.classifier
    assert seen == [set(), set()], "the pictures that are compared on fitted neither"
    assert f"{made.backbone} {made.pool}" == kept

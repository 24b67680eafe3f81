from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gonogo.augment import PLAIN, Augmentation, rotated, variants
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError, ParityError, WeightsError
from gonogo.export import check_parity, export_classifier, export_features, measure_shift
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
from gonogo.schema import Box, Frame
from gonogo.train import (
    METRICS,
    FineTuning,
    Pooled,
    Source,
    balanced_loss,
    fine_tune,
    fit_mean,
    pooled_features,
    restore_statistics,
)

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


@pytest.fixture
def source(discs: Dataset) -> Source:
    return Source(dataset=discs, size_wh=(64, 64))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
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


def test_the_exported_graph_describes_itself_to_other_tools() -> None:
    model = export_classifier(small_network(), SIZE_WH, labels=("good", "bad"))
    assert model.get_rt_info(["model_info", "model_type"]).astype(str) == "Classification"
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "good bad"
    assert model.output(0).get_names() == {"logits"}, "Model API reads the classes from the first output"
    assert model.input().get_element_type().get_type_name() == "u8"


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

    right, down = measure_shift(Halved(), (96, 96))  # type: ignore[arg-type]
    assert abs(right) < 0.1
    assert abs(down) < 0.1
    right, down = measure_shift(Strided(), (96, 96))  # type: ignore[arg-type]
    assert right == pytest.approx(-0.44, abs=0.12)
    assert down == pytest.approx(-0.44, abs=0.12)


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    other = load_backbone("squeezenet1_1", weights="none")
    safetensors.torch.save_file(dict(other.body.state_dict()), path)
    with pytest.raises(WeightsError, match=r"other\.safetensors.*made for another backbone"):
        load_backbone("resnet18", weights=path)


def test_weights_that_end_early_serve_an_early_cut(tmp_path: Path) -> None:
    whole = load_backbone("resnet18", weights="none", seed=3).body.state_dict()
    path = tmp_path / "early.safetensors"
    safetensors.torch.save_file({key: value for key, value in whole.items() if not key.startswith("layer4")}, path)
    with pytest.raises(WeightsError, match="cut earlier"):
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


def test_features_come_from_the_cache_the_second_time(source: Source, tmp_path: Path) -> None:
    features = FeatureNetwork(load_backbone("resnet18", weights="none", cuts=("layer1",)).eval(), IMAGENET)
    graph = compile_graph(export_features(features, source.size_wh), many=True)
    samples = source.dataset.split(Split.VAL)
    options = {"seed": 0, "cache": tmp_path, "identity": "x"}
    first = pooled_features(graph, source, samples, PLAIN, **options)  # type: ignore[arg-type]

    def must_not_run(*_: object) -> None:
        raise AssertionError("computed again")

    graph.stream = must_not_run  # type: ignore[method-assign, assignment]
    backwards = pooled_features(graph, source, samples[::-1], PLAIN, **options)  # type: ignore[arg-type]
    assert np.array_equal(first.vectors, backwards.vectors[::-1])
    assert np.array_equal(first.bad, backwards.bad[::-1])


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


RECIPE = FineTuning(epochs=3, batch=12, learning_rate=3e-3)


def tuned(source: Source, work: Path, recipe: FineTuning) -> tuple[Network, list[dict[str, float]]]:
    network = small_network(Pool.LSE)
    torch.nn.init.zeros_(network.head.conv.weight)
    train, val = source.dataset.split(Split.TRAIN)[:48], source.dataset.split(Split.VAL)
    return network, fine_tune(network, source, train, val, recipe, PLAIN, seed=0, work=work)


def test_fine_tuning_never_returns_worse_than_its_start(source: Source, tmp_path: Path) -> None:
    _, rows = tuned(source, tmp_path / "good", RECIPE)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    wild = FineTuning(epochs=1, learning_rate=1e6)
    network, rows = tuned(source, tmp_path / "wild", wild)
    assert rows[1]["val_loss"] > rows[0]["val_loss"]
    with torch.no_grad():
        assert float(network.head.conv.weight.abs().sum()) == 0.0, "epoch 0 must come back"


def test_an_interrupted_run_is_taken_up_where_it_ended(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

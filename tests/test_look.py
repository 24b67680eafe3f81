"""What a network sees: the maps are what their formulas say, and the sheet holds every one of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import cli, images
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError, WeightsError
from gonogo.look import NETWORKS, draw_seen, look, look_with_bundle, render_crack
from gonogo.look.drawing import tinted
from gonogo.look.lenet import edge_filters, layer
from gonogo.look.maps import average_parts, class_map, grad_cam, layer_cam, log_sum_exp_parts, maximum_parts
from gonogo.look.seen import PlaceMap, Seen, Stage, activation_places, likeliest
from gonogo.model import Pool, pool_map
from gonogo.schema import Frame
from gonogo.testing import write_fake_bundle
from tests.test_without_torch import without_torch

SMALL = (64, 64)


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if isinstance(done.exception, InputError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture
def photo(frame: Frame, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(images.encode_png(frame))
    return path


@pytest.mark.parametrize("offset", [-4.0, 0.0, 4.0])
def test_the_cells_of_a_class_map_add_up_to_its_pooled_score_under_every_pooling(
    rng: np.random.Generator, offset: float
) -> None:
    torch = pytest.importorskip("torch")
    features = rng.normal(offset, 1, (5, 4, 6)).astype(np.float32)
    cells = class_map(features, rng.normal(0, 1, 5).astype(np.float32))
    parts = {
        Pool.MEAN: average_parts(cells),
        Pool.MAX: maximum_parts(cells),
        Pool.LSE: log_sum_exp_parts(cells, 1.5),
    }
    for pool, each in parts.items():
        expected = float(pool_map(torch.from_numpy(cells[None]), pool, 1.5))
        assert each.sum() == pytest.approx(expected, abs=1e-4), pool
    assert np.count_nonzero(parts[Pool.MAX]) == 1
    titles = [place.title for place in activation_places(cells, 0.5)]
    assert titles[1] == f"CAM, maximum: logit {cells.max() + 0.5:+.2f}"


def test_cells_that_tie_for_the_maximum_share_it() -> None:
    parts = maximum_parts(np.array([[3.0, 1.0], [3.0, 0.0]], np.float32))
    assert parts.tolist() == [[1.5, 0.0], [1.5, 0.0]]


def test_grad_cam_of_average_pooling_and_a_dense_layer_is_the_class_map_over_the_number_of_cells() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    features = torch.randn(1, 6, 5, 7, requires_grad=True)
    dense = torch.nn.Linear(6, 4)
    dense(features.mean((2, 3)))[0, 2].backward()
    assert features.grad is not None
    found = grad_cam(features[0].detach().numpy(), features.grad[0].numpy())
    cells = class_map(features[0].detach().numpy(), dense.weight[2].detach().numpy())
    np.testing.assert_allclose(found, np.maximum(cells, 0) / 35, atol=1e-6)
    assert found.max() > 0


def test_layer_cam_weighs_every_value_by_its_own_positive_gradient() -> None:
    features = np.array([[[1.0, 2.0]], [[3.0, -4.0]]], np.float32)
    gradients = np.array([[[0.5, -1.0]], [[2.0, 1.0]]], np.float32)
    assert layer_cam(features, gradients).tolist() == [[6.5, 0.0]]  # 0.5 * 1 + 2 * 3, and 1 * -4 cut off
    assert grad_cam(features, gradients).tolist() == [[4.25, 0.0]]  # means -0.25 and 1.5


def test_the_first_lenet_layer_finds_edges_and_its_pooling_keeps_the_strongest() -> None:
    filters = edge_filters()
    assert filters.sum((1, 2, 3)).tolist() == [0.0] * 8
    np.testing.assert_array_equal(filters[4], -filters[0])
    picture = np.zeros((1, 6, 9), np.float32)
    picture[:, :3] = 1  # bright above, dark below
    maps = layer(picture, filters)
    assert maps.shape == (8, 3, 4)
    np.testing.assert_array_equal(maps[0], [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert maps[4].max() == 0


def test_a_sheet_has_a_row_for_each_stage_and_a_panel_for_each_map(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    stages = tuple(
        Stage(name=f"s{stride}", stride=stride, maps=rng.random((channels, 64 // stride, 96 // stride), np.float32))
        for stride, channels in ((8, 3), (16, 40))
    )
    place = PlaceMap(title="where", cells=rng.random((4, 6), np.float32))
    bare = Seen(network="n", weights="w", picture=picture)
    full = Seen(network="n", weights="w", picture=picture, stages=stages, places=(place,), notes=("a note",))
    sheets = [draw_seen(each) for each in (bare, full)]
    assert sheets[0].shape[1] == 640
    assert sheets[1].shape[0] > sheets[0].shape[0] + 2 * 100
    assert stages[1].title() == "s16: stride 16, 40 channels, 6 x 4 cells"
    assert len(stages[0].channels(8)) == 3
    assert len(stages[1].channels(8)) == 8


def test_a_map_of_one_value_leaves_the_picture_as_it_is_and_a_hot_cell_colours_its_place(frame: Frame) -> None:
    flat = PlaceMap(title="flat", cells=np.full((3, 4), 2.0, np.float32))
    assert np.array_equal(tinted(frame, flat), frame)
    cells = np.zeros((3, 4), np.float32)
    cells[0, 0] = 1
    drawn = tinted(frame, PlaceMap(title="hot", cells=cells))
    assert not np.array_equal(drawn[:20, :20], frame[:20, :20])
    assert np.array_equal(drawn[60:, 100:], frame[60:, 100:])


@pytest.mark.slow
def test_efficientnet_lite_shows_its_stages_and_the_logits_of_the_published_network(frame: Frame) -> None:
    torch = pytest.importorskip("torch")
    from gonogo.model import architecture
    from gonogo.model.lite import build_lite_classifier

    seen = look("efficientnet_lite0", frame, size_wh=SMALL, wanted=7)
    assert [(stage.stride, len(stage.maps)) for stage in seen.stages] == [
        *((2, 16), (4, 24), (8, 40), (16, 112), (32, 320), (32, 1280))
    ]
    normal = architecture("efficientnet_lite0").normalisation
    pixels = torch.from_numpy(seen.picture[None].astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = build_lite_classifier("efficientnet_lite0").eval()((pixels - normal.mean[0]) / normal.std[0])
    value = seen.places[0].value
    assert value == pytest.approx(float(logits[0, 7]), abs=1e-3)
    assert [place.title.partition(":")[0] for place in seen.places] == [
        *("CAM, average", "CAM, maximum", "CAM, log-sum-exp", "Grad-CAM, stride 16", "LayerCAM, stride 16")
    ]
    assert seen.answer is not None
    assert seen.answer.startswith("class 7 (cock)")


@pytest.mark.slow
@pytest.mark.parametrize(("network", "maps"), [("squeezenet1_1", 5), ("mobilenet_v3_small", 2), ("resnet18", 5)])
def test_a_torchvision_network_gets_a_class_map_if_its_mean_is_the_logit(network: str, maps: int, frame: Frame) -> None:
    pytest.importorskip("torchvision")
    seen = look(network, frame, size_wh=SMALL, seed=1)
    assert len(seen.places) == maps
    assert any("random" in note for note in seen.notes)
    assert any("no class-activation map" in note for note in seen.notes) == (maps == 2)


@pytest.mark.slow
def test_a_file_without_a_classifier_gives_the_stages_that_it_has(frame: Frame, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    tensors = {name: value for name, value in resnet18().state_dict().items() if not name.startswith(("layer4", "fc"))}
    save_file(tensors, tmp_path / "early.safetensors")
    seen = look("resnet18", frame, size_wh=SMALL, weights=str(tmp_path / "early.safetensors"))
    assert [stage.stride for stage in seen.stages] == [4, 8, 16]
    assert seen.places == ()
    assert "no classifier" in seen.notes[0]
    with pytest.raises(WeightsError, match="missing"):
        look("squeezenet1_1", frame, size_wh=SMALL, weights=str(tmp_path / "early.safetensors"))


@pytest.mark.slow
def test_a_bundle_shows_the_maps_of_its_evidence_which_add_up_to_its_score(discs: Dataset, trained: Path) -> None:
    seen = look_with_bundle(trained, discs.path(discs.split(Split.TEST)[1]))
    assert [stage.stride for stage in seen.stages] == [8, 16, 32]
    *kinds, heat = seen.places
    assert {place.title.partition(":")[0] for place in kinds} <= {"context", "memory", "cells"}
    assert heat.value == pytest.approx(sum(place.value or 0.0 for place in kinds), abs=1e-3)
    np.testing.assert_allclose(heat.cells, sum(place.cells for place in kinds), atol=1e-4)
    assert draw_seen(seen).shape[1] > 640


@pytest.mark.slow
def test_a_bundle_made_by_torch_shows_its_map(discs: Dataset, fine_tuned: Path) -> None:
    seen = look_with_bundle(fine_tuned, discs.path(discs.split(Split.TEST)[1]))
    assert len(seen.stages) == 1
    assert [place.title.partition(":")[0] for place in seen.places] == ["heat map"]


@pytest.mark.slow
def test_the_command_writes_a_sheet_and_says_what_is_on_it(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.jpg"
    code, printed = invoke("look", "lenet", photo, "--out", out, "--json", "--size", "64x32")
    assert code == 0, printed
    found = json.loads(printed)
    assert [(stage["stride"], stage["channels"], stage["cells"]) for stage in found["stages"]] == [
        *((2, 8, [16, 32]), (4, 16, [8, 16]))
    ]
    assert images.load_picture(out).shape[1] > 640
    code, printed = invoke("look", "lenet", photo, "--out", out)
    assert (code, "already exists" in printed) == (2, True)
    assert invoke("look", "lenet", "--crack", "--out", out, "--overwrite")[0] == 0


def test_a_bundle_is_looked_into_by_its_folder(tmp_path: Path, photo: Path) -> None:
    write_fake_bundle(tmp_path / "fake.inspector")
    code, printed = invoke("look", tmp_path / "fake.inspector", photo, "--out", tmp_path / "s.png")
    assert code == 0, printed
    assert "feature map 1: stride 8, 3 channels, 8 x 8 cells" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lenet"], "found neither"),
        (["lenet", "PHOTO", "--crack"], "found both"),
        (["resnet-50", "PHOTO"], "expected the folder of a bundle or one of lenet"),
        (["lenet", "PHOTO", "--class", "3"], "--class: not for lenet"),
        (["lenet", "PHOTO", "--weights", "none"], "--weights: not for lenet"),
        (["efficientnet_lite0", "PHOTO", "--normalisation", "symmetric"], "not for efficientnet_lite0"),
        (["efficientnet_lite0", "PHOTO", "--size", "60"], "multiples of 32"),
        (["resnet18", "PHOTO", "--weights", "nowhere.safetensors"], "found no file"),
        (["lenet", "nowhere.png"], "nowhere.png"),
        (["lenet", "PHOTO", "--out", "sheet.gif"], "ends in .png"),
        (["BUNDLE", "--crack"], "--crack: not for a bundle"),
        (["BUNDLE", "PHOTO", "--class", "3", "--size", "64"], "--class and --size: not for a bundle"),
        (["FOLDER", "PHOTO"], "expected a bundle"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], message: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write_fake_bundle(tmp_path / "fake.inspector")
    known = {"PHOTO": str(photo), "BUNDLE": "fake.inspector", "FOLDER": "folder"}
    code, printed = invoke("look", *(known.get(word, word) for word in words))
    assert code == 2, printed
    assert message in printed
    assert not list(tmp_path.glob("sheet*"))


@pytest.mark.slow
def test_without_torch_the_gradient_methods_are_left_out_and_said(photo: Path, tmp_path: Path) -> None:
    command = ["look", "efficientnet_lite0", photo, "--size", "64", "--json", "--out", tmp_path / "s.png"]
    ((code, printed, _),) = without_torch(command)
    assert code == 0, printed
    found = json.loads(printed)
    assert [each["title"].partition(":")[0] for each in found["maps"]] == [
        *("CAM, average", "CAM, maximum", "CAM, log-sum-exp")
    ]
    assert "need torch" in found["notes"][0]


def test_the_rendered_crack_is_dark_plain_around_and_the_same_for_a_seed() -> None:
    frame, mask = render_crack(3)
    assert np.array_equal(frame, render_crack(3)[0])
    assert not np.array_equal(frame, render_crack(4)[0])
    assert 0.002 < mask.mean() < 0.05
    assert frame[mask].mean() < frame[~mask].mean() - 30
    assert frame[~mask].std() < 15


def test_every_named_network_is_known_to_its_maker() -> None:
    pytest.importorskip("torchvision")
    from gonogo.model import ARCHITECTURES

    assert set(NETWORKS) == {"lenet", *ARCHITECTURES}
    assert likeliest(np.array([0.0, np.log(3.0)], np.float32), None) == (1, pytest.approx(0.75))

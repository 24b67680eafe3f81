"""Classifiers of other frameworks: their logits, their maps, what must be declared, and the sealed bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

from gonogo import bundle, runtime
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.errors import InputError, MissingExtraError, ParityError, UnfitError
from gonogo.evidence import PREFIX
from gonogo.imported import Declaration, FittedMap, ImportedNet, OpenedModel, classifier_of, imported_net, open_model
from gonogo.imported.heads import own_score
from gonogo.imported.pixels import prepared_array
from gonogo.inspector import Inspector
from gonogo.openvino_import import no_telemetry
from gonogo.schema import State
from gonogo.workflow import Allowed, QuantizingOptions, import_model, quantize_bundle
from gonogo.workflow.fitted_map import fit_map, fit_score
from gonogo.workflow.int8 import to_int8

WH = (48, 32)
PLAIN: dict[str, Any] = {"channels": "rgb", "mean": (0.0,), "scale": (1.0,)}
STATED: dict[str, Any] = {"size": WH, "channels": "rgb", "mean": (127.5,), "scale": (127.5,)}


def backbone() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())


class MeanAndMax(nn.Module):
    """Mean and maximum of every channel, joined, as fastai's heads have them."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)


class Gated(nn.Module):
    """Channels gate each other after the pooling, which no rule explains."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return vector * torch.roll(vector, 1, 1)


HEADS: dict[str, Callable[[], nn.Sequential]] = {
    "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    "softmax": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2), nn.Softmax(1)),
    "max": lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    "flattened": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 6 * 4, 2)),
    "two layers": lambda: nn.Sequential(
        nn.AvgPool2d((4, 6)), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 2)
    ),
    "smooth": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Hardswish(), nn.Linear(5, 5), nn.SiLU(),
        nn.Linear(5, 4), nn.LeakyReLU(0.1), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 2),
    ),
    "mean and max": lambda: nn.Sequential(MeanAndMax(), nn.BatchNorm1d(16), nn.Linear(16, 2)),
    "convolution": lambda: nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "dense convolution": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.Softmax(1)),
    "four classes": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.LogSoftmax(1)),
}  # fmt: skip


def network(name: str) -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(*backbone(), *HEADS[name]())
    for each in net.modules():
        if isinstance(each, nn.Linear):
            nn.init.normal_(each.weight, std=0.8)
        if isinstance(each, nn.BatchNorm1d):
            nn.init.normal_(each.bias)
    return net.eval()


def opened(module: nn.Module, wh: tuple[int, int] = WH) -> OpenedModel:
    with no_telemetry():
        graph = ov.convert_model(module.eval(), example_input=torch.rand(1, 3, wh[1], wh[0]))

    def run(batch: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [module(torch.from_numpy(batch)).numpy()]

    shape = (None, 3, wh[1], wh[0])
    return OpenedModel(
        path=Path("net.pt2"), framework="torch", sha256="0", graph=graph, shape=shape, run=run, runner="torch"
    )


def outputs(net: ImportedNet, picture: np.ndarray, fitted: FittedMap | None = None) -> dict[str, np.ndarray]:
    return runtime.compile_graph(classifier_of(net, fitted))(picture)


def log_odds(logits: torch.Tensor, bad: list[int]) -> torch.Tensor:
    rest = [number for number in range(logits.shape[1]) if number not in bad]
    return (logits[:, bad].logsumexp(1) - logits[:, rest].logsumexp(1))[0]


@pytest.mark.parametrize("name", HEADS)
def test_score_and_map_equal_those_of_autograd(name: str, rng: np.random.Generator) -> None:
    module = network(name)
    bad = [1, 3] if name == "four classes" else [1]
    net = imported_net(opened(module), Declaration(**STATED, bad_class=tuple(bad), head="softmax"))
    picture = rng.integers(0, 256, (*WH[::-1], 3)).astype(np.uint8)
    found = outputs(net, picture)

    layers = [each for each in module if not isinstance(each, (nn.Softmax, nn.LogSoftmax))]
    cut = 6 if name == "convolution" else 4
    features = nn.Sequential(*layers[:cut])(torch.from_numpy(prepared_array(picture, net.declared)))
    features.retain_grad()
    score = log_odds(nn.Sequential(*layers[cut:])(features), bad)
    score.backward()
    assert features.grad is not None
    cells = (features.grad * features).sum(1)[0].detach().numpy()

    assert found["score"][0] == pytest.approx(float(score), abs=1e-4)
    local = found["heatmap"][0] - found["heatmap"].mean()
    assert np.abs(local - cells.size * (cells - cells.mean())).max() < 1e-4
    assert found["feature_vector"].shape == (1, features.shape[1])
    assert found["logits"].tolist() == [[0.0, found["score"][0]]]
    if net.explained is not None and not net.explained.linear:
        assert found["heatmap"].mean() == pytest.approx(found["score"][0], abs=1e-4)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("bad", [0, 1])
def test_one_sigmoid_output_is_bad_at_one_or_at_zero(activated: bool, bad: int, rng: np.random.Generator) -> None:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)]
    torch.manual_seed(1)
    module = nn.Sequential(*backbone(), *head, *([nn.Sigmoid()] if activated else []))
    model = opened(module)
    net = imported_net(model, Declaration(**STATED, bad_class=(bad,)))
    picture = rng.integers(0, 256, (*WH[::-1], 3)).astype(np.uint8)
    output = model.run(prepared_array(picture, net.declared))[0]
    own, is_probability = own_score(output, net.head.activation, "sigmoid", net.bad)
    score = float(outputs(net, picture)["score"][0])
    assert is_probability is activated
    assert (1 / (1 + np.exp(-score)) if activated else score) == pytest.approx(own, abs=1e-5)
    assert (score > 0) == (
        (float(module(torch.from_numpy(prepared_array(picture, net.declared)))) > 0.5 * activated) == bool(bad)
    )


def test_a_saturated_softmax_keeps_its_logits(rng: np.random.Generator) -> None:
    module = network("softmax")
    with torch.no_grad():
        module[6].weight.mul_(3000)
    model = opened(module)
    net = imported_net(model, Declaration(**STATED, bad_class=(1,)))
    picture = rng.integers(0, 256, (*WH[::-1], 3)).astype(np.uint8)
    batch = prepared_array(picture, net.declared)
    with torch.no_grad():
        expected = float(log_odds(module[:7](torch.from_numpy(batch)), [1]))
    assert set(model.run(batch)[0].ravel().tolist()) == {0.0, 1.0}
    assert abs(expected) > 200
    assert outputs(net, picture)["score"][0] == pytest.approx(expected, rel=1e-5)


def test_a_net_without_a_map_keeps_score_and_features(rng: np.random.Generator) -> None:
    module = nn.Sequential(*backbone(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Gated(), nn.Linear(8, 2))
    net = imported_net(opened(module), Declaration(**STATED, bad_class=(1,), head="softmax"))
    found = outputs(net, rng.integers(0, 256, (*WH[::-1], 3)).astype(np.uint8))
    assert "Multiply" in net.why_not or "combines" in net.why_not
    assert "heatmap" not in found
    assert found["feature_vector"].shape == (1, 8)


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("resize", ["gonogo", "bilinear", "antialiased"])
def test_declared_preprocessing_is_the_same_in_graph_and_numpy(
    channels: str, layout: str, resize: str, rng: np.random.Generator
) -> None:
    from openvino import opset13 as ops

    depth = 1 if channels == "gray" else 3
    shape = [1, depth, 32, 48] if layout == "nchw" else [1, 32, 48, depth]
    entry = ops.parameter(shape, np.float32)
    rest = ops.constant(np.array([1, 2, 3]))
    model = ov.Model([ops.reduce_mean(ops.multiply(entry, entry), rest, keep_dims=True)], [entry], "mean")
    values = (10.0,) if channels == "gray" else (10.0, 20.0, 30.0)
    declared = Declaration(
        channels=channels, mean=values, scale=values, bad_class=(1,), layout=layout, resize=resize,
        resize_from=None if resize == "gonogo" else (110, 70),
    )  # fmt: skip
    shown = OpenedModel(
        path=Path("net.xml"), framework="openvino", sha256="0", graph=model, shape=tuple(shape), run=list, runner=""
    )
    net = imported_net(shown, declared)
    width, height = net.declared.frame_wh
    picture = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = float(np.square(prepared_array(picture, net.declared), dtype=np.float64).mean())
    assert outputs(net, picture)["score"][0] == pytest.approx(expected, rel=1e-4)


def test_everything_missing_is_asked_for_at_once() -> None:
    with pytest.raises(InputError, match="Missing") as caught:
        imported_net(opened(network("mean")), Declaration())
    for option in ("--channels", "--mean", "--scale", "--bad-class", "--head"):
        assert option in str(caught.value)
    assert "--size" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (64, 64)}, "takes pictures of 3 x 32 x 48"),
        ({"layout": "nhwc"}, "takes pictures of"),
        ({"channels": "gray"}, "takes pictures of"),
        ({"bad_class": (2,)}, "from 0 to 1"),
        ({"bad_class": ("scratch",)}, "from 0 to 1"),
        ({"bad_class": (0, 1)}, "all 2"),
        ({"classes": ("a", "b", "c")}, "expected 2 names"),
        ({"head": "sigmoid", "bad_class": (0, 1)}, "all 2"),
        ({"output": "other"}, "--output"),
    ],
)
def test_a_declaration_that_contradicts_the_model_is_refused(change: dict[str, Any], message: str) -> None:
    stated = {**STATED, "bad_class": (1,), "head": "softmax"} | change
    with pytest.raises(InputError, match=message):
        imported_net(opened(network("mean")), Declaration(**stated))


@pytest.mark.parametrize(
    "stated",
    [
        {"mean": (0.485, 0.456, 0.406)},
        {"scale": (0.0,)},
        {"mean": (1.0, 2.0)},
        {"resize": "bilinear"},
        {"resize_from": (64, 64)},
        {"classes": ("a", "a")},
        {"colour": "rgb"},
    ],
)
def test_an_implausible_declaration_is_refused(stated: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic's own
        Declaration.model_validate(stated)


def test_a_ridge_fit_finds_the_channels_that_make_the_score(rng: np.random.Generator) -> None:
    features = rng.normal(size=(60, 100)).astype(np.float32)
    scores = features[:, 3] * 2.0 - features[:, 7] + 5.0
    fitted = fit_score(features, scores.astype(np.float64), np.arange(60) % 5)
    assert fitted.r2 > 0.4
    assert set(np.argsort(-np.abs(fitted.weight))[:2].tolist()) == {3, 7}
    noise = fit_score(features, rng.normal(size=60), np.arange(60) % 5)
    assert noise.r2 < 0.2


class Spots(nn.Module):
    """Finds dark spots: blurs the picture and looks how dark it gets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blur = nn.Conv2d(3, 4, 8, 4, 2)
        self.mix = nn.Conv2d(4, 8, 3, 2, 1)
        self.dense = nn.Linear(8, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.mix(torch.relu(self.blur(pictures))))
        return torch.softmax(self.dense(maps.mean((2, 3))), 1)


@pytest.fixture(scope="module")
def spots(discs: Dataset) -> Spots:
    """Trained for a second on the discs."""
    from gonogo.source import TrainingSource, labels

    train = discs.split(Split.TRAIN)
    pictures = np.stack(list(TrainingSource(dataset=discs, size_wh=WH).plain(train)))
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = torch.from_numpy(labels(train))
    net = Spots()
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.nll_loss(net(batch).clamp_min(1e-9).log(), wanted).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def spots_onnx(spots: Spots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written node by node, as torch's exporter takes seconds."""
    path = tmp_path_factory.mktemp("onnx") / "spots.onnx"
    weights = [numpy_helper.from_array(value.numpy(), name) for name, value in spots.state_dict().items()]
    weights.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("Conv", ["picture", "blur.weight", "blur.bias"], ["a"], strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "mix.weight", "mix.bias"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["last_map"]),
        helper.make_node("ReduceMean", ["last_map", "axes"], ["vector"], keepdims=0),
        helper.make_node("Gemm", ["vector", "dense.weight", "dense.bias"], ["dense"], transB=1),
        helper.make_node("Softmax", ["dense"], ["score"], axis=1),
    ]
    entry = helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, ["batch", 3, WH[1], WH[0]])
    result = helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "spots", [entry], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


DECLARED = Declaration(channels="rgb", mean=(127.5,), scale=(127.5,), classes=("good", "bad"), bad_class=("bad",))


@pytest.fixture(scope="module")
def command(
    spots_onnx: Path, discs: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, Any]]:
    """The command, and what it prints; its option overrides the file."""
    folder = tmp_path_factory.mktemp("imported")
    stated = folder / "spots.toml"
    lines = (
        'channels = "rgb"',
        "mean = [127.5]",
        "scale = [127.5]",
        'classes = ["good", "bad"]',
        'bad_class = ["good"]',
    )
    stated.write_text("\n".join(lines))
    words = ["import-model", str(spots_onnx), str(discs.root), "--out", str(folder / "spots.inspector"), "--json"]
    words += ["--preprocessing", str(stated), "--bad-class", "bad", "--max-escape", "0.1"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    return words, json.loads(run.stdout)


@pytest.fixture(scope="module")
def imported(command: tuple[list[str], dict[str, Any]]) -> Inspector:
    return Inspector.load(Path(command[1]["bundle"]))


@pytest.mark.slow
def test_the_command_reads_its_declaration_from_a_file(command: tuple[list[str], dict[str, Any]]) -> None:
    words, row = command
    assert row["framework"] == "onnx"
    assert row["largest_difference"] < 1e-4
    assert row["declared"]["bad_class"] == ["bad"]
    assert row["operating_point"]["escape"]["max_rate"] == 0.1
    assert isinstance(CliRunner().invoke(app, words).exception, InputError)  # the bundle exists


def test_an_onnx_model_becomes_a_certified_bundle(imported: Inspector, spots: Spots, discs: Dataset) -> None:
    manifest = imported.bundle.manifest
    origin = manifest.classifier.imported
    assert origin is not None
    assert origin.framework == "onnx"
    assert origin.compared_with.startswith("onnxruntime")
    assert origin.map == "exact"
    assert origin.map_layer == "last_map"
    assert manifest.training["parity"] < 1e-4
    assert manifest.golden
    assert imported.drift is not None
    assert imported.operating_point is not None
    test = list(discs.split(Split.TEST))
    verdicts = [imported.inspect_file(discs.path(sample))[1] for sample in test]
    scores = {
        label: [v.score for v, s in zip(verdicts, test, strict=True) if s.label == label] for label in ("good", "bad")
    }
    assert min(scores["bad"]) > max(scores["good"])
    heatmap = verdicts[0].heatmap
    assert heatmap is not None
    assert heatmap.mean() + imported.bias == pytest.approx(verdicts[0].score, abs=1e-4)
    assert "onnx" in (imported.path / bundle.MODEL_CARD).read_text()


def test_the_map_points_at_the_spot(imported: Inspector, discs: Dataset) -> None:
    from gonogo.evaluate import evaluate

    found = evaluate(imported, discs, (Split.TEST,))
    hits = [picture.pointing_hit for picture in found.pictures if picture.pointing_hit is not None]
    assert len(hits) > 10
    assert np.mean(hits) > 0.8


@pytest.mark.slow
def test_an_imported_bundle_is_quantized_through_the_gate(imported: Inspector, discs: Dataset, tmp_path: Path) -> None:
    options = QuantizingOptions(pictures=16, control=False, allowed=Allowed(flips=0.2, moves=0.3, pointing_loss=0.2))
    made = quantize_bundle(imported, discs, tmp_path / "int8.inspector", options)
    assert made.bundle.manifest.quantization is not None
    assert made.bundle.manifest.quantization.int8_layers == 2
    assert made.bundle.manifest.classifier.imported == imported.bundle.manifest.classifier.imported


def test_the_head_stays_in_full_precision(imported: Inspector) -> None:
    graph = ov.Core().read_model(*imported.bundle.graph(bundle.CLASSIFIER))
    kinds = {op.get_friendly_name().startswith(PREFIX): op.get_type_name() for op in graph.get_ops()}
    heads = [op for op in graph.get_ops() if op.get_friendly_name().startswith(PREFIX)]
    assert kinds
    assert "MatMul" in {op.get_type_name() for op in heads}
    assert "Convolution" not in {op.get_type_name() for op in heads}
    assert len({op.get_friendly_name() for op in graph.get_ops()}) == len(graph.get_ops())


@pytest.mark.slow
def test_torch_and_openvino_files_give_the_same_scores(
    spots: Spots, spots_onnx: Path, imported: Inspector, discs: Dataset, tmp_path: Path
) -> None:
    program = torch.export.export(spots, (torch.zeros(1, 3, *WH[::-1]),))
    torch.export.save(program, tmp_path / "spots.pt2")
    ov.save_model(ov.Core().read_model(spots_onnx), tmp_path / "spots.xml", compress_to_fp16=False)
    sample = discs.split(Split.TEST)[1]
    expected = imported.inspect_file(discs.path(sample))[1].score
    for name in ("spots.pt2", "spots.xml"):
        model = open_model(tmp_path / name)
        assert [side for side in model.shape if side is not None][-2:] == [32, 48]
        net = imported_net(model, DECLARED)
        picture = next(iter(source_of(discs).plain([sample])))
        assert outputs(net, picture)["score"][0] == pytest.approx(expected, abs=1e-4)
        own, _ = own_score(model.run(prepared_array(picture, net.declared))[0], "Softmax", "softmax", net.bad)
        assert own == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)


def source_of(dataset: Dataset) -> Any:
    from gonogo.source import TrainingSource

    return TrainingSource(dataset=dataset, size_wh=WH)


@pytest.mark.slow
def test_a_bundle_without_a_map_judges_reports_and_quantizes(
    discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Score: how bright the middle of the picture is, gated so that no map explains it."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 8, 4, 2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), Gated(), nn.Linear(4, 1)
    )
    with torch.no_grad():
        module[0].weight.fill_(-1 / 192)
        module[0].bias.fill_(0.3)
        module[5].weight.fill_(10.0)
    monkeypatch.setattr("gonogo.workflow.importing.open_model", lambda _: opened(module))
    stated = Declaration(channels="rgb", mean=(127.5,), scale=(127.5,), bad_class=(1,))
    out = tmp_path / "dark.inspector"
    made = import_model(Path("net.pt2"), discs, out, stated)
    assert made.origin.map == "none"
    assert made.origin.no_map

    photo = discs.path(discs.split(Split.TEST)[1])
    run = CliRunner().invoke(app, ["inspect", str(out), str(photo), "--heatmaps", str(tmp_path / "maps"), "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout.splitlines()[0])["heatmap_file"] is None
    assert not list(tmp_path.glob("maps/*"))
    judge = Inspector.load(out)
    verdict = judge.inspect_file(photo)[1]
    assert verdict.state is not State.FAULT
    assert verdict.heatmap is None
    run = CliRunner().invoke(app, ["evaluate", str(out), str(discs.root), "--report", str(tmp_path / "report.html")])
    assert run.exit_code in (0, 1), run.output
    assert "no heat map" in (tmp_path / "report.html").read_text()
    graph = to_int8(
        ov.Core().read_model(*judge.bundle.graph(bundle.CLASSIFIER)),
        list(source_of(discs).plain(discs.split(Split.VAL)[:8])),
    )
    assert graph.int8_layers == 1


def test_a_map_is_fitted_to_a_named_layer(spots_onnx: Path, discs: Dataset) -> None:
    net = imported_net(open_model(spots_onnx), DECLARED)
    samples = discs.split(Split.VAL)
    score = fit_map(net, "b", source_of(discs), samples)
    assert 0.2 < score.r2 <= 1
    picture = next(iter(source_of(discs).plain([samples[1]])))
    found = outputs(net, picture, FittedMap(layer=net.layer("b"), weight=score.weight))
    assert found["heatmap"].shape == (1, 8, 12)
    assert found["heatmap"].mean() == pytest.approx(found["score"][0], abs=1e-4)
    net = imported_net(open_model(spots_onnx), DECLARED)
    with pytest.raises(InputError, match=r"last_map  8 x 4 x 6"):
        net.layer("nothing")


def test_swapped_classes_are_noticed(spots_onnx: Path, discs: Dataset, tmp_path: Path) -> None:
    swapped = DECLARED.model_copy(update={"bad_class": ("good",)})
    with pytest.raises(UnfitError, match="swapped"):
        import_model(spots_onnx, discs, tmp_path / "swapped.inspector", swapped)
    assert not list(tmp_path.glob("*.inspector*"))


@pytest.mark.slow
def test_a_graph_that_differs_from_its_framework_is_refused(
    spots_onnx: Path, discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    model = open_model(spots_onnx)
    other = replace(model, run=lambda batch: [model.run(batch)[0] * 0.99 + 0.005])
    monkeypatch.setattr("gonogo.workflow.importing.open_model", lambda _: other)
    with pytest.raises(ParityError, match="onnxruntime"):
        import_model(spots_onnx, discs, tmp_path / "off.inspector", DECLARED)
    assert not list(tmp_path.glob("off.inspector"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone.onnx", None, "no such file"),
        ("bad.onnx", b"no", "cannot read"),
        ("bad.pt2", b"no", "cannot read"),
        ("weights.pth", b"no", "torch.export"),
        ("alone.xml", b"<net/>", "alone.bin"),
        ("picture.png", b"no", "expected a .keras"),
    ],
)
def test_files_that_are_no_model_are_refused(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_model(tmp_path / name)


def test_without_keras_the_message_names_the_line_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gonogo.imported.reading._installed", lambda _: False)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    (tmp_path / "net.keras").write_bytes(b"")
    with pytest.raises(MissingExtraError, match="export"):
        open_model(tmp_path / "net.keras")

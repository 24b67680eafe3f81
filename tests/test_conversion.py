"""The way of a network from torch to INT8: what each step costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as op

from command_kit import run_here
from gonogo import bundle
from gonogo.dataset import Dataset, Split, fingerprint
from gonogo.errors import GonogoError, InputError
from gonogo.quantization import CountedRate, Quantization
from gonogo.workflow.conversion import follow_conversion, rounding_to_bf16
from gonogo.workflow.torch_graph import TorchGraph
from tiny_bundle import make_parts
from weighted_bundle import make_weighted_bundle

SIDE = 16


def run(model: ov.Model, picture: np.ndarray) -> dict[str, np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(picture[None])
    return {output.any_name: found[output] for output in compiled.outputs}


def constant(*shape: int) -> ov.Node:
    return op.constant(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


def windowed(planes: ov.Node) -> ov.Node:
    strided = op.convolution(planes, constant(6, 3, 3, 3), [2, 2], [0, 0], [1, 1], [1, 1], auto_pad="same_upper")
    grouped = op.group_convolution(strided, constant(6, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    pooled = op.max_pool(op.clamp(grouped, 0.0, 6.0), [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    return op.avg_pool(pooled, [1, 1], [1, 1], [1, 1], [3, 3], exclude_pad=True)


def arranged(planes: ov.Node) -> ov.Node:
    flat = op.reshape(planes, op.constant(np.array([3, -1])), special_zero=False)
    product = op.matmul(flat, flat, False, True)
    best = op.topk(product, op.constant(np.int32(2)), 1, "max", "value").output(0)
    joined = op.concat([best, op.sqrt(op.maximum(product, op.constant(np.float32(0.0))))], axis=1)
    return op.unsqueeze(op.reduce_max(joined, op.constant(np.array([1])), keep_dims=True), op.constant(np.array([0])))


@pytest.mark.parametrize("made", [windowed, arranged])
def test_the_stored_operations_give_the_same_numbers_in_torch(made: Callable[[ov.Node], ov.Node]) -> None:
    picture = op.parameter([1, SIDE, SIDE, 3], np.uint8, name="picture")
    planes = op.divide(op.transpose(op.convert(picture, "f32"), op.constant(np.array([0, 3, 1, 2]))), constant(1))
    last = made(planes)
    last.output(0).get_tensor().set_names({"score"})
    model = ov.Model([last], [picture], "made")
    frame = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    expected = run(model, frame)["score"]
    np.testing.assert_allclose(TorchGraph(model)(frame)["score"], expected, rtol=1e-4, atol=1e-3)


def test_an_operation_that_torch_does_not_run_is_named() -> None:
    picture = op.parameter([1, SIDE, SIDE, 3], np.uint8, name="picture")
    last = op.erf(op.convert(picture, "f32"))
    with pytest.raises(InputError, match="found Erf"):
        TorchGraph(ov.Model([last], [picture], "strange"))


def test_rounding_is_that_of_bf16() -> None:
    given = op.parameter([1, 500], np.float32, name="given")
    weights = np.random.default_rng(2).normal(size=(500, 1)).astype(np.float32)
    total = op.add(op.matmul(given, op.constant(weights), False, False), op.constant(np.float32(0.0)))
    total.output(0).get_tensor().set_names({"total"})
    rounded = rounding_to_bf16(ov.Model([total], [given], "product"))
    row = np.random.default_rng(3).normal(size=(1, 500)).astype(np.float32)
    halves = (torch.from_numpy(each).bfloat16().double() for each in (row, weights))
    first, second = halves
    expected = (first @ second).bfloat16().item()
    assert run(rounded, row[0])["total"].item() == expected


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_parts(tmp_path_factory.mktemp("parts") / "set", np.random.default_rng(1))


@pytest.fixture(scope="module")
def full(parts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = make_weighted_bundle(tmp_path_factory.mktemp("bundle") / "full.inspector", parts)
    stated = fingerprint(parts, parts.split(Split.TRAIN, Split.VAL))
    return bundle.write_manifest(opened.root, opened.manifest.model_copy(update={"data_fingerprint": stated})).root


@pytest.mark.slow
def test_each_step_states_size_differences_and_auroc(full: Path, parts: Dataset) -> None:
    ended = run_here(["bundle", "graph", str(full), "--data", str(parts.root), "--json"])
    assert ended.code == 0, ended.err
    reference, exact, halved = json.loads(ended.out)["steps"]
    assert [reference["name"], exact["name"], halved["name"]] == ["torch", "FP32", "BF16"]
    assert reference["from_before"] is None
    assert exact["from_first"]["largest"] < 1e-3
    assert exact["from_first"]["largest"] <= halved["from_first"]["largest"]
    assert exact["size_bytes"] == sum((full / f"classifier{suffix}").stat().st_size for suffix in (".xml", ".bin"))
    assert reference["pictures"] == len(parts.split(Split.TEST))
    assert abs(reference["auroc"] - halved["auroc"]) < 0.05
    text = run_here(["bundle", "graph", str(full), "--data", str(parts.root)]).out
    assert "changed verdicts" in text


def test_bundles_that_are_no_source_and_its_int8_are_refused(full: Path, parts: Dataset) -> None:
    opened = bundle.read_bundle(full)
    with pytest.raises(InputError, match="expected the INT8 bundle"):
        follow_conversion(opened, opened, parts)
    rate = CountedRate(count=0, of=1, at_most=1.0)
    facts = {"source_sha256": "0" * 64, "arithmetic": "int8", "int8_layers": 1, "float_layers": 0, "nncf": "3"}
    quantization = Quantization.model_construct(**facts, flips=rate, moves=rate)
    manifest = opened.manifest.model_copy(update={"quantization": quantization})
    quantized = bundle.Bundle(root=full, manifest=manifest, sha256=opened.sha256, digests=opened.digests)
    with pytest.raises(InputError, match="Add its source with --against"):
        follow_conversion(quantized, None, parts)


def test_a_data_set_that_the_bundle_was_not_trained_on_is_refused(full: Path, tmp_path: Path) -> None:
    other = make_parts(tmp_path / "other", np.random.default_rng(9))
    with pytest.raises(GonogoError, match="data set"):
        follow_conversion(bundle.read_bundle(full), None, other)

"""Builds the classifier as one OpenVINO graph: backbone, evidence, score and map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo.evidence.cells import SHARPNESS, CellEvidence
from gonogo.evidence.context import ContextEvidence
from gonogo.evidence.judge import Weighted
from gonogo.evidence.kinds import DefectKinds
from gonogo.evidence.memory import NEAREST, MemoryEvidence, counted_cells
from gonogo.evidence.nodes import axes, constant, repeated, summed
from gonogo.evidence.zoned_graph import CELLS_INPUT, zoned_nodes

PREFIX = "evidence/"
"""Name prefix of all operations after the backbone; quantization leaves them in FP32."""


def classifier_graph(features: ov.Model, weighted: Weighted, *, labels: tuple[str, str]) -> ov.Model:
    """Add the evidence to a backbone's graph.

    Outputs: ``logits`` (1 x 2), ``score`` (1), ``heatmap`` (1 x rows x columns), ``feature_vector`` (1 x channels) and
    ``evidence`` (1 x kinds x rows x columns), whose maps add up to ``heatmap``. With defect kinds, there is also
    ``kinds`` (1 x defect kinds), their logits relative to a part without a defect.

    Args:
        features: Graph from ``frame`` to ``stride_8``, ``stride_16`` and ``stride_32``, see `gonogo.backbone.Backbone`.
        weighted: The fitted evidence.
        labels: Names of the two classes, for tools built on Model API.
    """
    of_backbone = {op.get_friendly_name() for op in features.get_ops()}
    maps = [features.output(f"stride_{stride}").get_node().input_value(0) for stride in (8, 16, 32)]
    on_grid = ops.concat([summed(maps[0], 0.25), maps[1], repeated(maps[2])], axis=1)
    inputs = [*features.get_parameters()]
    if weighted.zone_scales:
        numbers = _numbers(weighted, on_grid)
        inputs += [numbers] if weighted.numbers is None else []
        made = zoned_nodes(weighted, maps, _same_in_every_zone(weighted, on_grid), numbers)
        evidence, score, vector = made.evidence, made.score, made.means
        kind_features = ops.concat([made.means, made.highest], axis=1)
    else:
        evidence, score = _whole(weighted, maps, on_grid)
        vector = ops.concat([ops.reduce_mean(each, axes(2, 3), keep_dims=False) for each in maps], axis=1)
        highest = [ops.reduce_max(each, axes(2, 3), keep_dims=False) for each in maps]
        kind_features = ops.concat([vector, *highest], axis=1)
    stacked = ops.concat(evidence, axis=1)
    heatmap = ops.reduce_sum(stacked, axes(1), keep_dims=False)
    column = ops.unsqueeze(score, axes(1))
    logits = ops.concat([ops.multiply(column, constant(0.0)), column], axis=1)
    results = []
    # Logits first, because Model API reads the classes from the first output.
    outputs = {"logits": logits, "score": score, "heatmap": heatmap, "feature_vector": vector, "evidence": stacked}
    if weighted.inspects:
        outputs["zones"] = made.zone_scores
    if weighted.defect_kinds is not None:
        outputs["kinds"] = _defect_kinds(weighted.defect_kinds, kind_features)
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    whole = ov.Model(results, inputs, "gonogo")
    for op in whole.get_ops():
        if op.get_friendly_name() not in of_backbone:
            op.set_friendly_name(PREFIX + op.get_friendly_name())
    describe_classifier(whole, labels)
    return whole


def _numbers(weighted: Weighted, on_grid: ov.Node) -> ov.Node:
    """The zone of every cell: a constant, or for windows an input of the graph."""
    if weighted.numbers is not None:
        return ops.constant(weighted.numbers[None])
    _, _, rows, columns = on_grid.shape
    numbers = ops.parameter([1, rows, columns], np.uint8, name=CELLS_INPUT)
    numbers.output(0).get_tensor().set_names({CELLS_INPUT})
    return numbers


def _same_in_every_zone(weighted: Weighted, on_grid: ov.Node) -> dict[str, ov.Node]:
    """Weighted maps of the kinds of evidence that do not depend on the other cells."""
    found = {"memory": _memory(weighted.memory, weighted.memory_weight, on_grid)}
    if weighted.cells is not None:
        found["cells"] = _cells(weighted.cells, weighted.cells_weight, on_grid)
    return found


def _whole(weighted: Weighted, maps: Sequence[ov.Output], on_grid: ov.Node) -> tuple[list[ov.Node], ov.Node]:
    """Weighted maps of all kinds, pooled over the whole picture, and the score."""
    evidence, pooled = [], []
    for kind in weighted.kinds:
        node, value = _evidence(kind, weighted, maps, on_grid)
        evidence.append(node)
        pooled.append(value)
    total = pooled[0]
    for value in pooled[1:]:
        total = ops.add(total, value)
    return evidence, ops.add(total, constant([weighted.bias]))


def _evidence(kind: str, weighted: Weighted, maps: Sequence[ov.Output], on_grid: ov.Node) -> tuple[ov.Node, ov.Node]:
    """Weighted map of a kind (1 x 1 x rows x columns), and its contribution to the score (1)."""
    if kind == "context":
        assert weighted.context is not None
        node = _context(weighted.context, weighted.context_weight, maps)
        return node, ops.reduce_sum(node, axes(1, 2, 3), keep_dims=False)
    if kind == "cells":
        assert weighted.cells is not None
        node = _cells(weighted.cells, weighted.cells_weight, on_grid)
        return node, _log_mean_exp(node, weighted.cells_weight)
    node = _memory(weighted.memory, weighted.memory_weight, on_grid)
    flat = ops.reshape(node, ops.constant(np.array([1, -1])), False)
    count = counted_cells(int(flat.shape[1]))
    largest = ops.topk(flat, ops.constant(np.int32(count)), 1, "max", "value")
    return node, ops.reduce_mean(largest.output(0), axes(1), keep_dims=False)


def _context(context: ContextEvidence, weight: float, maps: Sequence[ov.Output]) -> ov.Node:
    cuts = np.cumsum([each.shape[1] for each in maps])[:-1]
    grids = []
    for features, mean, highest in zip(
        maps, np.split(context.mean_weight, cuts), np.split(context.max_weight, cuts), strict=True
    ):
        grids.append(_contributions(features, weight * mean, weight * highest))
    return ops.add(ops.add(summed(grids[0], 1.0), grids[1]), repeated(ops.multiply(grids[2], constant(0.25))))


def _contributions(features: ov.Output, mean_weight: np.ndarray, max_weight: np.ndarray) -> ov.Node:
    """Contribution of each cell of one feature map to the logit: 1 x 1 x rows x columns."""
    _, channels, rows, columns = features.shape
    highest = ops.reduce_max(features, axes(2, 3), keep_dims=True)
    is_highest = ops.convert(ops.equal(features, highest), np.float32)
    count = ops.reduce_sum(is_highest, axes(2, 3), keep_dims=True)
    share = ops.divide(ops.multiply(highest, constant(max_weight[None, :, None, None])), count)
    cells = ops.constant(np.array([1, channels, rows * columns]))
    of_highest = ops.matmul(
        ops.reshape(share, ops.constant(np.array([1, 1, channels])), False),
        ops.reshape(is_highest, cells, False),
        False,
        False,
    )
    of_mean = ops.matmul(
        constant(mean_weight[None, None] / (rows * columns)), ops.reshape(features, cells, False), False, False
    )
    return ops.reshape(ops.add(of_highest, of_mean), ops.constant(np.array([1, 1, rows, columns])), False)


def _memory(memory: MemoryEvidence, weight: float, on_grid: ov.Node) -> ov.Node:
    channels = memory.channels
    _, total, rows, columns = on_grid.shape
    own = on_grid
    if (channels.start, channels.stop) != (0, total):
        own = ops.slice(on_grid, *(ops.constant(np.array([value])) for value in (channels.start, channels.stop, 1, 1)))
    smooth = ops.avg_pool(own, [1, 1], [1, 1], [1, 1], [3, 3], True)
    flat = ops.reshape(smooth, ops.constant(np.array([1, len(memory.centre), rows * columns])), False)
    cells = ops.divide(
        ops.subtract(flat, constant(memory.centre[None, :, None])), constant(memory.scale[None, :, None])
    )
    coordinates = cells
    if memory.directions is not None:
        coordinates = ops.matmul(constant(memory.directions[None]), cells, False, False)
    products = ops.matmul(constant(-2 * memory.patches[None]), coordinates, False, False)  # 1 x kept x cells
    nearest = ops.reduce_min(
        ops.add(products, constant((memory.patches**2).sum(1)[None, :, None])), axes(1), keep_dims=True
    )
    lengths = ops.reduce_sum(ops.multiply(cells, cells), axes(1), keep_dims=True)
    distances = ops.sqrt(ops.maximum(ops.add(nearest, lengths), constant(NEAREST**2)))
    return ops.reshape(ops.multiply(distances, constant(weight)), ops.constant(np.array([1, 1, rows, columns])), False)


def _cells(cells: CellEvidence, weight: float, on_grid: ov.Node) -> ov.Node:
    kernel = constant((weight * cells.weight)[None, :, None, None])
    return ops.convolution(on_grid, kernel, [1, 1], [0, 0], [0, 0], [1, 1])


def _log_mean_exp(node: ov.Node, weight: float) -> ov.Node:
    sharpness = np.float32(SHARPNESS / weight)
    scaled = ops.multiply(node, constant(sharpness))
    highest = ops.reduce_max(scaled, axes(1, 2, 3), keep_dims=True)
    mean = ops.reduce_mean(ops.exp(ops.subtract(scaled, highest)), axes(1, 2, 3), keep_dims=False)
    return ops.divide(ops.add(ops.log(mean), ops.squeeze(highest, axes(1, 2, 3))), constant(sharpness))


def _defect_kinds(kinds: DefectKinds, vector: ov.Node) -> ov.Node:
    return ops.add(ops.matmul(vector, constant(kinds.weight), False, True), constant(kinds.bias[None]))


def describe_classifier(graph: ov.Model, labels: tuple[str, str]) -> None:
    """Add Model API metadata; only RGB order and resizing are left to the caller."""
    for key, value in classifier_info(labels).items():
        graph.set_rt_info(value, ["model_info", key])


def classifier_info(labels: tuple[str, str]) -> dict[str, str]:
    """Return what Model API must know of a classifier with two classes."""
    return {
        "model_type": "Classification",
        "labels": " ".join(labels),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "True",
        "resize_type": "standard",
        "interpolation_mode": "LINEAR",
        "reverse_input_channels": "True",  # these tools use OpenCV's BGR
        "mean_values": "",
        "scale_values": "",
    }

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
    on_grid = ops.concat([_summed(maps[0], 0.25), maps[1], _repeated(maps[2])], axis=1)
    evidence, pooled = [], []
    for kind in weighted.kinds:
        node, value = _evidence(kind, weighted, maps, on_grid)
        evidence.append(node)
        pooled.append(value)
    total = pooled[0]
    for value in pooled[1:]:
        total = ops.add(total, value)
    score = ops.add(total, _constant([weighted.bias]))
    stacked = ops.concat(evidence, axis=1)
    heatmap = ops.reduce_sum(stacked, _axes(1), keep_dims=False)
    vector = ops.concat([ops.reduce_mean(each, _axes(2, 3), keep_dims=False) for each in maps], axis=1)
    column = ops.unsqueeze(score, _axes(1))
    logits = ops.concat([ops.multiply(column, _constant(0.0)), column], axis=1)
    results = []
    # Logits first, because Model API reads the classes from the first output.
    outputs = {"logits": logits, "score": score, "heatmap": heatmap, "feature_vector": vector, "evidence": stacked}
    if weighted.defect_kinds is not None:
        outputs["kinds"] = _defect_kinds(weighted.defect_kinds, maps, vector)
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    whole = ov.Model(results, features.get_parameters(), "gonogo")
    for op in whole.get_ops():
        if op.get_friendly_name() not in of_backbone:
            op.set_friendly_name(PREFIX + op.get_friendly_name())
    describe_classifier(whole, labels)
    return whole


def _evidence(kind: str, weighted: Weighted, maps: Sequence[ov.Output], on_grid: ov.Node) -> tuple[ov.Node, ov.Node]:
    """Weighted map of a kind (1 x 1 x rows x columns), and its contribution to the score (1)."""
    if kind == "context":
        assert weighted.context is not None
        node = _context(weighted.context, weighted.context_weight, maps)
        return node, ops.reduce_sum(node, _axes(1, 2, 3), keep_dims=False)
    if kind == "cells":
        assert weighted.cells is not None
        return _cells(weighted.cells, weighted.cells_weight, on_grid)
    node = _memory(weighted.memory, weighted.memory_weight, on_grid)
    flat = ops.reshape(node, ops.constant(np.array([1, -1])), False)
    count = counted_cells(int(flat.shape[1]))
    largest = ops.topk(flat, ops.constant(np.int32(count)), 1, "max", "value")
    return node, ops.reduce_mean(largest.output(0), _axes(1), keep_dims=False)


def _context(context: ContextEvidence, weight: float, maps: Sequence[ov.Output]) -> ov.Node:
    cuts = np.cumsum([each.shape[1] for each in maps])[:-1]
    grids = []
    for features, mean, highest in zip(
        maps, np.split(context.mean_weight, cuts), np.split(context.max_weight, cuts), strict=True
    ):
        grids.append(_contributions(features, weight * mean, weight * highest))
    return ops.add(ops.add(_summed(grids[0], 1.0), grids[1]), _repeated(ops.multiply(grids[2], _constant(0.25))))


def _contributions(features: ov.Output, mean_weight: np.ndarray, max_weight: np.ndarray) -> ov.Node:
    """Contribution of each cell of one feature map to the logit: 1 x 1 x rows x columns."""
    _, channels, rows, columns = features.shape
    highest = ops.reduce_max(features, _axes(2, 3), keep_dims=True)
    is_highest = ops.convert(ops.equal(features, highest), np.float32)
    count = ops.reduce_sum(is_highest, _axes(2, 3), keep_dims=True)
    share = ops.divide(ops.multiply(highest, _constant(max_weight[None, :, None, None])), count)
    cells = ops.constant(np.array([1, channels, rows * columns]))
    of_highest = ops.matmul(
        ops.reshape(share, ops.constant(np.array([1, 1, channels])), False),
        ops.reshape(is_highest, cells, False),
        False,
        False,
    )
    of_mean = ops.matmul(
        _constant(mean_weight[None, None] / (rows * columns)), ops.reshape(features, cells, False), False, False
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
        ops.subtract(flat, _constant(memory.centre[None, :, None])), _constant(memory.scale[None, :, None])
    )
    coordinates = cells
    if memory.directions is not None:
        coordinates = ops.matmul(_constant(memory.directions[None]), cells, False, False)
    products = ops.matmul(_constant(-2 * memory.patches[None]), coordinates, False, False)  # 1 x kept x cells
    nearest = ops.reduce_min(
        ops.add(products, _constant((memory.patches**2).sum(1)[None, :, None])), _axes(1), keep_dims=True
    )
    lengths = ops.reduce_sum(ops.multiply(cells, cells), _axes(1), keep_dims=True)
    distances = ops.sqrt(ops.maximum(ops.add(nearest, lengths), _constant(NEAREST**2)))
    return ops.reshape(ops.multiply(distances, _constant(weight)), ops.constant(np.array([1, 1, rows, columns])), False)


def _cells(cells: CellEvidence, weight: float, on_grid: ov.Node) -> tuple[ov.Node, ov.Node]:
    kernel = _constant((weight * cells.weight)[None, :, None, None])
    node = ops.convolution(on_grid, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    sharpness = np.float32(SHARPNESS / weight)
    scaled = ops.multiply(node, _constant(sharpness))
    highest = ops.reduce_max(scaled, _axes(1, 2, 3), keep_dims=True)
    mean = ops.reduce_mean(ops.exp(ops.subtract(scaled, highest)), _axes(1, 2, 3), keep_dims=False)
    pooled = ops.divide(ops.add(ops.log(mean), ops.squeeze(highest, _axes(1, 2, 3))), _constant(sharpness))
    return node, pooled


def _defect_kinds(kinds: DefectKinds, maps: Sequence[ov.Output], means: ov.Node) -> ov.Node:
    highest = [ops.reduce_max(each, _axes(2, 3), keep_dims=False) for each in maps]
    vector = ops.concat([means, *highest], axis=1)
    return ops.add(ops.matmul(vector, _constant(kinds.weight), False, True), _constant(kinds.bias[None]))


def _summed(fine: ov.Output | ov.Node, factor: float) -> ov.Node:
    """Sum of the four cells that form one cell of the next coarser grid, times a factor."""
    means = ops.avg_pool(fine, [2, 2], [0, 0], [0, 0], [2, 2], True)
    return means if factor == 0.25 else ops.multiply(means, _constant(4.0 * factor))


def _repeated(coarse: ov.Output | ov.Node) -> ov.Node:
    """Repeat every cell as four cells of the next finer grid."""
    _, _, rows, columns = coarse.shape
    return ops.interpolate(
        coarse,
        ops.constant(np.array([2 * rows, 2 * columns])),
        "nearest",
        "sizes",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=_axes(2, 3),
    )


def _constant(values: object) -> ov.Node:
    return ops.constant(np.asarray(values, dtype=np.float32))


def _axes(*axes: int) -> ov.Node:
    return ops.constant(np.array(axes))


def describe_classifier(graph: ov.Model, labels: tuple[str, str]) -> None:
    """Add Model API metadata; only RGB order and resizing are left to the caller."""
    facts = {
        "model_type": "Classification",
        "labels": " ".join(labels),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "True",
        "resize_type": "standard",
        "interpolation": "LINEAR",
        "reverse_input_channels": "True",  # these tools use OpenCV's BGR
        "mean_values": "",
        "scale_values": "",
    }
    for key, value in facts.items():
        graph.set_rt_info(value, ["model_info", key])

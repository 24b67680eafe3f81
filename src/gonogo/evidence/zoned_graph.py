"""Evidence by zone as an OpenVINO graph; `gonogo.evidence.judge.judge_reference` computes the same in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo.evidence.cells import SHARPNESS
from gonogo.evidence.context import ContextEvidence
from gonogo.evidence.judge import Weighted
from gonogo.evidence.memory import counted_cells
from gonogo.evidence.nodes import axes, constant, repeated, summed
from gonogo.evidence.zoned import ABSENT
from gonogo.zoning import LEFT_OUT

_FAR = -1e30
"""Stands for minus infinity where a maximum skips a cell."""
CELLS_INPUT = "cells"
"""Name of the graph input with the zone of every cell, where windows are judged."""


@dataclass(frozen=True, kw_only=True)
class ZonedNodes:
    """What a graph with zones computes."""

    score: ov.Node
    """1."""
    zone_scores: ov.Node | None
    """1 x zones; ``None`` without inspect zones."""
    evidence: list[ov.Node]
    """Weighted map of every kind, 1 x 1 x rows x columns."""
    means: ov.Node
    """Mean of every channel over the cells that are not left out, 1 x channels."""
    highest: ov.Node
    """Maximum of every channel over these cells, 1 x channels."""


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The cells of a zone on one grid."""

    there: ov.Node
    """Boolean, 1 x 1 x rows x columns."""
    ones: ov.Node
    """The same as 0 and 1."""
    count: ov.Node
    """Number of cells, at least 1: 1 x 1 x 1 x 1."""
    any: ov.Node
    """Whether there is a cell: boolean, 1 x 1 x 1 x 1."""


def zoned_nodes(
    weighted: Weighted,
    maps: Sequence[ov.Output],
    raw: dict[str, ov.Node],
    numbers: ov.Node,
) -> ZonedNodes:
    """Build score and maps by zone.

    Args:
        weighted: The fitted evidence, with the scales of its zones.
        maps: Feature maps of strides 8, 16 and 32.
        raw: Weighted maps of the kinds that are the same in every zone: ``memory`` and ``cells``.
        numbers: Zone of every cell of the stride-16 grid, uint8, 1 x rows x columns.
    """
    flat = ops.unsqueeze(numbers, axes(1))
    grids = [maps[0], maps[1], repeated(maps[2])]
    kept = _cells(ops.not_equal(flat, _number(LEFT_OUT)))
    sums: dict[str, ov.Node] = {}
    scores = []
    for number, scale in enumerate(weighted.zone_scales, start=1):
        own = _cells(ops.equal(flat, _number(number)))
        total: ov.Node = constant([[[[weighted.bias]]]])
        for kind in weighted.kinds:
            if kind == "context":
                assert weighted.context is not None
                node = _context(weighted.context, weighted.context_weight, grids, own)
                pooled = ops.reduce_sum(node, axes(2, 3), keep_dims=True)
            else:
                node = ops.multiply(raw[kind], own.ones)
                pooled = _largest(raw[kind], own) if kind == "memory" else _log_sum_exp(raw[kind], own, weighted)
            total = ops.add(total, pooled)
            node = ops.multiply(node, constant(scale.factor))
            sums[kind] = ops.add(sums[kind], node) if kind in sums else node
        value = ops.add(ops.multiply(total, constant(scale.factor)), constant(scale.offset))
        scores.append(ops.select(own.any, value, constant(ABSENT)))
    stacked = ops.reshape(ops.concat(scores, axis=1), ops.constant(np.array([1, -1])), False)
    return ZonedNodes(
        score=ops.reduce_max(stacked, axes(1), keep_dims=False),
        zone_scores=stacked if weighted.inspects else None,
        evidence=[_cold_where_left_out(sums[kind], kept) for kind in weighted.kinds],
        means=_means(grids, kept),
        highest=ops.concat(
            [ops.reduce_max(_only(each, here), axes(2, 3), keep_dims=False) for each, here in _on(grids, kept)], axis=1
        ),
    )


def _cells(there: ov.Node) -> _Cells:
    ones = ops.convert(there, np.float32)
    count = ops.reduce_sum(ones, axes(2, 3), keep_dims=True)
    return _Cells(
        there=there, ones=ones, count=ops.maximum(count, constant(1.0)), any=ops.greater(count, constant(0.0))
    )


def _on(grids: Sequence[ov.Output | ov.Node], cells: _Cells) -> list[tuple[ov.Output | ov.Node, _Cells]]:
    """Each grid with the cells of a zone on it: the finest has four cells for one."""
    fine = _cells(ops.greater(repeated(cells.ones), constant(0.5)))
    return [(grids[0], fine), (grids[1], cells), (grids[2], cells)]


def _context(context: ContextEvidence, weight: float, grids: Sequence[ov.Output | ov.Node], own: _Cells) -> ov.Node:
    cuts = np.cumsum([each.shape[1] for each in grids])[:-1]
    found = []
    for (features, here), mean, highest in zip(
        _on(grids, own), np.split(context.mean_weight, cuts), np.split(context.max_weight, cuts), strict=True
    ):
        found.append(_contributions(features, here, weight * mean, weight * highest))
    return ops.add(ops.add(summed(found[0], 1.0), found[1]), found[2])


def _contributions(
    features: ov.Output | ov.Node, cells: _Cells, mean_weight: np.ndarray, max_weight: np.ndarray
) -> ov.Node:
    """Contribution of each cell of a zone to its context logit: 1 x 1 x rows x columns."""
    _, channels, rows, columns = features.shape
    shape = ops.constant(np.array([1, channels, rows * columns]))
    highest = ops.reduce_max(_only(features, cells), axes(2, 3), keep_dims=True)
    highest = ops.select(cells.any, highest, constant(0.0))
    is_highest = ops.multiply(ops.convert(ops.equal(features, highest), np.float32), cells.ones)
    count = ops.maximum(ops.reduce_sum(is_highest, axes(2, 3), keep_dims=True), constant(1.0))
    share = ops.divide(ops.multiply(highest, constant(max_weight[None, :, None, None])), count)
    of_highest = ops.matmul(
        ops.reshape(share, ops.constant(np.array([1, 1, channels])), False),
        ops.reshape(is_highest, shape, False),
        False,
        False,
    )
    own = ops.divide(ops.multiply(features, cells.ones), cells.count)
    of_mean = ops.matmul(constant(mean_weight[None, None]), ops.reshape(own, shape, False), False, False)
    return ops.reshape(ops.add(of_highest, of_mean), ops.constant(np.array([1, 1, rows, columns])), False)


def _largest(node: ov.Node, cells: _Cells) -> ov.Node:
    """Mean of the largest hundredth of the cells of a zone; how many that are is looked up by its number of cells."""
    total = int(np.prod(node.shape))
    most = counted_cells(total)
    values = ops.topk(
        ops.reshape(_only(node, cells), ops.constant(np.array([1, total])), False),
        ops.constant(np.int32(most)),
        1,
        "max",
        "value",
    ).output(0)
    table = ops.constant(np.array([counted_cells(count) for count in range(total + 1)], np.float32))
    number = ops.convert(ops.reshape(cells.count, ops.constant(np.array([1, 1])), False), np.int32)
    counted = ops.gather(table, number, ops.constant(np.array(0)))
    taken = ops.less(ops.constant(np.arange(most, dtype=np.float32)[None]), counted)
    total_taken = ops.reduce_sum(ops.select(taken, values, constant(0.0)), axes(1), keep_dims=True)
    return ops.reshape(ops.divide(total_taken, counted), ops.constant(np.array([1, 1, 1, 1])), False)


def _log_sum_exp(node: ov.Node, cells: _Cells, weighted: Weighted) -> ov.Node:
    sharpness = constant(SHARPNESS / weighted.cells_weight)
    values = ops.multiply(node, sharpness)
    highest = ops.reduce_max(_only(values, cells), axes(2, 3), keep_dims=True)
    below = ops.select(cells.there, ops.subtract(values, highest), constant(-200.0))
    mean = ops.divide(ops.reduce_sum(ops.multiply(ops.exp(below), cells.ones), axes(2, 3), keep_dims=True), cells.count)
    return ops.divide(ops.add(ops.log(ops.maximum(mean, constant(1e-30))), highest), sharpness)


def _means(grids: Sequence[ov.Output | ov.Node], kept: _Cells) -> ov.Node:
    found = []
    for features, here in _on(grids, kept):
        total = ops.reduce_sum(ops.multiply(features, here.ones), axes(2, 3), keep_dims=True)
        found.append(ops.divide(total, here.count))
    return ops.squeeze(ops.concat(found, axis=1), axes(2, 3))


def _cold_where_left_out(node: ov.Node, kept: _Cells) -> ov.Node:
    """Give the cells that are left out the lowest value of the others, so that they never look hot."""
    highest_of_negative = ops.reduce_max(_only(ops.multiply(node, constant(-1.0)), kept), axes(2, 3), keep_dims=True)
    return ops.select(kept.there, node, ops.multiply(highest_of_negative, constant(-1.0)))


def _only(features: ov.Output | ov.Node, cells: _Cells) -> ov.Node:
    """The features in the cells of a zone, and minus infinity elsewhere."""
    return ops.select(cells.there, features, constant(_FAR))


def _number(number: int) -> ov.Node:
    return ops.constant(np.array(number, np.uint8))

"""The heat map of a head: what each cell of the last feature map adds to the score, in the same forward pass.

Where a network ends in a pooling (or a flattening) of a feature map and dense layers, the derivative of the score by
every cell has a closed form. The map is that derivative times the cell, which for global average pooling and one dense
layer is the class-activation map (Zhou et al., CVPR 2016). No backward pass is needed: the derivative is part of the
graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo.errors import UnfitError
from gonogo.imported.heads import DefectLogit


class NoMapError(UnfitError):
    """The end of a network has no map in closed form; the message says which operation prevents it."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Contributions of the cells of the last feature maps to the score."""

    cells: ov.Node
    """1 x rows x columns; they add up to the score up to a rest."""
    features: tuple[ov.Output, ...]
    """The feature maps, with four axes."""
    linear: bool
    """Whether the rest is the same for all pictures."""


Step: TypeAlias = list[tuple[ov.Output, ov.Node]]
"""Inputs of an operation, each with the derivative of the score by it."""


def explain(head: ov.Output, found: DefectLogit) -> Explanation:
    """Follow the derivative of the score from the logits back to the feature maps.

    Raises:
        NoMapError: an operation on the way has no rule, or the feature maps have different sizes.
    """
    waiting: Step = [(head, _shaped(found.slope, head))]
    parts: list[tuple[ov.Output, ov.Node]] = []
    linear = found.linear
    while waiting:
        value, slope = waiting.pop()
        node = value.get_node()
        kind = node.get_type_name()
        if has_cells(value):
            parts.append((value, _cell_sums(value, slope)))
        elif kind in _BENDS:
            linear = False
            waiting.append((node.input_value(0), ops.multiply(slope, _BENDS[kind](node))))
        elif kind in _RULES:
            waiting += _RULES[kind](node, slope)
        elif kind != "Constant":
            raise NoMapError(f"the operation {kind} ({node.get_friendly_name()}) has no map in closed form")
    return Explanation(cells=_summed(parts), features=tuple(dict.fromkeys(value for value, _ in parts)), linear=linear)


def has_cells(value: ov.Output) -> bool:
    """Whether an output is a feature map with more than one cell."""
    if value.get_partial_shape().is_dynamic or len(value.shape) != 4:
        return False
    axis = channel_axis(value)
    return int(np.prod([side for place, side in enumerate(value.shape) if place not in (0, axis)])) > 1


def channel_axis(value: ov.Output) -> int:
    """The axis of the channels of a feature map: 1, or 3 after it was transposed to channels last."""
    while True:
        node = value.get_node()
        kind = node.get_type_name()
        if kind == "Transpose":
            order = constant_of(node.input_value(1))
            return 3 if order is not None and order.tolist() == [0, 2, 3, 1] else 1
        if kind not in _CELL_BY_CELL:
            return 1
        variable = [each for each in node.input_values() if constant_of(each) is None and len(each.shape) == 4]
        if not variable:
            return 1
        value = variable[0]


def constant_of(value: ov.Output) -> np.ndarray | None:
    """The numbers of a constant, possibly stored in another type; ``None`` for anything else."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        inner = constant_of(node.input_value(0))
        return None if inner is None else inner.astype(value.get_element_type().to_dtype())
    return np.array(node.data) if node.get_type_name() == "Constant" else None


def _cell_sums(value: ov.Output, slope: ov.Node) -> ov.Node:
    """Sum over the channels of derivative times feature: 1 x rows x columns."""
    return ops.reduce_sum(ops.multiply(value, slope), _axes(channel_axis(value)), keep_dims=False)


def _summed(parts: list[tuple[ov.Output, ov.Node]]) -> ov.Node:
    if not parts:
        raise NoMapError("the logits do not depend on a feature map")
    if len({tuple(cells.shape) for _, cells in parts}) > 1:
        raise NoMapError("the score depends on feature maps of different sizes")
    total = parts[0][1]
    for _, cells in parts[1:]:
        total = ops.add(total, cells)
    return total


def _matmul(node: ov.Node, slope: ov.Node) -> Step:
    facts, weight = node.get_attributes(), constant_of(node.input_value(1))
    if weight is None or weight.ndim != 2 or facts["transpose_a"]:
        raise NoMapError(f"the product {node.get_friendly_name()} is not one of a vector and fixed weights")
    weights = ops.constant(weight.astype(np.float32))
    value = node.input_value(0)
    return [(value, _shaped(ops.matmul(slope, weights, False, not facts["transpose_b"]), value))]


def _convolution(node: ov.Node, slope: ov.Node) -> Step:
    """A 1 x 1 convolution of a single cell, which is a dense layer."""
    weight, value = constant_of(node.input_value(1)), node.input_value(0)
    if weight is None or weight.shape[2:] != (1, 1):
        raise NoMapError(f"the convolution {node.get_friendly_name()} follows the pooling")
    flat = ops.reshape(slope, ops.constant(np.array([1, len(weight)])), False)
    back = ops.matmul(flat, ops.constant(weight[:, :, 0, 0].astype(np.float32)), False, False)
    return [(value, _shaped(back, value))]


def _sum(node: ov.Node, slope: ov.Node) -> Step:
    sign = ops.multiply(slope, ops.constant(np.float32(-1))) if node.get_type_name() == "Subtract" else slope
    both = zip(node.input_values(), (slope, sign), strict=True)
    return [(value, _same_shape(node, value, each)) for value, each in both if constant_of(value) is None]


def _scaled(node: ov.Node, slope: ov.Node) -> Step:
    first, second = node.input_values()
    constants = constant_of(first), constant_of(second)
    if node.get_type_name() == "Divide" and constants[1] is not None:
        return [(first, _same_shape(node, first, ops.divide(slope, _float(constants[1]))))]
    if node.get_type_name() == "Multiply" and (constants[0] is None) != (constants[1] is None):
        value, factor = (first, second) if constants[0] is None else (second, first)
        return [(value, _same_shape(node, value, ops.multiply(slope, _float32(factor))))]
    raise NoMapError(f"the operation {node.get_friendly_name()} combines two values that depend on the picture")


def _mean(node: ov.Node, slope: ov.Node) -> Step:
    value, axes = node.input_value(0), constant_of(node.input_value(1))
    if axes is None:
        raise NoMapError(f"the axes of {node.get_friendly_name()} are not fixed")
    kept = [1 if place in _positive(axes, value) else side for place, side in enumerate(value.shape)]
    wide = ops.reshape(slope, ops.constant(np.array(kept)), False)
    count = int(np.prod(value.shape)) // int(np.prod(kept))
    factor = 1.0 if node.get_type_name() == "ReduceSum" else 1.0 / count
    return [(value, _spread(ops.multiply(wide, ops.constant(np.float32(factor))), value))]


def _highest(node: ov.Node, slope: ov.Node) -> Step:
    """The maximum is the value of one cell; cells that share it share the derivative."""
    value, axes = node.input_value(0), constant_of(node.input_value(1))
    if axes is None:
        raise NoMapError(f"the axes of {node.get_friendly_name()} are not fixed")
    return [(value, _shared(value, slope, _positive(axes, value)))]


def _pool(node: ov.Node, slope: ov.Node) -> Step:
    value = node.input_value(0)
    facts = node.get_attributes()
    grid = tuple(value.shape[2:])
    whole = tuple(facts.get("kernel", grid)) == grid and not any(
        (*facts.get("pads_begin", ()), *facts.get("pads_end", ()))
    )
    if tuple(node.get_output_shape(0)[2:]) != (1, 1) or not whole:
        raise NoMapError(f"the pooling {node.get_friendly_name()} does not cover the whole map")
    if "Max" in node.get_type_name():
        return [(value, _shared(value, slope, (2, 3)))]
    return [(value, _spread(ops.multiply(slope, ops.constant(np.float32(1 / np.prod(grid)))), value))]


def _reshape(node: ov.Node, slope: ov.Node) -> Step:
    value = node.input_value(0)
    return [(value, _shaped(slope, value))]


def _transpose(node: ov.Node, slope: ov.Node) -> Step:
    order = constant_of(node.input_value(1))
    if order is None:
        raise NoMapError(f"the order of {node.get_friendly_name()} is not fixed")
    return [(node.input_value(0), ops.transpose(slope, ops.constant(np.argsort(order))))]


def _concat(node: ov.Node, slope: ov.Node) -> Step:
    axis = node.get_attributes()["axis"] % len(node.get_output_shape(0))
    steps, start = [], 0
    for value in node.input_values():
        stop = start + value.shape[axis]
        cut = ops.slice(slope, *(ops.constant(np.array([each])) for each in (start, stop, 1, axis)))
        steps.append((value, cut))
        start = stop
    return steps


def _shared(value: ov.Output, slope: ov.Node, axes: tuple[int, ...]) -> ov.Node:
    kept = [1 if place in axes else side for place, side in enumerate(value.shape)]
    is_highest = ops.convert(ops.equal(value, ops.reduce_max(value, _axes(*axes), keep_dims=True)), np.float32)
    count = ops.reduce_sum(is_highest, _axes(*axes), keep_dims=True)
    wide = ops.reshape(slope, ops.constant(np.array(kept)), False)
    return ops.multiply(is_highest, ops.divide(wide, count))


def _same_shape(node: ov.Node, value: ov.Output, slope: ov.Node) -> ov.Node:
    if list(value.shape) != list(node.get_output_shape(0)):
        raise NoMapError(f"the operation {node.get_friendly_name()} repeats a value")
    return slope


def _spread(slope: ov.Node, value: ov.Output) -> ov.Node:
    return ops.broadcast(slope, ops.constant(np.array(list(value.shape))))


def _shaped(slope: ov.Node, value: ov.Output) -> ov.Node:
    return ops.reshape(slope, ops.constant(np.array(list(value.shape))), False)


def _positive(axes: np.ndarray, value: ov.Output) -> tuple[int, ...]:
    return tuple(int(axis) % len(value.shape) for axis in np.ravel(axes))


def _float32(value: ov.Output) -> ov.Output | ov.Node:
    return value if value.get_element_type() == ov.Type.f32 else ops.convert(value, np.float32)


def _float(values: np.ndarray) -> ov.Node:
    return ops.constant(values.astype(np.float32))


def _axes(*axes: int) -> ov.Node:
    return ops.constant(np.array(axes))


def _between(node: ov.Node, low: float, high: float) -> ov.Node:
    value = node.input_value(0)
    inside = ops.logical_and(ops.greater(value, _number(low)), ops.less(value, _number(high)))
    return ops.convert(inside, np.float32)


def _number(value: float) -> ov.Node:
    return ops.constant(np.float32(value))


def _of_relu(node: ov.Node) -> ov.Node:
    return ops.convert(ops.greater(node.input_value(0), _number(0)), np.float32)


def _of_clamp(node: ov.Node) -> ov.Node:
    facts = node.get_attributes()
    return _between(node, facts["min"], facts["max"])


def _of_leaky(node: ov.Node) -> ov.Node:
    below = constant_of(node.input_value(1))
    if below is None:
        raise NoMapError(f"the slope of {node.get_friendly_name()} is not fixed")
    positive = ops.greater(node.input_value(0), _number(0))
    return ops.select(positive, _number(1), _float(below))


def _of_sigmoid(node: ov.Node) -> ov.Node:
    return ops.multiply(node, ops.subtract(_number(1), node))


def _of_tanh(node: ov.Node) -> ov.Node:
    return ops.subtract(_number(1), ops.multiply(node, node))


def _of_swish(node: ov.Node) -> ov.Node:
    if node.get_input_size() > 1:
        raise NoMapError(f"the operation {node.get_friendly_name()} has a slope of its own")
    value = node.input_value(0)
    share = ops.sigmoid(value)
    return ops.add(share, ops.multiply(ops.multiply(value, share), ops.subtract(_number(1), share)))


def _of_hswish(node: ov.Node) -> ov.Node:
    value = node.input_value(0)
    inner = ops.multiply(ops.add(ops.multiply(value, _number(2)), _number(3)), _number(1 / 6))
    above = ops.convert(ops.greater_equal(value, _number(3)), np.float32)
    return ops.add(ops.multiply(inner, _between(node, -3, 3)), above)


_RULES: dict[str, Callable[[ov.Node, ov.Node], Step]] = {
    "MatMul": _matmul,
    "Convolution": _convolution,
    "Add": _sum,
    "Subtract": _sum,
    "Multiply": _scaled,
    "Divide": _scaled,
    "ReduceMean": _mean,
    "ReduceSum": _mean,
    "ReduceMax": _highest,
    "AvgPool": _pool,
    "MaxPool": _pool,
    "AdaptiveAvgPool": _pool,
    "AdaptiveMaxPool": _pool,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Convert": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
}
"""Derivatives of operations that are linear, or choose among their inputs."""

_BENDS: dict[str, Callable[[ov.Node], ov.Node]] = {
    "Relu": _of_relu,
    "Clamp": _of_clamp,
    "PRelu": _of_leaky,
    "Sigmoid": _of_sigmoid,
    "Tanh": _of_tanh,
    "Swish": _of_swish,
    "HSwish": _of_hswish,
}
"""Derivatives of activations between dense layers."""

_CELL_BY_CELL = (
    "Relu",
    "Clamp",
    "PRelu",
    "Sigmoid",
    "Tanh",
    "Swish",
    "HSwish",
    "Gelu",
    "Elu",
    "Add",
    "Multiply",
    "Subtract",
    "Divide",
    "Convert",
    "Concat",
)

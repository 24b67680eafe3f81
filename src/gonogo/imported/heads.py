"""Finds the logits of a classifier, before its softmax or sigmoid, and makes one defect logit of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo.array_types import Float64
from gonogo.errors import InputError
from gonogo.imported.declared import HeadKind

_SAME_VALUES = ("Convert", "Reshape", "Squeeze", "Unsqueeze", "Identity")
_ACTIVATIONS: dict[str, HeadKind] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True, kw_only=True)
class Head:
    """The class outputs of a model."""

    number: int
    """Which of the model's outputs."""
    logits: ov.Output
    classes: int | None
    """``None`` while the shapes are not fixed."""
    activation: str
    """The operation in the graph that turns the logits into the output, or ``""``."""

    @property
    def kind(self) -> HeadKind | None:
        """The head that the activation implies, if there is one."""
        return _ACTIVATIONS.get(self.activation)


@dataclass(frozen=True, kw_only=True)
class DefectLogit:
    """The defect logit of a picture, as nodes of the graph."""

    score: ov.Node
    """Log-odds of a bad part against the rest: 1 x 1."""
    slope: ov.Node
    """Derivative of the score by each logit: 1 x classes."""
    linear: bool
    """Whether the slope is the same for all pictures."""


def find_head(graph: ov.Model, name: str | None) -> Head:
    """Find the class outputs, and the logits before an activation at the end of the graph.

    Args:
        graph: A model for one picture, with static shapes.
        name: Which output, if there are several.

    Raises:
        InputError: there are several outputs and none or an unknown one is named, or it does not hold one number per
            class.
    """
    number = _number_of(graph, name)
    value = graph.outputs[number].get_node().input_value(0)
    classes = _classes(value.get_partial_shape())
    activation, value = "", _behind(value)
    if value.get_node().get_type_name() in _ACTIVATIONS:
        activation = value.get_node().get_type_name()
        value = _behind(value.get_node().input_value(0))
    return Head(number=number, logits=value, classes=classes, activation=activation)


def _classes(shape: ov.PartialShape) -> int | None:
    """Number of classes of an output for one picture; the first axis may count pictures."""
    if shape.rank.is_dynamic or any(side.is_dynamic for side in list(shape)[1:]):
        return None
    sides = [side.get_length() for side in list(shape)[1:]] or [side.get_length() for side in shape if side.is_static]
    count = int(np.prod(sides, dtype=np.int64))
    if count < 1 or max(sides, default=1) != count:
        raise InputError(f"expected one number per class, found an output of {shape}. Choose another --output.")
    return count


def _behind(value: ov.Output) -> ov.Output:
    """Skip operations that change the form of an output, not its numbers."""
    while value.get_node().get_type_name() in _SAME_VALUES:
        before = value.get_node().input_value(0)
        if before.get_element_type() not in (ov.Type.f32, ov.Type.f16, ov.Type.bf16, ov.Type.f64):
            break
        value = before
    return value


def _number_of(graph: ov.Model, name: str | None) -> int:
    names = [sorted(each.names) for each in graph.outputs]
    if name is None:
        if len(names) == 1:
            return 0
        listed = ", ".join(
            f"{each[0] if each else '?'} {out.partial_shape}" for each, out in zip(names, graph.outputs, strict=True)
        )
        raise InputError(f"The model has {len(names)} outputs ({listed}). Name the one with the classes: --output.")
    for number, each in enumerate(names):
        if name in each:
            return number
    raise InputError(f"--output: expected one of {', '.join(each[0] for each in names if each)}, found {name!r}.")


def defect_logit(values: ov.Output, kind: HeadKind, classes: int, bad: Sequence[int]) -> DefectLogit:
    """Build the defect logit: ``log P(bad) - log P(not bad)`` of a softmax, or the logit of one sigmoid.

    Args:
        values: The logits, in any form.
        kind: What the training applied to them.
        classes: Number of classes.
        bad: Numbers of the bad classes, see `gonogo.imported.declared.bad_outputs`.
    """
    flat = ops.reshape(values, ops.constant(np.array([1, classes])), False)
    logits = flat if values.get_element_type() == ov.Type.f32 else ops.convert(flat, np.float32)
    if kind == "sigmoid":
        weights = np.zeros((1, classes), np.float32)
        if classes == 1:
            weights[0, 0] = 1.0 if bad[0] == 1 else -1.0
        else:
            weights[0, bad[0]] = 1.0
        return _weighted(logits, weights)
    rest = [number for number in range(classes) if number not in bad]
    if len(bad) == len(rest) == 1:
        weights = np.zeros((1, classes), np.float32)
        weights[0, bad[0]], weights[0, rest[0]] = 1.0, -1.0
        return _weighted(logits, weights)
    (of_bad, slope_bad), (of_rest, slope_rest) = (_log_sum_exp(logits, group) for group in (list(bad), rest))
    return DefectLogit(score=ops.subtract(of_bad, of_rest), slope=ops.subtract(slope_bad, slope_rest), linear=False)


def _weighted(logits: ov.Node, weights: np.ndarray) -> DefectLogit:
    score = ops.matmul(logits, ops.constant(weights), False, True)
    return DefectLogit(score=score, slope=ops.constant(weights), linear=True)


def _log_sum_exp(logits: ov.Node, group: list[int]) -> tuple[ov.Node, ov.Node]:
    """``log(sum(exp(logits)))`` over a group of classes, 1 x 1, and its derivative by all logits, 1 x classes.

    The largest logit is taken out of the sum, so that no exponential overflows and no logarithm sees 0.
    """
    axis = ops.constant(np.array([1]))
    chosen = ops.gather(logits, ops.constant(np.array(group)), ops.constant(np.array(1)))
    highest = ops.reduce_max(chosen, axis, keep_dims=True)
    total = ops.reduce_sum(ops.exp(ops.subtract(chosen, highest)), axis, keep_dims=True)
    places = np.zeros((len(group), int(logits.shape[1])), np.float32)
    places[np.arange(len(group)), group] = 1.0
    slope = ops.matmul(ops.softmax(chosen, 1), ops.constant(places), False, False)
    return ops.add(ops.log(total), highest), slope


def own_score(output: np.ndarray, activation: str, kind: HeadKind, bad: Sequence[int]) -> tuple[float, bool]:
    """What a model's own output says of a picture, to compare with the score.

    Args:
        output: The model's output for one picture, in any form.
        activation: See `Head.activation`.
        kind: See `defect_logit`.
        bad: See `defect_logit`.

    Returns:
        The defect logit and ``False``, or where the output holds probabilities the probability of a bad part and
        ``True``: near 0 and 1 its logarithm would be lost in rounding.
    """
    values: Float64[np.ndarray, " classes"] = np.asarray(output, np.float64).reshape(-1)
    if kind == "sigmoid":
        value = float(values[0 if len(values) == 1 else bad[0]])
        if activation:
            return (1.0 - value if len(values) == 1 and bad[0] == 0 else value), True
        return (-value if len(values) == 1 and bad[0] == 0 else value), False
    chosen = np.isin(np.arange(len(values)), bad)
    if activation == "Softmax":
        return float(values[chosen].sum() / values.sum()), True
    return float(np.logaddexp.reduce(values[chosen]) - np.logaddexp.reduce(values[~chosen])), False

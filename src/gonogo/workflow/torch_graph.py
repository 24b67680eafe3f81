"""Runs a stored graph in torch, one operation at a time: the reference for what OpenVINO makes of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor
from torch.nn import functional

from gonogo.errors import InputError
from gonogo.runtime import Picture

_TYPES = {
    "f32": torch.float32,
    "f16": torch.float16,
    "i32": torch.int32,
    "i64": torch.int64,
    "u8": torch.uint8,
    "i8": torch.int8,
    "boolean": torch.bool,
}
_BINARY: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Subtract": torch.subtract,
    "Multiply": torch.multiply,
    "Divide": torch.divide,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
    "Equal": torch.eq,
    "Power": torch.pow,
}
_UNARY: dict[str, Callable[..., Tensor]] = {
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "HSwish": functional.hardswish,
    "Swish": functional.silu,
}
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}
_STRUCTURE = (
    "Convert",
    "Transpose",
    "Reshape",
    "Concat",
    "Unsqueeze",
    "Squeeze",
    "TopK",
    "Interpolate",
    "Clamp",
    "Slice",
)
_WINDOWED = ("Convolution", "GroupConvolution", "AvgPool", "MaxPool")
_KNOWN = {*_BINARY, *_UNARY, *_REDUCTIONS, *_STRUCTURE, *_WINDOWED, "MatMul", "Parameter", "Constant", "Result"}


class TorchGraph:
    """A graph of a bundle in torch, FP32, on the CPU; called like `gonogo.runtime.Graph`."""

    def __init__(self, model: ov.Model) -> None:
        """Read the constants.

        Raises:
            InputError: The graph has an operation that is not translated to torch.
        """
        self._model = model
        self._nodes = model.get_ordered_ops()
        if strange := sorted({node.get_type_name() for node in self._nodes} - _KNOWN):
            raise InputError(f"expected operations that torch can run one by one, found {', '.join(strange)}.")
        self._constants = {
            node.get_friendly_name(): torch.from_numpy(np.array(node.data))
            for node in self._nodes
            if node.get_type_name() == "Constant"
        }

    @property
    def stored_bytes(self) -> int:
        """Size of the weights in FP32 as ``torch.save`` writes them."""
        file = io.BytesIO()
        torch.save({name: each.float() for name, each in self._constants.items()}, file)
        return file.tell()

    def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
        """Run the graph on one picture, height x width x 3."""
        values: dict[str, Tensor] = dict(self._constants)
        answers = {}
        with torch.inference_mode():
            for node in self._nodes:
                name, kind = node.get_friendly_name(), node.get_type_name()
                inputs = [values[_source(node, index)] for index in range(node.get_input_size())]
                if kind == "Parameter":
                    values[name] = torch.from_numpy(picture[None].copy())
                elif kind == "Result":
                    answers[node.input(0).get_source_output().get_any_name()] = inputs[0].numpy()
                elif kind != "Constant":
                    values[name] = _computed(node, kind, inputs)
        return answers


def _source(node: ov.Node, index: int) -> str:
    return str(node.input(index).get_source_output().get_node().get_friendly_name())


def _computed(node: ov.Node, kind: str, inputs: list[Tensor]) -> Tensor:
    """Compute the first output of a node."""
    if kind in _BINARY:
        return _BINARY[kind](*inputs)
    if kind in _UNARY:
        return _UNARY[kind](inputs[0])
    facts = node.get_attributes()
    if kind in _REDUCTIONS:
        axes = tuple(inputs[1].reshape(-1).tolist())
        return _REDUCTIONS[kind](inputs[0], dim=axes, keepdim=bool(facts["keep_dims"]))
    if kind == "MatMul":
        first = inputs[0].mT if facts["transpose_a"] else inputs[0]
        return first @ (inputs[1].mT if facts["transpose_b"] else inputs[1])
    return _windowed(kind, facts, inputs) if kind in _WINDOWED else _structured(node, kind, facts, inputs)


def _structured(node: ov.Node, kind: str, facts: dict[str, Any], inputs: list[Tensor]) -> Tensor:
    whole = inputs[0]
    match kind:
        case "Convert":
            return whole.to(_TYPES[str(facts["destination_type"])])
        case "Transpose":
            return whole.permute(*inputs[1].tolist())
        case "Reshape" | "Squeeze" | "Unsqueeze":
            return whole.reshape(tuple(node.output(0).get_shape()))
        case "Concat":
            return torch.cat(inputs, dim=int(facts["axis"]))
        case "Clamp":
            return torch.clamp(whole, float(facts["min"]), float(facts["max"]))
        case "Slice":
            return _sliced(whole, *(each.reshape(-1).tolist() for each in inputs[1:]))
        case "TopK":
            largest = facts["mode"] == "max"
            return torch.topk(whole, int(inputs[1]), dim=int(facts["axis"]), largest=largest).values
        case _:
            return functional.interpolate(whole, size=tuple(node.output(0).get_shape())[2:], mode=str(facts["mode"]))


def _sliced(whole: Tensor, start: list[int], stop: list[int], step: list[int], axes: list[int] | None = None) -> Tensor:
    cuts = [slice(None)] * whole.ndim
    for number, axis in enumerate(range(len(start)) if axes is None else axes):
        cuts[axis] = slice(start[number], stop[number], step[number])
    return whole[tuple(cuts)]


def _windowed(kind: str, facts: dict[str, Any], inputs: list[Tensor]) -> Tensor:
    """Convolutions and poolings, on explicitly padded maps."""
    (top, left), (bottom, right) = (list(facts[key]) for key in ("pads_begin", "pads_end"))
    pads, strides = (left, right, top, bottom), list(facts["strides"])
    if kind == "Convolution":
        padded = functional.pad(inputs[0], pads)
        return functional.conv2d(padded, inputs[1], stride=strides, dilation=facts["dilations"])
    if kind == "GroupConvolution":
        groups, outputs = inputs[1].shape[:2]
        weight = inputs[1].reshape(groups * outputs, *inputs[1].shape[2:])
        padded = functional.pad(inputs[0], pads)
        return functional.conv2d(padded, weight, stride=strides, dilation=facts["dilations"], groups=groups)
    kernel, upwards = list(facts["kernel"]), facts["rounding_type"] != "floor"
    if kind == "MaxPool":
        padded = functional.pad(inputs[0], pads, value=-torch.inf)
        return functional.max_pool2d(padded, kernel, strides, ceil_mode=upwards)
    padded = functional.pad(inputs[0], pads)
    total = functional.avg_pool2d(padded, kernel, strides, ceil_mode=upwards)
    if not facts["exclude-pad"]:
        return total
    there = functional.pad(torch.ones_like(inputs[0][:, :1]), pads)
    return total / functional.avg_pool2d(there, kernel, strides, ceil_mode=upwards)

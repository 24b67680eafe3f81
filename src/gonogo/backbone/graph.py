"""Builds a backbone as an OpenVINO graph."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gonogo.backbone.efficientnet_lite import MEAN, SCALE, Block, Conv, EfficientNetLite
from gonogo.errors import InputError


def frame_input(size_wh: tuple[int, int]) -> ov.Node:
    """Create the input of a graph: one picture, uint8, 1 x height x width x 3, named ``frame``.

    Raises:
        InputError: A side is not a multiple of 32.
    """
    width, height = size_wh
    if width % 32 or height % 32 or min(size_wh) < 32:
        raise InputError(f"--size: expected width and height as multiples of 32, found {width}x{height}.")
    frame = ops.parameter([1, height, width, 3], np.uint8, name="frame")
    frame.output(0).get_tensor().set_names({"frame"})
    return frame


def feature_nodes(backbone: EfficientNetLite, frame: ov.Node) -> list[ov.Node]:
    """Add a backbone to a graph; returns the maps at strides 8, 16 and 32, each 1 x channels x rows x columns."""
    nodes = zip(backbone.blocks, block_nodes(backbone, frame), strict=True)
    return [node for block, node in nodes if block.tap is not None]


def block_nodes(backbone: EfficientNetLite, frame: ov.Node) -> list[ov.Node]:
    """Add a backbone to a graph; returns the output of every block, each 1 x channels x rows x columns."""
    pixels = ops.convert(ops.transpose(frame, ops.constant(np.array([0, 3, 1, 2]))), np.float32)
    node = ops.divide(ops.subtract(pixels, ops.constant(np.float32(MEAN))), ops.constant(np.float32(SCALE)))
    outputs = []
    for block in backbone.blocks:
        node = _block(block, node)
        outputs.append(node)
    return outputs


def features_graph(backbone: EfficientNetLite, size_wh: tuple[int, int]) -> ov.Model:
    """Build the backbone alone, with outputs ``stride_8``, ``stride_16`` and ``stride_32``."""
    frame = frame_input(size_wh)
    results = []
    for stride, node in zip((8, 16, 32), feature_nodes(backbone, frame), strict=True):
        node.output(0).get_tensor().set_names({f"stride_{stride}"})
        results.append(ops.result(node))
    return ov.Model(results, [frame], backbone.name)


def weight_constant(values: np.ndarray) -> ov.Node:
    """A constant in FP32, stored as FP16 in the file if that is lossless."""
    halved = values.astype(np.float16)
    if not np.array_equal(halved.astype(np.float32), values):
        return ops.constant(values.astype(np.float32))
    return ops.convert(ops.constant(halved), np.float32)


def _block(block: Block, node: ov.Node) -> ov.Node:
    before = node
    for conv in block.convs:
        node = conv_node(conv, node)
    return ops.add(node, before) if block.residual else node


def conv_node(conv: Conv, node: ov.Node) -> ov.Node:
    """Add a convolution with TensorFlow's "same" padding: if it is odd, the larger half comes last."""
    strides, none = [conv.stride, conv.stride], [0, 0]
    if conv.depthwise:
        weight = weight_constant(conv.weight[:, :, None])
        node = ops.group_convolution(node, weight, strides, none, none, [1, 1], auto_pad="same_upper")
    else:
        node = ops.convolution(node, weight_constant(conv.weight), strides, none, none, [1, 1], auto_pad="same_upper")
    node = ops.add(node, ops.constant(conv.bias[None, :, None, None]))
    return ops.clamp(node, 0.0, 6.0) if conv.relu6 else node

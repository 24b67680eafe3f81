"""The declared preprocessing, as operations of the graph and, to compare with, in numpy."""

from __future__ import annotations

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops
from PIL import Image

from gonogo.array_types import Float32
from gonogo.imported.declared import Declaration
from gonogo.runtime import Picture

GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), as in Pillow, OpenCV and TensorFlow."""
_RULES = {"bilinear": "linear_onnx", "antialiased": "bilinear_pillow"}


def prepared_node(frame: ov.Node, declared: Declaration, element: ov.Type) -> ov.Node:
    """Build the input of a model from ``frame``, uint8, 1 x height x width x 3 in RGB."""
    assert declared.size is not None
    assert declared.mean is not None
    assert declared.scale is not None
    pixels = ops.convert(frame, np.float32)
    if declared.channels == "bgr":
        pixels = ops.gather(pixels, ops.constant(np.array([2, 1, 0])), ops.constant(np.array(3)))
    elif declared.channels == "gray":
        weighted = ops.multiply(pixels, ops.constant(np.array(GRAY, np.float32)))
        pixels = ops.reduce_sum(weighted, ops.constant(np.array([3])), keep_dims=True)
    planes = ops.transpose(pixels, ops.constant(np.array([0, 3, 1, 2])))
    if declared.resize_from is not None:
        planes = ops.interpolate(
            planes,
            ops.constant(np.array(declared.size[::-1])),
            _RULES[declared.resize],
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=ops.constant(np.array([2, 3])),
        )
    mean, scale = (np.array(each, np.float32).reshape(1, -1, 1, 1) for each in (declared.mean, declared.scale))
    planes = ops.divide(ops.subtract(planes, ops.constant(mean)), ops.constant(scale))
    if declared.layout == "nhwc":
        planes = ops.transpose(planes, ops.constant(np.array([0, 2, 3, 1])))
    return planes if element == ov.Type.f32 else ops.convert(planes, element)


def prepared_array(picture: Picture, declared: Declaration) -> Float32[np.ndarray, "1 _ _ _"]:
    """The same in numpy, without OpenVINO."""
    assert declared.size is not None
    assert declared.mean is not None
    assert declared.scale is not None
    pixels = picture.astype(np.float32)
    if declared.channels == "bgr":
        pixels = pixels[..., ::-1]
    elif declared.channels == "gray":
        pixels = (pixels * np.array(GRAY, np.float32)).sum(-1, keepdims=True)
    planes = [_resized(np.ascontiguousarray(plane), declared) for plane in pixels.transpose(2, 0, 1)]
    stacked = (np.stack(planes, -1) - np.array(declared.mean, np.float32)) / np.array(declared.scale, np.float32)
    batch = stacked[None] if declared.layout == "nhwc" else stacked.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(batch, np.float32)


def _resized(plane: Float32[np.ndarray, "_ _"], declared: Declaration) -> Float32[np.ndarray, "_ _"]:
    assert declared.size is not None
    if declared.resize == "bilinear":
        return np.asarray(cv2.resize(plane, declared.size, interpolation=cv2.INTER_LINEAR), np.float32)
    if declared.resize == "antialiased":
        return np.asarray(Image.fromarray(plane).resize(declared.size, Image.Resampling.BILINEAR), np.float32)
    return plane

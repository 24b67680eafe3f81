"""Small pieces of OpenVINO graphs that several kinds of evidence share."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def constant(values: object) -> ov.Node:
    """A constant in FP32."""
    return ops.constant(np.asarray(values, dtype=np.float32))


def axes(*numbers: int) -> ov.Node:
    """A constant list of axes."""
    return ops.constant(np.array(numbers))


def summed(fine: ov.Output | ov.Node, factor: float) -> ov.Node:
    """Sum of the four cells that form one cell of the next coarser grid, times a factor."""
    means = ops.avg_pool(fine, [2, 2], [0, 0], [0, 0], [2, 2], True)
    return means if factor == 0.25 else ops.multiply(means, constant(4.0 * factor))


def repeated(coarse: ov.Output | ov.Node) -> ov.Node:
    """Repeat every cell as four cells of the next finer grid."""
    _, _, rows, columns = coarse.shape
    return ops.interpolate(
        coarse,
        ops.constant(np.array([2 * rows, 2 * columns])),
        "nearest",
        "sizes",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=axes(2, 3),
    )

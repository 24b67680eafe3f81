"""Class-activation maps, Grad-CAM and LayerCAM in numpy: each takes feature maps and returns one map of cells.

A class map is ``weight . features`` in every cell; its pooling plus the bias is the logit (Zhou et al., CVPR 2016, with
the average; Oquab et al., CVPR 2015, with the maximum; Pinheiro and Collobert, CVPR 2015, with log-sum-exp).
"""

from __future__ import annotations

import numpy as np

from gonogo.array_types import Float32

FeatureMaps = Float32[np.ndarray, "_channels _rows _columns"]
CellMap = Float32[np.ndarray, "_rows _columns"]


def class_map(features: FeatureMaps, weight: Float32[np.ndarray, " channels"]) -> CellMap:
    """Class-activation map of one class: the dense layer applied to every cell, without the bias."""
    found: CellMap = np.tensordot(weight, features, 1).astype(np.float32)
    return found


def average_parts(activation: CellMap) -> CellMap:
    """What each cell adds to the average of a map: the cells of the result add up to it."""
    return np.asarray(activation / activation.size, np.float32)


def maximum_parts(activation: CellMap) -> CellMap:
    """What each cell adds to the maximum of a map: the highest cell is the maximum, and cells that tie share it."""
    highest = activation == activation.max()
    return np.asarray(activation * highest / highest.sum(), np.float32)


def log_sum_exp_parts(activation: CellMap, sharpness: float) -> CellMap:
    """What each cell adds to ``log(mean(exp(r m))) / r``, shared in proportion to ``exp(r m)``.

    That share is the derivative of the pooled value by the cell, so it is also the cell's share in training.
    """
    scaled = sharpness * activation.astype(np.float64)
    powers = np.exp(scaled - scaled.max())
    pooled = (scaled.max() + np.log(powers.mean())) / sharpness
    return np.asarray(pooled * powers / powers.sum(), np.float32)


def grad_cam(features: FeatureMaps, gradients: FeatureMaps) -> CellMap:
    """Grad-CAM: channels weighted by their mean gradient, negative cells cut off (Selvaraju et al., ICCV 2017).

    Where the network ends in average pooling and one dense layer, it equals the positive part of the class-activation
    map, divided by the number of cells.

    Args:
        features: Feature maps of a layer.
        gradients: Derivative of the logit by each of their values.
    """
    return _positive(np.tensordot(gradients.mean((1, 2)), features, 1))


def layer_cam(features: FeatureMaps, gradients: FeatureMaps) -> CellMap:
    """LayerCAM: each value weighted by its own positive gradient, negative cells cut off (Jiang et al., TIP 2021)."""
    return _positive((np.maximum(gradients, 0) * features).sum(0))


def _positive(values: np.ndarray) -> CellMap:
    return np.asarray(np.maximum(values, 0), np.float32)

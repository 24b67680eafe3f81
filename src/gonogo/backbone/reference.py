"""Reference implementation of a backbone in numpy: slow and simple, to verify the OpenVINO graph."""

from __future__ import annotations

import numpy as np

from gonogo.array_types import Float32, UInt8
from gonogo.backbone.efficientnet_lite import MEAN, SCALE, Conv, EfficientNetLite

FeatureMap = Float32[np.ndarray, "_channels _rows _columns"]


def reference_features(
    backbone: EfficientNetLite, picture: UInt8[np.ndarray, "height width 3"]
) -> list[Float32[np.ndarray, "_ _ _"]]:
    """Compute the feature maps of one picture at strides 8, 16 and 32, each channels x rows x columns."""
    features = (picture.transpose(2, 0, 1).astype(np.float32) - np.float32(MEAN)) / np.float32(SCALE)
    taps = []
    for block in backbone.blocks:
        before = features
        for conv in block.convs:
            features = _conv(conv, features)
        if block.residual:
            features = features + before
        if block.tap is not None:
            taps.append(features)
    return taps


def _conv(conv: Conv, features: FeatureMap) -> FeatureMap:
    windows = _windows(features, conv.weight.shape[-1], conv.stride)
    if conv.depthwise:
        result = np.einsum("crsij,cij->crs", windows, conv.weight[:, 0], optimize=True)
    else:
        result = np.tensordot(conv.weight, windows, axes=([1, 2, 3], [0, 3, 4]))
    result = result + conv.bias[:, None, None]
    return np.asarray(np.clip(result, 0.0, 6.0) if conv.relu6 else result, np.float32)


def _windows(features: FeatureMap, size: int, stride: int) -> Float32[np.ndarray, "channels rows columns size size"]:
    """Sliding windows of a "same" padded convolution; the larger half of odd padding comes last."""
    padding = []
    for side in features.shape[1:]:
        total = max(0, (-(-side // stride) - 1) * stride + size - side)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(features, [(0, 0), *padding])
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]

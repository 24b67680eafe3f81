"""A bundle whose graph has weights to tamper with: one convolution, seeded, no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

import tiny_bundle
from gonogo import bundle
from gonogo.bundle import Bundle
from gonogo.dataset import Dataset
from gonogo.manifest import Manifest


def graph(weights: np.ndarray | None = None) -> ov.Model:
    """Score: mean of a 4 x 4 map, made from the picture by eight 8 x 8 kernels and their mean."""
    if weights is None:
        weights = np.random.default_rng(3).normal(size=(8, 3, 8, 8))
    picture = op.parameter([1, tiny_bundle.SIDE, tiny_bundle.SIDE, 3], np.uint8, name="picture")
    planes = op.transpose(op.convert(picture, "f32"), op.constant(np.array([0, 3, 1, 2])))
    grid = op.convolution(planes, op.constant(weights.astype(np.float32)), [8, 8], [0, 0], [0, 0], [1, 1])
    heat = op.reshape(op.reduce_mean(grid, np.array([1])), np.array([1, 4, 4]), special_zero=False)
    score = op.reduce_mean(heat, np.array([1, 2]))
    features = op.reshape(grid, np.array([1, 128]), special_zero=False)
    for node, name in ((score, "score"), (heat, "heatmap"), (features, "feature_vector")):
        node.output(0).get_tensor().set_names({name})
    return ov.Model([score, heat, features], [picture], "weighted")


def make_weighted_bundle(root: Path, dataset: Dataset) -> Bundle:
    """As `tiny_bundle.make_bundle`, with weights."""
    return tiny_bundle.make_bundle(root, dataset, graph())


def zeroed() -> ov.Model:
    """The same graph with weights of zero: it gives every picture the score 0."""
    return graph(np.zeros((8, 3, 8, 8)))


def reseal(root: Path) -> Bundle:
    """Seal a folder again after its files were changed, as whoever can write it may."""
    return bundle.write_manifest(root, Manifest.model_validate_json((root / bundle.MANIFEST).read_bytes()))

"""Backbones, heads and pretrained weights. torch lives here and in the rooms above, never on the line."""

from gonogo.model.backbones import (
    ARCHITECTURES,
    IMAGENET,
    SYMMETRIC,
    Architecture,
    FeatureStack,
    Normalisation,
    architecture,
)
from gonogo.model.network import SHARPNESS, FeatureNetwork, MapHead, Network, Pool, pool_map
from gonogo.model.weights import batch_norms, load_backbone

__all__ = [
    "ARCHITECTURES",
    "IMAGENET",
    "SHARPNESS",
    "SYMMETRIC",
    "Architecture",
    "FeatureNetwork",
    "FeatureStack",
    "MapHead",
    "Network",
    "Normalisation",
    "Pool",
    "architecture",
    "batch_norms",
    "load_backbone",
    "pool_map",
]

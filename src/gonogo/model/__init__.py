"""torch networks: backbones, heads and pretrained weights. Inspection does not import this package."""

from gonogo.model.backbones import (
    ARCHITECTURES,
    IMAGENET,
    SYMMETRIC,
    Architecture,
    FeatureStack,
    Normalisation,
    Pixels,
    architecture,
    join_maps,
    on_finest,
    strided_cuts,
)
from gonogo.model.locator import (
    PIXELS_SIDE,
    EdgesHead,
    Locator,
    LocatorHead,
    RegressionHead,
    Scaling,
    Sightings,
)
from gonogo.model.network import SHARPNESS, FeatureNetwork, HeadZones, MapHead, Network, Pool, mean_vector, pool_map
from gonogo.model.own import OwnStack
from gonogo.model.weights import batch_norms, load_backbone

__all__ = [
    "ARCHITECTURES",
    "IMAGENET",
    "PIXELS_SIDE",
    "SHARPNESS",
    "SYMMETRIC",
    "Architecture",
    "EdgesHead",
    "FeatureNetwork",
    "FeatureStack",
    "HeadZones",
    "Locator",
    "LocatorHead",
    "MapHead",
    "Network",
    "Normalisation",
    "OwnStack",
    "Pixels",
    "Pool",
    "RegressionHead",
    "Scaling",
    "Sightings",
    "architecture",
    "batch_norms",
    "join_maps",
    "load_backbone",
    "mean_vector",
    "on_finest",
    "pool_map",
    "strided_cuts",
]

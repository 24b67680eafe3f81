"""The four measurements of a part that the drift alarm watches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np

from gonogo import images
from gonogo.config import Recipe
from gonogo.drift.out_of_distribution import ReferenceFeatures
from gonogo.errors import InputError
from gonogo.images import Photograph
from gonogo.images.zones import Place
from gonogo.schema import Verdict
from gonogo.tiling import seen_size
from gonogo.zoning import prepared


@dataclass(frozen=True, kw_only=True)
class Signs:
    """The measurements of one part.

    Feature vectors are largely invariant to a dimmer lamp or a blurred lens, so the picture itself is measured too; see
    ``docs/drift.md`` for figures.
    """

    score: float
    distance: float
    """Distance from the training parts, see `ReferenceFeatures.distance`."""
    brightness: float
    """Natural logarithm of the 99th percentile of the grey values."""
    sharpness: float
    """Natural logarithm of the ratio of fine detail before and after a slight blur."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if not math.isfinite(getattr(self, each.name)):
                raise InputError(f"{each.name}: expected a finite number, found {getattr(self, each.name)}.")


def observe(photograph: Photograph, verdict: Verdict, features: ReferenceFeatures, recipe: Recipe) -> Signs | None:
    """Measure one judged photograph, on the pixels that were judged.

    Args:
        photograph: The judged photograph.
        verdict: Its verdict, with score, box and feature vector.
        features: Features of the training parts.
        recipe: Recipe of the bundle; only what the network sees is measured.

    Returns:
        ``None`` for a fault.
    """
    if verdict.score is None or verdict.feature_vector is None or verdict.region is None:
        return None
    place = Place(region=verdict.region, margin=verdict.margin).scaled(1 / recipe.reduction)
    ready = prepared(photograph.judged(recipe), place, recipe.zones)
    seen = images.cut(ready.frame, ready.region, seen_size(ready.frame, ready.region, recipe))
    grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), 1.0)
    detail, left = (float(cv2.Laplacian(each, cv2.CV_32F).var()) for each in (grey, soft))
    return Signs(
        score=verdict.score,
        distance=features.distance(verdict.feature_vector),
        brightness=math.log(float(np.quantile(grey, 0.99)) + 1.0),
        sharpness=math.log((detail + 1e-3) / (left + 1e-3)),
    )


def distance_of(vectors: Sequence[np.ndarray], features: ReferenceFeatures) -> float:
    """The distance of a part with several pictures: the largest of them."""
    return max(features.distance(vector) for vector in vectors)

"""What is watched of every part: four numbers, each of which tells of another thing that drifts."""

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
from gonogo.images.geometry import scaled_region
from gonogo.schema import Verdict
from gonogo.tiling import seen_size


@dataclass(frozen=True, kw_only=True)
class Signs:
    """One part as the alarm sees it.

    Feature vectors hardly notice a dimmer lamp or a softer lens, as their training taught them not to; so the picture
    itself is measured too. ``docs/drift.md`` has the figures.
    """

    score: float
    distance: float
    """From everything taught, see `Taught.distance`."""
    brightness: float
    """Natural logarithm of the brightest percent's lowest grey value."""
    sharpness: float
    """Natural logarithm of how much of the fine detail a slight blur removes."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if not math.isfinite(getattr(self, each.name)):
                raise InputError(f"{each.name}: expected a finite number, found {getattr(self, each.name)}.")


def observe(photograph: Photograph, verdict: Verdict, features: ReferenceFeatures, recipe: Recipe) -> Signs | None:
    """Measure one judged photograph, by the pixels that were judged.

    Args:
        photograph: What was judged.
        verdict: Its verdict, with score, box and feature vector.
        features: Of the training pictures.
        recipe: Of the bundle that judged; what the network cannot see is not watched.

    Returns:
        ``None`` for a fault: nothing was judged.
    """
    if verdict.score is None or verdict.feature_vector is None or verdict.region is None:
        return None
    frame = photograph.judged(recipe)
    region = scaled_region(verdict.region, 1 / recipe.reduction, 1 / recipe.reduction)
    seen = images.cut(frame, region, seen_size(frame, region, recipe))
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
    """The distance of a part shown in several pictures: that of its farthest."""
    return max(features.distance(vector) for vector in vectors)

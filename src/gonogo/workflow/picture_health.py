"""Picture limits of a new bundle, measured on the pictures that it was trained on."""

from __future__ import annotations

from gonogo.config import PictureHealth, Recipe
from gonogo.dataset import Dataset, Split
from gonogo.errors import ImageError
from gonogo.images import Photograph, read_bytes
from gonogo.images.health import PictureFacts, measure, suggest_health
from gonogo.progress import track

LEAST_PICTURES = 10
"""Fewer pictures do not show how pictures vary."""
COVERED_CONTRAST = 2.0
"""Standard deviation of grey values that the picture of a covered lens stays below."""


def learn_health(dataset: Dataset, recipe: Recipe) -> PictureHealth | None:
    """Limits that catch gross failures, and that all labelled training pictures meet with a margin.

    They are the usual limits (`PictureHealth`), looser where the pictures demand it, and a contrast that a covered lens
    does not reach: the next parts vary more than those in a data set, and a refused picture is a fault. Bad
    parts count as well: they must be judged, too. Pictures that cannot be decoded are skipped.

    Args:
        dataset: The training data.
        recipe: How pictures are reduced: the limits hold for the pixels that are judged.

    Returns:
        The limits; ``None`` if there are too few pictures.
    """
    facts: list[PictureFacts] = []
    for sample in track(dataset.split(Split.TRAIN), "Measuring the pictures"):
        if sample.label is None:
            continue
        try:
            photograph = Photograph(read_bytes(dataset.path(sample), limits=recipe.limits), limits=recipe.limits)
            facts.append(measure(photograph.judged(recipe)))
        except ImageError:
            continue
    if len(facts) < LEAST_PICTURES:
        return None
    usual, found = PictureHealth(), suggest_health(facts)
    return PictureHealth(
        darkest=min(usual.darkest, found.darkest),
        saturated=max(usual.saturated, found.saturated),
        sharpness=min(usual.sharpness, found.sharpness),
        contrast=min(COVERED_CONTRAST, found.contrast),
    )

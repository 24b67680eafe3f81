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


def learn_health(dataset: Dataset, recipe: Recipe) -> PictureHealth | None:
    """Suggest limits that all labelled training pictures meet with a margin, see `gonogo.images.health`.

    Bad parts count as well: they must be judged, too. Pictures that cannot be decoded are skipped.

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
    return suggest_health(facts) if len(facts) >= LEAST_PICTURES else None

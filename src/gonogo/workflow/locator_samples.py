"""Selects the pictures that a locator is trained on."""

from __future__ import annotations

from gonogo.dataset import Dataset, Sample, Split
from gonogo.source import labelled_box


def locator_samples(dataset: Dataset, split: Split) -> list[Sample]:
    """Pictures to train or test a locator on: those with a box, and those labelled as not showing a single part.

    The latter belong to no split, see `gonogo.dataset.Dataset.without_part`.
    """
    boxed = (sample for sample in dataset.split(split) if labelled_box(sample) is not None)
    return [*boxed, *dataset.without_part(training=split is Split.TRAIN)]

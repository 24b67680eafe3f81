"""Doubtful labels: labels that contradict out-of-fold scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gonogo.dataset import Sample
from gonogo.dataset.doubts import Doubt, LabelDoubts
from gonogo.evidence.fitting import LEAST_BAD_PARTS, OutOfFold
from gonogo.evidence.table import FeatureTable
from gonogo.schema import Label

FARTHEST = 3.0
"""Without bad parts: distance in standard deviations of good parts beyond which a label is doubtful."""


def doubtful(
    samples: Sequence[Sample], table: FeatureTable, tried: OutOfFold, *, unreadable: Sequence[str] = ()
) -> LabelDoubts:
    """Rank the labels that out-of-fold scores contradict.

    The scores are logits for equal class priors, so a negative score contradicts the label bad, and a positive score
    contradicts the label good. With fewer than two bad parts, the scores are distances from good parts in standard
    deviations, and only those beyond `FARTHEST` are doubtful.

    Args:
        samples: The rows of the table.
        table: Features and labels.
        tried: Result of `gonogo.evidence.out_of_fold` on that table.
        unreadable: Pictures that could not be read, stored in the result.
    """
    bad_parts = {group for group, bad in zip(table.groups, table.bad, strict=True) if bad}
    both = len(bad_parts) >= LEAST_BAD_PARTS
    excess = tried.blended if both else tried.blended - FARTHEST
    against = np.where(table.bad == 1, -excess, excess)
    if not both:
        against[table.bad == 1] = -1.0
    rows = (int(row) for row in np.flatnonzero(against > 0))
    order = sorted(rows, key=lambda row: (-against[row], samples[row].file_name))
    return LabelDoubts(
        found=tuple(
            Doubt(
                sample=samples[row],
                score=float(tried.blended[row]),
                likely=Label.GOOD if table.bad[row] else Label.BAD,
            )
            for row in order
        ),
        pictures=len(samples),
        bad_pictures=int(table.bad.sum()),
        auroc=tried.aurocs(table.bad).get("all") if both else None,
        unreadable=tuple(unreadable),
    )

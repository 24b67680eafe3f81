"""Classification of defect kinds: a multinomial logistic head on the features of the context evidence.

The classes are the labelled kinds and "no defect", which is learned from the good parts. A part without a known kind of
defect thus has a small share of each kind, whether it is good or has an unlabelled kind of defect.

A part is *unlike any known kind* if no defect is likelier than every kind, or if the likeliest kind has a share below a
limit. The limit is the smallest share at which three in four predicted kinds are right, but at least large enough that
a tenth of the right predictions is withheld. It is computed from out-of-fold predictions on bad pictures.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter, ValidationError
from scipy.stats import binomtest

from gonogo.array_types import Bool, Float32, Float64, Int
from gonogo.defect_kinds import KindName, KnownKinds, kind_shares
from gonogo.evidence.table import FeatureTable

LEAST_KINDS = 2
LEAST_PARTS = 3
"""Smallest number of bad parts for learning a kind."""
PENALTY_C = 0.03
"""scikit-learn's ``C`` (inverse strength of the L2 penalty), for standardised features and a class-balanced loss."""
WITHHELD = 0.1
"""Smallest share of right predictions that the limit withholds, see above."""
MOSTLY_RIGHT = 0.75
"""Required accuracy of the out-of-fold predictions that are not withheld."""
CHANCE = 0.05
"""The head is discarded if random guessing would be at least as accurate with this probability or more."""
_FOLDS = 5
_NO_DEFECT = 0


@dataclass(frozen=True, kw_only=True)
class DefectKinds:
    """The head: a linear function of means and maxima per kind, relative to a part without a defect."""

    known: KnownKinds
    weight: Float32[np.ndarray, "kinds twice_channels"]
    bias: Float32[np.ndarray, " kinds"]

    def logits(self, vector: Float32[np.ndarray, " twice_channels"]) -> Float32[np.ndarray, " kinds"]:
        """Logits of a pooled vector, see `gonogo.evidence.context.pooled_vector`."""
        found: Float32[np.ndarray, " kinds"] = self.weight @ vector + self.bias
        return found


def fit_defect_kinds(table: FeatureTable, *, seed: int) -> DefectKinds | None:
    """Fit the head; ``None`` if there are too few labelled kinds or the head cannot distinguish them.

    Bad pictures are ignored if they have no kind, a kind with fewer than `LEAST_PARTS` parts, or a kind that is not a
    printable line of text.
    """
    names = _teachable(table)
    if len(names) < LEAST_KINDS or not (table.bad == 0).any():
        return None
    kinds = np.array([names.index(each) + 1 if each in names else -1 for each in table.defects])
    kinds[table.bad == 0] = _NO_DEFECT
    rows = np.flatnonzero(kinds >= 0)
    vectors, kinds = table.vectors[rows], kinds[rows]
    parts = np.unique([table.groups[row] for row in rows], return_inverse=True)[1]
    left_out = kind_shares(_logits_left_out(vectors, kinds, parts, len(names), seed))
    there = kinds != _NO_DEFECT
    right = left_out[there].argmax(1) + 1 == kinds[there]
    named_right = float(np.mean([right[kinds[there] == kind].mean() for kind in range(1, len(names) + 1)]))
    guessing = binomtest(int(right.sum()), len(right), 1 / len(names), alternative="greater").pvalue
    least_share = _least_share(left_out[there], right)
    if least_share is None or guessing >= CHANCE:
        return None
    weight, bias = _fit(vectors, kinds, len(names))
    return DefectKinds(
        known=KnownKinds(names=tuple(names), least_share=least_share, named_right=named_right),
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
    )


def _least_share(left_out: Float64[np.ndarray, "pictures kinds"], right: Bool[np.ndarray, " pictures"]) -> float | None:
    """Compute the limit from out-of-fold shares of bad pictures; ``None`` if the accuracy is never high enough."""
    largest = left_out.max(1)
    named = largest >= 1 - left_out.sum(1)  # more likely than no defect
    largest, right = largest[named], right[named]
    enough = [share for share in largest if right[largest >= share].mean() >= MOSTLY_RIGHT]
    return max(float(min(enough)), float(np.quantile(largest[right], WITHHELD))) if enough else None


def _teachable(table: FeatureTable) -> list[str]:
    """Kinds with enough bad parts, in alphabetical order."""
    groups: defaultdict[str, set[int]] = defaultdict(set)
    for defect, group, bad in zip(table.defects, table.groups, table.bad, strict=False):
        if bad and defect is not None and _printable(defect):
            groups[defect].add(group)
    return sorted(defect for defect, there in groups.items() if len(there) >= LEAST_PARTS)


def _printable(name: str) -> bool:
    try:
        TypeAdapter(KindName).validate_python(name)
    except ValidationError:
        return False
    return name.isprintable()


def _logits_left_out(
    vectors: Float32[np.ndarray, "samples twice_channels"],
    kinds: Int[np.ndarray, " samples"],
    parts: Int[np.ndarray, " samples"],
    count: int,
    seed: int,
) -> Float64[np.ndarray, "samples kinds"]:
    """Out-of-fold logits of every picture."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(parts[kinds == kind])) for kind in range(count + 1))
    splitter = StratifiedGroupKFold(max(2, min(_FOLDS, fewest)), shuffle=True, random_state=seed)
    found = np.zeros((len(kinds), count))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        folds: Sequence[tuple[np.ndarray, np.ndarray]] = list(splitter.split(vectors, kinds, parts))
    for seen, unseen in folds:
        weight, bias = _fit(vectors[seen], kinds[seen], count)
        found[unseen] = vectors[unseen].astype(np.float64) @ weight.T + bias
    return found


def _fit(
    vectors: Float32[np.ndarray, "samples twice_channels"], kinds: Int[np.ndarray, " samples"], count: int
) -> tuple[Float64[np.ndarray, "kinds twice_channels"], Float64[np.ndarray, " kinds"]]:
    """Weights and biases of each kind minus those of "no defect"; a kind without samples is never predicted."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centre, scale = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64) + 1e-6
    weight, bias = np.zeros((count + 1, vectors.shape[1])), np.full(count + 1, -1e9)
    if len(np.unique(kinds)) > 1:
        head = LogisticRegression(C=PENALTY_C, class_weight="balanced", max_iter=300, tol=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # with a strong penalty, further iterations gain little
            head.fit((vectors - centre) / scale, kinds)
        coefficients, intercepts = head.coef_, head.intercept_
        if len(head.classes_) == 2:  # scikit-learn then stores only the row of the second class
            coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
        weight[head.classes_] = coefficients / scale
        bias[head.classes_] = intercepts - weight[head.classes_] @ centre
    return weight[1:] - weight[_NO_DEFECT], bias[1:] - bias[_NO_DEFECT]

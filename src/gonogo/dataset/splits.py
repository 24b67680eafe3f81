"""Who trains, who chooses, who certifies, who tests: splits that no part, lot or re-shot copy straddles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gonogo.array_types import Int
from gonogo.dataset.records import Sample, Split
from gonogo.errors import DatasetError

ORDER = (Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.TEST)


class Fractions(NamedTuple):
    """Shares of the four splits in the order of `ORDER`; they add up to one."""

    train: float = 0.50
    val: float = 0.10
    calibrate: float = 0.25
    test: float = 0.15

    @classmethod
    def parse(cls, text: str) -> Fractions:
        """Read ``50/10/25/15`` (train/val/calibrate/test) or ``80/10/10`` (train/val/test, nothing to certify on).

        Raises:
            DatasetError: not three or four numbers that add up to 100 (or 1), or an empty train split.
        """
        try:
            values = [float(piece) for piece in text.split("/")]
        except ValueError:
            values = []
        total = sum(values)
        if len(values) not in (3, 4) or min(values) < 0 or values[0] <= 0 or not np.isclose(total, (1, 100)).any():
            raise DatasetError(
                f"--splits {text}: expected train/val/calibrate/test such as 50/10/25/15, or train/val/test such as "
                "80/10/10, adding up to 100. Correct the option."
            )
        train, val, *middle, test = (value / total for value in values)
        return cls(train=train, val=val, calibrate=middle[0] if middle else 0.0, test=test)


def merge_groups(samples: Sequence[Sample], near: Sequence[int], *, by_lot: bool = True) -> tuple[int, ...]:
    """Join near-duplicate components, parts and lots: pictures with the same number must share a split.

    Args:
        samples: The pictures.
        near: A near-duplicate component number per picture.
        by_lot: Whether pictures of one named lot belong together.
    """
    keys: list[tuple[Hashable, ...]] = [("near", number) for number in near]
    edges = list(enumerate(keys))
    edges += [(row, ("part", sample.part)) for row, sample in enumerate(samples) if sample.part is not None]
    if by_lot:
        edges += [(row, ("lot", sample.lot)) for row, sample in enumerate(samples) if sample.lot is not None]
    node = {key: len(samples) + index for index, key in enumerate(dict.fromkeys(key for _, key in edges))}
    rows, columns = np.array([(row, node[key]) for row, key in edges], int).reshape(-1, 2).T
    size = len(samples) + len(node)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return tuple(int(number) for number in component[: len(samples)])


def groups_of(samples: Sequence[Sample], *, by_lot: bool = True) -> tuple[int, ...]:
    """A number per picture by what the data set records; pictures of one part, lot or near-duplicate group share it."""
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    return merge_groups(samples, near, by_lot=by_lot)


def deal_folds(samples: Sequence[Sample], folds: int, *, seed: int = 0) -> Int[np.ndarray, " pictures"]:
    """A fold number per picture for cross-validation; pictures of one part, lot or near-duplicate group share it.

    With fewer such groups than folds, some folds stay empty.
    """
    groups = np.array(groups_of(samples))
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold: Int[np.ndarray, " pictures"] = np.argsort(names)[groups] % folds
    return fold


def assign_splits(
    samples: Sequence[Sample], groups: Sequence[int], fractions: Fractions, seed: int, *, keep: bool = False
) -> tuple[Sample, ...]:
    """Give every picture a split: whole groups only, stratified by label and defect kind.

    Greedy: groups are taken in seeded random order, those with the rarest kind first and large ones before small ones,
    and each goes where it brings the counts per kind nearest to their targets.

    Args:
        samples: The pictures; a split they already have is overwritten, unless ``keep``.
        groups: A group number per picture, from `merge_groups`.
        fractions: Shares of the splits.
        seed: The same seed gives the same splits.
        keep: Groups that have a split keep it; one that has several takes the earliest in `ORDER`, which claims least.

    Returns:
        The samples in the same order, each with its split.
    """
    strata = [(sample.label, sample.defect) for sample in samples]
    names = sorted(set(strata), key=str)
    column = {name: index for index, name in enumerate(names)}
    unique, rows = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(names)))
    np.add.at(counts, (rows, np.array([column[name] for name in strata], int)), 1)

    totals = counts.sum(axis=0)
    shares = np.array(fractions)
    targets = np.outer(shares, totals)
    order = np.random.default_rng(seed).permutation(len(unique))
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1)
    order = order[np.lexsort((-counts[order].sum(axis=1), rarest[order]))]

    filled = np.zeros_like(targets)
    choice = _kept(samples, rows, len(unique)) if keep else np.full(len(unique), len(ORDER))
    for group in np.flatnonzero(choice < len(ORDER)):
        filled[choice[group]] += counts[group]
    for group in order[choice[order] == len(ORDER)]:
        excess = 2 * (filled - targets) + counts[group]
        cost = (excess * counts[group] / totals).sum(axis=1)
        cost[shares == 0] = np.inf
        choice[group] = np.argmin(cost)
        filled[choice[group]] += counts[group]
    return tuple(
        sample.model_copy(update={"split": ORDER[choice[row]]}) for sample, row in zip(samples, rows, strict=True)
    )


def resplit(samples: Sequence[Sample], fractions: Fractions, seed: int, *, within_lots: bool) -> tuple[Sample, ...]:
    """Splits for samples whose near-duplicate ``group`` is known: parts, lots and groups stay whole.

    Args:
        samples: The pictures, each with its ``group``.
        fractions: Shares of the splits.
        seed: The same seed gives the same splits.
        within_lots: Let one lot stand in several splits; parts and near-duplicates never do.

    Raises:
        DatasetError: one lot holds more than the largest split may, and ``within_lots`` is false.
    """
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    groups = merge_groups(samples, near, by_lot=not within_lots)
    if not within_lots and any(sample.lot is not None for sample in samples):
        _require_several_lots(samples, groups, fractions)
    return assign_splits(samples, groups, fractions, seed)


def complete_splits(samples: Sequence[Sample], fractions: Fractions, seed: int) -> tuple[Sample, ...]:
    """Splits for samples that have none; those with one keep it: results stay comparable as labels come in.

    Args:
        samples: The pictures, each with its ``group``.
        fractions: Shares of the splits, the old pictures counted in.
        seed: The same seed gives the same splits.

    Raises:
        DatasetError: one lot holds more than the largest split may.
    """
    if all(sample.split is not None for sample in samples):
        return tuple(samples)
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    groups = merge_groups(samples, near)
    if any(sample.lot is not None for sample in samples):
        _require_several_lots(samples, groups, fractions)
    return assign_splits(samples, groups, fractions, seed, keep=True)


def gaps(samples: Sequence[Sample], fractions: Fractions) -> list[str]:
    """What a split that was asked for lacks: sentences for a person, none where every kind is in every split."""
    kinds = {(sample.label, sample.defect) for sample in samples if sample.label is not None}
    sentences = []
    for split, share in zip(ORDER, fractions, strict=True):
        here = {(sample.label, sample.defect) for sample in samples if sample.split is split}
        lacking = sorted(defect or str(label) for label, defect in kinds - here)
        if share > 0 and lacking:
            sentences.append(f"{split} has no {', '.join(lacking)}: too few different parts to share out.")
    return sentences


def _kept(samples: Sequence[Sample], rows: np.ndarray, groups: int) -> np.ndarray:
    """The place in `ORDER` of each group's split; ``len(ORDER)`` where no picture of it has one."""
    kept = np.full(groups, len(ORDER))
    for row, sample in zip(rows, samples, strict=True):
        if sample.split is not None:
            kept[row] = min(kept[row], ORDER.index(sample.split))
    return kept


def _require_several_lots(samples: Sequence[Sample], groups: Sequence[int], fractions: Fractions) -> None:
    number, count = Counter(groups).most_common(1)[0]
    if count <= max(fractions) * len(samples):
        return
    inside = {sample.lot for sample, group in zip(samples, groups, strict=True) if group == number}
    lots = ", ".join(sorted(lot for lot in inside if lot is not None)[:5])
    raise DatasetError(
        f"lot {lots} (with what shares a part or a near-duplicate with it) holds {count} of {len(samples)} pictures, "
        "more than the largest split takes, and a lot belongs in one split. Import more lots, or say "
        "--split-within-lots and claim nothing about new lots."
    )

"""Splits into train, val, calibrate and test that keep every part, lot and near-duplicate group in one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gonogo.array_types import Int
from gonogo.dataset.collected import train_only
from gonogo.dataset.records import Sample, Split
from gonogo.errors import DatasetError

ORDER = (Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.TEST)


class Fractions(NamedTuple):
    """Shares of the four splits, in the order of `ORDER`; they sum to one."""

    train: float = 0.50
    val: float = 0.10
    calibrate: float = 0.25
    test: float = 0.15

    @classmethod
    def parse(cls, text: str) -> Fractions:
        """Parse ``50/10/25/15`` (train/val/calibrate/test) or ``80/10/10`` (train/val/test, without calibrate).

        Raises:
            DatasetError: The text is not three or four numbers that sum to 100 (or 1), or the train split is empty.
        """
        try:
            values = [float(piece) for piece in text.split("/")]
        except ValueError:
            values = []
        total = sum(values)
        if len(values) not in (3, 4) or min(values) < 0 or values[0] <= 0 or not np.isclose(total, (1, 100)).any():
            raise DatasetError(
                f"--splits {text}: expected train/val/calibrate/test such as 50/10/25/15, or train/val/test such as "
                "80/10/10, with a sum of 100. Correct the option."
            )
        train, val, *middle, test = (value / total for value in values)
        return cls(train=train, val=val, calibrate=middle[0] if middle else 0.0, test=test)


def merge_groups(samples: Sequence[Sample], near: Sequence[int], *, by_lot: bool = True) -> tuple[int, ...]:
    """Merge near-duplicate groups, parts and lots; pictures with the same number must share a split.

    Args:
        samples: The pictures.
        near: Near-duplicate group number of each picture.
        by_lot: Whether pictures of one named lot are kept together.
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
    """Group number of each picture from the records; pictures of one part, lot or near-duplicate group share it."""
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    return merge_groups(samples, near, by_lot=by_lot)


def deal_folds(samples: Sequence[Sample], folds: int, *, seed: int = 0) -> Int[np.ndarray, " pictures"]:
    """Fold number of each picture for cross-validation; pictures of one part, lot or near-duplicate group share it.

    With fewer such groups than folds, some folds are empty.
    """
    groups = np.array(groups_of(samples))
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold: Int[np.ndarray, " pictures"] = np.argsort(names)[groups] % folds
    return fold


def assign_splits(
    samples: Sequence[Sample],
    groups: Sequence[int],
    fractions: Fractions,
    seed: int,
    *,
    keep: bool = False,
    early: Collection[str] = (),
) -> tuple[Sample, ...]:
    """Assign a split to every picture: groups stay together, stratified by label and defect kind.

    The assignment is greedy: groups are visited in seeded random order, those with the rarest kind first and large ones
    before small ones, and each goes to the split that brings the counts per kind closest to their targets. A group with
    a picture that a rule collected from the line, or that was judged before it was labelled, goes to train; where it
    keeps another split, that picture gets none.

    Args:
        samples: The pictures; existing splits are overwritten unless ``keep``.
        groups: Group number of each picture, from `merge_groups`.
        fractions: Shares of the splits.
        seed: Random seed.
        keep: Groups with a split keep it; a group with several takes the earliest in `ORDER`, the most conservative.
        early: Files that were judged before they were labelled; see `gonogo.dataset.judged.judged_unlabelled`.

    Returns:
        The samples in the same order, each with its split.
    """
    return _with(samples, _splits(samples, groups, fractions, seed, keep=keep, early=early))


def _with(samples: Sequence[Sample], splits: Sequence[Split | None]) -> tuple[Sample, ...]:
    return tuple(
        sample if sample.split is split else sample.model_copy(update={"split": split})
        for sample, split in zip(samples, splits, strict=True)
    )


def _splits(
    samples: Sequence[Sample],
    groups: Sequence[int],
    fractions: Fractions,
    seed: int,
    *,
    keep: bool = False,
    early: Collection[str] = (),
) -> list[Split | None]:
    """Choose the split of every picture; see `assign_splits`."""
    strata = [(sample.label, sample.defect) for sample in samples]
    names = sorted(set(strata), key=str)
    column = {name: index for index, name in enumerate(names)}
    unique, rows = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(names)))
    np.add.at(counts, (rows, np.array([column[name] for name in strata], int)), 1)

    choice = _kept(samples, rows, len(unique)) if keep else np.full(len(unique), len(ORDER))
    ruled = np.array([train_only(sample) or sample.file_name in early for sample in samples], bool)
    with_ruled = np.unique(rows[ruled])
    choice[with_ruled[choice[with_ruled] == len(ORDER)]] = ORDER.index(Split.TRAIN)
    choice = _fill_splits(choice, counts, np.array(fractions), seed)
    chosen = [ORDER[choice[row]] for row in rows]
    return [None if only and split is not Split.TRAIN else split for split, only in zip(chosen, ruled, strict=True)]


def _fill_splits(choice: np.ndarray, counts: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Choose a split for every group that has none; see `assign_splits`.

    Args:
        choice: Index in `ORDER` of each group's split; ``len(ORDER)`` if it has none. Modified in place.
        counts: Pictures of each group by label and kind.
        shares: Shares of the splits.
        seed: Random seed.
    """
    totals = counts.sum(axis=0)
    targets = np.outer(shares, totals)
    order = np.random.default_rng(seed).permutation(len(counts))
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1)
    order = order[np.lexsort((-counts[order].sum(axis=1), rarest[order]))]

    filled = np.zeros_like(targets)
    np.add.at(filled, choice[choice < len(ORDER)], counts[choice < len(ORDER)])
    usable = np.flatnonzero(shares > 0).tolist()
    waiting = order[choice[order] == len(ORDER)]
    pure = np.count_nonzero(counts[waiting], axis=1) == 1
    kinds = counts[waiting].argmax(axis=1)
    for group, one_kind, kind in zip(waiting.tolist(), pure.tolist(), kinds.tolist(), strict=True):
        if one_kind:  # nearly all: the same cost in plain numbers, which takes a third of the time
            count, total = float(counts[group, kind]), float(totals[kind])
            ahead = (filled[:, kind] - targets[:, kind]).tolist()
            chosen = min(usable, key=[(2 * each + count) * count / total for each in ahead].__getitem__)
            filled[chosen, kind] += count
        else:
            excess = 2 * (filled - targets) + counts[group]
            cost = (excess * counts[group] / totals).sum(axis=1)
            chosen = min(usable, key=cost.tolist().__getitem__)
            filled[chosen] += counts[group]
        choice[group] = chosen
    return choice


def resplit(
    samples: Sequence[Sample], fractions: Fractions, seed: int, *, within_lots: bool, early: Collection[str] = ()
) -> tuple[Sample, ...]:
    """Assign splits to samples with a near-duplicate ``group``; see `choose_splits`."""
    return _with(samples, choose_splits(samples, fractions, seed, within_lots=within_lots, early=early))


def choose_splits(
    samples: Sequence[Sample], fractions: Fractions, seed: int, *, within_lots: bool, early: Collection[str] = ()
) -> list[Split | None]:
    """Choose the split of each picture; parts, lots and near-duplicate groups stay together.

    Args:
        samples: The pictures, each with its ``group``.
        fractions: Shares of the splits.
        seed: Random seed.
        within_lots: Allow a lot to be in several splits; parts and near-duplicates never are.
        early: See `assign_splits`.

    Raises:
        DatasetError: One lot is larger than the largest split, and ``within_lots`` is false.
    """
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    groups = merge_groups(samples, near, by_lot=not within_lots)
    if not within_lots and any(sample.lot is not None for sample in samples):
        _require_several_lots(samples, groups, fractions, early)
    return _splits(samples, groups, fractions, seed, early=early)


def complete_splits(
    samples: Sequence[Sample], fractions: Fractions, seed: int, *, early: Collection[str] = ()
) -> tuple[Sample, ...]:
    """Assign splits to samples without one; existing splits are kept, so that results stay comparable.

    Args:
        samples: The pictures, each with its ``group``.
        fractions: Shares of the splits, old pictures included.
        seed: Random seed.
        early: See `assign_splits`.

    Raises:
        DatasetError: One lot is larger than the largest split.
    """
    if all(sample.split is not None for sample in samples):
        return tuple(samples)
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(samples)]
    groups = merge_groups(samples, near)
    if any(sample.lot is not None for sample in samples):
        _require_several_lots(samples, groups, fractions, early)
    return assign_splits(samples, groups, fractions, seed, keep=True, early=early)


def gaps(samples: Sequence[Sample], fractions: Fractions) -> list[str]:
    """Describe the labels and kinds that are missing in a requested split, one sentence per split."""
    kinds = {(sample.label, sample.defect) for sample in samples if sample.label is not None}
    sentences = []
    for split, share in zip(ORDER, fractions, strict=True):
        here = {(sample.label, sample.defect) for sample in samples if sample.split is split}
        lacking = sorted(defect or str(label) for label, defect in kinds - here)
        if share > 0 and lacking:
            sentences.append(f"{split} has no {', '.join(lacking)}: there are too few different parts.")
    return sentences


def _kept(samples: Sequence[Sample], rows: np.ndarray, groups: int) -> np.ndarray:
    """Index in `ORDER` of each group's split; ``len(ORDER)`` if none of its pictures has one."""
    kept = np.full(groups, len(ORDER))
    for row, sample in zip(rows, samples, strict=True):
        if sample.split is not None:
            kept[row] = min(kept[row], ORDER.index(sample.split))
    return kept


def _require_several_lots(
    samples: Sequence[Sample], groups: Sequence[int], fractions: Fractions, early: Collection[str]
) -> None:
    # Pictures that may only be in train are there anyway, however many of one lot there are.
    free = [
        group
        for sample, group in zip(samples, groups, strict=True)
        if not train_only(sample) and sample.file_name not in early
    ]
    number, count = Counter(free).most_common(1)[0] if free else (0, 0)
    if count <= max(fractions) * len(samples):
        return
    inside = {sample.lot for sample, group in zip(samples, groups, strict=True) if group == number}
    lots = ", ".join(sorted(lot for lot in inside if lot is not None)[:5])
    raise DatasetError(
        f"lot {lots} (with the lots that share a part or a near-duplicate) has {count} of {len(samples)} pictures, "
        "more than the largest split, and a lot must stay in one split. Import more lots, or use "
        "--split-within-lots; the results then do not apply to new lots."
    )

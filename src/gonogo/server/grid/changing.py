"""Changes to many pictures at once: one revision each, refused where they would spoil a certification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gonogo.dataset import Sample, Split
from gonogo.dataset.collected import train_only
from gonogo.dataset.judged import judged_before, judged_unlabelled
from gonogo.schema import Label
from gonogo.server.dataset_store import LONGEST_KIND, DatasetDraft, Datasets, decided
from gonogo.server.grid.index import mark
from gonogo.server.grid.twins import MOST_SEARCHED, Twin
from gonogo.server.grid.undo import BulkChange, UndoStacks
from gonogo.server.label.picture_label import relabelled, with_region
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool

_LEARNT, _PROVING = (Split.TRAIN, Split.VAL), (Split.CALIBRATE, Split.TEST)
_LISTED = 20
MOST_CHOSEN = 5000
"""Maximum number of pictures that are chosen one by one."""


class BulkAction(StrEnum):
    """What is done with the chosen pictures."""

    LABEL = "label"
    MOVE = "move"
    REMOVE = "remove"
    PROPAGATE = "propagate"
    """Give their labels to their unlabelled near-duplicates."""


class Matching(BaseModel):
    """All pictures that match a search, as the page showed them."""

    model_config = ConfigDict(extra="forbid")
    query: Annotated[str, Field(max_length=4000)]
    digest: Annotated[str, Field(max_length=32)]


class BulkRequest(BaseModel):
    """Request body: a change to many pictures."""

    model_config = ConfigDict(extra="forbid")

    action: BulkAction
    files: dict[Annotated[str, Field(max_length=1000)], Annotated[str, Field(max_length=32)]] = Field(
        default_factory=dict, max_length=MOST_CHOSEN
    )
    """The chosen pictures, each with its `mark` in hexadecimal as the page showed it."""
    matching: Matching | None = None
    """All that match instead."""
    label: Literal["good", "bad", "open"] = "open"
    defect: str | None = Field(default=None, min_length=1, max_length=LONGEST_KIND, pattern=r"^[^\x00-\x1f\x7f]+$")
    split: Split | None = None
    sure: bool = False
    """Whether the person has confirmed to relabel pictures of calibrate or test that were judged."""


class ConfirmationNeededError(RefusedError):
    """The change is possible, but the person has to confirm it."""


@dataclass(frozen=True, kw_only=True)
class BulkResult:
    """Result of a change."""

    changed: int
    stale: int
    """Number of chosen pictures left alone, because somebody else has changed them."""
    change: BulkChange | None
    """``None`` if nothing changed."""
    files: tuple[str, ...] = ()
    """The pictures that changed."""


def change_pictures(
    dataset: str,
    asked: BulkRequest,
    chosen: Sequence[tuple[str, int]],
    who: str,
    *,
    datasets: Datasets,
    undo: UndoStacks,
    ledger_pool: LedgerPool,
    twins: Sequence[Twin] = (),
) -> BulkResult:
    """Change pictures in one revision: first in the ledger, then in the data set.

    Args:
        dataset: The data set.
        asked: What to do.
        chosen: File names, each with its `mark` as the person saw it.
        who: The person.
        datasets: The data sets.
        undo: Keeps the change.
        ledger_pool: Records the change.
        twins: The near-duplicates of the chosen pictures, to label near-duplicates alike.

    Raises:
        RefusedError: The change would spoil a certification or makes no sense; nothing was changed.
        LedgerError: The change could not be recorded; nothing was changed.
    """
    what = {BulkAction.MOVE: "split", BulkAction.REMOVE: "remove"}.get(asked.action, "label")
    with datasets.changing(dataset, what=what, who=who) as draft:
        fresh = [
            draft.before.samples[file]
            for file, seen in chosen
            if file in draft.before.samples and mark(draft.before.samples[file]) == seen
        ]
        changed = _apply(draft, asked, fresh, who, twins)
        if changed:
            _record(ledger_pool, who, dataset, asked, changed)
        before, after = draft.before.samples, dict(draft.samples)
    stale = len(chosen) - len(fresh)
    pushed = undo.push(dataset, who, _said(asked), before, after) if changed else None
    return BulkResult(changed=len(changed), stale=stale, change=pushed, files=tuple(changed))


def _apply(
    draft: DatasetDraft, asked: BulkRequest, chosen: Sequence[Sample], who: str, twins: Sequence[Twin]
) -> list[str]:
    """Change the draft; returns the files that changed."""
    if asked.action is BulkAction.REMOVE:
        _refuse_to_remove(draft, chosen)
        files = [sample.file_name for sample in chosen]
        draft.remove(files)
        return files
    if asked.action is BulkAction.MOVE:
        changed = _moved(draft, chosen, asked.split)
    elif asked.action is BulkAction.PROPAGATE:
        chosen_files = {sample.file_name for sample in chosen}
        changed = _propagated(draft, [twin for twin in twins if twin.source.file_name in chosen_files], who)
    else:
        changed = _labelled(chosen, asked, who)
    if asked.action is not BulkAction.MOVE:
        _confirm_evidence(draft, changed, sure=asked.sure)
    draft.put(changed)
    return [sample.file_name for sample in changed]


def _labelled(chosen: Iterable[Sample], asked: BulkRequest, who: str) -> list[Sample]:
    label = None if asked.label == "open" else Label(asked.label)
    if asked.defect is not None and label is not Label.BAD:
        raise RefusedError(N_("Only a bad part can have a kind of defect."))
    defect = asked.defect if label is Label.BAD else None
    wanted = (label, defect, None)
    return [
        relabelled(sample, label, defect, who)
        for sample in chosen
        if (sample.label, sample.defect, sample.present or None) != wanted or sample.present is False
    ]


def _propagated(draft: DatasetDraft, twins: Sequence[Twin], who: str) -> list[Sample]:
    """Label near-duplicates alike, unless somebody has changed them or their model since they were compared.

    A near-duplicate in another split stays as it is: the same surface in two splits is a leak.
    """
    if not twins:
        raise RefusedError(
            N_(
                "No unlabelled near-duplicates were found for these pictures, or none of them is labelled. For more "
                "than %(most)s pictures at once they are known once the data set is split, at its first training for "
                "example."
            ),
            most=MOST_SEARCHED,
        )
    found, now = [], draft.before.samples
    for twin in twins:
        unchanged = all(now.get(each.file_name) is each for each in (twin.source, twin.target))
        if unchanged and not twin.leaks and not decided(twin.target):
            alike = relabelled(twin.target, twin.source.label, twin.source.defect, who)
            found.append(with_region(alike, twin.region, twin.size_wh, draft.before.root) if twin.region else alike)
    return found


def _moved(draft: DatasetDraft, chosen: Sequence[Sample], target: Split | None) -> list[Sample]:
    if target is None:
        raise RefusedError(N_("Choose a split."))
    moving = [sample for sample in chosen if sample.split is not target]
    judged = judged_before(draft.before.dataset)
    if files := [s.file_name for s in moving if target in _PROVING and s.split in _LEARNT]:
        _refuse(
            files,
            N_(
                "%(count)s pictures, such as %(file)s, were used for training: an inspector that has learnt from a "
                "picture proves nothing on it, so they cannot go to calibrate or test. Nothing was moved."
            ),
        )
    if files := [s.file_name for s in moving if s.file_name in judged]:
        _refuse(
            files,
            N_(
                "%(count)s pictures, such as %(file)s, have been judged in calibrate or test: a second split after the "
                "scores are known is a second attempt, and no certificate would be valid. Nothing was moved."
            ),
        )
    if files := [s.file_name for s in moving if target is not Split.TRAIN and train_only(s)]:
        _refuse(
            files,
            N_(
                "%(count)s pictures, such as %(file)s, were collected by a rule and are no random sample of the line: "
                "they may only be in train. Nothing was moved."
            ),
        )
    early = judged_unlabelled(draft.before.dataset)
    if files := [s.file_name for s in moving if target in _PROVING and s.file_name in early]:
        _refuse(
            files,
            N_(
                "%(count)s pictures, such as %(file)s, were judged before they were labelled: their labels may follow "
                "the verdict, so they may only be used for training. Nothing was moved."
            ),
        )
    _refuse_torn_parts(draft, moving, target)
    return [sample.model_copy(update={"split": target}) for sample in moving]


def _refuse_torn_parts(draft: DatasetDraft, moving: Sequence[Sample], target: Split) -> None:
    files, parts = {s.file_name for s in moving}, {s.part_id for s in moving}
    torn = [
        each.file_name
        for each in draft.before.samples.values()
        if each.part_id in parts and each.file_name not in files and each.split not in (None, target)
    ]
    if torn:
        _refuse(
            torn,
            N_(
                "%(count)s more pictures, such as %(file)s, show the same parts: all pictures of a part belong in one "
                "split. Choose them, too. Nothing was moved."
            ),
        )


def _refuse_to_remove(draft: DatasetDraft, chosen: Sequence[Sample]) -> None:
    if files := _seen_evidence(draft, chosen):
        _refuse(
            files,
            N_(
                "%(count)s pictures, such as %(file)s, have been judged in calibrate or test: leaving out evidence "
                "after its scores are known would make every certificate worthless. Nothing was removed."
            ),
        )


def _confirm_evidence(draft: DatasetDraft, changed: Sequence[Sample], *, sure: bool) -> None:
    files = _seen_evidence(draft, changed)
    if files and not sure:
        raise ConfirmationNeededError(
            N_(
                "%(count)s of these pictures, such as %(file)s, have been judged in calibrate or test. Label what the "
                "part is, not what the inspector says: otherwise the certificate proves nothing. Label them?"
            ),
            count=len(files),
            file=files[0],
        )


def _seen_evidence(draft: DatasetDraft, samples: Iterable[Sample]) -> list[str]:
    judged = judged_before(draft.before.dataset)
    return [s.file_name for s in samples if s.split in _PROVING and s.file_name in judged]


def _refuse(files: Sequence[str], message: str) -> None:
    raise RefusedError(message, count=len(files), file=files[0])


def _record(ledger_pool: LedgerPool, who: str, dataset: str, asked: BulkRequest, changed: Sequence[str]) -> None:
    labelling = asked.action is BulkAction.LABEL
    ledger_pool.act(
        f"pictures_{asked.action}",
        who,
        label=Label(asked.label) if labelling and asked.label != "open" else None,
        defect=asked.defect if labelling else None,
        dataset=dataset,
        pictures=len(changed),
        files=[*changed[:_LISTED]],
        split=asked.split.value if asked.action is BulkAction.MOVE and asked.split else None,
    )


def _said(asked: BulkRequest) -> str:
    return asked.label if asked.action is BulkAction.LABEL else asked.action.value

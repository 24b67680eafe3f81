"""Restores an earlier operating point of a bundle, with its files, as a new revision."""

from __future__ import annotations

import datetime

from gonogo import bundle as bundles
from gonogo import drift
from gonogo import operating_point as points
from gonogo.bundle import Bundle
from gonogo.certification.records import EVIDENCE
from gonogo.certification.scores import SCORES
from gonogo.errors import InputError, UnfitError
from gonogo.operating_point import Loss

BELONGING = (EVIDENCE, SCORES, drift.DRIFT, drift.TAUGHT)


def restore(bundle: Bundle, number: int, *, force: bool = False) -> Bundle:
    """Restore an earlier operating point; the current one is kept in the history.

    Args:
        bundle: The bundle to revise.
        number: Number of the revision, from 1, as listed by ``gonogo certify BUNDLE --revisions``.
        force: Restore it even if a current promise would be dropped.

    Raises:
        InputError: there is no such revision.
        UnfitError: a current promise would be dropped; nothing was written.
    """
    history = bundle.manifest.revisions
    if not 1 <= number <= len(history):
        raise InputError(
            f"{bundle.root}: expected the number of an earlier revision, 1 to {len(history)}, found {number}. "
            "List them with: gonogo certify BUNDLE --revisions"
            if history
            else f"{bundle.root}: there is no earlier revision to restore."
        )
    wanted = history[number - 1]
    point = points.from_json(wanted.operating_point)
    if not force:
        refuse_losses(bundle, [loss for loss in points.losses(bundle.manifest.operating_point, point) if loss.gone])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    files: dict[str, bytes | None] = {EVIDENCE: None, SCORES: None}
    if wanted.files is not None:
        frames = () if wanted.golden is None else (each.file for each in bundle.manifest.golden)
        files = {
            name: bundle.data(wanted.files[name]) if name in wanted.files else None
            for name in sorted({*BELONGING, *frames, *wanted.files})
        }
    return bundles.replace_operating_point(
        bundle, point, now=now, files=files, golden=wanted.golden, proven_on=wanted.proven_on
    )


def refuse_losses(bundle: Bundle, lost: list[Loss]) -> None:
    """Raise if a revision would promise less than the bundle does now.

    Raises:
        UnfitError: a promise would be lost.
    """
    if lost:
        sentences = " ".join(loss.sentence for loss in lost)
        raise UnfitError(
            f"{bundle.root}: this would weaken the current promise. {sentences} The bundle was not changed. "
            "Pass --force to write it anyway; the current limits can be restored later."
        )

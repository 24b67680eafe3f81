"""Recomputes a certification: thresholds from the stored scores, and scores from the pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from gonogo.certification.procedure import derived_point
from gonogo.certification.records import EVIDENCE
from gonogo.certification.scores import Judged, StoredScores, read_scores
from gonogo.dataset import Dataset, Split
from gonogo.evaluate import Evaluation, evaluate
from gonogo.inspector import Inspector
from gonogo.operating_point import KindClaims
from gonogo.rules import rules_digest
from gonogo.schema import Label, OperatingPoint
from gonogo.zoning import zones_digest


@dataclass(frozen=True, kw_only=True)
class Recount:
    """Result of recomputing a certification. Any difference is an error."""

    pictures: int
    """Number of pictures judged again."""
    thresholds: tuple[str, ...]
    """Differences between the operating point and the one computed from the stored scores."""
    scores: tuple[str, ...]
    """Differences between the pictures judged again and their stored scores."""


def recount(inspector: Inspector, dataset: Dataset) -> Recount | None:
    """Certify again on the stored scores, and judge their pictures again.

    Args:
        inspector: An inspector with an operating point.
        dataset: The data set it was certified on.

    Returns:
        The differences; ``None`` if the bundle has no stored scores because an earlier version certified it.

    Raises:
        BundleError: the stored scores are malformed.
        DatasetError: the calibrate split has no labelled pictures.
    """
    point, stored = inspector.operating_point, read_scores(inspector.bundle)
    if point is None or stored is None:
        return None
    calibrate, val = stored.evaluation(Split.CALIBRATE), stored.evaluation(Split.VAL)
    derived, kinds = derived_point(val, calibrate, stored.promise, stored.bad_share)
    derived = replace(
        derived,
        zones_sha256=zones_digest(inspector.recipe.zones),
        rules_sha256=rules_digest(inspector.recipe, inspector.heat_scale),
    )
    thresholds = [*_differences(point, derived), *_evidence_differences(inspector, stored, kinds)]
    if thresholds:
        thresholds += _wrong_side(calibrate, point)
    pictures, scores = 0, list[str]()
    for split, rows in ((Split.CALIBRATE, stored.calibrate), (Split.VAL, stored.val)):
        if rows:
            again = evaluate(inspector, dataset, (split,), with_regions=False)
            pictures += len(again.pictures)
            scores += _judged_otherwise(rows, again, inspector.bundle.manifest.score_tolerance)
    if not stored.calibrate:
        scores.append("no calibration pictures are stored")
    return Recount(pictures=pictures, thresholds=tuple(thresholds), scores=tuple(scores))


def _differences(point: OperatingPoint, derived: OperatingPoint) -> list[str]:
    names = [field.name for field in fields(OperatingPoint)]
    return [
        f"{name}: the bundle has {_shown(getattr(point, name))}, its stored scores give "
        f"{_shown(getattr(derived, name))}"
        for name in names
        if getattr(point, name) != getattr(derived, name)
    ]


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, float | bool | str) else str(value)


def _evidence_differences(inspector: Inspector, stored: StoredScores, kinds: KindClaims | None) -> list[str]:
    if EVIDENCE not in inspector.bundle.digests:
        return [] if kinds is None else [f"claims per defect kind: {EVIDENCE} is missing"]
    evidence = json.loads(inspector.bundle.data(EVIDENCE))
    stated: Mapping[str, Any] = evidence.get("kinds") or {}
    derived = {} if kinds is None else {kind: asdict(claim) for kind, claim in kinds.claims.items()}
    differing = sorted(kind for kind in {*stated, *derived} if stated.get(kind) != derived.get(kind))
    found = [f"claims per defect kind: those of {', '.join(differing)} differ"] if differing else []
    if evidence.get("request") != dict(stored.request):
        found.append(f"request: {EVIDENCE} and the stored scores differ")
    return found


def _wrong_side(calibrate: Evaluation, point: OperatingPoint) -> list[str]:
    """Claims violated by the number of parts on the wrong side of the bundle's thresholds."""
    found = []
    bad, good = calibrate.scores(Label.BAD), calibrate.scores(Label.GOOD)
    for claim, below, of, side in (
        (point.escape, int(np.sum(bad < point.go_below)), len(bad), "bad parts lie below go"),
        (point.overkill, int(np.sum(good > point.no_go_above)), len(good), "good parts lie above no-go"),
    ):
        if claim.allowed is not None and below > claim.allowed:
            found.append(f"{below} of {of} {side}, at most {claim.allowed} may")
    return found


def _judged_otherwise(stored: Sequence[Judged], again: Evaluation, tolerance: float) -> list[str]:
    before, now = {row.file: row for row in stored}, {row.file: row for row in again.pictures}
    found = [f"{name}: stored but not in the split" for name in sorted({*before} - {*now})]
    found += [f"{name}: in the split but not stored" for name in sorted({*now} - {*before})]
    if len(before) < len(stored):
        found.append(f"{len(stored) - len(before)} pictures are stored twice")
    counted_as: dict[str, str] = {}
    for name in sorted({*before} & {*now}):
        old, new = before[name], now[name]
        if (old.label, old.defect) != (new.label, new.defect):
            found.append(f"{name}: stored as {_label(old)}, labelled {_label(new)}")
        if counted_as.setdefault(new.part, old.part) != old.part:
            found.append(f"{name}: part {new.part} is counted as several parts")
        if old.rejected_by_rule is not new.rejected_by_rule:
            found.append(f"{name}: {'rejected' if old.rejected_by_rule else 'not rejected'} by a rule at certification")
        if (old.score is None) is not (new.score is None):
            found.append(f"{name}: was {'a fault' if old.score is None else 'judged'} at certification, not now")
        elif old.score is not None and new.score is not None and not abs(old.score - new.score) <= tolerance:
            found.append(
                f"{name}: scored {old.score:.6g} at certification, {new.score:.6g} now (tolerance {tolerance:g})"
            )
    return found


def _label(row: Any) -> str:
    return row.label.value if row.defect is None else f"{row.label.value} ({row.defect})"

"""Rules: limits on measured defects and counted items, applied to a verdict in addition to the certified score.

A rule never makes a verdict better, and a rule that leads to review turns go into review only. So both certified claims
hold with any rules of that kind: fewer bad parts escape, and no further good part is rejected.

A rule that rejects changes the second claim, and passing what it does not reject changes the first. Such a rule is in
force only if the thresholds were certified on the combined decision: `gonogo.certification` counts every calibration
part that the rule rejects as a part whose score is above any threshold, and the operating point keeps the digest of the
rules (`rules_digest`). If the digest of the bundle's rules differs, every part goes to review. If the good calibration
parts that the rules reject are too many for the overkill limit, there is no finite no-go threshold, and the rules lead
to review.

Limits are compared as ISO 14253-1 asks for: a defect complies only if it does with its measurement error added, and
violates a limit for certain only if it does with its error subtracted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from gonogo.bundle import Bundle, replace_recipe
from gonogo.config import Checks, Recipe, Rule
from gonogo.defect_kinds import UNLIKE
from gonogo.errors import ImageError, InputError
from gonogo.heatmap import HeatScale
from gonogo.images.health import require_healthy
from gonogo.images.zones import Place, on_frame
from gonogo.measure import LEVEL, draw_measurements, measure_defects
from gonogo.presence import Template, count_items, draw_counts
from gonogo.schema import Frame, ItemCount, Measurement, OperatingPoint, State, Verdict

METHOD = 1
"""Version of the measurement; another one makes certified rules void."""


class Findings(Protocol):
    """What a verdict, or its record, says about sizes and counts."""

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measured defects."""

    @property
    def counts(self) -> tuple[ItemCount, ...]:
        """The counted items."""


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What one rule found."""

    note: str
    fails: bool
    rejects: bool = False
    """Whether the rule rejects and applies for certain."""


def rules_digest(recipe: Recipe, heat_scale: HeatScale) -> str:
    """SHA-256 of the rules that reject, and of what they depend on; empty if there are none."""
    rules = [rule.model_dump(mode="json") for rule in recipe.rules if rule.then == "no_go"]
    zones = [zone.model_dump(mode="json") for zone in recipe.presence_zones if zone.then == "no_go"]
    if not rules and not zones:
        return ""
    named = {rule["zone"] for rule in rules}
    content = {
        "rules": rules,
        "zones": zones,
        "where": [zone.model_dump(mode="json") for zone in recipe.zones if zone.name in named],
        "scale": recipe.scale.model_dump(mode="json") if rules and recipe.scale is not None else None,
        "level": [METHOD, LEVEL, heat_scale.cold, heat_scale.hot] if rules else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def has_rules(recipe: Recipe) -> bool:
    """Whether a recipe asks for anything beside the score."""
    return recipe.scale is not None or bool(recipe.presence_zones)


@dataclass(frozen=True, kw_only=True)
class ChecksSet:
    """Result of `set_checks`."""

    bundle: Bundle
    """The new revision."""
    point_kept: bool
    """Whether the operating point is still in force; without, every part goes to review until it is certified again."""


def set_checks(opened: Bundle, checks: Checks, *, now: str) -> ChecksSet:
    """Put checks into a bundle, as a new revision of it.

    The operating point is kept if the rules that reject stay the same; otherwise the thresholds were certified for
    another decision, and the bundle loses them.

    Args:
        opened: The bundle to revise.
        checks: What it shall check besides the score.
        now: Time of the revision, UTC, ISO 8601.

    Raises:
        InputError: The checks do not fit the bundle: a rule names a zone or a defect kind that it does not know, or a
            golden frame violates the picture limits.
    """
    manifest = opened.manifest
    recipe = checks.within(manifest.recipe)
    known = manifest.classifier.defect_kinds
    for rule in recipe.rules:
        names = () if known is None else known.names
        if rule.kind is not None and rule.kind not in names:
            there = f"one of {', '.join(names)}" if names else "no kind, because the bundle names none"
            raise InputError(f"rule {rule.name!r}: kind: expected {there}, found {rule.kind!r}.")
    if recipe.rules and manifest.classifier.pool == "none":
        raise InputError("rules: expected a bundle with a heat map, found one that was imported without.")
    for zone in recipe.presence_zones:
        Template.decoded(zone.template)
    for file, photograph, _ in opened.golden():
        try:
            require_healthy(photograph.judged(recipe), recipe.health)
        except ImageError as error:
            raise InputError(f"health: golden frame {file} violates the new limits ({error}) Relax them.") from error
    point = manifest.operating_point
    kept = point is None or point.rules_sha256 == rules_digest(recipe, manifest.heat_scale)
    return ChecksSet(bundle=replace_recipe(opened, recipe, now=now, keep_point=kept), point_kept=kept)


def apply_or_fault(
    verdict: Verdict,
    frame: Frame,
    recipe: Recipe,
    *,
    heat_scale: HeatScale,
    point: OperatingPoint | None,
    size_wh: tuple[int, int],
) -> Verdict:
    """Apply the rules, see `apply_rules`; an error becomes a fault."""
    try:
        return apply_rules(verdict, frame, recipe, heat_scale=heat_scale, point=point, size_wh=size_wh)
    except Exception as error:  # noqa: BLE001  the edge of judging: any error becomes a fault
        reason = f"not judged: the rules cannot be applied: {error}"
        return replace(verdict, state=State.FAULT, score=None, reason=reason, heatmap=None)


def apply_rules(
    verdict: Verdict,
    frame: Frame,
    recipe: Recipe,
    *,
    heat_scale: HeatScale,
    point: OperatingPoint | None,
    size_wh: tuple[int, int],
) -> Verdict:
    """Measure defects, count items, and apply the recipe's rules.

    Args:
        verdict: The verdict by the score; a fault is returned as it is.
        frame: The frame that was judged, reduced as the recipe says.
        recipe: The rules.
        heat_scale: The inspector's colour scale.
        point: The operating point, which says whether rules that reject are certified.
        size_wh: Width and height of the full-size picture.

    Raises:
        ImageError: A zone lies outside the picture.
    """
    if verdict.state is State.FAULT or verdict.region is None:
        return verdict
    place = Place(region=verdict.region, margin=verdict.margin)
    measurable = recipe.scale is not None and recipe.scale.size_wh == size_wh
    measurements = _measured(verdict, frame, recipe, heat_scale, place) if measurable else ()
    small = place.scaled(1 / recipe.reduction)
    counts = tuple(_at_full_size(count_items(frame, small, zone), recipe.reduction) for zone in recipe.presence_zones)
    findings = [*_sizes(verdict, recipe, measurements), *_presence(recipe, counts)]
    if recipe.rules and not measurable and recipe.scale is not None:
        findings.append(_Finding(note=_other_size(recipe.scale.size_wh, size_wh), fails=True))
    state, reason = _decide(verdict, findings, point, rules_digest(recipe, heat_scale))
    return replace(
        verdict,
        state=state,
        reason=reason,
        measurements=measurements,
        counts=counts,
        notes=tuple(each.note for each in findings),
        rejected_by_rule=any(each.rejects for each in findings),
    )


def draw_findings(frame: Frame, found: Findings, *, factor: float = 1.0) -> None:
    """Draw measured defects with their lengths, and counted items, in place.

    Args:
        frame: The picture, possibly reduced.
        found: The verdict on it, or its record.
        factor: Size of this frame against the full-size picture.
    """
    draw_counts(frame, found.counts, factor=factor)
    draw_measurements(frame, found.measurements, factor=factor)


def _decide(verdict: Verdict, findings: list[_Finding], point: OperatingPoint | None, digest: str) -> tuple[State, str]:
    if point is not None and point.rules_sha256 != digest:
        changed = "the rules that reject were changed after certification: sent to review; run gonogo certify"
        return State.REVIEW, f"{changed}; otherwise {verdict.reason}"
    rejecting = next((each.note for each in findings if each.rejects), None)
    in_force = point is not None and math.isfinite(point.no_go_above)
    if rejecting is not None and in_force and verdict.state is not State.NO_GO:
        return State.NO_GO, f"{rejecting}: rejected; by the score alone: {verdict.reason}"
    failing = next((each.note for each in findings if each.fails), None)
    if failing is not None and verdict.state is State.GO:
        return State.REVIEW, f"{failing}: sent to review; otherwise {verdict.reason}"
    return verdict.state, verdict.reason


def _measured(
    verdict: Verdict, frame: Frame, recipe: Recipe, heat_scale: HeatScale, place: Place
) -> tuple[Measurement, ...]:
    assert recipe.scale is not None, "checked by the caller"
    found = measure_defects(frame, verdict, heat_scale, recipe.scale, reduction=recipe.reduction)
    named = {rule.zone for rule in recipe.rules}
    outlines = [(zone.name, on_frame(zone.polygon, place)) for zone in recipe.zones if zone.name in named]
    return tuple(
        replace(each, zone=next((name for name, outline in outlines if _inside(each, outline)), None)) for each in found
    )


def _inside(found: Measurement, outline: np.ndarray) -> bool:
    return cv2.pointPolygonTest(outline.astype(np.float32), found.middle_xy, measureDist=False) >= 0


def _at_full_size(count: ItemCount, reduction: int) -> ItemCount:
    items = [
        replace(each, centre_xy=(round(each.centre_xy[0] * reduction, 1), round(each.centre_xy[1] * reduction, 1)))
        for each in count.items
    ]
    return replace(count, items=tuple(items))


def _sizes(verdict: Verdict, recipe: Recipe, measurements: tuple[Measurement, ...]) -> Iterator[_Finding]:
    """One finding for the largest defect that each rule is about; none if there is no such defect."""
    for rule in recipe.rules:
        if rule.kind is not None and verdict.kind not in (None, UNLIKE, rule.kind):
            continue
        sizes = [_size(rule, each) for each in measurements if rule.zone is None or each.zone == rule.zone]
        if not sizes:
            continue
        limit, unit = _limit(rule)
        value, error = max(sizes, key=lambda size: size[0] + size[1])
        fails = value + error > limit
        certain = any(each - its_error > limit for each, its_error in sizes)
        note = f"{rule.name}: {value:.2f} ± {error:.2f} {unit}, limit {limit:g} {unit}"
        yield _Finding(note=note, fails=fails, rejects=certain and rule.then == "no_go")


def _limit(rule: Rule) -> tuple[float, str]:
    if rule.longer_than_mm is not None:
        return rule.longer_than_mm, "mm long"
    if rule.wider_than_mm is not None:
        return rule.wider_than_mm, "mm wide"
    assert rule.larger_than_mm2 is not None, "a rule has one limit"
    return rule.larger_than_mm2, "mm²"


def _size(rule: Rule, found: Measurement) -> tuple[float, float]:
    if rule.longer_than_mm is not None:
        return found.length_mm, found.length_error_mm
    if rule.wider_than_mm is not None:
        return found.width_mm, found.width_error_mm
    return found.area_mm2, found.area_error_mm2


def _presence(recipe: Recipe, counts: tuple[ItemCount, ...]) -> Iterator[_Finding]:
    for zone, count in zip(recipe.presence_zones, counts, strict=True):
        note = f"{zone.name}: {len(count.items)} of {count.expected} found"
        yield _Finding(note=note, fails=not count.complete, rejects=not count.complete and zone.then == "no_go")


def _other_size(expected: tuple[int, int], found: tuple[int, int]) -> str:
    return (
        f"not measured: the scale belongs to pictures of {expected[0]} x {expected[1]} pixels, "
        f"found {found[0]} x {found[1]}"
    )

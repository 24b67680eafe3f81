"""Formats numbers, rates and results as text for reports."""

from __future__ import annotations

import math

from gonogo.dataset import Split
from gonogo.evaluate import Evaluation, Placement, Rate, Regions, auroc_interval
from gonogo.operating_point import DEFAULT_RATE, missing_for_default, vacuous, what_it_takes, without_promise
from gonogo.operating_point.claims import NOTHING_PASSED, NOTHING_REJECTED
from gonogo.schema import Claim, Label, OperatingPoint, State

UNDEFINED = "–"  # noqa: RUF001 - an en dash is what a printed table shows

SPACE = "\N{NARROW NO-BREAK SPACE}"
STATE_NAMES = {State.GO: "go", State.REVIEW: "to a person", State.NO_GO: "no-go", State.FAULT: "fault"}
"""Display name of each verdict."""


def percent(share: float | None) -> str:
    """Format a measured share as percent: a dash if undefined, 0 % and 100 % only if exact."""
    if share is None:
        return UNDEFINED
    if share in (0.0, 1.0):
        return level(share)
    if not 0.0001 <= share <= 0.9999:
        return f"{'<' if share < 0.5 else '>'}{level(0.0001 if share < 0.5 else 0.9999)}"
    digits = 1 if 0.001 <= share <= 0.999 else 2
    return f"{share * 100:.{digits}f}{SPACE}%"


def level(share: float) -> str:
    """Format a chosen share, such as a confidence, as percent without trailing zeros."""
    return f"{share * 100:.6g}{SPACE}%"


def percent_up(share: float | None) -> str:
    """Format an upper bound as percent, rounded up so that the printed bound is never below the computed one."""
    if share is None:
        return UNDEFINED
    return level(math.ceil(share * 1000 - 1e-6) / 1000)


def interval(rate: Rate) -> str:
    """Format the two-sided confidence interval of a rate."""
    return UNDEFINED if rate.low is None else f"{percent(rate.low)} to {percent(rate.high)}"


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed number of decimals; a dash if undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def passes_nothing(point: OperatingPoint | None) -> bool:
    """Whether no score can be judged go."""
    return point is None or point.go_below == -math.inf


def headline(evaluation: Evaluation) -> str:
    """One sentence about escapes."""
    escape = evaluation.escape
    if not escape.of:
        return "There were no bad parts, so the escape rate cannot be estimated."
    if passes_nothing(evaluation.operating_point):
        return "This inspector passes no parts yet: there are too few calibration parts to certify a go threshold."
    return (
        f"Of {parts(escape.of, 'bad ')} {passed(escape.count)} passed; with {level(escape.confidence)} confidence "
        f"at most {percent_up(escape.at_most)} of such bad parts would be passed."
    )


def which_is_the_promise(evaluation: Evaluation) -> str:
    """Explain which of the three bounds on the escape rate is promised, and what the other two are."""
    escape, point = evaluation.escape, evaluation.operating_point
    test = (
        f"This test alone bounds the escape rate by {percent_up(escape.at_most)} (one-sided) or {interval(escape)} "
        f"(two-sided, shown next to every count), at {level(escape.confidence)} confidence."
        if escape.of
        else ""
    )
    if point is None or not point.escape.holds or vacuous(point, point.escape):
        unpromised = "" if point is None else without_promise(point)
        note = f"{unpromised[0].upper()}{unpromised[1:]}. " if unpromised else ""
        return f"{note}Nothing is promised about bad parts. {test}".strip()
    claim = point.escape
    promised = (
        f"The promise is one figure: at most {level(claim.max_rate)} of bad parts are passed, at "
        f"{level(claim.confidence)} confidence, certified on {parts(claim.parts, 'bad calibration ')}."
    )
    return (
        f"{promised} {test} With this few parts, the test can contradict the promise but cannot replace it."
        if test
        else promised
    )


def tells_apart(area: float | None, good_parts: int, bad_parts: int) -> str:
    """Format an AUROC as a share of pairs with its confidence interval; a dash if undefined."""
    if area is None:
        return UNDEFINED
    low, high = auroc_interval(area, good_parts, bad_parts)
    return f"{percent(area)} ({percent(low)} to {percent(high)})"


def subline(evaluation: Evaluation) -> str:
    """Sentences about overkill, reviews and faults."""
    overkill, review, fault = evaluation.overkill, evaluation.review, evaluation.fault
    sentences = []
    if overkill.of:
        sentences.append(f"Of {parts(overkill.of, 'good ')} {passed(overkill.count)} rejected.")
    sentences.append(f"{percent(review.value)} of all parts ({review.count} of {review.of}) were sent to a person.")
    if fault.count:
        sentences.append(f"{parts(fault.count)} could not be judged at all: a fault, never go.")
    return " ".join(sentences)


def warnings(evaluation: Evaluation) -> list[str]:
    """Caveats that apply to the figures of an evaluation."""
    found = []
    seen = [split.value for split in evaluation.splits if split is not Split.TEST]
    if seen:
        found.append(
            f"These figures include pictures used to train or calibrate the inspector (split: {', '.join(seen)}), so "
            "they are optimistic. Only the test split gives unbiased figures."
        )
    if evaluation.operating_point is None:
        found.append("The inspector has no operating point: it only gives scores, and every part goes to review.")
    else:
        found += [
            f"This test contradicts the promise: {rate.count} of {rate.of} {label.value} parts were {done}, "
            f"so the true rate is significantly above {level(claim.max_rate)}. Do not use this inspector until the "
            "cause is found. Most often, the parts or the camera have changed since calibration."
            for claim, rate, label, done in (
                (evaluation.operating_point.escape, evaluation.escape, Label.BAD, "passed"),
                (evaluation.operating_point.overkill, evaluation.overkill, Label.GOOD, "rejected"),
            )
            if claim.holds and rate.low is not None and rate.low > claim.max_rate
        ]
    if evaluation.unlabelled:
        found.append(f"{evaluation.unlabelled} pictures without a label were skipped.")
    return found


def promise(claim: Claim, point: OperatingPoint | None = None) -> str:
    """Describe a claim of the operating point, or why it cannot be certified; vacuous claims are reported as none."""
    if point is not None and vacuous(point, claim):
        return NOTHING_PASSED if claim.error == "escape" else NOTHING_REJECTED
    subject, verb, line = {
        "escape": ("bad", "passed", "below the go line"),
        "overkill": ("good", "rejected", "above the no-go line"),
    }[claim.error]
    confidence, rate = level(claim.confidence), level(claim.max_rate)
    if claim.holds:
        return (
            f"At most {rate} of {subject} parts are {verb}, with {confidence} confidence. Certified on "
            f"{parts(claim.parts, f'{subject} calibration ')}, of which at most {claim.allowed} may lie {line}."
            f"{by_counts(claim, joint=point is not None and point.joint)}"
        )
    lacking = f"{claim.parts_missing} more are needed in the calibrate split"
    until = f"Until then no part is {verb} automatically."
    if claim.error == "escape" and point is not None and (unpromised := without_promise(point)):
        until = f"Parts are still passed, as requested: {unpromised}."
    return (
        f"Not certified. {parts(claim.parts, f'{subject} calibration ')} cannot show that at most {rate} "
        f"of {subject} parts are {verb} with {confidence} confidence: {lacking}. The best "
        f"that can be shown with these is {percent_up(claim.best_rate)}. {until} "
        f"{what_it_takes(claim, joint=point is not None and point.joint)}"
    )


def by_counts(claim: Claim, *, joint: bool) -> str:
    """Say that the number of parts determined the limit, if it did."""
    missing = missing_for_default(claim, joint=joint)
    subject = "bad" if claim.error == "escape" else "good"
    return (
        f" No limit was requested: this is the lowest that {claim.parts} {subject} parts can certify; "
        f"{level(DEFAULT_RATE)} requires {missing} more {subject} parts in the calibrate split."
        if missing
        else ""
    )


def parts(count: int, kind: str = "") -> str:
    """``1 bad part``, ``92 bad parts``."""
    return f"{count:,} {kind}part{'' if count == 1 else 's'}"


def passed(count: int) -> str:
    """``none was``, ``1 was``, ``3 were``."""
    return "none was" if count == 0 else f"{count:,} {'was' if count == 1 else 'were'}"


def signed(value: float | None) -> str:
    """Format a difference with its sign; a dash if undefined."""
    if value is None:
        return UNDEFINED
    return "no difference" if abs(value) < 0.0005 else f"{'+' if value > 0 else ''}{number(value)}"


def points(difference: float | None) -> str:
    """Format the difference of two shares in percentage points, with its sign."""
    if difference is None:
        return UNDEFINED
    if abs(difference) < 0.0005:
        return "no difference"
    return f"{'+' if difference > 0 else ''}{number(100 * difference, 1)} points"


def region_lead(regions: Regions) -> str:
    """Introduce the comparison of found and drawn regions."""
    return (
        "The inspector first locates the part, then judges only the region it crops. A person outlined the part in "
        f"{count_pictures(len(regions.placements))}, so the two regions can be compared."
    )


def region_areas(regions: Regions) -> str:
    """How much of the part lies outside the region, and how far the region reaches beyond the part."""
    missed, excess = regions.missed_of_truth, regions.excess_of_truth
    if not missed:
        lost = "Every part lay entirely inside the region that was judged."
    else:
        lost = (
            f"On average {percent(missed)} of the part's area lay outside the region that was judged "
            f"({percent(regions.missed_of_picture)} of the whole picture)"
            f"{', counting a part that was not found as 100%' if regions.found.count < regions.found.of else ''}."
        )
    if excess is None:
        return lost
    reach = f"region reached beyond the part by {percent(excess)} of the part's area, margin included."
    return f"{lost} {'The' if regions.found.count == regions.found.of else 'Where the part was found, the'} {reach}"


def region_cost(regions: Regions) -> str:
    """How the located region changes the verdicts, in one sentence."""
    found, drawn = regions.end_to_end, regions.labelled
    changes = [
        f"{parts(rate.count, kind)} {done} in the region found, {exact.count:,} in the region drawn"
        for rate, exact, kind, done in (
            (found.escape, drawn.escape, "bad ", "passed"),
            (found.overkill, drawn.overkill, "good ", "rejected"),
            (found.fault, drawn.fault, "", "not judged at all"),
        )
        if rate.count or exact.count
    ]
    if not changes:
        return "No bad part was passed and no good part rejected, in either region."
    return f"{'; '.join(changes)}."


def region_album(regions: Regions) -> str:
    """The order of the pictures."""
    lost = regions.found.of - regions.found.count
    if not lost:
        return "Sorted by overlap, lowest first."
    return f"First some of the {count_pictures(lost)} in which the part was not found, then by overlap, lowest first."


def region_caption(placement: Placement) -> str:
    """How well the part was located in one picture."""
    if not placement.found:
        return "not found"
    inside = "whole part inside" if placement.whole_inside else f"{percent(placement.missed_of_truth)} of it cut off"
    return f"overlap {percent(placement.iou)}, {inside}"


def count_pictures(count: int) -> str:
    """``1 picture``, ``92 pictures``."""
    return f"{count:,} picture{'' if count == 1 else 's'}"

"""Numbers and outcomes in plain sentences."""

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
"""What a reader sees for each verdict."""


def percent(share: float | None) -> str:
    """A measured share as percent, a dash where it is undefined; 0 % and 100 % only where exact."""
    if share is None:
        return UNDEFINED
    if share in (0.0, 1.0):
        return level(share)
    if not 0.0001 <= share <= 0.9999:
        return f"{'<' if share < 0.5 else '>'}{level(0.0001 if share < 0.5 else 0.9999)}"
    digits = 1 if 0.001 <= share <= 0.999 else 2
    return f"{share * 100:.{digits}f}{SPACE}%"


def level(share: float) -> str:
    """A chosen share, such as a confidence, as percent without needless decimals."""
    return f"{share * 100:.6g}{SPACE}%"


def percent_up(share: float | None) -> str:
    """A bound as percent, rounded up, so that the printed promise is never the smaller one."""
    if share is None:
        return UNDEFINED
    return level(math.ceil(share * 1000 - 1e-6) / 1000)


def interval(rate: Rate) -> str:
    """The two-sided interval of a rate."""
    return UNDEFINED if rate.low is None else f"{percent(rate.low)} to {percent(rate.high)}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many decimals, a dash where it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def passes_nothing(point: OperatingPoint | None) -> bool:
    """Whether no score at all is low enough for go."""
    return point is None or point.go_below == -math.inf


def headline(evaluation: Evaluation) -> str:
    """The one sentence about escapes."""
    escape = evaluation.escape
    if not escape.of:
        return "There was no bad part among these, so nothing can be said about how many would be passed."
    if passes_nothing(evaluation.operating_point):
        return "This gauge passes nothing yet: it has too little proof to call any part go."
    return (
        f"Of {parts(escape.of, 'bad ')} {passed(escape.count)} passed; with {level(escape.confidence)} confidence "
        f"at most {percent_up(escape.at_most)} of bad parts like these would be."
    )


def which_is_the_promise(evaluation: Evaluation) -> str:
    """Three figures bound the escape rate: which of them is promised, and what the other two are."""
    escape, point = evaluation.escape, evaluation.operating_point
    test = (
        f"This test alone bounds the escape rate by {percent_up(escape.at_most)} (one-sided) or {interval(escape)} "
        f"(two-sided, beside every count), at {level(escape.confidence)} confidence."
        if escape.of
        else ""
    )
    if point is None or not point.escape.holds or vacuous(point, point.escape):
        unpromised = "" if point is None else without_promise(point)
        told = f"{unpromised[0].upper()}{unpromised[1:]}. " if unpromised else ""
        return f"{told}Nothing is promised about bad parts. {test}".strip()
    claim = point.escape
    promised = (
        f"The promise is one figure: at most {level(claim.max_rate)} of bad parts are passed, at "
        f"{level(claim.confidence)} confidence, certified on {parts(claim.parts, 'bad calibration ')}."
    )
    return f"{promised} {test} With so few parts it can contradict the promise, not replace it." if test else promised


def tells_apart(area: float | None, good_parts: int, bad_parts: int) -> str:
    """An area under the ROC curve as a share of pairs with its interval, a dash where it is undefined."""
    if area is None:
        return UNDEFINED
    low, high = auroc_interval(area, good_parts, bad_parts)
    return f"{percent(area)} ({percent(low)} to {percent(high)})"


def subline(evaluation: Evaluation) -> str:
    """What the good parts cost, and who looked at the rest."""
    overkill, review, fault = evaluation.overkill, evaluation.review, evaluation.fault
    sentences = []
    if overkill.of:
        sentences.append(f"Of {parts(overkill.of, 'good ')} {passed(overkill.count)} rejected.")
    sentences.append(f"{percent(review.value)} of all parts ({review.count} of {review.of}) were sent to a person.")
    if fault.count:
        sentences.append(f"{parts(fault.count)} could not be judged at all: a fault, never go.")
    return " ".join(sentences)


def warnings(evaluation: Evaluation) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    seen = [split.value for split in evaluation.splits if split is not Split.TEST]
    if seen:
        found.append(
            f"These figures include pictures that shaped the gauge (split: {', '.join(seen)}), so they look better "
            "than the truth. Only the test split is fresh."
        )
    if evaluation.operating_point is None:
        found.append("The gauge has no operating point: it gives scores, and a person decides about every part.")
    else:
        found += [
            f"This test contradicts the promise: {rate.count} of {rate.of} {label.value} parts were {done}, "
            f"which is more than {level(claim.max_rate)} beyond reasonable doubt. Do not use this gauge before the "
            "cause is found; most often the parts or the camera changed since calibration."
            for claim, rate, label, done in (
                (evaluation.operating_point.escape, evaluation.escape, Label.BAD, "passed"),
                (evaluation.operating_point.overkill, evaluation.overkill, Label.GOOD, "rejected"),
            )
            if claim.holds and rate.low is not None and rate.low > claim.max_rate
        ]
    if evaluation.unlabelled:
        found.append(f"{evaluation.unlabelled} pictures without a label were left out.")
    return found


def promise(claim: Claim, point: OperatingPoint | None = None) -> str:
    """A claim of the operating point, or why it refuses to make it; nothing vacuous is promised."""
    if point is not None and vacuous(point, claim):
        return NOTHING_PASSED if claim.error == "escape" else NOTHING_REJECTED
    subject, verb, line = {
        "escape": ("bad", "passed", "below the go line"),
        "overkill": ("good", "rejected", "above the no-go line"),
    }[claim.error]
    confidence, rate = level(claim.confidence), level(claim.max_rate)
    if claim.holds:
        return (
            f"At most {rate} of {subject} parts are {verb}, with {confidence} confidence. Proven on "
            f"{parts(claim.parts, f'{subject} calibration ')}, of which at most {claim.allowed} may lie {line}."
            f"{by_counts(claim, joint=point is not None and point.joint)}"
        )
    lacking = f"{claim.parts_missing} more are needed in the calibrate split"
    until = f"Until then nothing is {verb} automatically."
    if claim.error == "escape" and point is not None and (unpromised := without_promise(point)):
        until = f"Parts pass all the same, because that was asked for: {unpromised}."
    return (
        f"Not promised. {parts(claim.parts, f'{subject} calibration ')} cannot show that at most {rate} "
        f"of {subject} parts are {verb} with {confidence} confidence: {lacking}. The best "
        f"that can be shown with these is {percent_up(claim.best_rate)}. {until} "
        f"{what_it_takes(claim, joint=point is not None and point.joint)}"
    )


def by_counts(claim: Claim, *, joint: bool) -> str:
    """That the number of parts set the limit, where it did."""
    missing = missing_for_default(claim, joint=joint)
    subject = "bad" if claim.error == "escape" else "good"
    return (
        f" No limit was asked for: this is the best that so few parts can show; {level(DEFAULT_RATE)} takes {missing} "
        f"more {subject} parts in the calibrate split."
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
    """A difference with its sign, a dash where it is undefined."""
    if value is None:
        return UNDEFINED
    return "no difference" if abs(value) < 0.0005 else f"{'+' if value > 0 else ''}{number(value)}"


def points(difference: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    if difference is None:
        return UNDEFINED
    if abs(difference) < 0.0005:
        return "no difference"
    return f"{'+' if difference > 0 else ''}{number(100 * difference, 1)} points"


def region_lead(regions: Regions) -> str:
    """What is held against what."""
    return (
        "The gauge first looks for the part, then judges only what it cuts out there. In "
        f"{count_pictures(len(regions.placements))} a person had drawn where the part is, so both can be compared."
    )


def region_areas(regions: Regions) -> str:
    """What the region leaves out of the part, and what it takes in beside it."""
    missed, excess = regions.missed_of_truth, regions.excess_of_truth
    if not missed:
        lost = "Nothing of any part lay outside the region that was judged."
    else:
        lost = (
            f"On average {percent(missed)} of the part's area lay outside the region that was judged "
            f"({percent(regions.missed_of_picture)} of the whole picture)"
            f"{', a part that was not found counting as all of it' if regions.found.count < regions.found.of else ''}."
        )
    if excess is None:
        return lost
    reach = f"region reached beyond the part by {percent(excess)} of the part's area, margin included."
    return f"{lost} {'The' if regions.found.count == regions.found.of else 'Where the part was found, the'} {reach}"


def region_cost(regions: Regions) -> str:
    """What the verdicts lose to the search, in one sentence."""
    found, drawn = regions.end_to_end, regions.labelled
    told = [
        f"{parts(rate.count, kind)} {done} on the region found, {exact.count:,} on the region drawn"
        for rate, exact, kind, done in (
            (found.escape, drawn.escape, "bad ", "passed"),
            (found.overkill, drawn.overkill, "good ", "rejected"),
            (found.fault, drawn.fault, "", "not judged at all"),
        )
        if rate.count or exact.count
    ]
    if not told:
        return "No bad part was passed and no good one rejected, on either region."
    return f"{'; '.join(told)}."


def region_album(regions: Regions) -> str:
    """What order the pictures are in."""
    lost = regions.found.of - regions.found.count
    if not lost:
        return "The lowest overlap first."
    return f"First from the {count_pictures(lost)} in which the part was not found, then the lowest overlap."


def region_caption(placement: Placement) -> str:
    """How well one picture's part was found."""
    if not placement.found:
        return "not found"
    inside = "whole part inside" if placement.whole_inside else f"{percent(placement.missed_of_truth)} of it cut off"
    return f"overlap {percent(placement.iou)}, {inside}"


def count_pictures(count: int) -> str:
    """``1 picture``, ``92 pictures``."""
    return f"{count:,} picture{'' if count == 1 else 's'}"

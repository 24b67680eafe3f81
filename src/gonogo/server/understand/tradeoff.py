"""The trade-off curve behind the slider: what other limits would promise and their consequences.

Limits are chosen on the val split and certified once on the calibrate split. The slider therefore uses val scores and
only the number of parts of the calibrate split; ``docs/proof.md`` explains why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gonogo import operating_point as points
from gonogo.certification import share_of_bad
from gonogo.dataset import Split
from gonogo.evaluate import Evaluation, Rate
from gonogo.operating_point import Promise, TradeoffPoint
from gonogo.operating_point.tradeoff import RATES
from gonogo.schema import Label, OperatingPoint, Scores, State
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.inspectors.judged import JudgedPictures
from gonogo.server.understand.line import LinePart

_STATES = (State.GO, State.REVIEW, State.NO_GO)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of the slider and its consequences."""

    point: TradeoffPoint
    limits: OperatingPoint
    """The thresholds: certified if these limits are in force, else estimated."""
    in_force: bool
    guess: bool
    """Whether val has too few bad parts to estimate the go threshold, so the certified one may be much stricter."""
    review_rate: float
    """Expected review rate."""
    good: dict[State, Rate]
    """Expected outcome of the good val parts."""
    bad: dict[State, Rate]
    line: dict[State, Rate] | None
    """Outcome of the latest parts of the line; ``None`` if there are none."""


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """All settings of the slider."""

    escapes: tuple[float, ...]
    overkills: tuple[float, ...]
    escape_now: int
    """Index in ``escapes`` of the limit in force, or the nearest one."""
    overkill_now: int
    bad_share: float
    confidence: float
    joint: bool
    now: OperatingPoint | None
    """The limits in force."""
    good: Scores
    bad: Scores
    grid: tuple[TradeoffPoint, ...]

    def point(self, escape: int, overkill: int) -> TradeoffPoint:
        """Return the point at these indices."""
        return self.grid[escape * len(self.overkills) + overkill]

    def curve(self, overkill: int) -> tuple[TradeoffPoint, ...]:
        """Return the points of all escape limits."""
        return tuple(self.point(row, overkill) for row in range(len(self.escapes)))

    def setting(self, escape: int, overkill: int, line: Sequence[LinePart]) -> Setting:
        """Compute the consequences of a setting."""
        point = self.point(escape, overkill)
        expected = OperatingPoint(
            go_below=point.go_below, no_go_above=point.no_go_above, escape=point.escape, overkill=point.overkill
        )
        asked = (point.escape.max_rate, point.overkill.max_rate)
        now = self.now
        in_force = now is not None and (now.escape.max_rate, now.overkill.max_rate) == asked
        limits = now if now is not None and in_force else expected
        if now is not None and in_force:  # use the certified claims, so that all pages name the same shortfall
            point = replace(point, escape=now.escape, overkill=now.overkill)
        good, bad = state_shares(limits, self.good), state_shares(limits, self.bad)
        claim = point.escape
        return Setting(
            point=point,
            limits=limits,
            in_force=in_force,
            # The threshold is the (k+1)/(n+1) quantile, which lies below all m val scores if it is less than 1/(m+1).
            guess=not in_force
            and claim.allowed is not None
            and (claim.allowed + 1) / (claim.parts + 1) < 1 / (len(self.bad) + 1),
            review_rate=_mixed(good, bad, self.bad_share) if in_force else point.review_rate,
            good=good,
            bad=bad,
            line=state_shares(limits, np.array([part.score for part in line])) if line else None,
        )


def make_tradeoff(opened: OpenBundle, judged: JudgedPictures, bad_share: float | None = None) -> Tradeoff | None:
    """Compute all settings from the val scores; ``None`` if val or calibrate has no good or no bad parts."""
    val, calibrate = judged.evaluation(None, Split.VAL), judged.evaluation(None, Split.CALIBRATE)
    good, bad = val.scores(Label.GOOD), val.scores(Label.BAD)
    if not len(good) or not len(bad) or not calibrate.parts:
        return None
    now, asked = opened.point, Promise()
    confidence = asked.confidence if now is None else now.escape.confidence
    joint = asked.joint if now is None else now.joint
    good_parts, bad_parts = calibrate.count(Label.GOOD), calibrate.count(Label.BAD)
    if now is not None and opened.evidence.get("request", {}).get("merge_near_duplicates"):
        good_parts, bad_parts = now.overkill.parts, now.escape.parts
    first = asked.limits(good_parts=good_parts, bad_parts=bad_parts)
    max_escape, max_overkill = first if now is None else (now.escape.max_rate, now.overkill.max_rate)
    share = bad_share if bad_share is not None else opened.evidence.get("bad_share") or share_of_bad(val)
    assert share is not None, "val has good and bad parts"
    escapes, overkills = sorted({*RATES, max_escape}), sorted({*RATES, max_overkill})
    grid = points.tradeoff(
        good,
        bad,
        good_parts=good_parts,
        bad_parts=bad_parts,
        bad_share=share,
        max_escapes=escapes,
        max_overkills=overkills,
        confidence=confidence,
        joint=joint,
    )
    return Tradeoff(
        escapes=tuple(escapes),
        overkills=tuple(overkills),
        escape_now=_nearest(escapes, max_escape),
        overkill_now=_nearest(overkills, max_overkill),
        bad_share=share,
        confidence=confidence,
        joint=joint,
        now=now,
        good=good,
        bad=bad,
        grid=grid,
    )


def state_shares(limits: OperatingPoint, scores: Scores) -> dict[State, Rate]:
    """Return the shares of go, review and no-go among scores, each with its exact interval."""
    states = [limits.state(score) for score in scores.tolist()]
    return {state: Rate(count=states.count(state), of=len(states)) for state in _STATES}


def outcome(evaluation: Evaluation) -> dict[Label, dict[State, Rate]]:
    """Return the shares of go, review and no-go among the good and the bad parts of a split."""
    return {label: {state: evaluation.confusion(label, state) for state in _STATES} for label in Label}


def _mixed(good: dict[State, Rate], bad: dict[State, Rate], bad_share: float) -> float:
    return bad_share * (bad[State.REVIEW].value or 0.0) + (1.0 - bad_share) * (good[State.REVIEW].value or 0.0)


def _nearest(rates: Sequence[float], rate: float) -> int:
    return min(range(len(rates)), key=lambda number: abs(rates[number] - rate))

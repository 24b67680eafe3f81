"""Test the certified limits on thousands of calibrations from distributions with known error rates.

Nothing is estimated twice: a simulated calibration gives two thresholds, and the error rates behind them are *computed*
from the distributions that the scores came from, not counted on a sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from gonogo.operating_point.audit import AuditTest, bet, kept_back
from gonogo.operating_point.binomial import clopper_pearson
from gonogo.operating_point.promise import rate_by_counts
from gonogo.operating_point.rule import certified_point, meet, threshold
from gonogo.schema import Scores


@dataclass(frozen=True, kw_only=True)
class Population:
    """Parts of one class, each photographed several times: part effects and picture noise, both normal.

    A picture scores ``mean + part effect + noise``; a part scores the worst of its pictures.
    """

    mean: float
    part_sd: float = 1.0
    picture_sd: float = 0.0
    pictures: int = 1
    step: float = 0.0
    """Scores are rounded to multiples of this, as an INT8 graph does; 0 leaves them continuous."""
    fault_share: float = 0.0
    """Share of parts that cannot be judged, so they are neither go nor no-go."""

    def draw(self, parts: int, rng: np.random.Generator) -> Float64[np.ndarray, "parts pictures"]:
        """Draw the picture scores of new parts."""
        part = rng.normal(self.mean, self.part_sd, (parts, 1))
        score = part + self.picture_sd * rng.normal(size=(parts, self.pictures))
        return np.round(score / self.step) * self.step if self.step else score

    def below(self, score: float) -> float:
        """Exact probability that a part scores below this."""
        judged = self._cdf((math.ceil(score / self.step - 1e-9) - 0.5) * self.step if self.step else score)
        return (1.0 - self.fault_share) * judged

    def above(self, score: float) -> float:
        """Exact probability that a part scores above this."""
        below = self._cdf((math.floor(score / self.step + 1e-9) + 0.5) * self.step if self.step else score)
        return (1.0 - self.fault_share) * (1.0 - below)

    def _cdf(self, score: float) -> float:
        """Of the worst unrounded score: the part effect integrated in closed form, the worst noise numerically."""
        if not self.picture_sd:
            return float(stats.norm.cdf(score, self.mean, self.part_sd))
        # The trapezium rule on a smooth integrand that vanishes at both ends: exact to rounding.
        noise = np.linspace(-9.0, 9.0, 361)
        density = self.pictures * stats.norm.pdf(noise) * stats.norm.cdf(noise) ** (self.pictures - 1)
        given_noise = stats.norm.cdf(score - self.picture_sd * noise, self.mean, self.part_sd)
        return float(np.sum(density * given_noise) * (noise[1] - noise[0]))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Distributions and limits of a scenario."""

    name: str
    good: Population = Population(mean=0.0)
    bad: Population = Population(mean=3.0)
    good_parts: int = 400
    bad_parts: int = 100
    bad_share: float = 0.05
    """Share of bad parts among all that arrive; weighs the review rate."""
    max_escape: float = 0.05
    max_overkill: float = 0.05
    confidence: float = 0.95
    joint: bool = False
    count_pictures: bool = False
    """Whether every picture is (wrongly) counted as an independent part."""


_GOOD_REPEATED = Population(mean=0.0, picture_sd=0.05, pictures=5)
_BAD_REPEATED = Population(mean=3.0, picture_sd=0.05, pictures=5)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="each claim for itself"),
    Scenario(name="both claims together", joint=True),
    Scenario(
        name="rounded scores",
        good=Population(mean=0.0, step=0.25),
        bad=Population(mean=3.0, step=0.25),
    ),
    Scenario(name="thresholds meet", bad=Population(mean=6.0)),
    Scenario(
        name="5 pictures, parts counted",
        good=_GOOD_REPEATED,
        bad=_BAD_REPEATED,
    ),
    Scenario(
        name="5 pictures, each counted",
        good=_GOOD_REPEATED,
        bad=_BAD_REPEATED,
        count_pictures=True,
    ),
    Scenario(name="45 bad parts, limit by counts", bad_parts=45, max_escape=rate_by_counts(45, 0.05)),
    Scenario(
        name="the same, 4 % faults",
        good=Population(mean=0.0, fault_share=0.04),
        bad=Population(mean=3.0, fault_share=0.04),
        bad_parts=45,
        max_escape=rate_by_counts(45, 0.05),
    ),
)
"""The first is the headline; "each counted" shows what goes wrong where pictures are counted as parts."""


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """Number of calibrations that violated their limits."""

    scenario: Scenario
    draws: int
    violations: int
    """Calibrations whose true escape rate exceeds the limit (either limit, for a joint claim)."""
    overkill_violations: int
    naive_violations: int
    """The same for the rule "the empirical escape rate is at most the limit"."""
    review_rate: float
    """Mean true review rate."""
    oracle_review_rate: float
    """Review rate of the ideal thresholds for the known distributions."""

    @property
    def delta(self) -> float:
        """Share of violations that the confidence allows."""
        return 1.0 - self.scenario.confidence

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the violation rate."""
        return clopper_pearson(self.violations, self.draws)

    @property
    def refuted(self) -> bool:
        """Whether the simulation contradicts the guarantee: more violations, of either limit, than chance explains."""
        worst = max(self.violations, self.overkill_violations)
        return clopper_pearson(worst, self.draws)[0] > self.delta


def simulate(
    scenario: Scenario,
    *,
    draws: int,
    rng: np.random.Generator,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Guarantee:
    """Calibrate ``draws`` times on fresh parts and compute the true rates behind each pair of thresholds."""
    violations = overkill_violations = naive_violations = 0
    review_rate = 0.0
    for _ in track(range(draws)):
        good, bad = _calibration_scores(scenario, rng)
        point = certified_point(
            good,
            bad,
            max_escape=scenario.max_escape,
            max_overkill=scenario.max_overkill,
            confidence=scenario.confidence,
            joint=scenario.joint,
        )
        escapes = scenario.bad.below(point.go_below) > scenario.max_escape
        overkills = scenario.good.above(point.no_go_above) > scenario.max_overkill
        violations += escapes or (scenario.joint and overkills)
        overkill_violations += overkills
        naive_violations += scenario.bad.below(_naive(bad, scenario.max_escape)) > scenario.max_escape
        review_rate += _review_rate(scenario, point.go_below, point.no_go_above) / draws
    return Guarantee(
        scenario=scenario,
        draws=draws,
        violations=violations,
        overkill_violations=overkill_violations,
        naive_violations=naive_violations,
        review_rate=review_rate,
        oracle_review_rate=_oracle_review_rate(scenario),
    )


def _calibration_scores(scenario: Scenario, rng: np.random.Generator) -> tuple[Scores, Scores]:
    good = scenario.good.draw(scenario.good_parts, rng)
    bad = scenario.bad.draw(scenario.bad_parts, rng)
    if scenario.count_pictures:
        return good.ravel(), bad.ravel()
    good_parts, bad_parts = good.max(axis=1), bad.max(axis=1)
    # As `Evaluation.calibration_scores` counts them: a fault is never no-go, and never go.
    if scenario.good.fault_share:
        good_parts[rng.random(len(good_parts)) < scenario.good.fault_share] = -math.inf
    if scenario.bad.fault_share:
        bad_parts[rng.random(len(bad_parts)) < scenario.bad.fault_share] = math.inf
    return good_parts, bad_parts


def _naive(bad: Scores, max_escape: float) -> float:
    return threshold(np.sort(bad), math.floor(max_escape * len(bad)))


def _review_rate(scenario: Scenario, go_below: float, no_go_above: float) -> float:
    bad = 1.0 - scenario.bad.below(go_below) - scenario.bad.above(no_go_above)
    good = 1.0 - scenario.good.below(go_below) - scenario.good.above(no_go_above)
    return scenario.bad_share * bad + (1.0 - scenario.bad_share) * good


def _oracle_review_rate(scenario: Scenario) -> float:
    go_below = _last(lambda score: scenario.bad.below(score) <= scenario.max_escape)
    no_go_above = -_last(lambda score: scenario.good.above(-score) <= scenario.max_overkill)
    return _review_rate(scenario, *meet(go_below, no_go_above))


def _last(holds: Callable[[float], bool]) -> float:
    """Find the largest score for which a monotonic condition holds, by bisection."""
    low, high = -100.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True, kw_only=True)
class AuditTrial:
    """How the audit test behaved over many simulated lines."""

    promised_rate: float
    confidence: float
    runs: int
    audits: int
    false_alarms: int
    """Number of runs at exactly the certified rate with an alarm."""
    until_alarm: tuple[int, ...]
    """Audits until the alarm at ten times the promise from the first audit on, one per run that raised it, sorted."""
    until_alarm_late: tuple[int, ...]
    """The same where the rate rose after all those audits at the promised rate, counted from the rise."""

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the false-alarm rate."""
        return clopper_pearson(self.false_alarms, self.runs)

    @property
    def refuted(self) -> bool:
        """Whether false alarms are more frequent than the confidence allows and chance explains."""
        return self.interval[0] > 1.0 - self.confidence


def simulate_audits(
    *, promised_rate: float, confidence: float, runs: int, audits: int, rng: np.random.Generator
) -> AuditTrial:
    """Run the audit test at the promised rate, at ten times it, and at ten times it after a long good time."""
    start = np.zeros((runs, len(AuditTest(promised_rate=promised_rate).capital)))
    run = functools.partial(_run_audits, promised_rate=promised_rate, level=1.0 / (1.0 - confidence), rng=rng)
    kept, capital = run(start, rate=promised_rate, audits=range(1, audits + 1))
    silent = kept == 0
    tenfold = min(1.0, 10.0 * promised_rate)
    at_once, _ = run(start, rate=tenfold, audits=range(1, audits + 1))
    late, _ = run(capital[silent], rate=tenfold, audits=range(audits + 1, 2 * audits + 1))
    return AuditTrial(
        promised_rate=promised_rate,
        confidence=confidence,
        runs=runs,
        audits=audits,
        false_alarms=int(np.sum(~silent)),
        until_alarm=tuple(np.sort(at_once[at_once > 0]).tolist()),
        until_alarm_late=tuple(np.sort(late[late > 0]).tolist()),
    )


def _run_audits(
    capital: Float64[np.ndarray, "runs bets"],
    *,
    rate: float,
    audits: range,
    promised_rate: float,
    level: float,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " runs"], Float64[np.ndarray, "runs bets"]]:
    """The number of audits, from the first of these, until each run alarms (0: never), and the capital at the end."""
    alarm_after = np.zeros(len(capital), dtype=np.int64)
    for done, audit in enumerate(audits, start=1):
        capital = bet(capital, audit, rng.random(len(capital)) < rate, promised_rate)
        alarms = capital.sum(axis=-1) + kept_back(audit) >= level
        alarm_after[alarms & (alarm_after == 0)] = done
    return alarm_after, capital

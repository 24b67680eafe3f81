"""Simulate roll-outs with the decisions of `gonogo.fleet`: worse bundles stop by themselves, a better one goes through.

``make fleet``; ``QUICK=1`` takes 5 lines of each kind instead of 40, and 50 lines instead of 400 for the error rates. A
line is six stations, two of them canaries. Scores of good and bad parts are normal; those of the bundles correlate.
People decide every part in review, and each flip, 500 parts later. The last line is the figures, as JSON; exit code 1
if a worse bundle reached all stations, a better one was stopped, or an error rate exceeds its bound.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from command import print_figures, run
from gonogo.array_types import Bool
from gonogo.errors import UnfitError
from gonogo.fleet import Evidence, Stage, Terms, Verdict, decide
from gonogo.progress import track

Flags = Bool[np.ndarray, " parts"]
BAD_SHARE = 0.01
LIVE_SHARE = 2 / 6
DELAY = 500
EVERY = 100
MOST = 60_000
"""Parts after which a stage that is still undecided is given up."""
MOST_AT_LIMIT = 20_000
"""The same for the error rates."""


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """A bundle: where its scores of bad parts lie (good ones are around 0), and its thresholds."""

    bad_at: float
    go_below: float
    no_go_above: float


OLD = Inspector(bad_at=4.5, go_below=2.17, no_go_above=3.2)
"""1 % of bad parts escape, 1.4 % of good parts go to review."""
BETTER = Inspector(bad_at=6.0, go_below=3.0, no_go_above=4.0)
WORSE = Inspector(bad_at=3.0, go_below=2.17, no_go_above=3.2)
MUCH_WORSE = Inspector(bad_at=4.5, go_below=5.0, no_go_above=5.5)
CANDIDATES = {
    "better": (BETTER, BETTER),
    "the same": (OLD, OLD),
    "worse": (WORSE, WORSE),
    "much worse": (MUCH_WORSE, MUCH_WORSE),
    "passes everything": (replace(OLD, go_below=99.0, no_go_above=100.0),) * 2,
    "worse as canary": (BETTER, WORSE),
    "much worse as canary": (BETTER, MUCH_WORSE),
}
"""The new bundle as it is in stage shadow and in stage canary, such as after a change of light."""
MUST_STOP = tuple(name for name in CANDIDATES if "worse" in name or "everything" in name)


@dataclass(frozen=True, kw_only=True)
class Course:
    """The course of one roll-out."""

    end: str
    """``stopped``, ``done`` or ``undecided``."""
    stage: Stage
    """The stage in which it ended."""
    parts: int
    """Parts from the start to the end."""
    escapes: int
    """Bad parts that canary stations passed and the old bundle would not have."""
    saved: int
    """Bad parts that canary stations did not pass and the old bundle would have."""


def roll_out(candidates: tuple[Inspector, Inspector], terms: Terms, rng: np.random.Generator) -> Course:
    """Roll a candidate out on a simulated line.

    Args:
        candidates: The new bundle, which has a certificate, in stage shadow and in stage canary.
        terms: The terms.
        rng: Source of randomness.
    """
    total = escapes = saved = 0
    for stage, candidate in zip((Stage.SHADOW, Stage.CANARY), candidates, strict=True):
        bad, old, new = _judged(candidate, rng)
        live = (rng.random(MOST) < LIVE_SHARE) if stage is Stage.CANARY else np.zeros(MOST, bool)
        verdict, used = _course(stage, bad, old, new, live, terms)
        shown = live[:used] & bad[:used]
        escapes += int((shown & (new[:used] == 0) & (old[:used] > 0)).sum())
        saved += int((shown & (new[:used] > 0) & (old[:used] == 0)).sum())
        total += used
        if verdict is not Verdict.READY:
            end = "stopped" if verdict is Verdict.STOP else "undecided"
            return Course(end=end, stage=stage, parts=total, escapes=escapes, saved=saved)
    return Course(end="done", stage=Stage.DONE, parts=total, escapes=escapes, saved=saved)


def _judged(candidate: Inspector, rng: np.random.Generator) -> tuple[Flags, Any, Any]:
    """Draw parts: whether each is bad, and both verdicts: 0 go, 1 review, 2 no-go."""
    bad = rng.random(MOST) < BAD_SHARE
    shared, own = rng.normal(size=MOST), rng.normal(size=MOST)
    scores = (shared, 0.8 * shared + 0.6 * own)
    verdicts = []
    for judge, score in zip((OLD, candidate), scores, strict=True):
        placed = score + np.where(bad, judge.bad_at, 0.0)
        verdicts.append((placed >= judge.go_below).astype(int) + (placed > judge.no_go_above))
    return bad, verdicts[0], verdicts[1]


def _course(stage: Stage, bad: Flags, old: Any, new: Any, live: Flags, terms: Terms) -> tuple[Verdict, int]:
    """Return what ends a stage, and after how many parts."""
    flips = (old > 0) & (new == 0)
    reviewed = flips | (np.where(live, new, old) == 1)
    sums = [np.concatenate(([0], np.cumsum(each))) for each in (flips, flips & bad, reviewed, live)]
    for seen in range(EVERY, len(bad) + 1, EVERY):
        decided = max(0, seen - DELAY)
        evidence = Evidence(
            parts=seen,
            live=int(sums[3][seen]),
            flips=int(sums[0][seen]),
            bad_flips=int(sums[1][decided]),
            unsettled=int(sums[0][seen] - sums[0][decided]),
            settled=int(sums[2][decided]),
        )
        verdict = _verdict(stage, evidence, terms)
        if verdict is not Verdict.WAIT:
            return verdict, seen
    return Verdict.WAIT, len(bad)


@cache
def _verdict(stage: Stage, evidence: Evidence, terms: Terms) -> Verdict:
    return decide(stage, evidence, terms, promised=True).verdict


def error_rates(terms: Terms, rng: np.random.Generator, *, lines: int) -> dict[str, float]:
    """Share of lines on which a decision is wrong, at the rates on which it turns, with a look every 100 parts.

    Returns:
        ``promoted``: a candidate whose rate of bad flips is a thousandth above the limit ever becomes ready.
        ``stopped``: one whose rates are both exactly at their limits is ever stopped.
    """
    counts = {"promoted": 0, "stopped": 0}
    nothing = np.zeros(MOST_AT_LIMIT, bool)
    for _ in track(range(lines), "Lines at the limit"):
        bad = rng.random(MOST_AT_LIMIT) < terms.max_bad_flips * 1.001
        counts["promoted"] += _course(Stage.SHADOW, bad, bad * 2, nothing * 1, nothing, terms)[0] is Verdict.READY
        flips = rng.random(MOST_AT_LIMIT) < terms.max_flips
        bad = flips & (rng.random(MOST_AT_LIMIT) < terms.max_bad_flips / terms.max_flips)
        endless = terms.model_copy(update={"min_settled": 10**9})
        counts["stopped"] += _course(Stage.SHADOW, bad, flips * 2, nothing * 1, nothing, endless)[0] is Verdict.STOP
    return {name: count / lines for name, count in counts.items()}


def _summary(courses: list[Course]) -> dict[str, Any]:
    parts = np.array([each.parts for each in courses])
    return {
        "ends": dict(Counter(each.end for each in courses)),
        "stopped_in": dict(Counter(each.stage.value for each in courses if each.end == "stopped")),
        "parts_median": float(np.median(parts)),
        "parts_most": int(parts.max()),
        "escapes_mean": float(np.mean([each.escapes for each in courses])),
        "escapes_most": max(each.escapes for each in courses),
        "saved_mean": float(np.mean([each.saved for each in courses])),
    }


def main() -> None:
    """Simulate, print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 lines of each kind.")
    parser.add_argument("--lines", type=int, help="Lines of each kind. Default: 40.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed.")
    given = parser.parse_args()
    lines, terms = given.lines or (5 if given.quick else 40), Terms()
    found: dict[str, Any] = {"terms": terms.model_dump(), "lines": lines}
    for name, candidates in CANDIDATES.items():
        rngs = [np.random.default_rng((given.seed, number)) for number in range(lines)]
        courses = [roll_out(candidates, terms, rng) for rng in track(rngs, name.capitalize())]
        found[name] = _summary(courses)
        print(f"{name:21s} {found[name]}")  # noqa: T201
    lines = 10 * lines
    found["errors"] = {"lines": lines, **error_rates(terms, np.random.default_rng(given.seed), lines=lines)}
    print(f"errors                {found['errors']}")  # noqa: T201
    print_figures(found)
    wrong = [name for name in MUST_STOP if "done" in found[name]["ends"]]
    wrong += [name for name in ("better",) if "stopped" in found[name]["ends"]]
    wrong += ["promoted"] if found["errors"]["promoted"] > terms.alpha / 2 else []
    wrong += ["stopped"] if found["errors"]["stopped"] > terms.alpha else []
    if wrong:
        raise UnfitError(f"not as promised: {', '.join(wrong)}.")


if __name__ == "__main__":
    run(main)

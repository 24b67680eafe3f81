"""People beside the inspector where no person was there: what labels and models allow to say, and what they do not.

*Solar cells.* The set has one number per cell, not the readings of several people: 0 or 1 where the experts' label is
certain, 1/3 or 2/3 where it is not. The *second reader* here is a model: someone who would call a cell defective with
the probability in its label. Such a reader never contradicts a certain label, which flatters people, and contradicts
one uncertain label in three. The labels themselves are a person's calls, so no inspector can beat their author on them.

*Boards.* The truth is known, but nobody looked. Three *model inspectors* miss 10, 20 and 30 % of the defects, small
ones more often than large ones. The rates are assumed, not measured: 20 to 30 % is what reviews of visual inspection
report (Drury and Fox, Human Reliability in Quality Control, 1975; See, Sandia report SAND2012-8590, 2012).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special

from claims_sets import CONFIDENCE, Judged, Judgement
from gonogo.array_types import Bool, Float64
from gonogo.msa.paired import mcnemar, newcombe

PEOPLE = {"model inspector A": 0.10, "model inspector B": 0.20, "model inspector C": 0.30}
"""Assumed shares of missed defects."""
FALSE_ALARMS = 0.05
"""Assumed share of good boards that each model inspector rejects: the most that AIAG's manual accepts."""
STEEPNESS = 1.5
"""Assumed growth of the log odds of a hit for each doubling of the defect's area."""
INSPECTOR = "gonogo"
_MANY = 10**6


def contradiction(probability: float) -> float:
    """Return how often the second reader contradicts the label of a cell with this probability of a defect."""
    return min(probability, 1.0 - probability)


def once_each(judgements: Iterable[Judgement]) -> list[Judged]:
    """Return every part once, as the first split judged it that had it in its test split."""
    found: dict[str, Judged] = {}
    for judgement in judgements:
        for part in judgement.test:
            found.setdefault(part.part, part)
    return list(found.values())


def calls(judgement: Judgement, false_alarms: float) -> dict[str, bool]:
    """Return whether the inspector calls each test part bad, if it may call this share of good parts bad.

    The threshold comes from the calibrate split; a fault counts as bad.
    """
    good = [-np.inf if part.score is None else part.score for part in judgement.calibrate if not part.bad]
    threshold = float(np.quantile(good, 1.0 - false_alarms, method="higher"))
    return {part.part: part.score is None or part.score > threshold for part in judgement.test}


def second_reader(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Compare the inspector with the modelled second reader of solar cells.

    Alone: the inspector calls every cell, with the reader's own share of false alarms allowed on calibrate. Together:
    its certified verdicts, and the reader decides the cells that it sends to review.
    """
    called: dict[str, bool] = {}
    for judgement in judgements:
        good = [contradiction(part.probability or 0.0) for part in judgement.calibrate if not part.bad]
        for name, bad in calls(judgement, float(np.mean(good))).items():
            called.setdefault(name, bad)
    parts = once_each(judgements)
    figures: dict[str, Any] = {"cells": len(parts)}
    for name, bad in (("missed", True), ("false_alarms", False)):
        chosen = [part for part in parts if part.bad is bad]
        reader = np.array([contradiction(part.probability or 0.0) for part in chosen])
        alone = np.array([float(called[part.part] is not bad) for part in chosen])
        wrong_state = "go" if bad else "no_go"
        decided = {"go": 0.0, "no_go": 0.0, wrong_state: 1.0}
        together = np.array([decided.get(part.state, chance) for part, chance in zip(chosen, reader, strict=True)])
        certain = reader == 0.0
        figures[name] = {
            "of": len(chosen),
            "uncertain": int(np.sum(~certain)),
            "reader": float(reader.mean()),
            "alone": _beside(alone, reader),
            "together": _beside(together, reader),
            "alone_on_certain": _mean(alone[certain]),
            "alone_on_uncertain": _mean(alone[~certain]),
            # How often would the reader have to contradict certain labels to err as often as the inspector alone?
            "even_if_certain_contradicted": max(0.0, float((alone - reader).sum()) / max(1, int(certain.sum()))),
        }
    return figures


def _mean(values: Float64[np.ndarray, " parts"]) -> float | None:
    return float(values.mean()) if len(values) else None


def _beside(wrong: Float64[np.ndarray, " parts"], reader: Float64[np.ndarray, " parts"]) -> dict[str, float]:
    low, high = newcombe(wrong, reader, repeats=_MANY)
    return {"rate": float(wrong.mean()), "difference": float(wrong.mean() - reader.mean()), "low": low, "high": high}


def miss_chances(sizes: Float64[np.ndarray, " parts"], misses: float) -> Float64[np.ndarray, " parts"]:
    """Return the chance of a model inspector to miss each defect, by its area; their mean is ``misses``."""
    doublings = STEEPNESS * np.log2(sizes / np.median(sizes))

    def excess(level: float) -> float:
        return float(special.expit(level - doublings).mean()) - misses

    level = optimize.brentq(excess, -50.0, 50.0)
    return np.asarray(special.expit(level - doublings))


def people_study(parts: Sequence[Judged], seed: int = 0) -> str:
    """Return a study as CSV for ``gonogo station msa``: the model inspectors and the inspector's verdicts."""
    rng = np.random.default_rng(seed)
    bad = np.array([part.bad for part in parts])
    sizes = np.array([part.size or 0.0 for part in parts])
    sizes = np.maximum(sizes, np.min(sizes[bad & (sizes > 0.0)]))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["appraiser", "trial", "part", "decision", "reference"])
    for name, misses in PEOPLE.items():
        wrong = np.full(len(parts), FALSE_ALARMS)
        wrong[bad] = miss_chances(sizes[bad], misses)
        said_bad = bad ^ (rng.random(len(parts)) < wrong)
        for part, decision in zip(parts, said_bad, strict=True):
            lines.writerow([name, 1, part.part, _word(decision), _word(part.bad)])
    for part in parts:
        state = "review" if part.state == "fault" else part.state
        lines.writerow([INSPECTOR, 1, part.part, state, _word(part.bad)])
    return file.getvalue()


def _word(bad: bool) -> str:
    return "bad" if bad else "good"


def proven_from(wrong: Bool[np.ndarray, " parts"]) -> float | None:
    """Return the error rate from which one person is proven worse than an inspector with these errors.

    The person judges the same parts once, errs exactly at that rate and independently of the inspector.
    """
    errors = wrong.astype(float)
    for rate in np.arange(0.001, 1.0, 0.001):
        only_person = math.floor(rate * float(np.sum(~wrong)) + 1e-9)
        only_inspector = math.ceil((1.0 - rate) * float(np.sum(wrong)) - 1e-9)
        if only_person <= only_inspector or mcnemar(only_person, only_inspector) > 1.0 - CONFIDENCE:
            continue
        if newcombe(errors, np.full(len(errors), rate))[1] < 0.0:
            return round(float(rate), 3)
    return None

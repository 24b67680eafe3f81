"""Measure "human level" and "less human review": ``python benchmarks/study_claims.py --data FOLDER``.

Every data set is split, trained, certified and judged anew for each seed: at most 5 % escapes and 5 % overkill with
95 % confidence where the calibrate split has enough parts, otherwise the lowest rates that it can certify. *Review
rate*: the share of parts that a person sees, against all of them before. *Human level*: the inspector beside people on
the same parts; see `claims_people` for who these people are. Splits are kept in ``OUT/claims`` as they finish.

With ``--data`` also the photographs there; the solar cells need the package elpv-dataset. ``--plot FILE`` draws the
review rates. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import claims_sets as sets
from claims_people import INSPECTOR, once_each, people_study, proven_from, second_reader
from claims_plot import plot
from command import print_figures, run
from gonogo.evaluate import Rate
from gonogo.files import write_beside
from gonogo.msa import compare, read_study
from gonogo.operating_point import parts_needed
from gonogo.progress import console
from study_sets import Given, interval, read_arguments

SEEDS = 5
LINE = 0.01
"""Share of bad parts on the line that review rates are also stated for."""
FEWEST = 3
"""Fewest splits for an interval over splits."""
SEEN = ("review", "fault")
"""Verdicts after which a person looks at the part."""


def reviewed(name: str, judgements: Sequence[sets.Judgement]) -> dict[str, Any]:
    """Return what a person sees, by class and on a line, with 95 % intervals.

    Each is the wider of two: over the splits, which share pictures (`study_sets.interval`; three splits or more), and
    the exact one over the parts, each counted once.
    """
    share = (sets.CELL_FRACTIONS if name == sets.CELLS else sets.FRACTIONS).test
    rows = [_shares(judgement.test) for judgement in judgements]
    figures = {}
    for key, exact in _shares(once_each(judgements)).items():
        values = [row[key][0] for row in rows]
        mean, low, high = interval(values, test_share=share) if len(rows) >= FEWEST else exact
        figures[key] = [mean, max(0.0, min(low, exact[1])), min(1.0, max(high, exact[2]))]
    bad_parts = [sum(part.bad for part in judgement.calibrate) for judgement in judgements]
    broken = [
        judgement
        for judgement in judgements
        if (Rate.of_outcomes(p.state == "go" for p in judgement.test if p.bad).low or 0.0) > judgement.max_escape
    ]
    return {
        "splits": len(rows),
        "test_parts": len(judgements[0].test),
        **{key: [round(value, 4) for value in values] for key, values in figures.items()},
        "max_escape": sorted({judgement.max_escape for judgement in judgements}),
        "max_overkill": sorted({judgement.max_overkill for judgement in judgements}),
        "bad_calibrate": [min(bad_parts), max(bad_parts)],
        "bad_missing_for_5_percent": max(0, parts_needed(sets.WANTED, 1 - sets.CONFIDENCE) - min(bad_parts)),
        "splits_that_contradict_the_limit": len(broken),
    }


def _shares(parts: Sequence[sets.Judged]) -> dict[str, tuple[float, float, float]]:
    """Shares of verdicts with exact intervals; those on the line from the ends of both classes' intervals."""

    def share(label: bool | None, *states: str) -> tuple[float, float, float]:
        rate = Rate.of_outcomes(part.state in states for part in parts if label is None or part.bad is label)
        return rate.value or 0.0, rate.low or 0.0, 1.0 if rate.high is None else rate.high

    def on_line(good: tuple[float, float, float], bad: tuple[float, float, float]) -> tuple[float, float, float]:
        value, low, high = ((1 - LINE) * of_good + LINE * of_bad for of_good, of_bad in zip(good, bad, strict=True))
        return value, low, high

    return {
        "seen": share(None, *SEEN),
        "seen_good": share(False, *SEEN),
        "seen_bad": share(True, *SEEN),
        "seen_on_line": on_line(share(False, *SEEN), share(True, *SEEN)),
        "seen_or_rejected_on_line": on_line(share(False, *SEEN, "no_go"), share(True, *SEEN, "no_go")),
        "escapes": share(True, "go"),
        "overkill": share(False, "no_go"),
    }


def beside_people(given: Given, name: str, judgements: Sequence[sets.Judgement]) -> dict[str, Any]:
    """Return the comparison of the inspector with model inspectors on boards; writes the study as CSV."""
    parts = once_each(judgements)
    path = given.out / "claims" / f"{name.replace(' ', '-')}-people{'-quick' if given.quick else ''}.csv"
    write_beside(path, people_study(parts).encode())
    console.print(f"wrote {path}: gonogo station msa {path} --inspector {INSPECTOR}", markup=False, soft_wrap=True)
    paired = compare(read_study(path), INSPECTOR)
    escaped = np.array([part.state == "go" for part in parts if part.bad])
    return {
        "parts": len(parts),
        "review_rate": paired.reviewed,
        **Rate.of_outcomes(escaped.tolist()).to_json("escape_rate"),
        "person_proven_worse_from": proven_from(escaped),
        "people": [
            {
                "name": one.person,
                **{
                    of: {**asdict(found), "difference": found.value, "finding": found.finding}
                    for of, found in (("missed", one.misses), ("false_alarms", one.false_alarms))
                },
            }
            for one in paired.comparisons
        ],
    }


def uncertain(judgements: Sequence[sets.Judgement]) -> dict[str, Any]:
    """Return the share of certain and uncertain cells that a person sees."""
    parts = once_each(judgements)
    return {
        name: Rate.of_outcomes(p.state in SEEN for p in parts if (p.probability in (0.0, 1.0)) is sure).to_json("seen")
        for name, sure in (("certain", True), ("uncertain", False))
    }


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=SEEDS, help="Number of split seeds.")
    parser.add_argument("--cell-seeds", type=int, default=2, help="Number of split seeds of the solar cells.")
    parser.add_argument("--plot", type=Path, help="Draw the review rates as SVG into this file.")


def main() -> None:
    """Run the study."""
    options = read_arguments(__doc__, extra=_options)
    given: Given = options.given
    figures: dict[str, Any] = {}
    for name in sets.names(given):
        seeds = min(options.seeds, options.cell_seeds) if name == sets.CELLS else options.seeds
        judgements = [sets.judge(given, name, seed) for seed in range(1 if given.quick else seeds)]
        figures[name] = {"review": reviewed(name, judgements)}
        if name == sets.CELLS:
            figures[name] |= {"second_reader": second_reader(judgements), "seen_by_certainty": uncertain(judgements)}
        elif name in sets.DIFFICULTY:
            figures[name]["people"] = beside_people(given, name, judgements)
    if options.plot is not None:
        write_beside(options.plot, plot({name: each["review"] for name, each in figures.items()}).encode())
    print_figures(figures)


if __name__ == "__main__":
    run(main)

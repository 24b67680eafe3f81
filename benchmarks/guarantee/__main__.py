"""Calibrate thousands of times with known true rates, and count violated limits: ``make guarantee``.

``QUICK=1`` calibrates 100 times, not 2,000. Exit code 1 if promises are broken more often than the stated confidence
allows and chance explains. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.progress import track
from guarantee import simulate
from guarantee.simulate import AuditTrial, Guarantee

_AUDIT_STREAM = 6
"""Index of the random stream of the audits; fixed, so that new scenarios do not change their figures."""


def main(words: Sequence[str] | None = None) -> None:
    """Simulate and print the table and the figures."""
    given = _arguments(words)
    scenarios = simulate.SCENARIOS
    drawn = np.random.default_rng(given.seed).spawn(max(len(scenarios), _AUDIT_STREAM) + 1)
    audit_stream = drawn.pop(_AUDIT_STREAM)
    streams = iter(drawn)
    guarantees = [
        simulate.simulate(
            scenario,
            draws=given.draws or (100 if given.quick else 2000),
            rng=next(streams),
            track=functools.partial(track, description=scenario.name),
        )
        for scenario in scenarios
    ]
    audits = given.audits or (200 if given.quick else 5000)
    trial = simulate.simulate_audits(promised_rate=0.01, confidence=0.95, runs=2000, audits=audits, rng=audit_stream)
    _print(guarantees, trial)
    print_figures(_as_json(guarantees, trial, given.seed))
    broken = [g.scenario.name for g in guarantees if g.refuted and not g.scenario.count_pictures]
    broken += ["audit test"] if trial.refuted else []
    if broken:
        raise UnfitError(f"the simulation refutes the guarantee ({', '.join(broken)}). Do not certify with this build.")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="guarantee", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 calibrations and 200 audits.")
    parser.add_argument("--draws", type=int, help="Number of calibrations per scenario. Default: 2,000.")
    parser.add_argument("--audits", type=int, help="Number of audits per simulated line. Default: 5,000.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed.")
    return parser.parse_args(words)


def _as_json(guarantees: list[Guarantee], trial: AuditTrial, seed: int) -> dict[str, Any]:
    low, high = trial.interval
    return {
        **_guarantee_as_json(guarantees[0]),
        "seed": seed,
        "scenarios": [{"name": g.scenario.name, **_guarantee_as_json(g)} for g in guarantees],
        "audit": {
            "promised_rate": trial.promised_rate,
            "delta": round(1.0 - trial.confidence, 12),
            "runs": trial.runs,
            "audits": trial.audits,
            "false_alarm_rate": trial.false_alarms / trial.runs,
            "false_alarm_rate_low": low,
            "false_alarm_rate_high": high,
            "refuted": trial.refuted,
            "tenfold": _times_as_json(trial.until_alarm, trial.runs),
            "tenfold_later": _times_as_json(trial.until_alarm_late, trial.runs - trial.false_alarms),
        },
    }


def _guarantee_as_json(guarantee: Guarantee) -> dict[str, Any]:
    low, high = guarantee.interval
    scenario = guarantee.scenario
    return {
        "alpha": scenario.max_escape,
        "beta": scenario.max_overkill,
        "delta": round(guarantee.delta, 12),
        "joint": scenario.joint,
        "bad_parts": scenario.bad_parts,
        "good_parts": scenario.good_parts,
        "draws": guarantee.draws,
        "violation_rate": guarantee.violations / guarantee.draws,
        "violation_rate_low": low,
        "violation_rate_high": high,
        "overkill_violation_rate": guarantee.overkill_violations / guarantee.draws,
        "naive_violation_rate": guarantee.naive_violations / guarantee.draws,
        "review_rate": guarantee.review_rate,
        "oracle_review_rate": guarantee.oracle_review_rate,
        "expected_to_fail": scenario.count_pictures,
        "refuted": guarantee.refuted,
    }


def _times_as_json(times: tuple[int, ...], runs: int) -> dict[str, float | int | None]:
    # A run without an alarm waited longer than all others: it counts as infinite, and a quantile there is null.
    waits = np.array([*times, *[np.inf] * (runs - len(times))])
    quantiles = np.quantile(waits, [0.5, 0.95], method="higher") if runs else np.array([np.inf, np.inf])
    median, late = (float(value) if np.isfinite(value) else None for value in quantiles)
    return {"runs": runs, "alarms": len(times), "median_audits": median, "audits_95": late}


def _print(guarantees: list[Guarantee], trial: AuditTrial) -> None:
    first, scenario = guarantees[0], guarantees[0].scenario
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{first.draws} fresh calibrations each: {scenario.bad_parts} bad and {scenario.good_parts} good parts\n"
        f"limits {scenario.max_escape:.0%} escapes and {scenario.max_overkill:.0%} overkill; "
        f"broken promises allowed {first.delta:.0%}"
    )
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False)
    for heading in ("scenario", "broken", "95 % interval", "overkill", "naive", "review", "oracle"):
        table.add_column(heading, justify="left" if heading == "scenario" else "right", no_wrap=True)
    for g in guarantees:
        low, high = g.interval
        counts = (g.overkill_violations / g.draws, g.naive_violations / g.draws, g.review_rate, g.oracle_review_rate)
        rates = [f"{rate:.1%}" for rate in counts]
        table.add_row(g.scenario.name, f"{g.violations / g.draws:.1%}", f"{low:.1%} to {high:.1%}", *rates)
    console.print(table)
    console.print(_LEGEND, style="dim")
    console.print(_audit_text(trial))


_LEGEND = """\
broken    true escape rate above the limit (both claims together: either rate above)
overkill  true overkill rate above the limit
naive     broken by the rule "the empirical escape rate is at most the limit"
review    mean share of parts sent to a person; oracle: with the distributions known
5 pictures, each counted: pictures taken for parts, shown because it breaks the promise
"""


def _audit_text(trial: AuditTrial) -> str:
    low, high = trial.interval
    at_once = _times_as_json(trial.until_alarm, trial.runs)
    later = _times_as_json(trial.until_alarm_late, trial.runs - trial.false_alarms)
    return (
        f"{trial.runs} lines, {trial.audits} audits of accepted parts each; promised: {trial.promised_rate:.0%} bad\n"
        f"  at the promised rate: {trial.false_alarms / trial.runs:.1%} false alarms "
        f"(95 % interval {low:.1%} to {high:.1%}; allowed {1 - trial.confidence:.0%})\n"
        f"  at ten times the rate: alarm after {_wait(at_once)}\n"
        f"  at ten times the rate only after {trial.audits} audits: {_wait(later)} later"
    )


def _wait(times: dict[str, float | int | None]) -> str:
    if times["median_audits"] is None:
        return "more audits than were simulated"
    late = times["audits_95"]
    return f"{times['median_audits']:.0f} audits (median; 95 % of lines: {'more' if late is None else f'{late:.0f}'})"


if __name__ == "__main__":
    run(main)

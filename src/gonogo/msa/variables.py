"""Variables study of a measuring system: repeatability and reproducibility of a measured quantity, by ANOVA.

Crossed design: every operator measures every part in every trial. Formulas as in AIAG, Measurement Systems Analysis,
4th edition (2010), chapter III, section B, ANOVA method: the mean squares of part, operator, interaction and
repetition give the variance components; an interaction that is not significant (F test, 5 %) is pooled with the
repetition, and a negative component counts as zero. An operator may be a person, a station or a camera.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from gonogo.array_types import Float64
from gonogo.errors import InputError
from gonogo.files import MOST_TEXT_BYTES, read_regular

COLUMNS = ("operator", "trial", "part", "value")
SIGNIFICANT = 0.05
ACCEPTABLE, MARGINAL = 0.10, 0.30
"""AIAG's limits for the share of the gauge in the total variation."""
LEAST_NDC = 5
_MOST_CELLS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class MeasuredStudy:
    """A complete crossed study."""

    operators: tuple[str, ...]
    trials: tuple[str, ...]
    parts: tuple[str, ...]
    values: Float64[np.ndarray, "operators trials parts"]
    reference: Float64[np.ndarray, " parts"] | None = None
    """True value of every part, if known."""


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Mean of the measured minus the true values."""

    mean: float
    low: float
    high: float
    """95 % interval, from the means of the parts (Student's t)."""
    error_95: float
    """95 % of all single measurements differ from the true value by at most this much."""


@dataclass(frozen=True, kw_only=True)
class GrrReport:
    """Standard deviations of the variance components, in the unit of the values."""

    repeatability: float
    """Equipment variation: the same operator and part again."""
    reproducibility: float
    """Appraiser variation, interaction included."""
    interaction_p: float
    """p-value of the interaction of operators and parts."""
    pooled: bool
    """Whether the interaction was pooled with the repetition."""
    part_variation: float
    tolerance: float | None
    """Width of the tolerance, if given."""
    bias: Bias | None

    @property
    def gauge(self) -> float:
        """Standard deviation of the measuring system: repeatability and reproducibility."""
        return math.hypot(self.repeatability, self.reproducibility)

    @property
    def total(self) -> float:
        """Standard deviation of all measurements."""
        return math.hypot(self.gauge, self.part_variation)

    @property
    def share_of_total(self) -> float:
        """%GRR, as a share of the total variation."""
        return self.gauge / self.total if self.total > 0 else 0.0

    @property
    def share_of_tolerance(self) -> float | None:
        """Six standard deviations of the gauge, as a share of the tolerance."""
        return None if self.tolerance is None else 6 * self.gauge / self.tolerance

    @property
    def distinct_categories(self) -> int:
        """ndc: how many groups of parts the gauge can tell apart, 1.41 PV / GRR, rounded down and at least 1."""
        if self.gauge == 0:
            return 1000
        return min(1000, max(1, math.floor(math.sqrt(2) * self.part_variation / self.gauge)))

    @property
    def rating(self) -> str:
        """AIAG's rule of thumb: ``acceptable``, ``marginal`` or ``unacceptable``."""
        share = self.share_of_total if self.share_of_tolerance is None else self.share_of_tolerance
        if share > MARGINAL or self.distinct_categories < LEAST_NDC:
            return "unacceptable"
        return "acceptable" if share <= ACCEPTABLE else "marginal"


def analyse_variables(study: MeasuredStudy, *, tolerance: float | None = None) -> GrrReport:
    """Compute the variance components of a study.

    Raises:
        InputError: There are fewer than two parts, operators or trials, or the tolerance is not positive.
    """
    operators, trials, parts = study.values.shape
    if min(operators, trials, parts) < 2:
        raise InputError(
            f"expected at least 2 operators, 2 trials and 2 parts, found {operators}, {trials} and {parts}. "
            "AIAG recommends 3 operators, 3 trials and 10 parts."
        )
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError(f"tolerance: expected a positive width, found {tolerance:g}.")
    values = study.values
    grand = values.mean()
    of_operator, of_part, of_cell = values.mean(axis=(1, 2)), values.mean(axis=(0, 1)), values.mean(axis=1)
    crossed = of_cell - of_operator[:, None] - of_part[None, :] + grand
    ms_operator = trials * parts * float(((of_operator - grand) ** 2).sum()) / (operators - 1)
    ms_part = trials * operators * float(((of_part - grand) ** 2).sum()) / (parts - 1)
    free_crossed, free_error = (operators - 1) * (parts - 1), operators * parts * (trials - 1)
    ss_crossed = trials * float((crossed**2).sum())
    ss_error = float(((values - of_cell[:, None, :]) ** 2).sum())
    ms_crossed, ms_error = ss_crossed / free_crossed, ss_error / free_error
    p_value = float(stats.f.sf(ms_crossed / ms_error, free_crossed, free_error)) if ms_error > 0 else 1.0
    pooled = p_value > SIGNIFICANT
    if pooled:
        ms_crossed = ms_error = (ss_crossed + ss_error) / (free_crossed + free_error)
    between_operators = max(0.0, ms_operator - ms_crossed) / (trials * parts)
    interaction = max(0.0, ms_crossed - ms_error) / trials
    return GrrReport(
        repeatability=math.sqrt(ms_error),
        reproducibility=math.sqrt(between_operators + interaction),
        interaction_p=p_value,
        pooled=pooled,
        part_variation=math.sqrt(max(0.0, ms_part - ms_crossed) / (trials * operators)),
        tolerance=tolerance,
        bias=None if study.reference is None else _bias(values, study.reference),
    )


def _bias(values: Float64[np.ndarray, "operators trials parts"], reference: Float64[np.ndarray, " parts"]) -> Bias:
    off = values - reference
    of_part = off.mean(axis=(0, 1))
    mean = float(of_part.mean())
    reach = float(stats.t.ppf(0.975, len(of_part) - 1) * of_part.std(ddof=1) / math.sqrt(len(of_part)))
    return Bias(mean=mean, low=mean - reach, high=mean + reach, error_95=float(np.quantile(np.abs(off), 0.95)))


def read_measured_study(path: str | Path) -> MeasuredStudy:
    """Read a study from CSV (UTF-8, commas, a header line, one measurement per line).

    Columns: ``operator``, ``trial``, ``part`` (any text), ``value`` (a number); optionally ``reference`` (the true
    value of the part). Other columns are ignored.

    Raises:
        InputError: The file is missing or malformed, or a measurement is missing or doubled.
    """
    path = Path(path)
    table: dict[tuple[str, str, str], float] = {}
    reference: dict[str, float] = {}
    for line, record in _records(path):
        operator, trial, part = (record[name] for name in COLUMNS[:3])
        key = operator, trial, part
        if key in table:
            raise InputError(f"{path}, line {line}: operator {operator} already measured part {part} in trial {trial}.")
        table[key] = _number(path, line, "value", record["value"])
        if record["reference"]:
            true = _number(path, line, "reference", record["reference"])
            if reference.setdefault(part, true) != true:
                raise InputError(f"{path}, line {line}: the reference of part {part} differs from an earlier line.")
    operators, trials, parts = (tuple(dict.fromkeys(key[axis] for key in table)) for axis in range(3))
    if len(operators) * len(trials) * len(parts) > _MOST_CELLS:
        raise InputError(
            f"{path}: expected at most {_MOST_CELLS:,} measurements. Is the column trial a running number?"
        )
    for key in ((o, t, p) for o in operators for t in trials for p in parts):
        if key not in table:
            raise InputError(
                f"{path}: operator {key[0]} has no value of part {key[2]} in trial {key[1]}. Every operator must "
                "measure every part in every trial: add the line, or remove that part or trial."
            )
    if reference and len(reference) < len(parts):
        lacking = next(part for part in parts if part not in reference)
        raise InputError(f"{path}: part {lacking} has no reference but others have. Fill it in, or remove the column.")
    return MeasuredStudy(
        operators=operators,
        trials=trials,
        parts=parts,
        values=np.array([[[table[o, t, p] for p in parts] for t in trials] for o in operators], np.float64),
        reference=np.array([reference[part] for part in parts]) if reference else None,
    )


def _records(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = read_regular(path, most_bytes=MOST_TEXT_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path}, line 1: expected the columns {', '.join(COLUMNS)} separated by commas, {', '.join(missing)} "
                "not found. Correct the header."
            )
        found = [
            (reader.line_num, {name: (row.get(name) or "").strip() for name in (*COLUMNS, "reference")})
            for row in reader
        ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Give a readable CSV file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text. Save the table as CSV UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error}). Save the table as CSV with commas.") from error
    if not found:
        raise InputError(f"{path}: expected one measurement per line, found none.")
    for line, record in found:
        for name in COLUMNS:
            if not record[name]:
                raise InputError(f"{path}, line {line}: {name} is empty. Fill it in or remove the line.")
    return found


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {name}: expected a number such as 0.35, found {text!r}.")
    return value

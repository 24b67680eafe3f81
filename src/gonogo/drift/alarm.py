"""The drift alarm: a sequential test for too many unusual parts, with a bounded lifetime false-alarm probability."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.drift.signs import Signs
from gonogo.errors import InputError
from gonogo.operating_point import AuditTest, best_rate

RISK = 0.05
"""Probability of ever raising a false alarm: half for the reference parts, half for the parts on the line."""
LEVELS = (0.05, 0.3)
"""Shares of the reference parts that count as unusual. The small share detects large changes within a few parts, the
large one detects small shifts of all parts. For the choice see ``docs/drift.md``."""
MIN_REFERENCE = 30
_ONE_SIDED = ("distance",)
_NAMES = {
    ("score", True): "Scores higher than at calibration",
    ("score", False): "Scores lower than at calibration",
    ("distance", True): "Unlike anything in training",
    ("brightness", True): "Brighter than at calibration: check the lamp and the exposure",
    ("brightness", False): "Darker than at calibration: check the lamp and the exposure",
    ("sharpness", True): "More fine detail than at calibration: check focus, gain and noise",
    ("sharpness", False): "Less sharp than at calibration: check focus, lens and vibration",
}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A one-sided limit on one measurement: a part beyond it is unusual; the share of such parts is bounded."""

    sign: str
    above: bool
    limit: float
    rate: float
    """Upper bound on the share of unusual parts without drift."""

    def strange(self, signs: Signs) -> bool:
        """Whether a part lies strictly beyond the limit."""
        value: float = getattr(signs, self.sign)
        return value > self.limit if self.above else value < self.limit

    @property
    def meaning(self) -> str:
        """What too many parts beyond the limit indicate."""
        return _NAMES[self.sign, self.above]


def fit_watches(reference: Sequence[Signs], *, bad_share: float) -> tuple[Watch, ...]:
    """Fit limits on good calibration parts, each with an exact bound on how often it is exceeded.

    The share of future good parts beyond the (k+1)-th most extreme of n is below the upper Clopper-Pearson bound for k
    of n; half of `RISK` is shared among all limits (Bonferroni). Bad parts may all be unusual, so their largest share
    on the line is added.

    Args:
        reference: Measurements of good calibration parts, one per part.
        bad_share: Largest share of bad parts on the line without drift, in [0, 1).

    Returns:
        Empty if there are fewer than `MIN_REFERENCE` parts.
    """
    if not 0.0 <= bad_share < 1.0:
        raise InputError(f"bad_share: expected a share from 0 to below 1, found {bad_share}.")
    count = len(reference)
    if count < MIN_REFERENCE:
        return ()
    sides = [(each.name, above) for each in fields(Signs) for above in (True, False)]
    sides = [side for side in sides if side[1] or side[0] not in _ONE_SIDED]
    delta = RISK / 2 / (len(sides) * len(LEVELS))
    watches = []
    for sign, above in sides:
        extreme = sorted((getattr(signs, sign) for signs in reference), reverse=above)
        for level in LEVELS:
            beyond = int(level * count)
            good_rate = best_rate(count, delta, beyond)
            watches.append(
                Watch(
                    sign=sign,
                    above=above,
                    limit=extreme[beyond],
                    rate=min(good_rate + bad_share * (1.0 - good_rate), 1.0 - 1e-9),
                )
            )
    return tuple(watches)


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """Monitors a line, one part at a time. Immutable: `update` returns the next state.

    Each watch runs an `AuditTest`; the e-value is the mean of theirs and is itself a valid e-value. The probability of
    ever raising a false alarm is at most `RISK`.
    """

    watches: tuple[Watch, ...]
    tests: tuple[AuditTest, ...]
    peak: float = 1.0

    @classmethod
    def start(cls, watches: Sequence[Watch]) -> DriftTest:
        """Create a test that has seen no parts.

        Raises:
            InputError: there are no watches.
        """
        if not watches:
            raise InputError(
                f"expected a bundle with drift limits, found none. Run gonogo certify with at least "
                f"{MIN_REFERENCE} good calibration parts."
            )
        tests = tuple(AuditTest(promised_rate=watch.rate, confidence=1.0 - RISK / 2) for watch in watches)
        return cls(watches=tuple(watches), tests=tests)

    def update(self, signs: Signs) -> DriftTest:
        """Return the test after one more part."""
        tests = tuple(
            test.update(bad=watch.strange(signs)) for watch, test in zip(self.watches, self.tests, strict=True)
        )
        after = replace(self, tests=tests)
        return replace(after, peak=max(self.peak, after.e_value))

    @property
    def parts(self) -> int:
        """Number of parts seen."""
        return self.tests[0].audits

    @property
    def e_value(self) -> float:
        """Evidence of drift: 1 is none, 40 raises the alarm."""
        return sum(test.e_value for test in self.tests) / len(self.tests)

    @property
    def alarm(self) -> bool:
        """Whether drift has ever been detected."""
        return self.peak * RISK / 2 >= 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """What has changed, strongest evidence first; empty without an alarm."""
        if not self.alarm:
            return ()
        strength: Counter[str] = Counter()
        for watch, test in zip(self.watches, self.tests, strict=True):
            strength[watch.meaning] = max(strength[watch.meaning], round(test.peak))
        return tuple(meaning for meaning, value in strength.most_common() if value * RISK / 2 >= 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return the state as a JSON object, without the watches, which belong to the bundle."""
        return {"tests": [test.to_json() for test in self.tests], "peak": self.peak}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], watches: Sequence[Watch]) -> DriftTest:
        """Read what `to_json` wrote, for the watches of the same bundle.

        Raises:
            InputError: the record is malformed, or belongs to another bundle.
        """
        try:
            read = _State.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "record"
            raise InputError(f"drift test: {where}: {first['msg']}. Start a new test.") from error
        tests = tuple(AuditTest.from_json(each) for each in read.tests)
        if [test.promised_rate for test in tests] != [watch.rate for watch in watches]:
            raise InputError("drift test: the record belongs to another bundle. Start a new test for this one.")
        return cls(watches=tuple(watches), tests=tests, peak=read.peak)


class _State(Strict):
    tests: tuple[dict[str, Any], ...] = Field(strict=False)
    peak: float = Field(ge=1, allow_inf_nan=False)

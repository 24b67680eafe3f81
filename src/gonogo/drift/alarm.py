"""The drift alarm: bets that too many parts are strange, with a stated chance of a false alarm over its whole life."""

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
"""Chance of ever raising a false alarm: half for unlucky reference parts, half for an unlucky line."""
LEVELS = (0.05, 0.3)
"""Shares of the reference parts that count as strange. The strict one finds large changes within a few parts, the lax
one finds changes that move every part a little. Chosen by ``docs/drift.md``."""
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
    """One end of one sign: a part beyond the limit is strange, and at most a known share of parts should be."""

    sign: str
    above: bool
    limit: float
    rate: float
    """Upper bound on the share of strange parts while nothing has changed."""

    def strange(self, signs: Signs) -> bool:
        """Whether a part lies beyond the limit; equal is not beyond."""
        value: float = getattr(signs, self.sign)
        return value > self.limit if self.above else value < self.limit

    @property
    def meaning(self) -> str:
        """What it means when too many parts are."""
        return _NAMES[self.sign, self.above]


def fit_watches(reference: Sequence[Signs], *, bad_share: float) -> tuple[Watch, ...]:
    """Limits from good calibration parts, each with an exact bound on how often it will be passed.

    The share of future good parts beyond the (k+1)-th most extreme of n is below the upper Clopper-Pearson bound for k
    of n; half of `RISK` is shared among all limits (Bonferroni). Bad parts may all be strange, so the share of them
    that a line may have is added.

    Args:
        reference: Signs of good calibration parts, one per part.
        bad_share: Most bad parts that arrive while nothing has changed, a share in [0, 1).

    Returns:
        Nothing where there are fewer than `MIN_REFERENCE` parts.
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
    """Watches a line, one part at a time. A value, not an object that changes: `update` gives the next one.

    Each watch bets with `AuditTest`; the e-value is their mean, itself a bet that cannot be expected to win while
    nothing has changed. Over the whole life of the line a false alarm has a probability of at most `RISK`.
    """

    watches: tuple[Watch, ...]
    tests: tuple[AuditTest, ...]
    peak: float = 1.0

    @classmethod
    def start(cls, watches: Sequence[Watch]) -> DriftTest:
        """A test that has seen nothing yet.

        Raises:
            InputError: there is nothing to watch.
        """
        if not watches:
            raise InputError(
                f"expected a bundle with drift limits, found none: they take {MIN_REFERENCE} good calibration parts "
                "and are written by gonogo certify."
            )
        tests = tuple(AuditTest(promised_rate=watch.rate, confidence=1.0 - RISK / 2) for watch in watches)
        return cls(watches=tuple(watches), tests=tests)

    def update(self, signs: Signs) -> DriftTest:
        """The test after one more part."""
        tests = tuple(
            test.update(bad=watch.strange(signs)) for watch, test in zip(self.watches, self.tests, strict=True)
        )
        after = replace(self, tests=tests)
        return replace(after, peak=max(self.peak, after.e_value))

    @property
    def parts(self) -> int:
        """How many parts it has seen."""
        return self.tests[0].audits

    @property
    def e_value(self) -> float:
        """Evidence that something has changed: 1 says nothing, 40 is the alarm."""
        return sum(test.e_value for test in self.tests) / len(self.tests)

    @property
    def alarm(self) -> bool:
        """Whether a change was ever found."""
        return self.peak * RISK / 2 >= 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """What has changed, the strongest evidence first; empty without an alarm."""
        if not self.alarm:
            return ()
        strength: Counter[str] = Counter()
        for watch, test in zip(self.watches, self.tests, strict=True):
            strength[watch.meaning] = max(strength[watch.meaning], round(test.peak))
        return tuple(meaning for meaning, value in strength.most_common() if value * RISK / 2 >= 1.0)

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON object; the watches belong to the bundle and are not in it."""
        return {"tests": [test.to_json() for test in self.tests], "peak": self.peak}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], watches: Sequence[Watch]) -> DriftTest:
        """Read what `to_json` wrote, for the watches of the same bundle.

        Raises:
            InputError: malformed, or of another bundle.
        """
        try:
            read = _State.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "record"
            raise InputError(f"drift test: {where}: {first['msg']}. Start a new test.") from error
        tests = tuple(AuditTest.from_json(each) for each in read.tests)
        if [test.promised_rate for test in tests] != [watch.rate for watch in watches]:
            raise InputError("drift test: it watched another bundle. Start a new test for this one.")
        return cls(watches=tuple(watches), tests=tests, peak=read.peak)


class _State(Strict):
    tests: tuple[dict[str, Any], ...] = Field(strict=False)
    peak: float = Field(ge=1, allow_inf_nan=False)

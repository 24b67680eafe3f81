"""Sequential test of the promised escape rate on audited parts, valid after every audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from gonogo.array_types import Bool, Float64
from gonogo.config import Strict
from gonogo.errors import InputError

# The alternatives to bet on, as multiples of the promised odds, and the share of the stake on each. Half is bet on ten
# times the promised odds, which must be detected fast; the rest detects smaller violations, at a cost of at most a
# factor of two (about one bad part).
_MULTIPLES = np.array([2.0, 4.0, 10.0])
_SHARES = np.array([0.25, 0.25, 0.5])
_CEILING = 1e200
"""Cap of the capital, to keep it finite. Capping is always valid because it only lowers the capital."""


@dataclass(frozen=True, kw_only=True)
class AuditTest:
    """Tests the claim "at most ``promised_rate`` of the accepted parts are bad" against audits, one at a time.

    An audit is a randomly chosen *accepted* part that a person then judges without knowing the verdict. The test is a
    bet against the promise that starts with one unit and can never gain on average while the promise is kept; its
    capital is the e-value. By Ville's inequality it reaches ``1 / delta`` at any time, ever, with probability at most
    ``delta = 1 - confidence`` (Ville 1939; Ramdas, Grunwald, Vovk and Shafer, Statistical Science 38, 2023). So the
    test may be read after every audit and needs no fixed number of audits. Part of the capital is kept in reserve and
    bet at later audits, so that a long good period does not mask a change that starts later.

    Immutable: `update` returns the next state.
    """

    promised_rate: float
    """Share of bad parts among accepted parts; see `bad_among_accepted` to derive it from an escape bound."""
    confidence: float = 0.95
    audits: int = 0
    bad: int = 0
    capital: tuple[float, ...] = (0.0,) * len(_MULTIPLES)
    """Capital of the bets on each alternative."""
    peak: float = 1.0
    """The largest e-value so far; the alarm uses it, so an alarm never clears."""

    def __post_init__(self) -> None:
        for name, value in (("promised_rate", self.promised_rate), ("confidence", self.confidence)):
            if not 0.0 < value < 1.0:
                raise InputError(f"{name}: expected a number above 0 and below 1, found {value}.")

    def update(self, *, bad: bool) -> AuditTest:
        """Return the test after one more audited part."""
        capital = bet(np.array(self.capital), self.audits + 1, np.array(bad), self.promised_rate)
        after = replace(
            self,
            audits=self.audits + 1,
            bad=self.bad + int(bad),
            capital=tuple(capital.tolist()),
        )
        return replace(after, peak=max(self.peak, after.e_value))

    @property
    def e_value(self) -> float:
        """Current evidence against the promise: 1 is none, 20 raises the alarm at 95 % confidence."""
        return sum(self.capital) + kept_back(self.audits)

    @property
    def alarm(self) -> bool:
        """Whether the promise has ever been refuted at this confidence."""
        return self.peak * (1.0 - self.confidence) >= 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {
            "promised_rate": self.promised_rate,
            "confidence": self.confidence,
            "audits": self.audits,
            "bad": self.bad,
            "capital": list(self.capital),
            "peak": self.peak,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> AuditTest:
        """Read what `to_json` wrote.

        Raises:
            InputError: the record is malformed.
        """
        try:
            read = _State.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "record"
            raise InputError(
                f"audit test: {where}: {first['msg']}. Restore it from a backup or start a new test."
            ) from error
        return cls(**read.model_dump())


class _State(Strict):
    promised_rate: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    audits: int = Field(ge=0)
    bad: int = Field(ge=0)
    capital: Annotated[tuple[Annotated[float, Field(ge=0, le=_CEILING)], ...], Field(strict=False)] = Field(
        min_length=len(_MULTIPLES), max_length=len(_MULTIPLES)
    )
    peak: float = Field(ge=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_consistent(self) -> _State:
        if self.bad > self.audits:
            raise ValueError(f"expected at most as many bad parts as audits, found {self.bad} of {self.audits}")
        if sum(self.capital) + kept_back(self.audits) > self.peak * (1.0 + 1e-9):
            raise ValueError("expected a peak of at least the current e-value")
        return self


def bet(
    capital: Float64[np.ndarray, "*runs bets"], audit: int, bad: Bool[np.ndarray, "*runs"], promised_rate: float
) -> Float64[np.ndarray, "*runs bets"]:
    """Update the capital of the bets after one audit, for one run or several at once.

    Each alternative rate ``q`` multiplies its capital by the likelihood ratio ``q / p`` for a bad part and
    ``(1 - q) / (1 - p)`` for a good one. The mean of this factor is 1 at the promised rate p and below 1 at lower
    rates, so the capital is a supermartingale under the promise. Before each audit part of the reserve is added to the
    bets: a mixture over starting times, which keeps the total a supermartingale.

    Args:
        capital: Capital of the bets before the audit.
        audit: Number of the audit, from 1.
        bad: Whether the audited part was bad.
        promised_rate: p.
    """
    alternative = _MULTIPLES * promised_rate / (1.0 + (_MULTIPLES - 1.0) * promised_rate)
    joining = _SHARES * (kept_back(audit - 1) - kept_back(audit))
    factor = np.where(bad[..., None], alternative / promised_rate, (1.0 - alternative) / (1.0 - promised_rate))
    return np.minimum((capital + joining) * factor, _CEILING)


def bad_among_accepted(*, max_escape: float, bad_share: float, accepted_share: float) -> float:
    """Bound the share of bad parts among accepted parts: ``P(bad | go) <= max_escape * P(bad) / P(go)``.

    Args:
        max_escape: Bound on P(go | bad), the operating point's escape claim.
        bad_share: P(bad), the share of bad parts on the line; overestimate it to stay on the safe side.
        accepted_share: P(go), the share of parts judged go.

    Returns:
        The rate to pass to `AuditTest`, at most 1.
    """
    for name, value in (("max_escape", max_escape), ("bad_share", bad_share), ("accepted_share", accepted_share)):
        if not 0.0 < value <= 1.0:
            raise InputError(f"{name}: expected a share above 0 and at most 1, found {value}.")
    return min(1.0, max_escape * bad_share / accepted_share)


def kept_back(audits: int) -> float:
    """Share of the stake still in reserve after this many audits: 1, 0.59, 0.48, ... 0.1 after 5,000."""
    return 1.0 / (1.0 + math.log1p(audits))

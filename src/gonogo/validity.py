"""How long a certificate is valid: in days and in parts, as set when it was made."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from gonogo.bundle import Bundle
from gonogo.config import Strict
from gonogo.errors import BundleError

EVIDENCE = "evidence.json"
KEY = "validity"
WARN_SHARE = 0.1
"""A station warns in the last tenth of the days or parts."""


class Validity(Strict):
    """When a certificate was made, and how long it is valid; part of ``evidence.json``."""

    certified_at: AwareDatetime = Field(strict=False)
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """``None``: no limit in days."""
    parts: int | None = Field(default=None, gt=0)
    """Largest number of parts that a station may judge with it; ``None``: no limit in parts."""
    sample: str | None = None
    """The sample of production that renewed it; ``None`` if it was certified on the calibrate split."""

    @property
    def expires_at(self) -> datetime | None:
        """End of validity in days; ``None`` without such a limit."""
        if self.days is None:
            return None
        try:
            return self.certified_at + timedelta(days=self.days)
        except OverflowError:
            return None

    def sentence(self) -> str:
        """Describe the validity."""
        until = "" if self.expires_at is None else f"until {self.expires_at.date().isoformat()} ({self.days:g} days)"
        parts = "" if self.parts is None else f"for {self.parts:,} parts"
        limits = " and ".join(each for each in (until, parts) if each) or "without a limit in time"
        by = "" if self.sample is None else f", renewed by the sample {self.sample}"
        return f"The certificate of {self.certified_at.date().isoformat()} is valid {limits}{by}."


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The state of a certificate at one moment."""

    expired: bool
    sentence: str
    """Empty if the end is not near."""


def standing(validity: Validity | None, *, now: datetime, judged: int = 0) -> Standing:
    """Say whether a certificate has expired or will soon.

    Args:
        validity: The validity; ``None`` for a bundle certified by an earlier version, which never expires.
        now: The present time, with a time zone.
        judged: Number of parts that were judged with the bundle.
    """
    if validity is None:
        return Standing(expired=False, sentence="")
    ends = validity.expires_at
    if ends is not None and now >= ends:
        return Standing(expired=True, sentence=f"the certificate expired on {ends.date().isoformat()}: certify again")
    if validity.parts is not None and judged >= validity.parts:
        return Standing(expired=True, sentence=f"the certificate expired after {validity.parts:,} parts: certify again")
    if ends is not None and validity.days is not None and now >= ends - timedelta(days=validity.days * WARN_SHARE):
        left = math.ceil((ends - now) / timedelta(days=1))
        return Standing(expired=False, sentence=f"the certificate expires in {left} days, on {ends.date().isoformat()}")
    if validity.parts is not None and judged >= validity.parts * (1.0 - WARN_SHARE):
        return Standing(expired=False, sentence=f"the certificate expires in {validity.parts - judged:,} parts")
    return Standing(expired=False, sentence="")


def read_validity(bundle: Bundle) -> Validity | None:
    """Return the validity of a bundle's certificate; ``None`` if it states none.

    Raises:
        BundleError: The evidence is malformed.
    """
    if EVIDENCE not in bundle.digests:
        return None
    try:
        found: Any = json.loads(bundle.data(EVIDENCE)).get(KEY)
        return None if found is None else Validity.model_validate(found)
    except (ValueError, AttributeError, ValidationError) as error:
        raise BundleError(
            f"{bundle.root / EVIDENCE}: malformed ({str(error).splitlines()[0]}). Run gonogo certify again."
        ) from error


def starting_now(*, days: float | None, parts: int | None, sample: str | None = None) -> Validity:
    """The validity of a certificate that is made now."""
    return Validity(certified_at=datetime.now(UTC).replace(microsecond=0), days=days, parts=parts, sample=sample)

"""The end of a certificate at a station: warn before and after it, and send parts to review if the settings say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from gonogo.errors import GonogoError
from gonogo.ledger import Ledger, Where
from gonogo.schema import State
from gonogo.station.models import LoadedBundle
from gonogo.station.outcomes import Outcome
from gonogo.station.settings import StationSettings
from gonogo.validity import Standing, standing


class ExpiryWatch:
    """Knows how many parts each bundle has judged, and whether its certificate is still valid."""

    def __init__(self, settings: StationSettings, *, ledger: Callable[[], Ledger], now: Callable[[], datetime]) -> None:
        self._settings, self._ledger, self._now = settings, ledger, now
        self._judged: dict[str, int] = {}

    def standing(self, model: LoadedBundle | None) -> Standing:
        """The state of a bundle's certificate."""
        if model is None or model.validity is None:
            return Standing(expired=False, sentence="")
        judged = self._count(model.sha256) if model.validity.parts is not None else 0
        return standing(model.validity, now=self._now(), judged=judged)

    def limited(self, outcome: Outcome) -> Outcome:
        """Send a go to review if its certificate has expired and the settings say so; a no-go stays one."""
        if outcome.state is not State.GO or self._settings.expiry.after != "review":
            return outcome
        found = self.standing(outcome.model)
        if not found.expired:
            return outcome
        return replace(outcome, state=State.REVIEW, reason=f"judged go, but {found.sentence}")

    def judged(self, sha256: str | None) -> None:
        """Count one recorded part."""
        if sha256 in self._judged:
            self._judged[sha256] += 1

    def _count(self, sha256: str) -> int:
        if sha256 not in self._judged:
            try:
                where = Where(station=self._settings.station, bundle_sha256=sha256)
                self._judged[sha256] = self._ledger().count(where)
            except (GonogoError, OSError):
                return 0  # without a ledger no part passes anyway
        return self._judged[sha256]

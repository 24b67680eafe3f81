"""Challenge parts: when the next test is due, the result of each test, and whether parts may pass."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

from gonogo import images
from gonogo.images import Photograph
from gonogo.ledger import Action, Ledger, Where
from gonogo.names import readable
from gonogo.schema import State
from gonogo.station.models import LoadedBundle
from gonogo.station.settings import ChallengeSettings

CHALLENGE, ACKNOWLEDGE = "challenge", "acknowledge"


def is_challenge_part(settings: ChallengeSettings | None, part: str | None) -> bool:
    """Whether a part is a challenge part."""
    if settings is None or part is None:
        return False
    return any(fnmatch.fnmatchcase(part, pattern) for pattern in settings.parts)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """State of the challenge tests, as shown in the status."""

    last_passed: datetime | None
    next_due: datetime
    held: str
    """Why no part may pass; empty if parts may pass."""


class Challenges:
    """The challenge tests of one station, or of one of its products.

    Their state is read from the ledger, so it survives a restart.
    """

    def __init__(
        self,
        settings: ChallengeSettings,
        *,
        station: str,
        started: datetime,
        now: Callable[[], datetime],
        product: str | None = None,
    ) -> None:
        self.product = product
        """The product that is tested; ``None`` at a station for one product."""
        self._settings = settings
        self._station = station
        self._now = now
        self._since = started
        """Start of the interval to the next test: the last passed test or acknowledgement, else the first start."""
        self._last_passed: datetime | None = None
        self._failed = ""
        self._turn = count()
        self._seen = 0

    def read(self, ledger: Ledger) -> None:
        """Read new tests and acknowledgements from the ledger."""
        seen = ledger.head().seq
        found = [
            row
            for action in (CHALLENGE, ACKNOWLEDGE)
            for row in ledger.actions(Where(action=action, station=self._station), after=self._seen, before=seen + 1)
        ]
        for row in sorted(found, key=lambda row: row.seq):
            if row.record.action == CHALLENGE and row.record.details.get("product") != self.product:
                continue
            if row.record.action == ACKNOWLEDGE:
                self._failed, self._since = "", row.at
            elif row.record.details.get("passed") is True:
                self._last_passed = self._since = row.at
            else:
                self._failed = str(row.record.details.get("reason", "a challenge failed"))
        self._seen = seen

    def standing(self) -> Standing:
        """Return the present state."""
        return self._standing_at(self._now())

    def _standing_at(self, now: datetime) -> Standing:
        grace = timedelta(seconds=self._settings.grace_s)
        due = self._since + timedelta(seconds=self._settings.every_s)
        held = ""
        if self._since > now + grace:  # otherwise a clock that was set back would postpone the test
            due, held = now, f"the clock was set back to {now:%H:%M} UTC, so the test with a challenge part is due"
        elif now > due + grace:
            held = f"the test with a challenge part has been due since {due:%H:%M} UTC"
        return Standing(last_passed=self._last_passed, next_due=due, held=self._failed or held)

    def is_challenge(self, part: str | None) -> bool:
        """Whether the part is a challenge part."""
        return is_challenge_part(self._settings, part)

    def passes(self, state: State) -> bool:
        """Whether a challenge part with this verdict passes the test."""
        return state.value in self._settings.must_be

    def picture_due(self) -> Path | None:
        """Return the challenge picture to judge now, or ``None`` if no test is due."""
        # Read the clock only once: if it was set back, the test is due at this very moment.
        now = self._now()
        if self._settings.pictures is None or self._failed or now < self._standing_at(now).next_due:
            return None
        folder = self._settings.pictures if self.product is None else self._settings.pictures / self.product
        files = list(images.find(folder)) if folder.is_dir() else []
        return files[next(self._turn) % len(files)] if files else None

    def judge_picture(self, path: Path, model: LoadedBundle | None) -> Action:
        """Judge a challenge picture and return the action that records the result."""
        if model is None:
            return self.result(path.name, State.FAULT, None, "no bundle is loaded", about=None)
        photograph = Photograph(images.read_bytes(path), name=str(path))
        photograph.unpacked(model.recipe)
        try:
            verdict = model.inspect(photograph)
        except Exception as error:  # noqa: BLE001  a failed test holds the station; it must not stop the worker
            reason = f"not judged ({type(error).__name__}: {error})"
            return self.result(path.name, State.FAULT, None, reason, about=None, sha256=model.sha256)
        return self.result(path.name, verdict.state, verdict.score, verdict.reason, about=None, sha256=model.sha256)

    def result(
        self, part: str, state: State, score: float | None, reason: str, *, about: int | None, sha256: str | None = None
    ) -> Action:
        """Return the action that records one test."""
        passed, part, reason = self.passes(state), readable(part), readable(reason)
        failure = "" if passed else f"the challenge part {part} was judged {state.value} ({reason})"
        return Action(
            action=CHALLENGE,
            who=self._station,
            station=self._station,
            about=about,
            details={
                "part": part,
                "state": state.value,
                "score": score,
                "passed": passed,
                "reason": failure,
                "bundle_sha256": sha256,
                **({} if self.product is None else {"product": self.product}),
            },
        )

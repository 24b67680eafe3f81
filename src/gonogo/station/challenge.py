"""Known bad parts that must be rejected: when a test is due, what came of it, whether anything may pass."""

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


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the tests stand; what the status shows."""

    last_passed: datetime | None
    next_due: datetime
    held: str
    """Why nothing may pass; empty when parts may."""


class Challenges:
    """The tests of one station. All that matters is in the ledger, so that a restart forgets nothing."""

    def __init__(
        self, settings: ChallengeSettings, *, station: str, started: datetime, now: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._station = station
        self._now = now
        self._since = started
        """From when on the time to the next test counts: a passed test, an acknowledgement, else the first start."""
        self._last_passed: datetime | None = None
        self._failed = ""
        self._turn = count()
        self._seen = 0

    def read(self, ledger: Ledger) -> None:
        """Catch up with the ledger: tests, and acknowledgements that people made elsewhere."""
        seen = ledger.head().seq
        found = [
            row
            for action in (CHALLENGE, ACKNOWLEDGE)
            for row in ledger.actions(Where(action=action, station=self._station), after=self._seen, before=seen + 1)
        ]
        for row in sorted(found, key=lambda row: row.seq):
            if row.record.action == ACKNOWLEDGE:
                self._failed, self._since = "", row.at
            elif row.record.details.get("passed") is True:
                self._last_passed = self._since = row.at
            else:
                self._failed = str(row.record.details.get("reason", "a challenge failed"))
        self._seen = seen

    def standing(self) -> Standing:
        """What holds now."""
        return self._standing_at(self._now())

    def _standing_at(self, now: datetime) -> Standing:
        grace = timedelta(seconds=self._settings.grace_s)
        due = self._since + timedelta(seconds=self._settings.every_s)
        held = ""
        if self._since > now + grace:  # else a clock that was set back would put the test off
            due, held = now, f"the clock was set back to {now:%H:%M} UTC, so the test with a known bad part is due"
        elif now > due + grace:
            held = f"the test with a known bad part has been due since {due:%H:%M} UTC"
        return Standing(last_passed=self._last_passed, next_due=due, held=self._failed or held)

    def is_challenge(self, part: str | None) -> bool:
        """Whether this is one of the known bad parts."""
        return part is not None and any(fnmatch.fnmatchcase(part, pattern) for pattern in self._settings.parts)

    def passes(self, state: State) -> bool:
        """Whether a known bad part with this verdict was caught."""
        return state.value in self._settings.must_be

    def picture_due(self) -> Path | None:
        """The picture of a known bad part that is to be judged now, or ``None``."""
        # One look at the clock: where it was set back the test is due now, which is after an earlier look.
        now = self._now()
        if self._settings.pictures is None or self._failed or now < self._standing_at(now).next_due:
            return None
        files = list(images.find(self._settings.pictures))
        return files[next(self._turn) % len(files)] if files else None

    def judge_picture(self, path: Path, model: LoadedBundle | None) -> Action:
        """Judge one picture of a known bad part; the action records what came of it."""
        if model is None:
            return self.result(path.name, State.FAULT, None, "no bundle is loaded", about=None)
        photograph = Photograph(images.read_bytes(path), name=str(path))
        photograph.unpacked(model.recipe)
        try:
            verdict = model.inspect(photograph)
        except Exception as error:  # noqa: BLE001  the edge of judging: a test that fails holds the station, no worker
            reason = f"not judged ({type(error).__name__}: {error})"
            return self.result(path.name, State.FAULT, None, reason, about=None, sha256=model.sha256)
        return self.result(path.name, verdict.state, verdict.score, verdict.reason, about=None, sha256=model.sha256)

    def result(
        self, part: str, state: State, score: float | None, reason: str, *, about: int | None, sha256: str | None = None
    ) -> Action:
        """The record of one test."""
        passed, part, reason = self.passes(state), readable(part), readable(reason)
        told = "" if passed else f"the known bad part {part} was judged {state.value} ({reason})"
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
                "reason": told,
                "bundle_sha256": sha256,
            },
        )

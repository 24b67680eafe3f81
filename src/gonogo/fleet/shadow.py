"""The silent judge: a process of its own that judges the station's stored frames again with another bundle.

It is on no part's way: it follows the ledger, runs at the lowest priority, and skips parts when it is behind. If the
bundle crashes or hangs it, the line does not notice. Its verdicts are actions in the ledger and answer nothing.

The agent runs it as ``python -m gonogo.fleet shadow station.toml``; the first line of standard input is a `ShadowJob`.
The server runs it as ``python -m gonogo.fleet beside job.json`` for the stations of its workspace; the file is a
`BesideJob`.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from gonogo.config import Strict
from gonogo.errors import BundleError, GonogoError
from gonogo.fleet.evidence import DROPPED, SHADOW, shadow_details
from gonogo.fleet.releases import Assignment, Release, assignment_of
from gonogo.ledger import Action, Ledger, Row, VerdictRecord, Where, worst_state
from gonogo.ledger.records import Name
from gonogo.names import readable
from gonogo.schema import State, Verdict
from gonogo.signing import machine_policy
from gonogo.station import LoadedBundle, StationSettings, read_settings
from gonogo.station.challenge import is_challenge_part
from gonogo.station.companion import end_with_parent
from gonogo.station.models import load_model
from gonogo.station.settings import ChallengeSettings, signature_policy

SILENT_JUDGE = "silent judge"
"""Who judges silently where it is for more than one station."""
_IDLE_S = 0.2
_RETRY_S = 2.0


class ShadowJob(Strict):
    """What the silent judge shall do."""

    release: Release
    place: str
    """Folder of the bundle that judges silently."""


class Watched(Strict):
    """Whose parts are judged silently."""

    station: Name | None
    """Name of the station; ``None`` for every station of the ledger."""
    keep: int = Field(default=8, ge=1)
    """Most parts that wait to be judged; older ones are dropped and counted."""
    challenge: ChallengeSettings | None = None

    @classmethod
    def of(cls, settings: StationSettings) -> Watched:
        """The parts of a station that follows releases."""
        assert settings.fleet is not None, "only a station with [fleet] has a silent judge"
        return cls(station=settings.station, keep=settings.fleet.keep, challenge=settings.challenge)


class BesideJob(Strict):
    """What the silent judge of a workspace shall do."""

    release: Release
    place: str
    """Folder of the bundle that judges silently."""
    ledger: str
    watched: Watched


class Shadow:
    """Judges the newest parts silently."""

    def __init__(self, watched: Watched, release: Release, model: LoadedBundle) -> None:
        self._watched, self._keep = watched, watched.keep
        self._release, self._model = release, model
        self._assigned: Assignment = assignment_of(release, watched.station or "")
        self._after: int | None = None
        self._dropped = 0

    def step(self, ledger: Ledger) -> int:
        """Judge the parts that have come since the last step; return their number.

        Raises:
            LedgerError: the ledger cannot be read or written; the parts are tried again.
        """
        if self._after is None:
            self._after = self._start(ledger)
        where = Where(station=self._watched.station)
        newest = list(ledger.verdicts(where, after=self._after, newest_first=True, limit=self._keep + 1))
        if len(newest) > self._keep:
            oldest = newest[self._keep - 1].seq
            self._dropped += sum(1 for _ in ledger.verdicts(where, after=self._after, before=oldest))
            self._after = oldest - 1
        for row in reversed(newest[: self._keep]):
            self._judge(ledger, row)
            self._after = row.seq
        if self._dropped:
            self._note(ledger, DROPPED, {"count": self._dropped}, station=self._watched.station)
            self._dropped = 0
        return len(newest)

    def _start(self, ledger: Ledger) -> int:
        """Go on after the last part of this stage; a new stage begins with the next part."""
        for row in ledger.actions(Where(action=SHADOW, station=self._watched.station), newest_first=True, limit=1):
            same = (self._release.rollout, self._release.stage.value)
            if (row.record.details.get("rollout"), row.record.details.get("stage")) == same and row.record.about:
                return row.record.about
        return ledger.head().seq

    def _judge(self, ledger: Ledger, row: Row[VerdictRecord]) -> None:
        record = row.record
        if record.state is State.FAULT or record.bundle_sha256 != self._assigned.active or not record.views:
            return
        verdicts = [self._inspected(ledger, str(view.frame_sha256)) for view in record.views]
        scores = [each.score for each in verdicts if each.score is not None]
        state = worst_state(each.state for each in verdicts)
        more = {
            "part": record.part,
            "trigger_id": record.trigger_id,
            "challenge": is_challenge_part(self._watched.challenge, record.part),
            "score": max(scores, default=None),
            "reason": readable(next(each.reason for each in verdicts if each.state is state)),
        }
        details = shadow_details(
            self._release,
            answered=record.state,
            answered_by=record.bundle_sha256,
            shadow=state,
            shadow_by=self._model.sha256,
            **more,
        )
        self._note(ledger, SHADOW, details, station=record.station, about=row.seq)

    def _inspected(self, ledger: Ledger, frame: str) -> Verdict:
        try:
            return self._model.inspect(ledger.frames.photograph(frame))
        except Exception as error:  # noqa: BLE001  whatever goes wrong in the new bundle is a fault of it, on record
            return Verdict(state=State.FAULT, score=None, reason=f"not judged ({type(error).__name__}: {error})")

    def _note(
        self,
        ledger: Ledger,
        action: str,
        details: dict[str, object],
        *,
        station: str | None,
        about: int | None = None,
    ) -> None:
        same = {"rollout": self._release.rollout, "stage": self._release.stage.value}
        record = Action.model_validate(
            {
                "action": action,
                "who": self._watched.station or SILENT_JUDGE,
                "station": station,
                "about": about,
                "details": {**same, **details},
            }
        )
        ledger.append_action(record)


def follow(shadow: Shadow, path: Path, *, wait: Callable[[float], None] = time.sleep) -> None:
    """Judge silently until the process ends; a ledger that fails is opened again."""
    while True:
        try:
            with Ledger.open(path, create=False) as ledger:
                while True:
                    if shadow.step(ledger) == 0:
                        wait(_IDLE_S)
        except (GonogoError, OSError) as error:
            sys.stderr.write(f"silent judge: {error}\n")
            wait(_RETRY_S)


def main(path: Path) -> None:
    """Run the silent judge of a station."""
    faulthandler.enable()
    job = ShadowJob.model_validate_json(sys.stdin.readline())
    end_with_parent(sys.stdin)
    settings = read_settings(path)
    model = load_model(Path(job.place), device="CPU", policy=signature_policy(settings))  # an accelerator is the line's
    follow(Shadow(Watched.of(settings), job.release, model), settings.ledger)


def beside(path: Path) -> None:
    """Run the silent judge of a workspace.

    Raises:
        BundleError: the bundle is another one than the release names.
    """
    faulthandler.enable()
    end_with_parent(sys.stdin)
    job = BesideJob.model_validate_json(path.read_bytes())
    model = load_model(Path(job.place), device="CPU", policy=machine_policy())
    if model.sha256 != job.release.candidate_sha256:
        raise BundleError(
            f"{job.place}: expected {job.release.candidate_sha256}, found {model.sha256}: it was changed."
        )
    follow(Shadow(job.watched, job.release, model), Path(job.ledger))

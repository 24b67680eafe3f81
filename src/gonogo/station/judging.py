"""The core of the worker: takes one trigger, judges the part, records the verdict, and returns the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic import JsonValue

from gonogo.capture import Camera, CaptureError, HealthLimits, Trouble
from gonogo.config import Recipe
from gonogo.errors import GonogoError
from gonogo.files import free_bytes
from gonogo.ledger import Action, DuplicateTrigger, FrameStore, Row, VerdictRecord, View, Where, worst_state
from gonogo.ledger.frames import frames_folder
from gonogo.names import readable
from gonogo.schema import State, Verdict
from gonogo.station.cameras import CameraPicture, CameraThread
from gonogo.station.challenge import Challenges
from gonogo.station.cycle import Cycle, Step
from gonogo.station.ledger_handle import LedgerHandle, Opener, open_ledger
from gonogo.station.messages import Answer, Cause, Trigger, fault
from gonogo.station.models import LoadedBundle, ModelSlot, Swap
from gonogo.station.outcomes import Outcome, answer_of, ledger_cause, signature_details, sole_until, stage_times
from gonogo.station.reject import acknowledged_stop
from gonogo.station.settings import StationSettings, cameras_digest
from gonogo.station.together import not_together, without_promise

ANSWERED_FAULT = "answered_fault"
"""Action for a recorded verdict whose answer to the line was ``fault``, because the verdict came too late."""
_RESERVE_S = 0.05  # time reserved at the end of the window to commit and answer


@dataclass(frozen=True, kw_only=True)
class CameraParts:
    """What a station needs to open one camera; it is opened in the camera's thread."""

    name: str
    open_camera: Callable[[], Camera]
    health: HealthLimits
    slot: ModelSlot


class Station:
    """Judges one part at a time. Every failure becomes a fault; no method raises for a part that cannot be judged."""

    def __init__(
        self,
        settings: StationSettings,
        views: tuple[CameraParts, ...],
        *,
        open_ledger: Opener = open_ledger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._ledger = LedgerHandle(settings.ledger, settings.state_dir, open_ledger, station=settings.station)
        self._clock, self._now = clock, now
        self._parts = views
        frames = FrameStore(frames_folder(settings.ledger))
        self._views = [CameraThread(each.name, each.open_camera, each.health, frames) for each in views]
        self._slots = list({id(each.slot): each.slot for each in views}.values())
        self.challenges = (
            None
            if settings.challenge is None
            else Challenges(settings.challenge, station=settings.station, started=now(), now=now)
        )

    def start(self) -> None:
        """Open the ledger and load the bundles. Failures are reported and retried; they are never fatal."""
        for view in self._views:
            view.start()
        for slot in self._slots:
            self._record_swap(slot.start(), at_start=True)
        self._follow_last_pictures()

    def close(self) -> None:
        """Close the cameras and the ledger."""
        for view in self._views:
            view.close()
        self._ledger.forget()

    @property
    def stuck_s(self) -> float:
        """Longest time in seconds that a camera has been busy with one exposure."""
        return max(view.stuck_s for view in self._views)

    @property
    def slots(self) -> tuple[ModelSlot, ...]:
        """The bundles in use."""
        return tuple(self._slots)

    def expect(self, trigger_id: str, came_s: float) -> None:
        """Announce a trigger to the cameras; may be called from any thread."""
        for view in self._views:
            view.expect(trigger_id, came_s, self.settings.camera_timeout_s)

    def faulted(self, at_s: float) -> None:
        """Announce that a part was answered ``fault``, so its pictures may be left over; call from any thread."""
        for view in self._views:
            view.faulted(at_s)

    def pictures(self) -> dict[str, dict[str, int]]:
        """Return the number of leftover pictures of each camera by reason, and of waiting ones."""
        return {view.name: pictures for view in self._views if (pictures := view.pictures())}

    def judge(self, trigger: Trigger) -> Answer:
        """Look up, acquire, inspect and commit one part; return its recorded answer."""
        self.expect(trigger.id, trigger.due_s - self.settings.window_s)
        answer = self._judge(trigger)
        if answer.state is State.FAULT and not answer.repeated:
            self.faulted(time.monotonic())
        return answer

    def _judge(self, trigger: Trigger) -> Answer:
        cycle = Cycle(self._clock)
        try:
            stored = self._stored(trigger, same_part=True)
        except (GonogoError, OSError) as error:
            cycle.to(Step.ANSWERING)
            return fault(trigger, ledger_cause(error), f"the ledger cannot be read: {error}")
        if stored is not None:
            if stored.cause is not Cause.REUSED_ID:
                self._settle(trigger, stored=True)
            cycle.to(Step.ANSWERING)
            return stored
        outcome = self._refused(trigger)
        shots: list[CameraPicture] = []
        if outcome is None:
            cycle.to(Step.ACQUIRING)
            shots = self._shoot(trigger)
            cycle.to(Step.INSPECTING)
            outcome = self._inspect(trigger, shots)
        cycle.to(Step.COMMITTING)
        answer = self._commit(trigger, self._limited(trigger, outcome), cycle, shots)
        kept = all(shot.frame_sha256 is not None for shot in shots)
        self._settle(trigger, stored=answer.row is not None and kept)
        cycle.to(Step.ANSWERING)
        timings_ms = {**stage_times(shots, outcome), **cycle.timings_ms}
        rounded = {stage: round(took, 3) for stage, took in timings_ms.items()}
        return replace(answer, timings_ms=rounded, sole_until_s=sole_until(shots))

    def record_fault(self, trigger: Trigger, cause: Cause, reason: str, *, answered: bool) -> Answer:
        """Record a fault that the supervisor raised, unless the part already has a verdict.

        Args:
            trigger: The part's trigger.
            cause: Cause of the fault.
            reason: One sentence.
            answered: The line has already received ``fault``. If another verdict is recorded, record that fact too.
        """
        try:
            stored = self._stored(trigger)
            if stored is None:
                self._settle(trigger, stored=False)
                return self._append(trigger, Outcome(state=State.FAULT, reason=reason, cause=cause), {})
            if answered and stored.state is not State.FAULT:
                details = {"trigger_id": trigger.id, "cause": cause.value, "reason": reason}
                self.note(Action(action=ANSWERED_FAULT, who=self.settings.station, about=stored.row, details=details))
                return stored.as_fault(cause, reason)
        except (GonogoError, OSError) as error:
            self._ledger.forget()
            return fault(trigger, ledger_cause(error), f"the fault ({reason}) cannot be recorded: {error}")
        return stored

    def note(self, action: Action) -> None:
        """Record an action.

        Raises:
            LedgerError: it cannot be recorded.
        """
        self._ledger.open().append_action(action.model_copy(update={"station": self.settings.station}))

    def idle(self) -> None:
        """Do the work between parts: load newer bundles, run due challenge tests."""
        for slot in self._slots:
            swap = slot.poll()
            if swap is not None:
                self._record_swap(swap)
        if self.challenges is None:
            return
        try:
            self.challenges.read(self._ledger.open())
            path = self.challenges.picture_due()
            if path is not None:
                self.note(self.challenges.judge_picture(path, self._slots[0].model))
                self.challenges.read(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # safe: without a ledger no part passes, and an overdue test holds the station

    def _follow_last_pictures(self) -> None:
        """Restore each camera's last picture, so that a frozen camera is detected after a restart of the worker."""
        try:
            rows = list(self._ledger.open().verdicts(Where(station=self.settings.station), newest_first=True, limit=20))
            for view, parts in zip(self._views, self._parts, strict=True):
                seen = [each.frame_sha256 for row in rows for each in row.record.views if each.name == view.name]
                digest = next(filter(None, seen), None)
                if digest is not None:
                    view.follow(view.frames.photograph(digest).unpacked(_recipe(parts)))
        except (GonogoError, OSError):
            self._ledger.forget()  # without the last picture there is nothing to compare with

    def _stored(self, trigger: Trigger, *, same_part: bool = False) -> Answer | None:
        row = self._ledger.open().find(self.settings.station, trigger.id)
        if row is None:
            return None
        record = row.record
        reused = trigger.unlike(part=record.part, lot=record.lot, product=record.product) if same_part else ""
        return answer_of(row).as_reused(trigger, reused) if reused else self._answer_again(row)

    def _answer_again(self, row: Row[VerdictRecord]) -> Answer:
        answer = replace(answer_of(row), repeated=True)
        if answer.state is State.FAULT:
            return answer
        answered = next(self._ledger.open().actions(Where(about=row.seq, action=ANSWERED_FAULT), limit=1), None)
        if answered is None:
            return answer
        details = answered.record.details
        return answer.as_fault(Cause(str(details["cause"])), f"already answered as a fault: {details['reason']}")

    def find_troubles(self) -> list[str]:
        """Say why every part is a fault at present, one sentence each; empty if parts are judged. Opens the ledger."""
        found = [f"no bundle is loaded: {slot.trouble}" for slot in self._slots if slot.model is None]
        found += [self._without_space(), self._not_together()]
        try:
            self._ledger.open().head()
        except (GonogoError, OSError) as error:
            self._ledger.forget()
            found.append(f"the ledger cannot be used: {error}")
        return [readable(each) for each in found if each]

    def acknowledged_stop(self) -> str:
        """Return the id of the stop of the line that was acknowledged last; empty if the station tracks no parts."""
        try:
            return "" if self.settings.reject is None else acknowledged_stop(self._ledger.open(), self.settings.station)
        except (GonogoError, OSError):
            self._ledger.forget()  # the line stays stopped
            return ""

    def find_warnings(self) -> tuple[str, ...]:
        """Say what a person should know although parts are judged, one sentence each."""
        loaded = self._loaded()
        return tuple(filter(None, [without_promise(loaded) if len(loaded) == len(self._parts) else ""]))

    def _loaded(self) -> dict[str, LoadedBundle]:
        """The bundle of each camera that has one."""
        return {each.name: each.slot.model for each in self._parts if each.slot.model is not None}

    def _not_together(self) -> str:
        """Say why the bundles may not judge one part together; empty if they may, or if one is missing."""
        loaded = self._loaded()
        return not_together(loaded) if len(loaded) == len(self._parts) else ""

    def _without_space(self) -> str:
        free = free_bytes(self.settings.ledger.parent)
        if free >= self.settings.min_free_mb * 1_000_000:
            return ""
        return f"{free / 1e6:,.0f} MB of disk space left, {self.settings.min_free_mb:,} MB needed (min_free_mb)"

    def _refused(self, trigger: Trigger) -> Outcome | None:
        """Return the fault of a part that cannot be inspected at all; ``None`` if it can."""
        if reason := self._without_space():
            return Outcome(state=State.FAULT, reason=reason, cause=Cause.DISK_FULL)
        for slot in self._slots:
            if slot.model is None:
                reason = f"no bundle is loaded: {slot.trouble}"
                return Outcome(state=State.FAULT, reason=reason, cause=Cause.MODEL)
            if trigger.product is not None and trigger.product != slot.model.name:
                reason = f"the line makes {trigger.product!r}, but the bundle is for {slot.model.name!r}"
                return Outcome(state=State.FAULT, reason=reason, cause=Cause.MODEL, model=slot.model)
        if reason := self._not_together():
            return Outcome(state=State.FAULT, reason=reason, cause=Cause.MODEL)
        return None

    def _shoot(self, trigger: Trigger) -> list[CameraPicture]:
        left_s = max(0.0, min(self.settings.camera_timeout_s, trigger.due_s - self._clock() - _RESERVE_S))
        came_s, window_s = trigger.due_s - self.settings.window_s, self.settings.camera_timeout_s
        shots = [
            view.shoot(trigger.id, timeout_s=left_s, came_s=came_s, window_s=window_s, recipe=_recipe(parts))
            for view, parts in zip(self._views, self._parts, strict=True)
        ]
        until = time.monotonic() + left_s + _RESERVE_S
        for shot, view in zip(shots, self._views, strict=True):
            if not shot.taken.wait(max(0.0, until - time.monotonic())):
                shot.abandoned = True
                reason = f"camera {view.name} has not responded for {view.stuck_s:.1f} s"
                shot.problem = CaptureError(Trouble.CAMERA_LOST, reason)
        return shots

    def _inspect(self, trigger: Trigger, shots: list[CameraPicture]) -> Outcome:
        # If one camera failed, the part is a fault: do not judge the other pictures.
        judged = all(shot.problem is None for shot in shots)
        verdicts = [self._judge_shot(shot, parts, judged) for shot, parts in zip(shots, self._parts, strict=True)]
        judged_at = self._now()
        views, problem = self._views_of(shots, verdicts)
        state = worst_state(view.state for view in views)
        outcome = Outcome(
            state=state,
            reason=next(view.reason for view in views if view.state is state),
            cause=None,
            views=views,
            model=self._parts[0].slot.model,
            acquired_at=max((shot.acquired.at for shot in shots if shot.acquired), default=None),
            judged_at=judged_at,
        )
        if state is State.FAULT:
            return replace(outcome, cause=problem or Cause.INSPECTOR)
        return outcome

    def _judge_shot(self, shot: CameraPicture, parts: CameraParts, judged: bool) -> Verdict:
        if not judged or shot.problem is not None:
            return Verdict(state=State.FAULT, score=None, reason="not judged because a camera failed")
        model, acquired = parts.slot.model, shot.acquired
        assert model is not None, "parts without a bundle are refused earlier"
        assert acquired is not None, "a shot without a problem has a picture"
        try:
            return model.inspect(acquired.photograph)
        except Exception as error:  # noqa: BLE001  whatever went wrong, the part is a fault
            return Verdict(state=State.FAULT, score=None, reason=f"not judged ({type(error).__name__}: {error})")

    def _views_of(self, shots: list[CameraPicture], verdicts: list[Verdict]) -> tuple[tuple[View, ...], Cause | None]:
        """Return the records of the pictures, and the cause of the first failure.

        Waits until the frames are checked and stored: a picture that fails its health check makes the part a fault.
        """
        views, cause = [], None
        for shot, parts, verdict in zip(shots, self._parts, verdicts, strict=True):
            if not shot.abandoned:
                shot.kept.wait()
            if shot.problem is not None:
                verdict = Verdict(state=State.FAULT, score=None, reason=str(shot.problem))
                cause = cause or Cause(shot.problem.trouble.value)
            elif shot.store_error is not None:
                reason = f"the frame cannot be stored: {shot.store_error}"
                verdict = replace(verdict, state=State.FAULT, reason=reason)
                cause = cause or ledger_cause(shot.store_error)
            verdict = replace(verdict, reason=readable(verdict.reason))
            views.append(View.of(verdict, frame_sha256=shot.frame_sha256, name=parts.name))
        return tuple(views), cause

    def _limited(self, trigger: Trigger, outcome: Outcome) -> Outcome:
        """Apply the station's rules to a verdict: it may be too late, or no part may pass."""
        if outcome.state is State.FAULT:
            return outcome
        over_s = self._clock() + _RESERVE_S - trigger.due_s
        if over_s > 0:
            reason = f"judged {outcome.state.value}, but {over_s:.2f} s after the window closed"
            return replace(outcome, state=State.FAULT, cause=Cause.LATE, late=True, reason=reason)
        if outcome.state is not State.GO or self.challenges is None:
            return outcome
        held = self.challenges.standing().held
        if self.challenges.is_challenge(trigger.part):
            held = "a challenge part was judged go"
        if held:
            return replace(outcome, state=State.FAULT, cause=Cause.CHALLENGE, reason=f"no part may pass: {held}")
        return outcome

    def _commit(self, trigger: Trigger, outcome: Outcome, cycle: Cycle, shots: list[CameraPicture]) -> Answer:
        try:
            answer = self._append(trigger, outcome, {**stage_times(shots, outcome), **cycle.timings_ms})
        except DuplicateTrigger as duplicate:  # recorded after the lookup, so by another station
            reason = "another station with the same name has recorded a verdict under this id"
            return self.record_fault(trigger, Cause.REUSED_ID, f"{reason} (row {duplicate.row.seq})", answered=True)
        except (GonogoError, OSError, ValueError) as error:
            self._ledger.forget()
            return fault(trigger, ledger_cause(error), readable(f"the verdict cannot be recorded: {error}"))
        self._record_challenge(trigger, outcome, answer)
        return answer

    def _append(self, trigger: Trigger, outcome: Outcome, timings_ms: Mapping[str, float]) -> Answer:
        model = outcome.model
        row = self._ledger.open().append_verdict(
            VerdictRecord(
                station=self.settings.station,
                trigger_id=trigger.id,
                part=trigger.part,
                lot=trigger.lot,
                product=trigger.product,
                state=outcome.state,
                score=max((view.score for view in outcome.views if view.score is not None), default=None),
                reason=readable(outcome.reason),
                cause=None if outcome.cause is None else outcome.cause.value,
                late=outcome.late,
                go_below=None if model is None else model.go_below,
                no_go_above=None if model is None else model.no_go_above,
                bundle_sha256=None if model is None else model.sha256,
                bundle=None if model is None else readable(str(model.path)),
                device="" if model is None else model.device,
                views=outcome.views,
                triggered_at=trigger.at,
                acquired_at=outcome.acquired_at,
                judged_at=outcome.judged_at,
                timings_ms=timings_ms,
            )
        )
        return answer_of(row)

    def _record_challenge(self, trigger: Trigger, outcome: Outcome, answer: Answer) -> None:
        if self.challenges is None or not self.challenges.is_challenge(trigger.part) or not outcome.views:
            return
        judged = worst_state(view.state for view in outcome.views)
        sha256 = None if outcome.model is None else outcome.model.sha256
        try:
            self.note(
                self.challenges.result(
                    trigger.part or "", judged, answer.score, outcome.reason, about=answer.row, sha256=sha256
                )
            )
            self.challenges.read(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # the test counts as not done, so it stays due

    def _record_swap(self, swap: Swap, *, at_start: bool = False) -> None:
        action = "bundle_refused" if swap.refused else "started" if at_start else "bundle_swapped"
        details: dict[str, JsonValue] = {
            "before": swap.before,
            "after": swap.after,
            "refused": readable(swap.refused),
            **signature_details(swap.signature),
        }
        if at_start:
            details["settings_sha256"] = cameras_digest(self.settings)
        try:
            self.note(Action(action=action, who=self.settings.station, details=details))
        except (GonogoError, OSError):
            self._ledger.forget()  # the swap is not lost: every row names its bundle

    def _settle(self, trigger: Trigger, *, stored: bool) -> None:
        for view in self._views:
            view.settle(trigger.id, stored=stored)


def _recipe(parts: CameraParts) -> Recipe:
    """Return the recipe of the camera's bundle, which says how pictures are decoded."""
    return Recipe() if parts.slot.model is None else parts.slot.model.recipe

"""The worker's heart: one trigger in, one recorded answer out. No way leads to an answer but through the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

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
from gonogo.station.models import ModelSlot, Swap
from gonogo.station.outcomes import Outcome, answer_of, ledger_cause, sole_until, stage_times
from gonogo.station.settings import StationSettings

ANSWERED_FAULT = "answered_fault"
"""The action that says: this verdict is on record, but the line was told ``fault``, because it came too late."""
_RESERVE_S = 0.05  # what commit and answer may take at the end of the window


@dataclass(frozen=True, kw_only=True)
class CameraParts:
    """What one view is made of, opened only in its own thread."""

    name: str
    open_camera: Callable[[], Camera]
    health: HealthLimits
    slot: ModelSlot


class Station:
    """Judges one part at a time. Every method gives an answer; none lets a failure become anything but a fault."""

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
        """Open the ledger and load the bundles; what fails is shown and tried again, never fatal."""
        for view in self._views:
            view.start()
        for slot in self._slots:
            self._tell_swap(slot.start(), at_start=True)
        self._follow_last_pictures()

    def close(self) -> None:
        """Let cameras and ledger go."""
        for view in self._views:
            view.close()
        self._ledger.forget()

    @property
    def stuck_s(self) -> float:
        """For how long a camera has been hanging."""
        return max(view.stuck_s for view in self._views)

    @property
    def slots(self) -> tuple[ModelSlot, ...]:
        """The bundles in use."""
        return tuple(self._slots)

    def expect(self, trigger_id: str, came_s: float) -> None:
        """A trigger has come, to be judged later or never; call from any thread."""
        for view in self._views:
            view.expect(trigger_id, came_s, self.settings.camera_timeout_s)

    def faulted(self, at_s: float) -> None:
        """A part was answered ``fault``, so that its pictures may be left over; call from any thread."""
        for view in self._views:
            view.faulted(at_s)

    def pictures(self) -> dict[str, dict[str, int]]:
        """Leftover pictures of each view by reason, and how many wait."""
        return {view.name: pictures for view in self._views if (pictures := view.pictures())}

    def judge(self, trigger: Trigger) -> Answer:
        """The whole way of one part: look up, acquire, inspect, commit; what comes back may be answered."""
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
        """Put a fault on record that was raised outside, unless the part has its verdict already.

        Args:
            trigger: The part.
            cause: Of the fault.
            reason: One sentence.
            answered: The line was told ``fault`` already. If another verdict is on record, that is recorded as well.
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
        """Record what somebody or something did.

        Raises:
            LedgerError: it cannot be recorded.
        """
        self._ledger.open().append_action(action.model_copy(update={"station": self.settings.station}))

    def idle(self) -> None:
        """What there is to do between parts: newer bundles, known bad parts. What cannot be recorded waits."""
        for slot in self._slots:
            swap = slot.poll()
            if swap is not None:
                self._tell_swap(swap)
        if self.challenges is None:
            return
        try:
            self.challenges.read(self._ledger.open())
            path = self.challenges.picture_due()
            if path is not None:
                self.note(self.challenges.judge_picture(path, self._slots[0].model))
                self.challenges.read(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # nothing passes without a ledger, and an overdue test holds the station

    def _follow_last_pictures(self) -> None:
        """A camera that froze does not thaw because the worker was started anew: its last picture is remembered."""
        try:
            rows = list(self._ledger.open().verdicts(Where(station=self.settings.station), newest_first=True, limit=20))
            for view, parts in zip(self._views, self._parts, strict=True):
                seen = [each.frame_sha256 for row in rows for each in row.record.views if each.name == view.name]
                digest = next(filter(None, seen), None)
                if digest is not None:
                    view.follow(view.frames.photograph(digest).unpacked(_recipe(parts)))
        except (GonogoError, OSError):
            self._ledger.forget()  # a picture that cannot be read any more cannot be compared with either

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
        told = next(self._ledger.open().actions(Where(about=row.seq, action=ANSWERED_FAULT), limit=1), None)
        if told is None:
            return answer
        details = told.record.details
        return answer.as_fault(Cause(str(details["cause"])), f"answered as a fault before: {details['reason']}")

    def find_troubles(self) -> list[str]:
        """Why every part is a fault at present, one sentence each; none where parts are judged. Opens the ledger."""
        found = [f"no bundle is loaded: {slot.trouble}" for slot in self._slots if slot.model is None]
        found += [self._without_space()]
        try:
            self._ledger.open().head()
        except (GonogoError, OSError) as error:
            self._ledger.forget()
            found.append(f"the ledger cannot be used: {error}")
        return [readable(each) for each in found if each]

    def _without_space(self) -> str:
        free = free_bytes(self.settings.ledger.parent)
        if free >= self.settings.min_free_mb * 1_000_000:
            return ""
        return f"{free / 1e6:,.0f} MB of disk are left, {self.settings.min_free_mb:,} are needed"

    def _refused(self, trigger: Trigger) -> Outcome | None:
        """Why this part is not even looked at; ``None`` where it is."""
        if told := self._without_space():
            return Outcome(state=State.FAULT, reason=told, cause=Cause.DISK_FULL)
        for slot in self._slots:
            if slot.model is None:
                told = f"no bundle is loaded: {slot.trouble}"
                return Outcome(state=State.FAULT, reason=told, cause=Cause.MODEL)
            if trigger.product is not None and trigger.product != slot.model.name:
                told = f"the line makes {trigger.product!r}, the bundle judges {slot.model.name!r}"
                return Outcome(state=State.FAULT, reason=told, cause=Cause.MODEL, model=slot.model)
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
                told = f"the camera of view {view.name} has not answered for {view.stuck_s:.1f} s"
                shot.problem = CaptureError(Trouble.CAMERA_LOST, told)
        return shots

    def _inspect(self, trigger: Trigger, shots: list[CameraPicture]) -> Outcome:
        # Whoever waits in vain for one view need not judge the others: the part is a fault.
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
            return Verdict(state=State.FAULT, score=None, reason="not judged, as a view failed")
        model, acquired = parts.slot.model, shot.acquired
        assert model is not None, "refused before"
        assert acquired is not None, "no problem means a picture"
        try:
            return model.inspect(acquired.photograph)
        except Exception as error:  # noqa: BLE001  the edge of judging: whatever went wrong, the part is a fault
            return Verdict(state=State.FAULT, score=None, reason=f"not judged ({type(error).__name__}: {error})")

    def _views_of(self, shots: list[CameraPicture], verdicts: list[Verdict]) -> tuple[tuple[View, ...], Cause | None]:
        """What is recorded of the views, with the cause of the first that failed.

        Waits until the frames are checked and stored: a verdict on a picture that cannot be judged is none.
        """
        views, cause = [], None
        for shot, parts, verdict in zip(shots, self._parts, verdicts, strict=True):
            if not shot.abandoned:
                shot.kept.wait()
            if shot.problem is not None:
                verdict = Verdict(state=State.FAULT, score=None, reason=str(shot.problem))
                cause = cause or Cause(shot.problem.trouble.value)
            elif shot.store_error is not None:
                told = f"the frame cannot be stored: {shot.store_error}"
                verdict = replace(verdict, state=State.FAULT, reason=told)
                cause = cause or ledger_cause(shot.store_error)
            verdict = replace(verdict, reason=readable(verdict.reason))
            views.append(View.of(verdict, frame_sha256=shot.frame_sha256, name=parts.name))
        return tuple(views), cause

    def _limited(self, trigger: Trigger, outcome: Outcome) -> Outcome:
        """What the station's own rules make of a judgement: too late, or nothing may pass."""
        if outcome.state is State.FAULT:
            return outcome
        over_s = self._clock() + _RESERVE_S - trigger.due_s
        if over_s > 0:
            told = f"judged {outcome.state.value}, but {over_s:.2f} s too late for the window"
            return replace(outcome, state=State.FAULT, cause=Cause.LATE, late=True, reason=told)
        if outcome.state is not State.GO or self.challenges is None:
            return outcome
        held = self.challenges.standing().held
        if self.challenges.is_challenge(trigger.part):
            held = "a known bad part was judged go"
        if held:
            return replace(outcome, state=State.FAULT, cause=Cause.CHALLENGE, reason=f"nothing may pass: {held}")
        return outcome

    def _commit(self, trigger: Trigger, outcome: Outcome, cycle: Cycle, shots: list[CameraPicture]) -> Answer:
        try:
            answer = self._append(trigger, outcome, {**stage_times(shots, outcome), **cycle.timings_ms})
        except DuplicateTrigger as duplicate:  # recorded since it was looked up, so not by this station
            told = "another station of the same name has recorded a verdict under this id"
            return self.record_fault(trigger, Cause.REUSED_ID, f"{told} (row {duplicate.row.seq})", answered=True)
        except (GonogoError, OSError, ValueError) as error:
            self._ledger.forget()
            return fault(trigger, ledger_cause(error), readable(f"the verdict cannot be recorded: {error}"))
        self._tell_challenge(trigger, outcome, answer)
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

    def _tell_challenge(self, trigger: Trigger, outcome: Outcome, answer: Answer) -> None:
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
            self._ledger.forget()  # the test counts as not made, so that it falls due

    def _tell_swap(self, swap: Swap, *, at_start: bool = False) -> None:
        action = "bundle_refused" if swap.refused else "started" if at_start else "bundle_swapped"
        details = {"before": swap.before, "after": swap.after, "refused": readable(swap.refused)}
        try:
            self.note(Action(action=action, who=self.settings.station, details=details))
        except (GonogoError, OSError):
            self._ledger.forget()  # every row names its bundle all the same

    def _settle(self, trigger: Trigger, *, stored: bool) -> None:
        for view in self._views:
            view.settle(trigger.id, stored=stored)


def _recipe(parts: CameraParts) -> Recipe:
    """How the view's bundle wants its pictures unpacked."""
    return Recipe() if parts.slot.model is None else parts.slot.model.recipe

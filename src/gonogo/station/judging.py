"""The core of the worker: takes one trigger, judges the part, records the verdict, and returns the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from gonogo.capture import CaptureError, Trouble
from gonogo.config import Recipe
from gonogo.errors import GonogoError
from gonogo.ledger import Action, DuplicateTrigger, FrameStore, Ledger, Row, VerdictRecord, Where, worst_state
from gonogo.ledger.frames import frames_folder
from gonogo.line.messages import Answer, Cause, Trigger, fault
from gonogo.names import readable
from gonogo.schema import State, Verdict
from gonogo.station.cameras import CameraParts, CameraPicture, CameraThread
from gonogo.station.challenge import Challenges
from gonogo.station.changeover import Changeover, InUse, ProductError
from gonogo.station.cycle import Cycle, Step
from gonogo.station.expiry import ExpiryWatch
from gonogo.station.identity import checked, codes_select, product_in_code
from gonogo.station.ledger_handle import LedgerHandle, Opener, open_ledger
from gonogo.station.models import LoadedBundle, ModelSlot, Swap
from gonogo.station.outcomes import (
    Outcome,
    answer_of,
    ledger_cause,
    record_of,
    sole_until,
    stage_times,
    swap_action,
    without_space,
)
from gonogo.station.reject import acknowledged_stop
from gonogo.station.settings import StationSettings
from gonogo.station.shots import judge_shot, views_of

ANSWERED_FAULT = "answered_fault"
"""Action for a recorded verdict whose answer to the line was ``fault``, because the verdict came too late."""
_RESERVE_S = 0.05  # time reserved at the end of the window to commit and answer


class Station:
    """Judges one part at a time. Every failure becomes a fault; no method raises for a part that cannot be judged."""

    def __init__(
        self,
        settings: StationSettings,
        views: tuple[CameraParts, ...],
        *,
        products: Mapping[str, tuple[ModelSlot, ...]] | None = None,
        open_ledger: Opener = open_ledger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            settings: The settings of the station.
            views: The cameras.
            products: The bundles of each product, one for each camera, instead of those of the cameras.
            open_ledger: Opens the ledger.
            clock: Monotonic clock, in seconds.
            now: The time.
        """
        self.settings = settings
        self._ledger = LedgerHandle(settings.ledger, settings.state_dir, open_ledger, station=settings.station)
        self._clock, self._now = clock, now
        self.expiry = ExpiryWatch(settings, ledger=self._ledger.open, now=now)
        frames = FrameStore(frames_folder(settings.ledger))
        self._views = [CameraThread(each.name, each.open_camera, each.health, frames) for each in views]
        slots: dict[str | None, tuple[ModelSlot, ...]] = dict((products or {}).items())
        if not products:
            slots[None] = tuple(each.slot for each in views if each.slot is not None)
        self.changeover = Changeover(
            slots,
            station=settings.station,
            cameras=[each.name for each in views],
            memory_mb=settings.memory_mb,
        )
        self._challenges = {
            product: Challenges(settings.challenge, station=settings.station, started=now(), now=now, product=product)
            for product in (slots if settings.challenge is not None else ())
            if settings.challenge is not None
        }

    @property
    def challenges(self) -> Challenges | None:
        """The challenge tests of the selected product; ``None`` if there are none."""
        return self._challenges.get(self.changeover.current)

    def start(self) -> None:
        """Open the ledger and load the bundles. Failures are reported and retried; they are never fatal."""
        for view in self._views:
            view.start()
        self._follow_requests()
        for swap in self.changeover.start(within_s=self.settings.watchdog.start_s / 2):
            self._record_swap(swap, at_start=True)
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
        return tuple(slot for _, slot in self.changeover.slots.values())

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
        began, shots = self._clock(), list[CameraPicture]()
        outcome = self._refused(trigger)
        changeover_ms = (self._clock() - began) * 1e3
        if isinstance(outcome, InUse):
            use = outcome
            cycle.to(Step.ACQUIRING)
            shots = self._shoot(trigger, use)
            cycle.to(Step.INSPECTING)
            outcome = self._inspect(trigger, shots, use)
        cycle.to(Step.COMMITTING)
        answer = self._commit(trigger, self.expiry.limited(self._limited(trigger, outcome)), cycle, shots)
        kept = all(shot.frame_sha256 is not None for shot in shots)
        self._settle(trigger, stored=answer.row is not None and kept)
        cycle.to(Step.ANSWERING)
        timings_ms = {**stage_times(shots, outcome), **cycle.timings_ms}
        if self.changeover.several:
            timings_ms["changeover"] = changeover_ms
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
        self._follow_requests()
        for swap in self.changeover.poll():
            self._record_swap(swap)
        if self.challenges is None:
            return
        try:
            self.challenges.read(self._ledger.open())
            path = self.challenges.picture_due()
            if path is not None:
                self.note(self.challenges.judge_picture(path, self._model_in_use()))
                self.challenges.read(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # safe: without a ledger no part passes, and an overdue test holds the station

    def _follow_requests(self) -> None:
        try:
            self.changeover.follow(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # before the next part is judged, it is tried again

    def _model_in_use(self) -> LoadedBundle | None:
        try:
            return self.changeover.in_use().model
        except ProductError:
            return None

    def _follow_last_pictures(self) -> None:
        """Restore each camera's last picture, so that a frozen camera is detected after a restart of the worker."""
        try:
            rows = list(self._ledger.open().verdicts(Where(station=self.settings.station), newest_first=True, limit=20))
            model = self._model_in_use()
            recipe = Recipe() if model is None else model.recipe
            for view in self._views:
                seen = [each.frame_sha256 for row in rows for each in row.record.views if each.name == view.name]
                digest = next(filter(None, seen), None)
                if digest is not None:
                    view.follow(view.frames.photograph(digest).unpacked(recipe))
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
        found = [*self.changeover.find_troubles(), without_space(self.settings)]
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

    def _refused(self, trigger: Trigger) -> Outcome | InUse:
        """Return the fault of a part that cannot be inspected at all, or else the bundles that judge it."""
        if reason := without_space(self.settings):
            return Outcome(state=State.FAULT, reason=reason, cause=Cause.DISK_FULL)
        for swap in self.changeover.poll(loading_only=True) if self.changeover.several else ():
            self._record_swap(swap)
        by_code = codes_select(self.changeover)
        return self._chosen(lambda ledger: self.changeover.of_trigger(trigger, ledger, by_code=by_code))

    def _chosen(self, choose: Callable[[Ledger], InUse]) -> Outcome | InUse:
        try:
            use = choose(self._ledger.open())
            if self.changeover.several and self.challenges is not None:
                self.challenges.read(self._ledger.open())  # those of a product are not followed while others are made
            return use
        except ProductError as error:
            model = None if self.changeover.several else self._model_in_use()
            return Outcome(state=State.FAULT, reason=str(error), cause=error.cause, model=model)
        except (GonogoError, OSError) as error:
            self._ledger.forget()
            reason = f"the ledger cannot be used: {error}"
            return Outcome(state=State.FAULT, reason=reason, cause=ledger_cause(error))

    def _by_code(self, trigger: Trigger, shots: list[CameraPicture], use: InUse) -> Outcome | InUse:
        """Let the code on the part select the product if its trigger names none."""
        if trigger.product is not None or not codes_select(self.changeover):
            return use
        photographs = [shot.acquired.photograph if shot.acquired and not shot.problem else None for shot in shots]
        product = product_in_code(self.changeover, photographs)

        def choose(ledger: Ledger) -> InUse:
            if product is not None:
                self.changeover.select(product, by="code", ledger=ledger, trigger_id=trigger.id)
            return self.changeover.in_use()

        chosen = self._chosen(choose)
        if isinstance(chosen, InUse):
            return chosen
        verdicts = [Verdict(state=State.FAULT, score=None, reason=chosen.reason)] * len(shots)
        views, problem = views_of(shots, [view.name for view in self._views], verdicts)
        return replace(chosen, views=views, cause=problem or chosen.cause)

    def _shoot(self, trigger: Trigger, use: InUse) -> list[CameraPicture]:
        left_s = max(0.0, min(self.settings.camera_timeout_s, trigger.due_s - self._clock() - _RESERVE_S))
        came_s, window_s = trigger.due_s - self.settings.window_s, self.settings.camera_timeout_s
        shots = [
            view.shoot(trigger.id, timeout_s=left_s, came_s=came_s, window_s=window_s, recipe=_recipe(slot))
            for view, slot in zip(self._views, use.slots, strict=True)
        ]
        until = time.monotonic() + left_s + _RESERVE_S
        for shot, view in zip(shots, self._views, strict=True):
            if not shot.taken.wait(max(0.0, until - time.monotonic())):
                shot.abandoned = True
                reason = f"camera {view.name} has not responded for {view.stuck_s:.1f} s"
                shot.problem = CaptureError(Trouble.CAMERA_LOST, reason)
        return shots

    def _inspect(self, trigger: Trigger, shots: list[CameraPicture], provisional: InUse) -> Outcome:
        use = self._by_code(trigger, shots, provisional)
        if isinstance(use, Outcome):
            return use
        # If one camera failed, the part is a fault: do not judge the other pictures.
        judged = all(shot.problem is None for shot in shots)
        verdicts = [judge_shot(shot, slot, judged=judged) for shot, slot in zip(shots, use.slots, strict=True)]
        judged_at = self._now()
        views, problem = views_of(shots, [view.name for view in self._views], verdicts)
        state = worst_state(view.state for view in views)
        outcome = Outcome(
            state=state,
            reason=next(view.reason for view in views if view.state is state),
            cause=None,
            views=views,
            model=use.model,
            product=use.product,
            selected_by=use.by,
            acquired_at=max((shot.acquired.at for shot in shots if shot.acquired), default=None),
            judged_at=judged_at,
        )
        if use.by == "ledger":
            outcome = replace(outcome, reason=f"{outcome.reason}; product {use.product}, selected before the restart")
        if state is State.FAULT:
            outcome = replace(outcome, cause=problem or Cause.INSPECTOR)
        try:
            return checked(trigger, outcome, verdicts, use, self._ledger, self.settings.station)
        except (GonogoError, OSError) as error:
            self._ledger.forget()
            reason = f"the ledger cannot be asked for a duplicate: {error}"
            return replace(outcome, state=State.FAULT, cause=ledger_cause(error), reason=reason)

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
        if self.challenges.is_challenge(outcome.part_of(trigger)):
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
        record = record_of(trigger, outcome, station=self.settings.station, timings_ms=timings_ms)
        row = self._ledger.open().append_verdict(record)
        self.expiry.judged(row.record.bundle_sha256)
        return answer_of(row)

    def _record_challenge(self, trigger: Trigger, outcome: Outcome, answer: Answer) -> None:
        part = outcome.part_of(trigger)
        if self.challenges is None or not self.challenges.is_challenge(part) or not outcome.views:
            return
        judged = worst_state(view.state for view in outcome.views)
        sha256 = None if outcome.model is None else outcome.model.sha256
        try:
            self.note(
                self.challenges.result(
                    part or "", judged, answer.score, outcome.reason, about=answer.row, sha256=sha256
                )
            )
            self.challenges.read(self._ledger.open())
        except (GonogoError, OSError):
            self._ledger.forget()  # the test counts as not done, so it stays due

    def _record_swap(self, swap: Swap, *, at_start: bool = False) -> None:
        try:
            self.note(swap_action(swap, self.settings, at_start=at_start))
        except (GonogoError, OSError):
            self._ledger.forget()  # the swap is not lost: every row names its bundle

    def _settle(self, trigger: Trigger, *, stored: bool) -> None:
        for view in self._views:
            view.settle(trigger.id, stored=stored)


def _recipe(slot: ModelSlot) -> Recipe:
    """Return the recipe of the camera's bundle, which says how pictures are decoded."""
    return Recipe() if slot.model is None else slot.model.recipe

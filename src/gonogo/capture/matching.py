"""Match pictures that arrive without a request to triggers.

A picture belongs to a trigger for one of three reasons, tried in this order:

1. **Name**: its name is the trigger's. A named picture belongs to no other trigger. Two different pictures under one
   name are not used, and neither is a picture whose capture time contradicts its name.
2. **Capture time**: the time stated by its source is at most ``early_ms`` before and ``taken_within_s`` after the
   trigger. The source's clock may be wrong by ``clock_error_ms``. A time that fits two triggers without a picture does
   not count.
3. **Order**: no other trigger can own it. This applies only with ``any_name``, only until a picture has come under its
   trigger's name, only if no other trigger without a picture came in the ``latest_s`` before it, and only if there was
   no fault, no unexpected picture and no start of the station in the last ``latest_s``.

The time of arrival proves only that a picture was taken earlier: a delayed picture arrives in the window of a later
trigger, where it looks right.

A picture that belongs to no trigger is a leftover. It is discarded and counted, and never used for another trigger.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, runtime_checkable

from gonogo.capture.camera import CaptureError, Trouble
from gonogo.capture.deliveries import LEFTOVERS, Content, Delivered, Matched, Matching

_NOTICE_S = 1.0  # how much later than its picture the notice of a trigger may arrive
_REMEMBERED = 4_096


@dataclass(eq=False)
class _Asking:
    """A trigger that the camera knows."""

    name: str
    came_s: float
    within_s: float
    clock_offset_s: float
    waits: bool = True
    has_picture: bool = False


class PictureMatcher(Generic[Content]):
    """Holds waiting pictures and triggers, and matches them by the rules above. May be used from any thread."""

    def __init__(
        self,
        rule: Matching,
        *,
        name_of: Callable[[str], str] = lambda trigger_id: trigger_id,
        discard: Callable[[Delivered[Content]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Create a matcher.

        Args:
            rule: Settings for matching.
            name_of: Returns the picture name for a trigger id.
            discard: Called with every leftover, under the matcher's lock.
            clock: Monotonic clock in seconds.
            wall_clock: Seconds since 1970, the clock of capture times.
        """
        self.rule = rule
        self._name_of, self._discard = name_of, discard
        self._clock, self._wall_clock = clock, wall_clock
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[Delivered[Content]] = []
        self._asking: OrderedDict[str, _Asking] = OrderedDict()
        self._by_names: dict[str, list[_Asking]] = {}
        self._longest_s = 0.0
        self._recent: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._names_seen = False
        self._doubt_s = clock()
        """Time of the last event that makes the order of pictures uncertain: the start, a fault or a leftover."""
        self._reserved: dict[int, int] = {}
        self._tickets = 0
        self._counts: Counter[str] = Counter()

    # --- pictures

    def reserve(self, size_bytes: int) -> int | None:
        """Reserve memory for a picture before it is read; return a ticket, or ``None`` if there is no room."""
        with self._changed:
            self._sweep()
            fits = sum(self._reserved.values()) + size_bytes <= self.rule.max_waiting_mb * 1_000_000
            if not fits or len(self._reserved) >= self.rule.max_waiting:
                self._counts["refused"] += 1
                return None
            self._tickets += 1
            self._reserved[self._tickets] = size_bytes
            return self._tickets

    def release(self, ticket: int) -> None:
        """Release the memory of a picture."""
        with self._changed:
            self._reserved.pop(ticket, None)

    def put(self, picture: Delivered[Content]) -> None:
        """Add a picture that has arrived: keep it for its trigger, or discard it."""
        with self._changed:
            tie = picture.names if picture.named else picture.captured_s
            key = (tie, picture.digest)
            seen, self._recent[key] = key in self._recent, None
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
            if seen:
                self._drop(picture, "doubled")
            elif picture.captured_s is not None and picture.captured_s > picture.arrived_s + self._error_s:
                self._drop(picture, "clock")
            else:
                self._waiting.append(picture)
                self._sweep()
                self._changed.notify_all()

    def to_monotonic(self, wall_s: float) -> float:
        """Convert a wall-clock time to the monotonic clock."""
        return wall_s - (self._wall_clock() - self._clock())

    # --- triggers

    def expect(self, trigger_id: str, *, came_s: float, window_s: float) -> None:
        """Announce a trigger, which may later ask for its picture."""
        with self._changed:
            self._ask(trigger_id, came_s, window_s)
            self._sweep()
            self._changed.notify_all()

    def faulted(self, at_s: float | None = None) -> None:
        """Announce that a part was answered ``fault``, so a picture may be left over."""
        with self._changed:
            self._doubt_s = max(self._doubt_s, self._clock() if at_s is None else at_s)

    def take(
        self, trigger_id: str, *, until_s: float, poll: Callable[[], None] = lambda: None, poll_s: float = _NOTICE_S
    ) -> Matched[Content]:
        """Wait for the picture of a trigger.

        Args:
            trigger_id: Id of the trigger.
            until_s: Monotonic time of the timeout.
            poll: Called every ``poll_s`` while waiting; may `put` new pictures.
            poll_s: Interval in seconds.

        Raises:
            CaptureError: no picture came (``no_frame``), or it is unknown which part it shows (``unmatched``).
        """
        with self._changed:
            asking = self._ask(trigger_id, self._clock(), max(0.0, until_s - self._clock()))
            asking.waits = not asking.has_picture
            self._close_those_before(asking)
            self._sweep()
            try:
                while (found := self._find(asking)) is None:
                    left_s = until_s - self._clock()
                    if left_s <= 0 or not asking.waits:
                        raise CaptureError(Trouble.NO_FRAME, f"expected {self._wanted(asking)}, none came in time")
                    self._changed.wait(min(left_s, poll_s))
                    poll()
                    self._sweep()
            except CaptureError:
                self._doubt_s = self._clock()
                raise
            finally:
                asking.waits = False
            asking.has_picture = True
            self._waiting.remove(found.picture)
            self._reserved.pop(found.picture.ticket, None)
            self._sweep()
            return found

    def count(self, reason: str) -> None:
        """Count a leftover that the camera detected."""
        with self._changed:
            self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """Return the number of leftovers by reason, and of waiting pictures."""
        with self._changed:
            self._sweep()
            return {**{reason: self._counts[reason] for reason in LEFTOVERS}, "waiting": len(self._waiting)}

    # --- under the lock

    @property
    def _early_s(self) -> float:
        return self.rule.early_ms / 1e3

    @property
    def _error_s(self) -> float:
        return self.rule.clock_error_ms / 1e3

    def _ask(self, trigger_id: str, came_s: float, window_s: float) -> _Asking:
        asking = self._asking.get(trigger_id)
        if asking is None:
            offset_s = self._wall_clock() - self._clock()
            within_s = window_s if self.rule.taken_within_s is None else self.rule.taken_within_s
            asking = _Asking(self._name_of(trigger_id), came_s=came_s, within_s=within_s, clock_offset_s=offset_s)
            self._asking[trigger_id] = asking
            self._by_names.setdefault(asking.name, []).append(asking)
            self._longest_s = max(self._longest_s, within_s)
            while len(self._asking) > _REMEMBERED:
                gone = self._asking.popitem(last=False)[1]
                self._by_names[gone.name].remove(gone)
                if not self._by_names[gone.name]:
                    del self._by_names[gone.name]
        return asking

    def _since(self, from_s: float) -> Iterator[_Asking]:
        """Yield the triggers that came at or after a time, latest first."""
        for asking in reversed(self._asking.values()):
            if asking.came_s < from_s:
                return
            yield asking

    def _close_those_before(self, asking: _Asking) -> None:
        """Close earlier triggers: parts are judged in order, so a trigger that was skipped never asks."""
        for other in self._asking.values():
            if other is not asking and other.waits and other.came_s <= asking.came_s:
                other.waits = False
                self._doubt_s = self._clock()

    def _find(self, asking: _Asking) -> Matched[Content] | None:
        return self._by_name(asking) or self._by_time(asking) or self._by_order(asking)

    def _by_name(self, asking: _Asking) -> Matched[Content] | None:
        found = []
        for picture in [each for each in self._waiting if asking.name in each.names]:
            if picture.captured_s is None or (
                self._fits(asking, picture.captured_s) and not self._rivals(asking, picture)
            ):
                found.append(picture)
            else:
                self._leave(picture, "misnamed")
        self._require_one(found)
        if not found:
            return None
        self._names_seen = True
        return Matched(picture=found[0], sole_until_s=None)

    def _by_time(self, asking: _Asking) -> Matched[Content] | None:
        found = [each for each in self._unnamed(timed=True) if self._fits(asking, each.captured_s or 0.0)]
        self._require_one(found)
        if not found:
            return None
        captured_s = found[0].captured_s or 0.0
        waiting = [each for each in self._owners(captured_s) if each is not asking and not each.has_picture]
        if waiting or self._rivals(asking, found[0]):
            raise self._unmatched(found, "its capture time fits several parts")
        if abs(self._wall_clock() - self._clock() - asking.clock_offset_s) > self._error_s:
            raise self._unmatched(found, "this computer's clock was changed after the trigger")
        return Matched(picture=found[0], sole_until_s=captured_s + self._early_s + self._error_s)

    def _rivals(self, asking: _Asking, picture: Delivered[Content]) -> bool:
        """Whether a picture that was taken just before the trigger fits an earlier one as well."""
        captured_s = picture.captured_s
        if captured_s is None or captured_s >= asking.came_s - self._early_s:
            return False
        return any(each is not asking for each in self._owners(captured_s))

    def _require_one(self, found: list[Delivered[Content]]) -> None:
        if len(found) > 1:
            raise self._unmatched(found, f"{len(found)} different pictures came for one part")

    def _by_order(self, asking: _Asking) -> Matched[Content] | None:
        if not self.rule.any_name or self._names_seen:
            return None
        found = [each for each in self._unnamed(timed=False) if self._may_own(asking, each)]
        if not found:
            return None
        if asking.came_s - self._doubt_s < self.rule.latest_s:
            why = f"no picture is matched by order within {self.rule.latest_s:g} s after a fault, a leftover or a start"
            raise self._unmatched(found, why)
        since = self._since(found[0].arrived_s - self.rule.latest_s)
        rivals = [each for each in since if each is not asking and not each.has_picture]
        self._require_one(found)
        if any(self._may_own(rival, found[0]) for rival in rivals):
            raise self._unmatched(found, "it could belong to another part")
        return Matched(picture=found[0], sole_until_s=found[0].arrived_s + self._early_s)

    def _unmatched(self, pictures: list[Delivered[Content]], why: str) -> CaptureError:
        for picture in pictures:
            self._leave(picture, "unasked")
        return CaptureError(Trouble.UNMATCHED, f"a picture came, but it is unknown which part it shows: {why}")

    def _unnamed(self, *, timed: bool) -> Iterator[Delivered[Content]]:
        for picture in list(self._waiting):
            by_name = picture.named or any(name in self._by_names for name in picture.names)
            if not by_name and (picture.captured_s is not None) is timed:
                yield picture

    def _may_own(self, asking: _Asking, picture: Delivered[Content]) -> bool:
        """Whether a picture without name and capture time could belong to this trigger."""
        return asking.came_s - self._early_s <= picture.arrived_s <= asking.came_s + self.rule.latest_s

    def _fits(self, asking: _Asking, captured_s: float) -> bool:
        """Whether a capture time fits this trigger."""
        after_s = captured_s - asking.came_s
        return -self._early_s - self._error_s <= after_s <= asking.within_s + self._error_s

    def _owners(self, captured_s: float) -> list[_Asking]:
        """Return the triggers that a capture time fits."""
        since = self._since(captured_s - self._longest_s - self._error_s)
        return [asking for asking in since if self._fits(asking, captured_s)]

    def _sweep(self) -> None:
        """Discard pictures that no trigger can own any more."""
        now_s = self._clock()
        for picture in list(self._waiting):
            reason = self._leftover(picture, now_s)
            if reason:
                self._leave(picture, reason)

    def _leftover(self, picture: Delivered[Content], now_s: float) -> str:
        """Say why a picture is a leftover; empty if its trigger may still ask for it."""
        age_s = now_s - picture.arrived_s
        owners = [asking for name in picture.names for asking in self._by_names.get(name, ())]
        named = bool(owners) or picture.named
        if named:
            settled = age_s > self.rule.keep_s
        else:
            if picture.captured_s is None:
                owners = [x for x in self._since(picture.arrived_s - self.rule.latest_s) if self._may_own(x, picture)]
            else:
                owners = self._owners(picture.captured_s)
            taken_s = picture.arrived_s if picture.captured_s is None else picture.captured_s + self._error_s
            newest = next(reversed(self._asking.values()), None)
            # The notice of its trigger may still come, unless that of a later trigger has already come.
            settled = age_s > self._early_s + _NOTICE_S or (
                newest is not None and newest.came_s - self._early_s > taken_s
            )
        if any(asking.waits for asking in owners) or not (settled or (named and owners)):
            return ""
        if any(not asking.has_picture for asking in owners):
            return "late"
        return "doubled" if owners and (named or picture.captured_s is not None) else "unasked"

    def _leave(self, picture: Delivered[Content], reason: str) -> None:
        self._waiting.remove(picture)
        if not picture.named and picture.captured_s is None:
            self._doubt_s = max(self._doubt_s, picture.arrived_s)
        self._drop(picture, reason)

    def _drop(self, picture: Delivered[Content], reason: str) -> None:
        self._counts[reason] += 1
        self._reserved.pop(picture.ticket, None)
        self._discard(picture)

    def _wanted(self, asking: _Asking) -> str:
        return f"a picture of {asking.name}" if self.rule.any_name else f"a picture named {asking.name}"


@runtime_checkable
class MatchingCamera(Protocol):
    """A camera that delivers pictures without being asked; its matcher must know every trigger and every fault."""

    matcher: PictureMatcher[Any]

"""Which picture belongs to which trigger, for every camera whose pictures come by themselves.

A picture belongs to a trigger for one of three reasons, tried in this order:

1. **Its name** is the trigger's. A named picture belongs to no other trigger. Two different pictures under one name
   belong to nobody, nor does a picture whose stated capture time contradicts its name.
2. **Its capture time**, as its source states it, lies after the trigger (or at most ``early_ms`` before it) and within
   ``taken_within_s``. The source's clock may be off by ``clock_error_ms``. A time that fits two triggers without a
   picture proves nothing.
3. **No other trigger could own it**: only with ``any_name``, only until a picture has come under its trigger's name,
   only when no other trigger without a picture came in the ``latest_s`` before it, and only after the line has been
   quiet for ``latest_s`` since the last fault, the last picture that nobody asked for, and the start.

The time of arrival proves only that a picture was taken before it. A picture that lags behind arrives in the window of
a later trigger, where its arrival looks right.

A picture that belongs to no trigger is a leftover: it is discarded and counted, and never given to anyone.
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

_NOTICE_S = 1.0  # how much later than a picture the notice of its trigger may reach the camera
_REMEMBERED = 4_096


@dataclass(eq=False)
class _Asking:
    """A trigger that the camera has heard of."""

    name: str
    came_s: float
    within_s: float
    clock_offset_s: float
    waits: bool = True
    has_picture: bool = False


class PictureMatcher(Generic[Content]):
    """Holds the pictures that wait and the triggers that ask; see the rule above. May be used from any thread."""

    def __init__(
        self,
        rule: Matching,
        *,
        name_of: Callable[[str], str] = lambda trigger_id: trigger_id,
        discard: Callable[[Delivered[Content]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Make one.

        Args:
            rule: How pictures are matched.
            name_of: The name under which a trigger's picture comes.
            discard: Called with every leftover that was waiting, under the matcher's lock.
            clock: Monotonic seconds.
            wall_clock: Seconds since 1970, in which capture times are stated.
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
        """The last moment that put the order of pictures in doubt; at first the start, as pictures may be under way."""
        self._reserved: dict[int, int] = {}
        self._tickets = 0
        self._counts: Counter[str] = Counter()

    # --- pictures

    def reserve(self, size_bytes: int) -> int | None:
        """Keep room for a picture before it is read; ``None`` where there is none, else a ticket to give back."""
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
        """Give back the room of a picture that is gone."""
        with self._changed:
            self._reserved.pop(ticket, None)

    def put(self, picture: Delivered[Content]) -> None:
        """A picture has come: keep it for its trigger, or discard it at once."""
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
        """A moment of the wall clock on the monotonic one."""
        return wall_s - (self._wall_clock() - self._clock())

    # --- triggers

    def expect(self, trigger_id: str, *, came_s: float, window_s: float) -> None:
        """A trigger has come; it will ask for its picture later, or never."""
        with self._changed:
            self._ask(trigger_id, came_s, window_s)
            self._sweep()
            self._changed.notify_all()

    def faulted(self, at_s: float | None = None) -> None:
        """A part was answered ``fault``, so that a picture may be left over."""
        with self._changed:
            self._doubt_s = max(self._doubt_s, self._clock() if at_s is None else at_s)

    def take(
        self, trigger_id: str, *, until_s: float, poll: Callable[[], None] = lambda: None, poll_s: float = _NOTICE_S
    ) -> Matched[Content]:
        """Wait for the trigger's own picture.

        Args:
            trigger_id: Whose.
            until_s: For how long, monotonic.
            poll: Called every ``poll_s`` while waiting; may `put` what has come.
            poll_s: In seconds.

        Raises:
            CaptureError: none came (``no_frame``), or one whose owner cannot be told (``unmatched``).
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
        """Count a leftover that the camera found itself."""
        with self._changed:
            self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """Leftovers by reason, and how many pictures wait."""
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
        """The triggers that came from a moment on, the last first."""
        for asking in reversed(self._asking.values()):
            if asking.came_s < from_s:
                return
            yield asking

    def _close_those_before(self, asking: _Asking) -> None:
        """Triggers are judged in the order in which they came: one that was passed over never asks."""
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
            raise self._unmatched(found, "its capture time fits more than one part")
        if abs(self._wall_clock() - self._clock() - asking.clock_offset_s) > self._error_s:
            raise self._unmatched(found, "this computer's clock was set since the trigger")
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
            told = f"the line must first be quiet for {self.rule.latest_s:g} s after a fault, a leftover or a start"
            raise self._unmatched(found, told)
        since = self._since(found[0].arrived_s - self.rule.latest_s)
        rivals = [each for each in since if each is not asking and not each.has_picture]
        self._require_one(found)
        if any(self._may_own(rival, found[0]) for rival in rivals):
            raise self._unmatched(found, "it could be another part's")
        return Matched(picture=found[0], sole_until_s=found[0].arrived_s + self._early_s)

    def _unmatched(self, pictures: list[Delivered[Content]], why: str) -> CaptureError:
        for picture in pictures:
            self._leave(picture, "unasked")
        return CaptureError(Trouble.UNMATCHED, f"a picture came, but it cannot be told which part it shows: {why}")

    def _unnamed(self, *, timed: bool) -> Iterator[Delivered[Content]]:
        for picture in list(self._waiting):
            by_name = picture.named or any(name in self._by_names for name in picture.names)
            if not by_name and (picture.captured_s is not None) is timed:
                yield picture

    def _may_own(self, asking: _Asking, picture: Delivered[Content]) -> bool:
        """Whether a picture without name and capture time could be this trigger's."""
        return asking.came_s - self._early_s <= picture.arrived_s <= asking.came_s + self.rule.latest_s

    def _fits(self, asking: _Asking, captured_s: float) -> bool:
        """Whether a picture may have been taken for this trigger."""
        after_s = captured_s - asking.came_s
        return -self._early_s - self._error_s <= after_s <= asking.within_s + self._error_s

    def _owners(self, captured_s: float) -> list[_Asking]:
        """The triggers for which a picture may have been taken."""
        since = self._since(captured_s - self._longest_s - self._error_s)
        return [asking for asking in since if self._fits(asking, captured_s)]

    def _sweep(self) -> None:
        """Discard the pictures that no trigger can own any more."""
        now_s = self._clock()
        for picture in list(self._waiting):
            reason = self._leftover(picture, now_s)
            if reason:
                self._leave(picture, reason)

    def _leftover(self, picture: Delivered[Content], now_s: float) -> str:
        """Why a picture is a leftover; empty where its trigger may still ask for it."""
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
            # The notice of its trigger may still be on its way, unless that of a later one has come.
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
    """A camera whose pictures come by themselves, and must be told of every trigger and every fault."""

    matcher: PictureMatcher[Any]

"""Which picture belongs to which trigger: late, missing, doubled, misnamed and leftover ones, on a clock of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gonogo.capture import CaptureError, Matching, PictureMatcher, Trouble
from gonogo.capture.deliveries import Delivered


@dataclass
class Line:
    """A matcher, and a clock that moves only while a trigger waits."""

    rule: Matching = field(default_factory=Matching)
    now_s: float = 1_000.0
    wall_offset_s: float = 5e8
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.matcher: PictureMatcher[str] = PictureMatcher(
            self.rule,
            discard=lambda picture: self.discarded.append(picture.content),
            clock=lambda: self.now_s,
            wall_clock=lambda: self.now_s + self.wall_offset_s,
        )

    def send(self, shows: str, *, name: str = "", captured_s: float | None = None, data: str = "") -> None:
        """A picture arrives now."""
        picture = Delivered(
            content=shows,
            digest=hashlib.sha256((data or shows).encode()).hexdigest(),
            arrived_s=self.now_s,
            names=frozenset((name,) if name else ()),
            named=bool(name),
            captured_s=captured_s,
        )
        self.matcher.put(picture)

    def at(self, now_s: float, do: Callable[[], None]) -> None:
        """Do something while a trigger waits."""
        self.later.append((now_s, do))

    def trigger(self, trigger_id: str, *, waits_s: float = 0.3, came_s: float | None = None) -> str:
        """Whose picture the trigger is given, or the trouble."""
        self.matcher.expect(trigger_id, came_s=self.now_s if came_s is None else came_s, window_s=waits_s)
        try:
            matched = self.matcher.take(trigger_id, until_s=self.now_s + waits_s, poll=self._pass_time, poll_s=1e-6)
        except CaptureError as error:
            return error.trouble.value
        return matched.picture.content

    def _pass_time(self) -> None:
        self.now_s += 0.01
        due = [each for each in self.later if each[0] <= self.now_s]
        self.later = [each for each in self.later if each[0] > self.now_s]
        for _, do in due:
            do()


def ordered(**changes: object) -> Line:
    """A line whose pictures carry no name, quiet since long."""
    line = Line(Matching.model_validate({"any_name": True, "latest_s": 2.0, **changes}))
    line.now_s += 10.0
    return line


def test_a_picture_without_name_or_time_is_taken_on_a_quiet_line() -> None:
    line = ordered()
    for part in ("A", "B", "C"):
        line.at(line.now_s + 0.05, lambda part=part: line.send(part))  # type: ignore[misc]
        assert line.trigger(part) == part
        line.now_s += 0.5


def test_a_late_picture_never_shifts_the_verdicts_that_follow() -> None:
    line = ordered()
    given = {}
    for part in range(10):
        # From the third part on, each picture comes inside the window of the next trigger.
        lag_s = 0.05 if part < 2 else 0.55
        line.at(line.now_s + lag_s, lambda part=part: line.send(f"T{part}"))  # type: ignore[misc]
        came_s = line.now_s
        given[f"T{part}"] = line.trigger(f"T{part}")
        while line.now_s < came_s + 0.5:
            line._pass_time()
    assert given["T0"] == "T0"
    assert all(shown in (part, "no_frame", "unmatched") for part, shown in given.items())
    assert given["T2"] == "no_frame"
    assert line.matcher.counts()["late"] + line.matcher.counts()["unasked"] >= 7


def test_unnamed_triggers_fault_until_the_line_has_been_quiet_for_the_longest_lateness() -> None:
    line = ordered()
    assert line.trigger("lost") == "no_frame"
    line.now_s += 1.0
    line.at(line.now_s + 0.05, lambda: line.send("B"))
    assert line.trigger("B") == "unmatched"
    line.now_s += 2.5
    line.at(line.now_s + 0.05, lambda: line.send("C"))
    assert line.trigger("C") == "C"


def test_a_start_with_pictures_under_way_puts_the_order_in_doubt() -> None:
    line = Line(Matching(any_name=True, latest_s=2.0))
    line.at(line.now_s + 0.05, lambda: line.send("from before the restart"))
    assert line.trigger("A") == "unmatched"


def test_any_fault_of_the_station_puts_the_order_in_doubt() -> None:
    line = ordered()
    line.matcher.faulted()
    line.at(line.now_s + 0.05, lambda: line.send("A"))
    assert line.trigger("A") == "unmatched"


def test_a_picture_that_nobody_asked_for_is_left_out_and_puts_the_order_in_doubt() -> None:
    line = ordered()
    line.send("a stray one")
    line.now_s += 0.5
    line.at(line.now_s + 0.05, lambda: line.send("A"))
    assert line.trigger("A") == "unmatched"
    assert line.matcher.counts()["unasked"] == 2


def test_two_pictures_in_one_window_belong_to_nobody() -> None:
    line = ordered(early_ms=100.0)
    line.send("one")
    line.send("another")
    assert line.trigger("A") == "unmatched"


def test_a_trigger_that_waits_behind_makes_an_unnamed_picture_ambiguous() -> None:
    line = ordered()
    line.at(line.now_s + 0.02, lambda: line.matcher.expect("B", came_s=line.now_s, window_s=0.3))
    line.at(line.now_s + 0.05, lambda: line.send("B"))
    assert line.trigger("A") == "unmatched"


def test_a_doubled_picture_is_discarded_and_leaves_the_order_alone() -> None:
    line = ordered()
    for part in ("A", "B"):
        for lag_s in (0.03, 0.04):
            line.at(line.now_s + lag_s, lambda part=part: line.send(part))  # type: ignore[misc]
        assert line.trigger(part) == part
        line.now_s += 0.2
        line._pass_time()
    assert line.matcher.counts()["doubled"] == 2


def test_a_named_trigger_never_falls_back_to_a_leftover() -> None:
    line = ordered(early_ms=200.0)
    line.send("A", name="A")
    assert line.trigger("A") == "A"
    line.now_s += 5.0
    line.send("leftover")
    assert line.trigger("B") == "no_frame"


def test_a_picture_under_a_name_is_never_given_to_another_trigger() -> None:
    line = ordered()
    line.send("X", name="X")
    assert line.trigger("A") == "no_frame"
    assert line.trigger("X") == "X"


def test_the_late_picture_of_a_named_trigger_is_discarded() -> None:
    line = Line()
    assert line.trigger("A") == "no_frame"
    line.send("A", name="A")
    assert line.matcher.counts() == {
        "late": 1, "doubled": 0, "misnamed": 0, "unasked": 0, "clock": 0, "refused": 0, "waiting": 0
    }  # fmt: skip
    assert line.discarded == ["A"]


def test_two_different_pictures_under_one_name_belong_to_nobody() -> None:
    line = Line()
    line.send("A", name="A")
    line.send("B", name="A")
    assert line.trigger("A") == "unmatched"


def test_the_same_picture_twice_under_one_name_counts_once() -> None:
    line = Line()
    line.send("A", name="A")
    line.send("A", name="A")
    assert line.trigger("A") == "A"
    line.send("A again", name="A")
    assert line.matcher.counts()["doubled"] == 2


def test_a_capture_time_that_contradicts_the_name_is_believed() -> None:
    line = Line()
    line.at(line.now_s + 0.05, lambda: line.send("an earlier part", name="A", captured_s=line.now_s - 0.5))
    assert line.trigger("A") == "no_frame"
    assert line.matcher.counts()["misnamed"] == 1


def test_pictures_with_capture_times_find_their_triggers_although_they_lag_by_one() -> None:
    line = Line()
    given = {}
    for part in range(8):
        came_s = line.now_s
        lag_s = 0.05 if part != 3 else 0.55
        line.at(came_s + lag_s, lambda p=part, c=came_s: line.send(f"T{p}", captured_s=c + 0.02))  # type: ignore[misc]
        given[f"T{part}"] = line.trigger(f"T{part}")
        while line.now_s < came_s + 0.5:
            line._pass_time()
    assert given == {f"T{part}": f"T{part}" if part != 3 else "no_frame" for part in range(8)}
    assert line.matcher.counts()["late"] == 1


def test_a_picture_taken_before_its_trigger_counts_only_within_the_stated_time() -> None:
    for early_ms, expected in ((100.0, "A"), (0.0, "no_frame")):
        line = Line(Matching(early_ms=early_ms))
        line.send("A", captured_s=line.now_s - 0.08)
        assert line.trigger("A") == expected


def test_a_capture_time_that_fits_two_parts_without_pictures_is_ambiguous() -> None:
    line = Line()
    line.at(line.now_s + 0.02, lambda: line.matcher.expect("B", came_s=line.now_s, window_s=0.3))
    line.at(line.now_s + 0.05, lambda: line.send("B", captured_s=line.now_s - 0.01))
    assert line.trigger("A") == "unmatched"


def test_a_clock_that_runs_ahead_or_was_set_proves_nothing() -> None:
    line = Line()
    line.at(line.now_s + 0.05, lambda: line.send("A", captured_s=line.now_s + 0.5))
    assert line.trigger("A") == "no_frame"
    assert line.matcher.counts()["clock"] == 1

    def set_clock() -> None:
        line.wall_offset_s += 0.4

    line.at(line.now_s + 0.05, set_clock)
    line.at(line.now_s + 0.1, lambda: line.send("B", captured_s=line.now_s - 0.02))
    line.now_s += 5.0
    line.at(line.now_s + 0.05, set_clock)
    line.at(line.now_s + 0.1, lambda: line.send("C", captured_s=line.now_s - 0.02))
    assert line.trigger("C") in ("unmatched", "no_frame")


def test_waiting_pictures_are_bounded_in_number_and_bytes_and_expire() -> None:
    line = Line(Matching(max_waiting=2, max_waiting_mb=1, keep_s=10.0))
    assert line.matcher.reserve(2_000_000) is None
    first = line.matcher.reserve(600_000)
    assert first is not None
    assert line.matcher.reserve(600_000) is None
    second = line.matcher.reserve(1)
    assert second is not None
    assert line.matcher.reserve(1) is None
    line.matcher.put(
        Delivered(content="x", digest="d", arrived_s=line.now_s, names=frozenset({"never"}), named=True, ticket=first)
    )
    line.now_s += 11.0
    assert line.matcher.reserve(600_000) is not None
    counts = line.matcher.counts()
    assert (counts["unasked"], counts["refused"], counts["waiting"]) == (1, 3, 0)


def test_a_picture_whose_trigger_is_heard_of_later_is_kept_for_it() -> None:
    line = ordered()
    came_s = line.now_s
    line.now_s += 0.05
    line.send("A")
    line.now_s += 0.3
    assert line.trigger("A", came_s=came_s) == "A"


def test_a_trigger_that_never_asks_leaves_its_picture_to_nobody() -> None:
    line = ordered()
    line.matcher.expect("overrun", came_s=line.now_s, window_s=0.3)
    line.now_s += 0.5
    line.at(line.now_s + 0.05, lambda: line.send("overrun"))
    assert line.trigger("A") == "unmatched"


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_late_twice_or_never_no_part_gets_another_ones_picture(seed: int) -> None:
    import random

    rng = random.Random(seed)
    kind = ("named", "timed", "ordered")[seed % 3]
    line = ordered(latest_s=2.0) if kind == "ordered" else Line()
    gap_s = (0.4, 1.0, 3.0)[seed // 3 % 3]
    right = 0
    for number in range(120):
        part, came_s = f"T{number}", line.now_s
        for lag_s in _lags(rng, gap_s):
            name = part if kind == "named" else ""
            captured_s = came_s + 0.01 if kind == "timed" else None
            line.at(
                came_s + lag_s,
                lambda part=part, name=name, c=captured_s: line.send(part, name=name, captured_s=c),  # type: ignore[misc]
            )
        shown = line.trigger(part)
        assert shown in (part, "no_frame", "unmatched")
        right += shown == part
        while line.now_s < came_s + gap_s:
            line._pass_time()
    assert right > (60 if kind != "ordered" or gap_s > 2.0 else -1)


def _lags(rng: object, gap_s: float) -> list[float]:
    import random

    assert isinstance(rng, random.Random)
    mishap = rng.random()
    if mishap < 0.06:
        return [
            rng.choice((rng.uniform(0.3, 1.9), min(1.9, gap_s + rng.uniform(0.0, 0.2))))
        ]  # late, or in the next window
    if mishap < 0.12:
        return []
    return [0.05, 0.06] if mishap < 0.2 else [0.05]


def test_trouble_names_what_is_wrong() -> None:
    assert Trouble("unmatched") is Trouble.UNMATCHED

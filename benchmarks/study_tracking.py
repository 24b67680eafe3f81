"""10,000 parts on a belt with faults of every kind: what passes the gate unnoticed, how often the line stops, and what
it costs in good parts: ``make study-tracking``, QUICK=1 takes a tenth. Nothing is written; the last line is JSON.

One row for each fault alone, and one for all of them together. A bad part is *unnoticed* if it is as far behind the
gate as the camera is before it, and the line has not stopped since it passed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from command import print_figures, run
from gonogo.progress import track
from gonogo.schema import State
from gonogo.station.tracking_settings import RejectSettings
from gonogo.testing.belt import FakeBelt, PhysicalPart, TrackedStation

SETTINGS = RejectSettings(track="encoder", distance=2_000, tolerance=40, counter_bits=16)
PITCH = (180, 320)
"""Smallest and largest distance of two parts in counts: ten parts are in flight."""
BAD = 0.05
RATE = 0.01
"""Share of parts, of rejects, or of steps between two parts, that each fault hits."""
STEPS_PER_PART = 25


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which faults happen."""

    lost: bool = False
    foreign: bool = False
    slips: bool = False
    late: bool = False
    actuator: bool = False
    bounces: bool = False
    jitter: bool = False
    backwards: bool = False
    restarts: bool = False
    silence: bool = False


CASES: dict[str, Faults] = {
    "no fault": Faults(),
    "parts lost between camera and gate": Faults(lost=True),
    "parts put on the belt behind the camera": Faults(foreign=True),
    "parts that slide by up to 160 counts": Faults(slips=True),
    "verdicts late, or never": Faults(late=True),
    "actuator misses a reject": Faults(actuator=True),
    "second sensor bounces": Faults(bounces=True),
    "encoder jitter of 8 counts": Faults(jitter=True),
    "belt stands, and runs back by up to 300 counts": Faults(backwards=True),
    "station restarts": Faults(restarts=True),
    "station does not answer": Faults(silence=True),
    "all together": Faults(
        lost=True, foreign=True, slips=True, late=True, actuator=True, bounces=True, jitter=True, backwards=True,
        restarts=True, silence=True,
    ),
}  # fmt: skip


def parts_on_belt(number: int, faults: Faults, chance: random.Random) -> Iterator[PhysicalPart]:
    """Yield the parts in order."""

    def hit(happens: bool, rate: float = RATE) -> bool:
        return happens and chance.random() < rate

    place = 300
    for _ in range(number):
        place += chance.randint(*PITCH)
        verdict = State.NO_GO if chance.random() < BAD else State.GO
        judged_after: int | None = chance.randint(50, 600)
        if hit(faults.late):
            judged_after = chance.choice((2_500, None))
        yield PhysicalPart(
            place=place,
            verdict=verdict,
            judged_after=judged_after,
            lost=hit(faults.lost),
            slip=chance.randint(-160, 160) if hit(faults.slips) else chance.randint(-20, 20),
            stays=hit(faults.actuator, 5 * RATE),
        )
        if hit(faults.foreign):
            yield PhysicalPart(place=place + chance.randint(0, PITCH[0]), foreign=True)


def moves(faults: Faults, chance: random.Random) -> Callable[[], int]:
    """Return the belt's direction, step by step: now and then it stands for a while, or runs back and forth."""
    ahead: list[int] = []

    def next_step() -> int:
        if not ahead:
            if faults.backwards and chance.random() < RATE / STEPS_PER_PART:
                ahead.extend([0] * 100 if chance.random() < 0.5 else [-1] * chance.randint(1, 30))
            else:
                ahead.append(1)
        return ahead.pop()

    return next_step


def study(faults: Faults, number: int, seed: int) -> dict[str, Any]:
    """Run one line and count."""
    chance = random.Random(seed)
    station = TrackedStation(SETTINGS)
    belt = FakeBelt(
        settings=SETTINGS,
        station=station,
        offset=65_000,
        jitter=(lambda: chance.randint(-8, 8)) if faults.jitter else lambda: 0,
        moves=moves(faults, chance),
        bounces=lambda: faults.bounces and chance.random() < 5 * RATE,
        answers=lambda: not (faults.silence and chance.random() < RATE / 2),
    )

    def between() -> None:
        if faults.restarts and chance.random() < RATE / STEPS_PER_PART / 2:
            station.restart()

    belt.run(list(parts_on_belt(number, faults, chance)), between=between)
    return {
        "parts": number,
        "bad_rejected": sum(each.bad for each in belt.rejected),
        "bad_passed_line_stopped": len(belt.noticed),
        "bad_passed_unnoticed": len(belt.unnoticed),
        "of_them_judged": sum(not each.foreign for each in belt.unnoticed),
        "stops": len(station.stops),
        "good_rejected": sum(not each.bad for each in belt.rejected),
        "pulses_for_another_part": len(belt.wrong_pulses),
    }


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A tenth of the parts.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    number = 1_000 if options.quick else 10_000
    found = {name: study(CASES[name], number, options.seed) for name in track(list(CASES), "Lines")}
    names = list(next(iter(found.values())))
    print("| fault | " + " | ".join(names) + " |")  # noqa: T201
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(f"{row[each]:,}" for each in names) + " |")  # noqa: T201
    print_figures({"settings": SETTINGS.model_dump(mode="json"), "cases": found})


if __name__ == "__main__":
    run(main)

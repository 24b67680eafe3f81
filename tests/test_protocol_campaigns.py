"""The campaigns of the protocols: when something is killed, and the station with every adapter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

from gonogo.line.settings import AdapterSettings
from gonogo.station import read_settings
from protocols.kit import kill_places, killing, write_station
from protocols.latency import all_adapters


class Victim:
    def __init__(self) -> None:
        self.kills = self.starts = 0

    def kill(self) -> None:
        self.kills += 1

    def start(self) -> None:
        self.starts += 1


def test_a_campaign_kills_four_times_and_a_long_one_more_often() -> None:
    assert [len(kill_places(count, 1)) for count in (3, 500, 10_000)] == [2, 4, 40]
    assert kill_places(500, 1) == sorted(set(kill_places(500, 1)))


def test_victims_are_killed_in_turn_as_the_answers_come_and_always_started_again() -> None:
    victims, answered = [Victim(), Victim()], [0]
    with killing(victims, 1, triggers=5, answered=lambda: answered[0]):
        for answered[0] in range(1, 6):
            until_s = time.monotonic() + 60.0
            places = sum(place <= answered[0] for place in kill_places(5, 1))
            while sum(each.starts for each in victims) < places and time.monotonic() < until_s:
                time.sleep(0.002)
    assert [(each.kills, each.starts) for each in victims] == [(2, 2), (2, 2)]


def test_nothing_is_killed_before_an_answer_has_come() -> None:
    victim = Victim()
    with killing([victim], 1, triggers=5, answered=lambda: 0):
        time.sleep(0.05)
    assert (victim.kills, victim.starts) == (0, 0)


def test_the_station_of_the_measurement_has_every_adapter(tmp_path: Path) -> None:
    found = read_settings(write_station(tmp_path, all_adapters())).adapters
    kinds = {type(each) for each in found}
    assert kinds == set(get_args(get_args(AdapterSettings)[0]))

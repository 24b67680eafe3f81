"""Work done ahead: in order, bounded, and honest about what failed."""

from __future__ import annotations

import threading
import time

import pytest

from gonogo.prefetch import prefetch


def test_results_come_in_the_order_of_the_items_whoever_is_done_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * 10

    assert list(prefetch(slow_first, range(40), workers=4)) == [item * 10 for item in range(40)]
    assert list(prefetch(slow_first, [], workers=4)) == []


def test_only_a_few_results_wait_for_the_consumer() -> None:
    begun = []
    results = prefetch(begun.append, range(1000), workers=2)
    for _ in range(5):
        next(results)
    time.sleep(0.05)
    assert 5 <= len(begun) < 30
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 30


def test_an_error_is_raised_in_its_turn_and_ends_the_work() -> None:
    begun = []

    def fail_at_three(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = prefetch(fail_at_three, range(1000), workers=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(begun) < 30


def test_the_work_is_done_on_other_threads() -> None:
    names = set(prefetch(lambda _: threading.current_thread().name, range(8), workers=2))
    assert threading.main_thread().name not in names

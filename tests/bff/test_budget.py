"""Budget: a burst at once, then one more in each interval."""

from __future__ import annotations

from app.bff.budget import Budget
from tests.bff.harness import Clock


def taken(budget: Budget, count: int = 10) -> int:
    return sum(budget.take() for _ in range(count))


def test_a_burst_is_allowed_at_once_and_then_one_in_each_interval(clock: Clock):
    budget = Budget(3, seconds=10, clock=clock)
    found = [taken(budget)]
    for seconds in (9.9, 0.2, 9.8, 10):
        clock.advance(seconds)
        found.append(taken(budget))

    assert found == [3, 0, 1, 0, 1]


def test_what_is_not_used_is_saved_up_to_the_burst(clock: Clock):
    budget = Budget(3, seconds=10, clock=clock)
    taken(budget)
    clock.advance(20)
    two = taken(budget)
    clock.advance(1000)

    assert (two, taken(budget)) == (2, 3)


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing(clock: Clock):
    budget = Budget(1, seconds=10, clock=clock)
    taken(budget)
    clock.advance(-3600)
    before = taken(budget)
    clock.advance(10)

    assert (before, taken(budget)) == (0, 1)

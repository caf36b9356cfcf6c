"""One line in so many seconds."""

from __future__ import annotations

from duallisten.throttle import INTERVAL, Throttle


def test_the_first_line_is_let_through_and_then_one_in_each_interval() -> None:
    throttle = Throttle()
    moments = (0.0, 0.0, INTERVAL - 1, INTERVAL, INTERVAL + 1, 5 * INTERVAL)
    assert [throttle.lets_through(now) for now in moments] == [True, False, False, True, False, True]

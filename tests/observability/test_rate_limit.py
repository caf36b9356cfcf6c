"""One line in so many seconds."""

from __future__ import annotations

from duallisten.logs import LINE_INTERVAL, RateLimiter


def test_the_first_line_is_let_through_and_then_one_in_each_interval() -> None:
    throttle = RateLimiter()
    moments = (0.0, 0.0, LINE_INTERVAL - 1, LINE_INTERVAL, LINE_INTERVAL + 1, 5 * LINE_INTERVAL)
    assert [throttle.lets_through(now) for now in moments] == [True, False, False, True, False, True]

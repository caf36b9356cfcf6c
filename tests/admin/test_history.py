"""The last minutes of a launch, as its processes keep them and as the charts of the status page show them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from duallisten.admin.figures import make_history, read
from duallisten.admin.history import KEPT, STEP, History
from duallisten.observability import HISTORY, Cell, Head, Scoreboard, bits
from duallisten.observability.scoreboard_layout import request_cell

Pass = Callable[[float], None]


@pytest.fixture
def let_pass(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """A clock that a test sets."""
    now = [time.monotonic_ns()]

    def let_pass(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return let_pass


@pytest.fixture
def board(let_pass: Pass) -> Scoreboard:
    board = Scoreboard(capacity=3)
    board.head[Head.SIDES] = bits(("public", "private"))
    board.take_row()
    return board


def serve_requests(board: Scoreboard, count: int, status: str = "2xx") -> None:
    board.row(1).side("public")[request_cell("GET", status) + 3] += count


def test_the_last_minutes_are_kept_and_what_was_before_them_is_not(board: Scoreboard, let_pass: Pass) -> None:
    history = History(board)
    for _ in range(3 * HISTORY):
        serve_requests(board, 50)
        board.row(1).side("public")[Cell.OPEN] = 4
        history.record()
        let_pass(STEP)
    samples = history.samples()
    assert len(samples) == int(KEPT / STEP)
    points = make_history(samples, read(board.read()), 3 * STEP)["public"]
    assert [point["age"] for point in points] == pytest.approx([STEP * (len(points) - at) for at in range(len(points))])
    assert {point["rate"] for point in points} == {10.0}
    assert {point["open"] for point in points} == {4}


def test_each_step_is_kept_once_whoever_comes_first(board: Scoreboard, let_pass: Pass) -> None:
    one, other = History(board), History(board)
    for number in range(20):
        serve_requests(board, 1)
        for process in (one, other) if number % 2 else (other, one):
            process.record()
        let_pass(STEP / 4)
    assert one.samples() == other.samples()
    assert [sum(sample.sides["public"].statuses) for sample in one.samples()] == [1, 5, 9, 13, 17]


def test_a_time_in_which_nobody_could_record_is_a_gap_and_no_average(board: Scoreboard, let_pass: Pass) -> None:
    history = History(board)
    for pause in (STEP, 60.0, STEP):
        history.record()
        serve_requests(board, 10)
        let_pass(pause)
    history.record()
    points = make_history(history.samples(), read(board.read()), 3 * STEP)["public"]
    assert [point.get("rate") for point in points] == [2.0, None, 2.0]


def test_a_side_that_is_not_served_has_no_history(board: Scoreboard, let_pass: Pass) -> None:
    board.head[Head.SIDES] = bits(["private"])
    history = History(board)
    for _ in range(3):
        history.record()
        let_pass(STEP)
    points = make_history(history.samples(), read(board.read()), 3 * STEP)
    assert {side: len(kept) for side, kept in points.items()} == {"private": 2}


def test_what_rules_hide_is_no_failure(board: Scoreboard, let_pass: Pass) -> None:
    history = History(board)
    history.record()
    serve_requests(board, 80)
    serve_requests(board, 20, "4xx")
    board.row(1).side("public")[Cell.HIDDEN] += 15
    let_pass(STEP)
    history.record()
    (point,) = make_history(history.samples(), read(board.read()), 3 * STEP)["public"]
    assert (point["rate"], point["hidden_rate"], point["client_errors"]) == (20.0, 3.0, 0.05)

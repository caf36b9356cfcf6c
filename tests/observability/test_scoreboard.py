"""The scoreboard: rows of shared memory, one for each process, read as a whole."""

from __future__ import annotations

import multiprocessing
import os
import threading
from types import SimpleNamespace

from duallisten.observability import Phase
from duallisten.observability.request_counter import RequestCounter
from duallisten.observability.scoreboard import RowRef, Scoreboard
from duallisten.observability.scoreboard_layout import (
    BOUNDS,
    BUCKETS,
    METHODS,
    REQUESTS,
    STATUSES,
    Cell,
    Head,
    request_cell,
)


def serve(seat: RowRef) -> None:
    """Do as a worker does, in a process of its own."""
    seat.begin(os.getpid())
    seat.set_state(Phase.READY, ["private"])
    seat.side("private")[Cell.ACCEPTED] += 3


def test_a_child_process_writes_to_the_same_board() -> None:
    board = Scoreboard()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(RowRef(board, board.take_row()),))
    child.start()
    child.join()
    view = board.read()
    (process,) = view.processes
    assert (process.pid, process.state, process.sides) == (child.pid, Phase.READY, ("private",))
    assert view.sides["private"].cells[Cell.ACCEPTED] == 3
    assert view.sides["public"].cells[Cell.ACCEPTED] == 0


def test_what_a_process_has_counted_outlives_it_and_its_gauges_do_not() -> None:
    board = Scoreboard()
    number = board.take_row()
    row = board.row(number)
    row.begin(1)
    row.side("public")[Cell.ACCEPTED] += 5
    row.side("public")[Cell.OPEN] = 4
    row.side("public")[request_cell("GET", "2xx")] += 7
    board.retire_row(number)
    view = board.read()
    assert view.processes == ()
    assert view.sides["public"].cells[Cell.ACCEPTED] == 5
    assert view.sides["public"].cells[Cell.OPEN] == 0
    assert sum(view.sides["public"].requests) == 7
    again = board.take_row()
    assert again == number, "a row that was given back is used again"
    assert not any(board.row(again).words), "and has nothing of its last process in it"
    board.retire_row(again)
    assert board.read().sides["public"].cells[Cell.ACCEPTED] == 5


def test_the_last_processes_that_have_gone_are_remembered() -> None:
    board = Scoreboard()
    for pid in range(1, 13):
        number = board.take_row()
        board.row(number).begin(pid)
        board.row(number).set_state(Phase.DRAINING if pid % 2 else Phase.READY, [])
        board.retire_row(number)
    gone = {one.pid: one.state for one in board.read().gone}
    assert gone == {pid: Phase.DRAINING if pid % 2 else Phase.READY for pid in range(5, 13)}


def test_no_counter_is_seen_to_go_back_while_processes_come_and_go() -> None:
    board = Scoreboard()
    over = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        while not over.is_set():
            seen.append(board.read().sides["public"].cells[Cell.ACCEPTED])

    watching = threading.Thread(target=watch)
    watching.start()
    for number in range(200):
        taken = board.take_row()
        board.row(taken).begin(number + 1)
        board.row(taken).side("public")[Cell.ACCEPTED] += 3
        board.retire_row(taken)
    over.set()
    watching.join()
    assert seen == sorted(seen)
    assert board.read().sides["public"].cells[Cell.ACCEPTED] == 600


def test_a_board_that_is_full_gives_the_row_of_the_past_which_is_nobody_s() -> None:
    board = Scoreboard(capacity=2)
    assert board.take_row() == 1
    assert board.take_row() == 0
    board.retire_row(0)
    assert board.head[Head.CHANGES] == 0


def test_the_words_of_a_kind_of_request_are_its_own() -> None:
    begins = [request_cell(method, status) for method in METHODS for status in STATUSES]
    assert begins == list(range(REQUESTS, REQUESTS + len(METHODS) * len(STATUSES) * BUCKETS, BUCKETS))
    assert max(Cell) < REQUESTS


def test_a_new_board_tells_of_a_launch_that_begins() -> None:
    view = Scoreboard().read()
    assert (view.phase, view.expected, view.supervisor_age, view.restarts) == (Phase.STARTING, (), None, 0)
    assert 0 <= view.age < 30


def test_durations_are_counted_in_the_bucket_that_they_are_at_most_as_long_as() -> None:
    board = Scoreboard()
    cells = board.row(board.take_row()).side("public")
    recorder = RequestCounter(cells)
    for seconds in (0.0004, 0.0005, 0.00051, 9.9, 11.0, 99.0):
        method = "BREW" if seconds > 10 else "GET"
        ended = {"is_own": False, "by_engine": False, "complete": True, "status": 404, "began": 0.0, "ended": seconds}
        recorder.exchange_ended(SimpleNamespace(method=method, **ended))  # type: ignore[arg-type]
    recorder.count()
    recorder.count()
    begin, other = request_cell("GET", "4xx"), request_cell("other", "4xx")
    assert cells[begin : begin + BUCKETS].tolist() == [2, 1, *[0] * 11, 1, 0]
    assert cells[other : other + BUCKETS].tolist() == [*[0] * 14, 2]
    assert len(BOUNDS) == 14
    assert cells[Cell.SECONDS] == round((0.0004 + 0.0005 + 0.00051 + 9.9 + 110) * 1e9)

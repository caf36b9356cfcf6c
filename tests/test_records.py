"""When a request is noted, and how long it took, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from duallisten import records
from duallisten.board_layout import SIDE_WORDS, WORD, Cell
from duallisten.recorder import ABORTED, PASSED_OVER, Recorder
from duallisten.records import Recorded, Told, ToldTurns, Turns
from tests.test_corking import Recording

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
OK = HEAD[9]


class Cycle:
    """As much of what uvicorn makes for a request as a record asks for."""

    def __init__(self) -> None:
        self.response_complete = False
        self.scope = {"type": "http"}
        self.request_id = "abc"
        self.told = 0

    def on_response(self) -> None:
        self.told += 1


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(records, "clock", made)
    return made


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(memoryview(bytearray(SIDE_WORDS * WORD)).cast("Q"))


@pytest.fixture(params=["counted", "told"])
async def record(request: pytest.FixtureRequest, recorder: Recorder) -> Recorded:
    loop = asyncio.get_running_loop()
    if request.param == "told":
        return Told(Recording(), ToldTurns(loop, recorder), recorder)
    return Recorded(Recording(), Turns(loop), recorder)


def begin(record: Recorded, clock: Clock) -> Cycle:
    record.cycle = cycle = Cycle()
    record.kinds = record.recorder.kinds_of("GET")
    record.began = clock.now
    return cycle


def noted(record: Recorded) -> dict[int, list[float]]:
    """The durations that were noted, by the first character of the status."""
    kinds = enumerate(record.recorder.kinds_of("GET"))
    return {kind: [round(one, 3) for one in durations] for kind, durations in kinds if durations}


async def test_what_others_do_in_the_same_turn_is_not_in_a_duration(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    clock.now += 1
    record.write(HEAD)
    record.write(b"hello")
    cycle.response_complete = True
    clock.now += 50
    await asyncio.sleep(0)
    assert noted(record) == {OK: [1.0]}
    assert record.cycle is None and record.head is None


async def test_an_answer_that_is_complete_later_is_noted_when_uvicorn_tells(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    record.write(HEAD)
    for _ in range(3):
        await asyncio.sleep(0)
        record.write(b"HTTP/1.1 999 as some body begins")
        clock.now += 1
    assert noted(record) == {}
    cycle.response_complete = True
    record.write(b"end")
    cycle.on_response()
    assert noted(record) == {OK: [3.0]}
    await asyncio.sleep(0)
    assert noted(record) == {OK: [3.0]}
    assert cycle.told == 1


async def test_a_head_without_a_body_ends_when_it_is_written(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    record.write(HEAD)
    cycle.response_complete = True
    clock.now += 2
    await asyncio.sleep(0)
    assert noted(record) == {OK: [2.0]}


async def test_a_connection_that_ends_before_its_turn_has_a_whole_answer(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    record.write(HEAD)
    record.write(b"hello")
    cycle.response_complete = True
    record.end()
    await asyncio.sleep(0)
    assert noted(record) == {OK: [0.0]}
    assert record.recorder.cells is not None
    assert record.recorder.cells[Cell.SENT] == len(HEAD) + 5


async def test_what_is_not_complete_at_the_end_is_aborted(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    record.write(HEAD)
    await asyncio.sleep(0)
    clock.now += 4
    record.end()
    assert noted(record) == {ABORTED: [4.0]}
    cycle.on_response()  # the application goes on; nobody counts it again
    record.end()
    assert noted(record) == {ABORTED: [4.0]}
    assert cycle.told == 1


async def test_a_request_that_begins_in_the_same_turn_finds_the_one_before_it_settled(
    record: Recorded, clock: Clock
) -> None:
    first = begin(record, clock)
    record.write(HEAD)
    record.write(b"one")
    first.response_complete = True
    record.settle()  # as where the application is called
    second = begin(record, clock)
    clock.now += 1
    record.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
    record.write(b"two")
    second.response_complete = True
    await asyncio.sleep(0)
    assert noted(record) == {OK: [0.0], ord("4"): [1.0]}


async def test_a_head_on_a_connection_that_is_closing_does_not_turn_time_back(record: Recorded, clock: Clock) -> None:
    cycle = begin(record, clock)
    record.write(HEAD)
    record.abort()
    cycle.response_complete = True
    clock.now += 1
    await asyncio.sleep(0)
    assert noted(record) == {OK: [1.0]}
    assert record.written == 0


@pytest.fixture
def told(recorder: Recorder) -> Iterator[list[Any]]:
    """Status, duration, bytes and end of each request that somebody is told of."""
    heard: list[Any] = []

    def finished(record: Told, cycle: Any, status: int, duration: float, aborted: bool) -> None:
        heard.append((cycle.scope["type"], cycle.request_id, status, round(duration, 3), record.sent, aborted))

    recorder.finished = finished
    yield heard


async def test_who_is_told_hears_of_each_request_with_the_bytes_of_its_own_answer(
    told: list[Any], recorder: Recorder, clock: Clock
) -> None:
    record = Told(Recording(), ToldTurns(asyncio.get_running_loop(), recorder), recorder)
    for size in (1, 10):
        cycle = begin(record, clock)
        record.write(HEAD)
        record.write(b"x" * size)
        clock.now += 1
        cycle.response_complete = True
        await asyncio.sleep(0)
    cycle = begin(record, clock)
    record.kinds = PASSED_OVER
    record.write(HEAD)
    record.write(b"a page of ours")
    cycle.response_complete = True
    await asyncio.sleep(0)
    begin(record, clock)
    clock.now += 2
    record.write(HEAD)
    record.end()
    assert told == [
        ("http", "abc", 200, 0.0, len(HEAD) + 1, False),
        ("http", "abc", 200, 0.0, len(HEAD) + 10, False),
        ("http", "abc", 200, 2.0, len(HEAD), True),
    ]
    recorder.count()
    assert noted(record) == {}


async def test_who_is_told_hears_of_an_answer_in_the_application_s_place_after_a_page_of_ours(
    told: list[Any], recorder: Recorder, clock: Clock
) -> None:
    record = Told(Recording(), ToldTurns(asyncio.get_running_loop(), recorder), recorder)
    cycle = begin(record, clock)
    record.kinds = PASSED_OVER
    record.write(HEAD)
    cycle.response_complete = True
    await asyncio.sleep(0)
    busy = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    record.write(busy)
    record.note_unasked(Cycle())
    assert told == [("http", "abc", 503, 0.0, len(busy), False)]
    assert recorder.cells is not None and recorder.cells[Cell.BUSY] == 1


async def test_what_is_not_counted_is_not_kept(clock: Clock) -> None:
    record = Recorded(Recording(), Turns(asyncio.get_running_loop()), Recorder())
    for _ in range(3):
        cycle = begin(record, clock)
        record.write(HEAD)
        cycle.response_complete = True
        await asyncio.sleep(0)
    begin(record, clock)
    record.end()
    assert not any(record.kinds)

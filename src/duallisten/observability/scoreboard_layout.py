"""The layout of the scoreboard: the meaning of each word. Pure, and the only module that knows it.

A scoreboard is a sequence of machine words: the head (`Head`), the processes that are gone, the last minutes, and a row
for each process. A row has the state of the process (`Own`), and a part for each side: its numbers (`Cell`), followed
by its requests by method, status and duration.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from duallisten.sides import Side

WORD = 8
"""Bytes per word."""

SIDES: tuple[Side, ...] = ("public", "private")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other", "websocket")
"""The methods that requests are counted by; a WebSocket handshake counts as the method `websocket`."""

STATUSES = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")
"""Classes of responses. An aborted response is incomplete: the client disconnected or the application failed."""

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of durations, in seconds; one more bucket counts longer durations."""

BUCKETS = len(BOUNDS) + 1


class Cell(IntEnum):
    """The positions of a side's numbers in its part of a row; the requests follow them.

    OPEN and IN_FLIGHT are gauges, as of the last heartbeat. WEBSOCKETS is a gauge, too. All others are counters.
    SECONDS: the sum of all durations, in nanoseconds
    REFUSED_PEER, REFUSED_LIMIT, REFUSED_SIDE_DOOR, REFUSED_PROXY: connections that were closed unread, by reason
    SIDE_DOOR: connections that came to the public listener on a private address
    HIDDEN: requests hidden by path rules
    BAD: malformed requests, which the engine answered with an error such as 400, 408, 413 or 431
    BUSY: requests that the engine answered with 503 (`--limit-concurrency`)
    """

    OPEN = 0
    IN_FLIGHT = 1
    WEBSOCKETS = 2
    ACCEPTED = 3
    REFUSED_PEER = 4
    REFUSED_LIMIT = 5
    REFUSED_SIDE_DOOR = 6
    SIDE_DOOR = 7
    HIDDEN = 8
    BAD = 9
    SENT = 10
    SECONDS = 11
    BUSY = 12
    REFUSED_PROXY = 13


REQUESTS = 16
"""Where the counts of a side's requests begin: by method, status and duration."""

SIDE_WORDS = REQUESTS + len(METHODS) * len(STATUSES) * BUCKETS

GAUGES = (Cell.OPEN, Cell.IN_FLIGHT, Cell.WEBSOCKETS)


class Own(IntEnum):
    """The positions of the state of a process in its row.

    PID: 0 in a free row
    HEARTBEAT, STARTED: CLOCK_MONOTONIC, in nanoseconds
    SIDES: a bit for each of `SIDES` at whose listener it accepts
    CHANGED: the time when STATE last changed, CLOCK_MONOTONIC in nanoseconds
    """

    PID = 0
    STATE = 1
    HEARTBEAT = 2
    STARTED = 3
    SIDES = 4
    CHANGED = 5


OWN_WORDS = 16
ROW_WORDS = OWN_WORDS + len(SIDES) * SIDE_WORDS
HEAD_WORDS = 16
"""Words of the state of a process, of a whole row, and of the head of the scoreboard."""

GONE = 8
"""How many ended processes are remembered, each in `GONE_WORDS`: PID, STATE and the time of its end."""

GONE_WORDS = 4

HISTORY = 64
"""Slots for the last minutes, each of `HISTORY_WORDS`; `admin.history` defines their content."""

HISTORY_WORDS = 64

GONE_BEGIN = HEAD_WORDS
HISTORY_BEGIN = GONE_BEGIN + GONE * GONE_WORDS
ROWS_BEGIN = HISTORY_BEGIN + HISTORY * HISTORY_WORDS


class Head(IntEnum):
    """The positions of the words about the whole launch.

    CHANGES: odd while a row is being added to row 0
    ROWS: how many rows have ever been used, including row 0
    PHASE: the phase of the launch
    STARTED: the time when it began, CLOCK_MONOTONIC in nanoseconds
    RESTARTS: how many workers were replaced after they had died
    SIDES: a bit for each of `SIDES` that the launch is to serve
    PULSE: the time when the supervisor's loop last ran, CLOCK_MONOTONIC in nanoseconds; 0 without a supervisor
    EPOCH: the time when it began by the wall clock, in nanoseconds since 1970; every process reports this value
    ENDED: how many processes have ended
    DRAINED: whether an operator has drained the launch: no more requests should be sent, but the listeners stay open
    """

    CHANGES = 0
    ROWS = 1
    PHASE = 2
    STARTED = 3
    RESTARTS = 4
    SIDES = 5
    PULSE = 6
    EPOCH = 7
    ENDED = 8
    DRAINED = 9


def request_cell(method: str, status: str) -> int:
    """Return where the buckets of durations for a method and status begin in a side's part of a row."""
    return REQUESTS + (METHODS.index(method) * len(STATUSES) + STATUSES.index(status)) * BUCKETS


def bits(sides: Collection[Side]) -> int:
    """Encode sides as the bits of a word."""
    return sum(1 << SIDES.index(side) for side in sides)


def sides_of(word: int) -> tuple[Side, ...]:
    """Decode the sides from the bits of a word."""
    return tuple(side for index, side in enumerate(SIDES) if word & (1 << index))


def side_begin(index: int) -> int:
    """Return where the part of a side begins in a row.

    index: the position of the side in `SIDES`
    """
    return OWN_WORDS + index * SIDE_WORDS

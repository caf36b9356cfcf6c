"""How the scoreboard is laid out: which word is what. Pure, and the only place that knows.

A board is a row of machine words: its head (`Head`), the processes that are gone, the last minutes, and a row for each
process. A row has what the process tells of itself (`Own`), and a part for each side: its numbers (`Cell`), and behind
them its requests by method, status and duration.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from duallisten.sides import Side

WORD = 8
"""Bytes of a word."""

SIDES: tuple[Side, ...] = ("public", "private")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other", "websocket")
"""What requests are counted by; a WebSocket's handshake is a request of its own kind."""

STATUSES = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")
"""Classes of answers; an aborted one did not come to its end, for the client or the application left."""

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the durations that are counted apart, in seconds; one more bucket holds what is above."""

BUCKETS = len(BOUNDS) + 1


class Cell(IntEnum):
    """Where a side's numbers are in its part of a row; the requests come behind them.

    OPEN and IN_FLIGHT are gauges, as of the last heartbeat; SECONDS is in nanoseconds; all others are counters.
    REFUSED_PEER, REFUSED_LIMIT, REFUSED_SIDE_DOOR, REFUSED_PROXY: connections that were closed unread, by reason
    SIDE_DOOR: connections that came to the public listener on a private address
    HIDDEN: requests that path rules hid
    BAD: what was no request and was answered with 400 or 431
    BUSY: requests that uvicorn answered with 503 (`--limit-concurrency`)
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
"""Where the requests of a side begin: by method, status and duration."""

SIDE_WORDS = REQUESTS + len(METHODS) * len(STATUSES) * BUCKETS

GAUGES = (Cell.OPEN, Cell.IN_FLIGHT, Cell.WEBSOCKETS)


class Own(IntEnum):
    """Where what a row tells of its process is.

    PID: 0 in a free row
    HEARTBEAT, STARTED: CLOCK_MONOTONIC, in nanoseconds
    SIDES: a bit for each of `SIDES` at whose listener it accepts
    CHANGED: when STATE last became another, CLOCK_MONOTONIC in nanoseconds
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
"""Words of what a process tells of itself, of a whole row, and of the head of the board."""

GONE = 8
"""How many of the processes that are gone are remembered: PID, STATE and when that was, each in `GONE_WORDS`."""

GONE_WORDS = 4

HISTORY = 64
"""Slots for the last minutes, each of `HISTORY_WORDS`; the status page says what is in them (`admin.history`)."""

HISTORY_WORDS = 64

GONE_BEGIN = HEAD_WORDS
HISTORY_BEGIN = GONE_BEGIN + GONE * GONE_WORDS
ROWS_BEGIN = HISTORY_BEGIN + HISTORY * HISTORY_WORDS


class Head(IntEnum):
    """Where what the board tells of the whole launch is.

    CHANGES: odd while a row is being added to the past
    ROWS: how many rows have ever been used
    PHASE: how the launch stands
    STARTED: when it began, CLOCK_MONOTONIC in nanoseconds
    RESTARTS: workers that were replaced after they had died
    SIDES: a bit for each of `SIDES` that the launch is to serve
    PULSE: when the supervisor last looked around, CLOCK_MONOTONIC in nanoseconds; 0 without one
    EPOCH: when it began by the clock on the wall, in nanoseconds since 1970, and one for all who are asked
    ENDED: how many processes have gone
    DRAINED: whether an operator wants no more requests sent here; the listeners stay open
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
    """Return where the durations of a kind of request begin in a side's part of a row."""
    return REQUESTS + (METHODS.index(method) * len(STATUSES) + STATUSES.index(status)) * BUCKETS


def bits(sides: Collection[Side]) -> int:
    """Return the word that stands for sides."""
    return sum(1 << SIDES.index(side) for side in sides)


def sides_of(word: int) -> tuple[Side, ...]:
    """Return the sides that a word stands for."""
    return tuple(side for index, side in enumerate(SIDES) if word & (1 << index))


def side_begin(index: int) -> int:
    """Return where the part of a side begins in a row.

    index: the side's in `SIDES`
    """
    return OWN_WORDS + index * SIDE_WORDS

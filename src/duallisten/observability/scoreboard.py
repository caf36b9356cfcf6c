"""The scoreboard: the state and counters of all processes of a launch, in shared memory.

Health checks, metrics and the status page are about all processes. Any process that serves the private side may get the
request. It must know the state of the others without asking them, because they may be busy, blocked or dead.

Each process has a row, which only this process writes: counters that only grow, and gauges. There are no locks: a row
consists of aligned machine words, which a processor reads and writes whole. A reader may see a request counted in one
word and not yet in the next, but it never sees half a number. Row 0 holds the totals of ended processes. When a process
is gone, only its supervisor uses the row: it adds the row's counters to row 0 and frees the row. Readers notice that
(`Head.CHANGES` is odd meanwhile, or has changed) and read again, so no counter ever decreases. The supervisor also
records the last processes that ended. Besides the rows there are slots for the last minutes, for the status page
(`admin.history`).

The memory is a file without a name (memfd_create(2)); only the pages that are written take up memory. A child process
gets the file's descriptor. The file vanishes with the last process that has it open.

Invariants:
    - Nothing here blocks, asks another process, or keeps a process from starting or ending.
    - Of requests, the scoreboard contains only numbers, never their content.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from duallisten.logs import wall_clock
from duallisten.observability.lifecycle import Phase
from duallisten.observability.scoreboard_layout import (
    GAUGES,
    GONE,
    GONE_BEGIN,
    GONE_WORDS,
    HEAD_WORDS,
    HISTORY_BEGIN,
    REQUESTS,
    ROW_WORDS,
    ROWS_BEGIN,
    SIDE_WORDS,
    SIDES,
    WORD,
    Head,
    Own,
    bits,
    side_begin,
    sides_of,
)
from duallisten.sides import Side


class ProcessView(NamedTuple):
    """The state of one process, as read from the scoreboard.

    heartbeat_age: seconds since its event loop last turned
    age: seconds since it was started
    state_age: seconds since it entered its state
    """

    pid: int
    state: Phase
    sides: tuple[Side, ...]
    heartbeat_age: float
    age: float
    state_age: float = 0.0


class GoneView(NamedTuple):
    """A process that is gone, as read from the scoreboard.

    state: its last state
    age: seconds since the supervisor noticed its end
    """

    pid: int
    state: Phase
    age: float


class SideView(NamedTuple):
    """The numbers of one side, for one process or all processes.

    cells: by `Cell`
    requests: by method, status and bucket, flat, in the order of `METHODS`, `STATUSES`, `BOUNDS`
    """

    cells: tuple[int, ...]
    requests: tuple[int, ...]


class View(NamedTuple):
    """The content of the scoreboard at one time.

    now: the time of reading, CLOCK_MONOTONIC in seconds
    age: seconds since the launch began
    expected: the sides that the launch is to serve
    supervisor_age: seconds since the supervisor's loop last ran; None without a supervisor
    epoch: the time when the launch began, in seconds since 1970
    gone: the last processes that have ended or died
    is_drained: whether an operator has drained the launch: no more requests should be sent here
    """

    now: float
    phase: Phase
    age: float
    restarts: int
    expected: tuple[Side, ...]
    supervisor_age: float | None
    processes: tuple[ProcessView, ...]
    sides: dict[Side, SideView]
    epoch: float = 0.0
    gone: tuple[GoneView, ...] = ()
    is_drained: bool = False


class RowRef(NamedTuple):
    """The row of a process on the scoreboard of its launch. Only that process writes to it. It can be pickled."""

    board: Scoreboard
    number: int

    @property
    def words(self) -> memoryview:
        """The words of the row: the state of the process, by `Own`, and then the parts of the sides."""
        return self.board.words(self.number)

    def side(self, side: Side) -> memoryview:
        """Return the part of a side: words by `Cell`, and from `REQUESTS` on the counts of requests."""
        begin = side_begin(SIDES.index(side))
        return self.words[begin : begin + SIDE_WORDS]

    def begin(self, pid: int) -> None:
        """Record that the process starts."""
        words = self.words
        words[Own.STARTED] = words[Own.CHANGED] = words[Own.HEARTBEAT] = time.monotonic_ns()
        words[Own.STATE] = Phase.STARTING
        words[Own.PID] = pid

    def beat(self) -> None:
        """Record that the event loop turns."""
        self.words[Own.HEARTBEAT] = time.monotonic_ns()

    def set_state(self, state: Phase, sides: Collection[Side]) -> None:
        """Record the state of the process, and the sides whose listeners it accepts at."""
        words = self.words
        if words[Own.STATE] != state:
            words[Own.CHANGED] = time.monotonic_ns()
            words[Own.STATE] = state
        words[Own.SIDES] = bits(sides)

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the event loop last turned."""
        return (time.monotonic_ns() - int(self.words[Own.HEARTBEAT])) / 1e9


class Scoreboard:
    """The scoreboard of a launch. Pickled to a child process, it uses the same memory there.

    capacity: the number of rows, including row 0
    descriptor: the file descriptor of its memory
    history: the words of the last minutes, which `admin.history` writes and reads
    """

    def __init__(self, capacity: int = 512) -> None:
        self.capacity = capacity
        self.descriptor = _nameless_file()
        os.ftruncate(self.descriptor, self._size)
        self._map()
        self.head[Head.STARTED] = time.monotonic_ns()
        self.head[Head.EPOCH] = round(wall_clock() * 1e9)  # only for display
        self.head[Head.ROWS] = 1
        self._free: list[int] = []

    def __reduce__(self) -> Any:
        from multiprocessing.reduction import DupFd

        return _unpickle, (self.capacity, DupFd(self.descriptor))

    @classmethod
    def attach(cls, capacity: int, descriptor: int) -> Scoreboard:
        """Attach to the scoreboard of another process, by its file descriptor in this process."""
        board = cls.__new__(cls)
        board.capacity = capacity
        board.descriptor = descriptor
        board._map()
        board._free = []
        return board

    @property
    def _size(self) -> int:
        return (ROWS_BEGIN + self.capacity * ROW_WORDS) * WORD

    def _map(self) -> None:
        self._words = memoryview(mmap.mmap(self.descriptor, self._size)).cast("Q")
        self.head = self._words[:HEAD_WORDS]
        self._gone = self._words[GONE_BEGIN:HISTORY_BEGIN]
        self.history = self._words[HISTORY_BEGIN:ROWS_BEGIN]

    def row(self, number: int) -> RowRef:
        """Return a reference to a row, for its process to write to."""
        return RowRef(self, number)

    def words(self, number: int) -> memoryview:
        """Return the words of a row."""
        begin = ROWS_BEGIN + number * ROW_WORDS
        return self._words[begin : begin + ROW_WORDS]

    def take_row(self) -> int:
        """Take a free row, and return its number, or 0 if there is none; called only by the supervisor."""
        if self._free:
            return self._free.pop()
        number = int(self.head[Head.ROWS])
        if number >= self.capacity:
            return 0
        self.head[Head.ROWS] = number + 1
        return number

    def retire_row(self, number: int) -> None:
        """Add the counters of a process that is gone to row 0, and free its row; called only by the supervisor."""
        if not number:
            return
        row, past = self.words(number), self.words(0)
        self.head[Head.CHANGES] += 1
        for index, _ in enumerate(SIDES):
            begin = side_begin(index)
            for cell in GAUGES:
                row[begin + cell] = 0
            for at, value in enumerate(row[begin : begin + SIDE_WORDS].tolist(), begin):
                if value:
                    past[at] += value
                    row[at] = 0
        if row[Own.PID]:
            begin = self.head[Head.ENDED] % GONE * GONE_WORDS
            for at, value in enumerate((row[Own.PID], row[Own.STATE], time.monotonic_ns()), begin):
                self._gone[at] = value
            self.head[Head.ENDED] += 1
        for own in Own:
            row[own] = 0
        self.head[Head.CHANGES] += 1
        self._free.append(number)

    def read(self) -> View:
        """Read the whole scoreboard, and again if a row was retired meanwhile."""
        while True:
            before = self.head[Head.CHANGES]
            view = self._read()
            if not before % 2 and self.head[Head.CHANGES] == before:
                return view
            time.sleep(0.0005)

    def processes(self) -> tuple[ProcessView, ...]:
        """Read the states of the processes, without their counters."""
        rows = [self.words(number) for number in range(1, self.head[Head.ROWS])]
        return tuple(_read_processes(rows, time.monotonic_ns()))

    def _read(self) -> View:
        now = time.monotonic_ns()
        rows = [self.words(number) for number in range(self.head[Head.ROWS])]
        pulse = self.head[Head.PULSE]
        return View(
            now=now / 1e9,
            phase=Phase(self.head[Head.PHASE]),
            age=max(0, now - self.head[Head.STARTED]) / 1e9,
            restarts=self.head[Head.RESTARTS],
            expected=sides_of(self.head[Head.SIDES]),
            supervisor_age=max(0, now - pulse) / 1e9 if pulse else None,
            processes=tuple(_read_processes(rows[1:], now)),
            sides={side: _sum(rows, side_begin(index)) for index, side in enumerate(SIDES)},
            epoch=self.head[Head.EPOCH] / 1e9,
            gone=tuple(self._read_gone(now)),
            is_drained=bool(self.head[Head.DRAINED]),
        )

    def _read_gone(self, now: int) -> Iterator[GoneView]:
        for begin in range(0, min(self.head[Head.ENDED], GONE) * GONE_WORDS, GONE_WORDS):
            pid, state, ended = self._gone[begin : begin + 3]
            yield GoneView(pid, Phase(state), max(0, now - ended) / 1e9)


def _read_processes(rows: list[memoryview], now: int) -> Iterator[ProcessView]:
    for row in rows:
        if row[Own.PID]:
            yield ProcessView(
                pid=row[Own.PID],
                state=Phase(row[Own.STATE]),
                sides=sides_of(row[Own.SIDES]),
                heartbeat_age=max(0, now - row[Own.HEARTBEAT]) / 1e9,
                age=max(0, now - row[Own.STARTED]) / 1e9,
                state_age=max(0, now - row[Own.CHANGED]) / 1e9,
            )


def _sum(rows: list[memoryview], begin: int) -> SideView:
    totals = [sum(values) for values in zip(*(row[begin : begin + SIDE_WORDS].tolist() for row in rows), strict=True)]
    return SideView(tuple(totals[:REQUESTS]), tuple(totals[REQUESTS:]))


def _nameless_file() -> int:
    """Open a nameless file in memory, whose descriptor is not inherited by programs that this process executes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("duallisten-scoreboard", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _unpickle(capacity: int, descriptor: Any) -> Scoreboard:
    return Scoreboard.attach(capacity, descriptor.detach())

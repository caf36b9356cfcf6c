"""How a process is observed: its row on the scoreboard, its heartbeat, what records its requests, and its pages.

The heartbeat is a timer of the event loop that tells, by being late, that the loop is not turning; it is what a health
check believes, and nothing else that a process says of itself. It also writes what can be counted at any time and need
not be counted at every request: connections that are open, requests in hand, how the server stands.

There is none of this unless it is asked for (`Config.has_pages`), or requests are to have ids.
"""

from __future__ import annotations

import asyncio
import os

from duallisten.listeners import ListenerSet
from duallisten.observability import SIDES, Cell, Head, Lifecycle, Phase, RowRef, Scoreboard, bits
from duallisten.server.fallback_responder import Standby

HEARTBEAT = 0.1
"""Seconds between two beats."""

SAMPLING = 10
"""Beats between two countings of what is open."""


class Observation:
    """One process, observed.

    listeners: what serves
    lifecycle: how the server stands
    seat: its place on the board of its launch; None where it is the whole launch, and has a board of its own
    """

    def __init__(self, listeners: ListenerSet, lifecycle: Lifecycle, seat: RowRef | None) -> None:
        self._listeners = listeners
        self._lifecycle = lifecycle
        self._is_alone = seat is None
        if seat is None:
            board = Scoreboard(capacity=2)
            seat = RowRef(board, board.take_row())
        self.seat = seat
        self.board = seat.board
        self.row = seat.row
        self._beats = 0
        self._standby: Standby | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to beat, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self.row.begin(os.getpid())
        self._lifecycle.observers.append(self._hear)
        self._turn()

    def _hear(self, phase: Phase) -> None:
        self.beat()
        service = self._listeners.private
        if phase is Phase.DRAINING and service is not None and service.pages is not None:
            service.pages.end()

    def _turn(self) -> None:
        assert self._loop is not None  # noqa: S101
        self._timer = self._loop.call_later(HEARTBEAT, self._turn)
        self.beat()

    def beat(self) -> None:
        """Write down how things stand."""
        listeners = self._listeners
        phase = self._lifecycle.phase
        self.row.beat()
        self.row.set_state(Phase.READY if phase.serves else phase, listeners.accepting)
        if self._is_alone:
            self.board.head[Head.PHASE] = phase
            if listeners.plan is not None:
                self.board.head[Head.SIDES] = bits(listeners.plan.sides)
        self._count()
        if self._beats % SAMPLING == 0:
            self._sample()
        if self._standby is None and listeners.listening:
            self._stand_by()
        self._beats += 1

    def _stand_by(self) -> None:
        """Ensure that the pages are answered when the event loop is blocked."""
        service = self._listeners.private
        if service is not None and service.pages is not None and self._loop is not None:
            self._standby = Standby(self._listeners, self.seat, service.pages, self._loop.call_soon_threadsafe)
            self._standby.start()

    def _count(self) -> None:
        """Count the requests that were answered since the last beat."""
        for counter in {service.counter for service in self._listeners.services.values()} - {None}:
            counter.count()  # type: ignore[union-attr]

    def _sample(self) -> None:
        for side in SIDES:
            cells = self.row.side(side)
            states = self._listeners.states(side)
            cells[Cell.OPEN] = sum(len(state.connections) for state in states)
            cells[Cell.IN_FLIGHT] = sum(len(state.tasks) for state in states)
        service = self._listeners.private
        if service is not None and service.pages is not None:
            service.pages.record()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._standby is not None:
            self._standby.stop()

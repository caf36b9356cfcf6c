"""The observation of a process: its row on the scoreboard, its heartbeat, and the thread for its pages.

The heartbeat is a timer of the event loop: when it is late, the loop is blocked. A health check relies on the heartbeat
alone. The heartbeat also writes values that need not be counted at each request: open connections, requests in hand,
and the server's phase.

All this exists only where pages, metrics or the control socket are asked for (`Config.is_observed`).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from duallisten.observability import SIDES, Cell, Head, Lifecycle, Phase, RowRef, Scoreboard, bits
from duallisten.server.fallback_responder import Standby

if TYPE_CHECKING:
    from duallisten.listeners import ListenerSet

HEARTBEAT = 0.1
"""Seconds between two beats."""

SAMPLING = 10
"""Beats between two counts of open connections and requests in hand."""


class Observation:
    """The observation of one process.

    Args:
        listeners: The listeners of the process.
        lifecycle: The server's lifecycle.
        seat: The process's row on the launch's scoreboard; None where it is the whole launch and has its own board.

    Attributes:
        loop: The event loop of the process; None before it runs.
    """

    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, listeners: ListenerSet, lifecycle: Lifecycle, seat: RowRef | None) -> None:
        self._listeners = listeners
        self._lifecycle = lifecycle
        self._is_alone = seat is None
        if seat is None:
            board = Scoreboard(capacity=2)
            seat = RowRef(board, board.take_row())
        self.row = seat
        self.board = seat.board
        self._beats = 0
        self._standby: Standby | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the heartbeat in the running loop."""
        self.row.begin(os.getpid())
        self._lifecycle.observers.append(self._hear)
        self.loop = asyncio.get_running_loop()
        self._turn(self.loop)

    def stop(self) -> None:
        """Stop the heartbeat and the thread for the pages."""
        if self._timer is not None:
            self._timer.cancel()
        if self._standby is not None:
            self._standby.stop()
            self._standby = None

    def _hear(self, phase: Phase) -> None:
        self.beat()
        self._stand_by()  # at once: the first request may block the event loop
        service = self._listeners.private
        if phase is Phase.DRAINING and service is not None and service.pages is not None:
            service.pages.end()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(HEARTBEAT, self._turn, loop)
        self.beat()
        if self._beats % SAMPLING == 0:
            self._sample()
        self._beats += 1
        self._stand_by()

    def _stand_by(self) -> None:
        """Start the thread that answers our pages while the event loop is blocked, once there are pages."""
        service = self._listeners.private
        if self._standby is None and self._listeners.listening and service is not None and service.pages is not None:
            hand_over = asyncio.get_running_loop().call_soon_threadsafe
            self._standby = Standby(self._listeners, self.row, service.pages, hand_over)
            self._standby.start()

    def beat(self) -> None:
        """Write the phase to the scoreboard, and count the requests that were answered since the last beat."""
        listeners, phase = self._listeners, self._lifecycle.phase
        self.row.beat()
        told = min(phase, Phase.DRAINING)  # a process that has stopped but not exited counts as draining
        self.row.set_state(Phase.READY if phase.serves else told, listeners.accepting)
        if self._is_alone:
            self.board.head[Head.PHASE] = phase
            if listeners.plan is not None:
                self.board.head[Head.SIDES] = bits(listeners.plan.sides)
        for counter in {service.counter for service in listeners.services.values()}:
            if counter is not None:
                counter.count()

    def _sample(self) -> None:
        for side in SIDES:
            cells = self.row.side(side)
            states = self._listeners.states(side)
            cells[Cell.OPEN] = sum(len(state.connections) for state in states)
            cells[Cell.IN_FLIGHT] = sum(len(state.tasks) for state in states)
        service = self._listeners.private
        if service is not None and service.pages is not None:
            service.pages.record()

"""How a process is observed: its row on the scoreboard, its heartbeat, what records its requests, and its pages.

The heartbeat is a timer of the event loop that tells, by being late, that the loop is not turning; it is what a health
check believes, and nothing else that a process says of itself. It also writes what can be counted at any time and need
not be counted at every request: connections that are open, requests in hand, how the server stands.

There is none of this unless it is asked for (`Config.has_pages`), or requests are to have ids.
"""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from duallisten.acceptor import Service
from duallisten.admission import Side, Verdict
from duallisten.board_layout import SIDES, Cell, Head, Phase, State, bits
from duallisten.config import Config
from duallisten.drain import Listening
from duallisten.ending import DrainStep
from duallisten.plan import Plan
from duallisten.scoreboard import Scoreboard, Seat
from duallisten.standby import Standby

HEARTBEAT = 0.1
"""Seconds between two beats."""

SAMPLING = 10
"""Beats between two countings of what is open."""

STATES = {
    "starting": (State.STARTING, Phase.STARTING),
    "awaiting the private address": (State.READY, Phase.AWAITING_PRIVATE),
    "ready": (State.READY, Phase.READY),
    "ending": (State.DRAINING, Phase.DRAINING),
}
"""What each phase of a server is on the board: of its process, and of the launch where it is the only one."""


class Observed(Protocol):
    """A server, as far as it is observed; see `server.Server`."""

    config: Config
    plan: Plan | None
    services: dict[Verdict, Service]
    listening: list[Listening]
    drain_steps: list[DrainStep]

    @property
    def phase(self) -> str: ...  # noqa: D102


def observe(server: Observed, seat: Seat | None) -> Observation | None:
    """Observe a process, if anything that is asked for tells of it."""
    return Observation(server, seat) if server.config.has_pages else None


class Observation:
    """One process, observed.

    seat: its place on the board of its launch; None where it is the whole launch, and has a board of its own
    """

    def __init__(self, server: Observed, seat: Seat | None) -> None:
        self._server = server
        self._is_alone = seat is None
        if seat is None:
            board = Scoreboard(capacity=2)
            seat = Seat(board, board.take_row())
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
        self._server.drain_steps.insert(0, DrainStep("not ready any more", self._tell_end))
        self._turn()

    async def _tell_end(self) -> None:
        self.beat()
        service = self._server.services.get(Verdict.PRIVATE)
        if service is not None and service.pages is not None:
            service.pages.end()

    def _turn(self) -> None:
        assert self._loop is not None  # noqa: S101
        self._timer = self._loop.call_later(HEARTBEAT, self._turn)
        self.beat()

    def beat(self) -> None:
        """Write down how things stand."""
        server = self._server
        state, phase = STATES[server.phase]
        self.row.beat()
        self.row.stand(state, {one.bound.side for one in server.listening} | self._shared)
        if self._is_alone:
            self.board.head[Head.PHASE] = phase
            if server.plan is not None:
                self.board.head[Head.SIDES] = bits(server.plan.sides)
        self._count()
        if self._beats % SAMPLING == 0:
            self._sample()
        if self._standby is None and server.listening:
            self._stand_by()
        self._beats += 1

    def _stand_by(self) -> None:
        """See that the pages are answered when the event loop is blocked."""
        service = self._server.services.get(Verdict.PRIVATE)
        if service is not None and service.pages is not None and self._loop is not None:
            self._standby = Standby(self._server, self.seat, service.pages, self._loop.call_soon_threadsafe)
            self._standby.start()

    @property
    def _shared(self) -> set[Side]:
        """The side that has no listener of its own, for one socket serves both."""
        plan = self._server.plan
        return {"private"} if plan is not None and plan.shared and self._server.listening else set()

    def _count(self) -> None:
        """Count the requests that were answered since the last beat."""
        for recorder in {service.recorder for service in self._server.services.values()} - {None}:
            recorder.count()  # type: ignore[union-attr]

    def _sample(self) -> None:
        for side in SIDES:
            cells = self.row.side(side)
            states = {id(one.state): one.state for one in self._server.services.values() if one.side == side}
            cells[Cell.OPEN] = sum(len(state.connections) for state in states.values())
            cells[Cell.IN_FLIGHT] = sum(len(state.tasks) for state in states.values())

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._standby is not None:
            self._standby.stop()

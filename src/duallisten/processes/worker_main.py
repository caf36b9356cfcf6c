"""What runs in a worker process, and under uvicorn's reloader.

A worker and its supervisor talk over a pipe. The worker tells that it began, that its application is ready, that it
serves, that it ends, or why it failed; it answers when it is asked for a sign of life. It obeys: it accepts only when
told that it may, for the supervisor first makes sure that the address is ours (`accept_queues`), and it stands in for a
worker that is missing by accepting from that one's queue, too, until told to leave it; it opens the private listener
when that has come late. From the pipe's end it hears that its supervisor is gone, and ends in good order, or at once if
its event loop no longer turns: no orphan keeps the port.

SIGTERM ends it with all others, so its private listener lingers (`shutdown`). An order to retire ends it alone: others
accept from its queues, so it leaves them at once, with what is in them.

The pipe is read in a thread of its own, which answers also while the application blocks the event loop: that is no
reason to be killed. The event loop answers, too, so that the supervisor knows when another worker has to accept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

from duallisten.config import Config
from duallisten.errors import DuallistenError
from duallisten.listeners import BoundSocket, Listening, Plan, bound_socket
from duallisten.observability import RowRef
from duallisten.server import Server
from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

Report = Literal["began", "ready", "serving", "ending", "failed", "alive", "turning"]
"""What a worker tells its supervisor: the first of a pair, whose second says more."""

PERMISSION_POLL = 0.1
"""Seconds between two looks whether a worker that waits for permission to accept was told to end instead."""

ORPHAN_GRACE = 5.0
"""Seconds that a worker without a supervisor has to stop accepting, before it kills itself."""


class Order(NamedTuple):
    """What a supervisor tells a worker.

    slot: whose queue is meant
    sides: the sides of the sockets that follow, in their order (`multiprocessing.reduction.send_handle`)
    plan: what is served from now on
    """

    name: Literal["ping", "accept", "stand in", "stand down", "open", "retire"]
    slot: int = 0
    sides: tuple[Side, ...] = ()
    plan: Plan | None = None


class SupervisedServer(Server):
    """A server that tells its supervisor how it stands, and obeys it."""

    def __init__(
        self, config: Config, plan: Plan, bound: list[BoundSocket], pipe: Connection, seat: RowRef | None = None
    ) -> None:
        super().__init__(config, plan=plan, bound=bound, seat=seat)
        self.stopping = threading.Event()
        self._pipe = pipe
        self._line = socket.socket(fileno=os.dup(pipe.fileno()))  # the same pipe, for the descriptors that come over it
        self._line.setblocking(True)  # whatever socket.setdefaulttimeout() says
        self._telling = threading.Lock()
        self._permitted = asyncio.Event()
        self._standing_in: dict[int, list[Listening]] = {}
        self._retired = False
        self._changing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, report: Report, text: str = "") -> None:
        """Tell the supervisor; one that is gone need not know."""
        with self._telling, suppress(OSError):
            self._pipe.send((report, text))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as a server does, and tell."""
        await super().startup(sockets)
        if self.started:
            self.tell("serving")

    async def before_accepting(self) -> None:
        """Wait until the supervisor permits it, or until told to end."""
        self._loop = asyncio.get_running_loop()
        self.tell("ready", self.config.unused_rules)
        while not self.should_exit and not self._permitted.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._permitted.wait(), PERMISSION_POLL)

    def await_private(self) -> None:
        """Leave it to the supervisor, which orders to open the private listener."""

    @property
    def linger(self) -> float:
        """Seconds that the private listener goes on accepting: none where a successor does, or another worker."""
        return super().linger if self.should_exit and not self._retired else 0.0

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Shut down as a server does, and tell."""
        self.tell("ending")
        self.stopping.set()
        await super().shutdown(sockets)

    def obey_orders(self) -> None:
        """Obey until the supervisor is gone, then end as if it had said so; runs in a thread of its own."""
        try:
            while True:
                order: Order = self._pipe.recv()
                given = [sock for _ in order.sides for sock in self._take_socket()]
                if order.name == "ping":
                    self._answer()
                elif order.name == "retire":
                    self._retire()
                elif len(given) == len(order.sides):
                    self._obey(order, given)
                else:
                    logger.warning("No descriptor is left for an order to %s", order.name)
                    for sock in given:
                        sock.close()
                    if order.name == "open":
                        self._retire()  # its successor gets all of them
        except (EOFError, OSError):
            self._end_as_orphan()

    def _answer(self) -> None:
        """Give a sign of life of this thread, and when it turns one of the event loop."""
        self.tell("alive")
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.tell, "turning")

    def _take_socket(self) -> Iterator[socket.socket]:
        """Take a socket that follows an order; none where this process has as many descriptors as it may have.

        `multiprocessing.reduction.recv_handle` needs a second one for itself, and leaves a byte in the pipe without it.
        """
        message, descriptors, _, _ = socket.recv_fds(self._line, 1, 1)
        if not message:
            raise EOFError
        for descriptor in descriptors:
            sock = socket.socket(fileno=descriptor)
            sock.set_inheritable(False)
            yield sock

    def _obey(self, order: Order, given: list[socket.socket]) -> None:
        """Have an order carried out by the event loop, where there still is one."""
        bound = [bound_socket(side, sock) for side, sock in zip(order.sides, given, strict=True)]
        work = self._carry_out(order, bound)
        try:
            assert self._loop is not None  # noqa: S101  # orders come after "ready"
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            for sock in given:
                sock.close()

    async def _carry_out(self, order: Order, bound: list[BoundSocket]) -> None:
        async with self._changing:  # one after the other, in the order in which they came
            if order.name == "accept":
                self._permitted.set()
            elif order.name == "stand in":
                await self._stand_in(order.slot, bound)
            elif order.name == "open":
                assert order.plan is not None  # noqa: S101
                await self.adopt(order.plan, bound)
            else:
                for one in self._standing_in.pop(order.slot, ()):
                    one.server.close()
                    self.listeners.listening.remove(one)

    async def _stand_in(self, slot: int, bound: list[BoundSocket]) -> None:
        for one in bound:
            if self.stopping.is_set() or self._reception is None:
                one.socket.close()
                continue
            if (accepting := await self.accept(one)) in self.listeners.listening:
                self._standing_in.setdefault(slot, []).append(accepting)

    def _retire(self) -> None:
        self._retired = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_as_orphan(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if not self.stopping.wait(ORPHAN_GRACE):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class WorkerProcess:
    """What a worker runs; pickled into it.

    sides: the side of each socket that it is given, in their order
    seat: its place on the scoreboard, if there is one
    """

    config: Config
    plan: Plan
    sides: tuple[Side, ...]
    pipe: Connection
    seat: RowRef | None = None

    def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop; exits with uvicorn's code for a failed start, having told the supervisor why."""
        if self.seat is not None and self.config.options.private_metrics is not None:
            from duallisten.admin.metrics_multiprocess import join

            join(self.seat.number)
        server = SupervisedServer(self.config, self.plan, _bound(self.sides, sockets), self.pipe, self.seat)
        server.tell("began")
        threading.Thread(target=server.obey_orders, name="duallisten-supervised", daemon=True).start()
        try:
            server.run()
        except DuallistenError as error:
            server.tell("failed", str(error))
            sys.exit(error.exit_code)


@dataclass(frozen=True)
class ReloadedProcess:
    """What the process under uvicorn's reloader runs; it tells a developer itself what went wrong."""

    config: Config
    plan: Plan
    sides: tuple[Side, ...]

    def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            self.make_server(sockets).run()
        except DuallistenError as error:
            sys.stderr.write(f"duallisten: {error}\n")
            sys.exit(error.exit_code)

    def make_server(self, sockets: list[socket.socket] | None) -> Server:
        """Build the server."""
        return Server(self.config, plan=self.plan, bound=self.bound(sockets))

    def bound(self, sockets: list[socket.socket] | None) -> list[BoundSocket]:
        """Take the sockets for those of their sides."""
        return _bound(self.sides, sockets)


def _bound(sides: tuple[Side, ...], sockets: list[socket.socket] | None) -> list[BoundSocket]:
    return [bound_socket(side, sock) for side, sock in zip(sides, sockets or (), strict=True)]

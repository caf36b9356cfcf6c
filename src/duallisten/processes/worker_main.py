"""Main module of a worker process, and of the process under uvicorn's reloader.

A worker reports to its supervisor over a pipe (`worker_protocol`) that it began, that its application is ready, that it
serves, that it is ending, or why it failed. It accepts only when the supervisor permits it; before, the supervisor
ensures that no other process has the address (`worker_slots`). On an order it also accepts from the queues of a missing
worker (it backs that worker up), and opens the private listener whose address has come late.

- A separate thread reads the pipe. It answers a ping also while the application blocks the event loop, which alone is
  no reason to kill the worker. The event loop answers, too, so the supervisor knows when another worker must accept.
- Questions from the control socket are answered over a socket that comes with the order, each in a thread.
- The pipe closes when the supervisor ends. Then the worker shuts down gracefully, or kills itself if its event loop is
  blocked: no orphan keeps the port.
- After `--limit-max-requests` requests the worker reports that and goes on: the supervisor replaces it (`recycling`).
- SIGTERM ends the worker with all others, so its listeners linger (`shutdown`). An order to retire ends it alone: it
  leaves its queues at once, and other workers accept the connections in them.
- It exits like a process that no signal has ended: `atexit` functions run. The supervisor kills the worker if that
  takes too long (`worker_watch`); without a supervisor the worker kills itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from duallisten.errors import DuallistenError
from duallisten.logs import set_level
from duallisten.processes.debugger import is_debugged
from duallisten.processes.exit_watch import ExitWatch, end_patience
from duallisten.processes.process_signals import answered_signals, released
from duallisten.processes.worker_protocol import Channel, bound_sockets
from duallisten.server import Server, waited_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Listening, Plan
    from duallisten.observability import RowRef
    from duallisten.processes.worker_protocol import Order, Report
    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

PERMISSION_POLL = 0.1
"""Seconds between two checks for a stop signal, while a worker waits for permission to accept."""

WAITING = 1.0
"""Seconds after the begin of its shutdown at which a worker reports what it waits for."""

ORPHAN_GRACE = 5.0
"""Seconds after which a worker without a supervisor kills itself if its shutdown has not begun."""


class SupervisedServer(Server):
    """A server that reports to its supervisor, and obeys its orders."""

    def __init__(
        self, config: Config, plan: Plan, bound: list[BoundSocket], pipe: Connection, row: RowRef | None = None
    ) -> None:
        super().__init__(config, plan=plan, bound=bound, seat=row)
        self.stopping = threading.Event()
        self._never = threading.Event()
        self._channel = Channel(pipe)
        self._sending = threading.Lock()
        self._permitted = asyncio.Event()
        self._backed_up: dict[int, list[Listening]] = {}
        self._retired = False
        self._request_limit = super().limit_max_requests
        self._changing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def report(self, report: Report, text: str = "") -> None:
        """Report to the supervisor; do nothing if it is gone."""
        with self._sending, suppress(OSError):
            self._channel.send((report, text))

    def report_life(self, report: Literal["began", "alive"]) -> None:
        """Report that this process runs, and whether a debugger may stop it."""
        self.report(report, "debugged" if is_debugged() else "")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, and report that it serves."""
        await super().startup(sockets)
        if self.started:
            self.report("serving")

    @property
    def limit_max_requests(self) -> None:
        """None: a worker does not end by itself at its limit of requests."""

    async def on_tick(self, counter: int) -> bool:
        """Do the periodic work; report, once, that the limit of requests is reached."""
        limit = self._request_limit
        if limit is not None and sum(state.total_requests for state in self.states) >= limit:
            self._request_limit = None
            self.report("at limit", str(limit))
        return await super().on_tick(counter)

    async def before_accepting(self) -> None:
        """Wait until the supervisor permits to accept, or until told to end."""
        self._loop = asyncio.get_running_loop()
        self.report("ready", self.config.unused_rules)
        while not self.should_exit and not self._permitted.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._permitted.wait(), PERMISSION_POLL)

    def await_private(self) -> None:
        """Do nothing: the supervisor waits for the address, and orders to open the private listener."""

    def linger(self, side: Side) -> float:
        """Return the seconds that a listener of `side` goes on accepting; 0 if another worker has its queue."""
        return super().linger(side) if self.should_exit and not self._retired else 0.0

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Shut down the server, and report that."""
        self.report("ending")
        self.stopping.set()
        telling = asyncio.get_running_loop().call_later(WAITING, self._report_waiting)
        try:
            await super().shutdown(sockets)
        finally:
            telling.cancel()

    def _report_waiting(self) -> None:
        if text := waited_for(self.states):
            self.report("waiting", text)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, then report that the process only has to exit."""
        try:
            await super().serve(sockets)
        finally:
            self.report("ended")

    def obey_orders(self) -> None:
        """Obey orders until the supervisor is gone, then end; runs in a separate thread."""
        try:
            while True:
                order, descriptors = self._channel.receive()
                self._obey(order, [socket.socket(fileno=descriptor) for descriptor in descriptors])
        except (EOFError, OSError):
            self._end_as_orphan()

    def _obey(self, order: Order, sockets: list[socket.socket]) -> None:
        if order.name == "ping":
            self._answer()
        elif order.name == "retire":
            self._retire()
        elif order.name == "answer":
            self._inspect(order.text, sockets)
        elif order.name == "log level":
            set_level(order.text)
        elif len(sockets) == len(order.sides):
            self._hand_to_loop(order, bound_sockets(order.sides, sockets))
        else:
            logger.warning("No descriptor is left for an order to %s", order.name)
            for extra in sockets:
                extra.close()
            if order.name == "open":
                self._retire()  # its successor gets all queues

    def _answer(self) -> None:
        """Answer a ping: from this thread at once, and from the event loop as soon as that runs."""
        self.report_life("alive")
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.report, "turning")

    def _inspect(self, question: Any, sockets: list[socket.socket]) -> None:
        """Answer a question over the socket that came with it, in a daemon thread."""

        def tell(sock: socket.socket) -> None:
            from duallisten.server.inspection import Inspection

            with sock:
                loop = self.observation.loop if self.observation is not None else None
                Inspection(self.listeners, loop).send(question, sock)

        for sock in sockets:  # there is none if this process has reached its limit of descriptors
            try:
                threading.Thread(target=tell, args=(sock,), name="duallisten-inspection", daemon=True).start()
            except RuntimeError:  # no more threads can be started
                sock.close()

    def _hand_to_loop(self, order: Order, bound: list[BoundSocket]) -> None:
        """Let the event loop carry out an order, unless the loop is closed."""
        work = self._carry_out(order, bound)
        try:
            assert self._loop is not None  # noqa: S101  # orders come after "ready"
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            for queue in bound:
                queue.socket.close()

    async def _carry_out(self, order: Order, bound: list[BoundSocket]) -> None:
        async with self._changing:  # one order after the other, in sequence
            if order.name == "accept":
                self._permitted.set()
            elif order.name == "back up":
                await self._back_up(order.slot, bound)
            elif order.name == "open":
                assert order.plan is not None  # noqa: S101
                await self.adopt(order.plan, bound)
            else:
                for accepting in self._backed_up.pop(order.slot, ()):
                    accepting.server.close()
                    self.listeners.listening.remove(accepting)

    async def _back_up(self, slot: int, bound: list[BoundSocket]) -> None:
        for queue in bound:
            if self.stopping.is_set() or self._reception is None:
                queue.socket.close()
                continue
            if (accepting := await self.accept(queue)) in self.listeners.listening:
                self._backed_up.setdefault(slot, []).append(accepting)

    def _retire(self) -> None:
        self._retired = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_as_orphan(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if self.stopping.wait(ORPHAN_GRACE):
            self._never.wait(min(end_patience(self.config), threading.TIMEOUT_MAX))
        os.kill(os.getpid(), signal.SIGKILL)


def run_worker(
    config: Config, plan: Plan, bound: list[BoundSocket], pipe: Connection, row: RowRef | None = None
) -> None:
    """Serve until told to stop; on a failed start report the reason, and exit with uvicorn's code for that."""
    if row is not None and config.options.private_metrics is not None:
        from duallisten.admin.metrics_multiprocess import join

        join(row.number)
    server = SupervisedServer(config, plan, bound, pipe, row)
    signal.signal(signal.SIGTERM, server.handle_exit)  # so that uvicorn's raising it again does not kill this process
    with answered_signals(signal.SIGHUP), released():
        server.report_life("began")
        threading.Thread(target=server.obey_orders, name="duallisten-supervised", daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):
                server.run()
        except DuallistenError as error:
            server.report("failed", str(error))
            ExitWatch(error.exit_code).start()
            sys.exit(error.exit_code)


@dataclass(frozen=True)
class ReloadedProcess:
    """The target of the process under uvicorn's reloader; it writes its errors to standard error itself."""

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
        return Server(self.config, plan=self.plan, bound=bound_sockets(self.sides, sockets or []))

"""What runs in a worker process, and under uvicorn's reloader.

A worker reports to its supervisor over a pipe (`worker_protocol`) that it began, that its application is ready, that it
serves, that it ends, or why it failed. It accepts only when the supervisor permits it, which first makes sure that the
address is nobody else's (`worker_slots`). It accepts from the queues of a missing worker, too, when it is told to back
that one up, and opens the private listener when that has come late.

- The pipe is read in a thread of its own, which answers a ping also while the application blocks the event loop: that
  is no reason to be killed. The event loop answers, too, so that the supervisor knows when another worker must accept.
- What the control socket asks of the worker is answered over a socket that comes with the order, in a thread for it.
- The pipe ends with the supervisor. Then the worker ends in good order, or at once if its event loop no longer turns:
  no orphan keeps the port.
- When it has served `--limit-max-requests` it says so and goes on: the supervisor replaces it (`recycling`).
- SIGTERM ends it with all others, so its listeners linger (`shutdown`). An order to retire ends it alone:
  others accept from its queues, so it leaves them at once, with what is in them.
- It exits as a process does that was not told to by a signal: functions of `atexit` run. The supervisor kills it if
  that takes too long (`worker_watch`), and without a supervisor it kills itself.
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
"""Seconds between two looks whether a worker that waits for permission to accept was told to end instead."""

WAITING = 1.0
"""Seconds that a worker has been ending for when it reports what it waits for."""

ORPHAN_GRACE = 5.0
"""Seconds that a worker without a supervisor has to stop accepting, before it kills itself."""


class SupervisedServer(Server):
    """A server that reports to its supervisor, and obeys it."""

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
        """Report to the supervisor; one that is gone need not know."""
        with self._sending, suppress(OSError):
            self._channel.send((report, text))

    def report_life(self, report: Literal["began", "alive"]) -> None:
        """Report that this process runs, and whether a debugger may stop it."""
        self.report(report, "debugged" if is_debugged() else "")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as a server does, and report it."""
        await super().startup(sockets)
        if self.started:
            self.report("serving")

    @property
    def limit_max_requests(self) -> None:
        """Nothing: it does not end by itself at its limit of requests."""

    async def on_tick(self, counter: int) -> bool:
        """Do the periodic work; report, once, that as many requests were served as may be."""
        limit = self._request_limit
        if limit is not None and sum(state.total_requests for state in self.states) >= limit:
            self._request_limit = None
            self.report("at limit", str(limit))
        return await super().on_tick(counter)

    async def before_accepting(self) -> None:
        """Wait until the supervisor permits it, or until told to end."""
        self._loop = asyncio.get_running_loop()
        self.report("ready", self.config.unused_rules)
        while not self.should_exit and not self._permitted.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._permitted.wait(), PERMISSION_POLL)

    def await_private(self) -> None:
        """Do nothing: the supervisor waits, and orders to open the private listener."""

    def linger(self, side: Side) -> float:
        """Seconds that a listener of `side` goes on accepting: none where a successor does, or another worker."""
        return super().linger(side) if self.should_exit and not self._retired else 0.0

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Shut down as a server does, and report it."""
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
        """Serve as a server does, and report that nothing is left but to exit."""
        try:
            await super().serve(sockets)
        finally:
            self.report("ended")

    def obey_orders(self) -> None:
        """Obey until the supervisor is gone, then end; runs in a thread of its own."""
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
                self._retire()  # its successor gets all of them

    def _answer(self) -> None:
        """Give a sign of life of this thread, and of the event loop when that turns."""
        self.report_life("alive")
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.report, "turning")

    def _inspect(self, question: Any, sockets: list[socket.socket]) -> None:
        """Answer a question over the socket that came with it, in a thread that nobody waits for."""

        def tell(sock: socket.socket) -> None:
            from duallisten.server.inspection import Inspection

            with sock:
                loop = self.observation.loop if self.observation is not None else None
                Inspection(self.listeners, loop).send(question, sock)

        for sock in sockets:  # there is none where no descriptor was left for it
            try:
                threading.Thread(target=tell, args=(sock,), name="duallisten-inspection", daemon=True).start()
            except RuntimeError:  # there can be no more threads
                sock.close()

    def _hand_to_loop(self, order: Order, bound: list[BoundSocket]) -> None:
        """Let the event loop carry out an order, where there still is one."""
        work = self._carry_out(order, bound)
        try:
            assert self._loop is not None  # noqa: S101  # orders come after "ready"
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            for queue in bound:
                queue.socket.close()

    async def _carry_out(self, order: Order, bound: list[BoundSocket]) -> None:
        async with self._changing:  # one after the other, in the order in which they came
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
    """Serve until told to stop; exits with uvicorn's code for a failed start, having reported why."""
    if row is not None and config.options.private_metrics is not None:
        from duallisten.admin.metrics_multiprocess import join

        join(row.number)
    server = SupervisedServer(config, plan, bound, pipe, row)
    signal.signal(signal.SIGTERM, server.handle_exit)  # uvicorn raises a signal again when it has obeyed it
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
    """What the process under uvicorn's reloader runs; it shows a developer itself what went wrong."""

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

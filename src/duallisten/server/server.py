"""The server: a `uvicorn.Server` with two listeners, one lifespan and one application state.

It opens the listeners of the plan in place of uvicorn's single one. The order of a launch, and why:

1. plan and bind (`prepare`), before the application is imported, so that a port in use stops the launch early;
2. the application's lifespan, once, whichever listeners there are;
3. the private listener accepts, then the public one, because a platform may take the first accepted connection for
   readiness. A private listener whose address appears late is opened then (`address_watch`).

The order of the shutdown is in `shutdown`.

Each listener has its own `uvicorn.Config` and `ServerState`, so a flood on one side uses up no limit of the other.

Invariants:
    - The server never exits and never prints: it raises errors.
    - It does not know its observers (a service manager, a registry, the scoreboard): they observe its `lifecycle`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from duallisten.config import Config
from duallisten.config.uvicorn_contract import UvicornServer, run_server
from duallisten.errors import LaunchError, ShutdownError
from duallisten.http import Clock
from duallisten.listeners import (
    AcceptLoop,
    Acceptor,
    AcceptorState,
    AddressWatch,
    BoundSocket,
    ListenerSet,
    Listening,
    Plan,
    ServedListener,
    Verdict,
    await_plan,
    log_listeners,
    request_of,
    served_listeners,
)
from duallisten.listeners import sockets as sock
from duallisten.net import read_host
from duallisten.observability import Lifecycle, Phase
from duallisten.server.lifespan import Alarm, Lifespans
from duallisten.server.registration import registration_of
from duallisten.server.services import (
    access_lines,
    import_websockets,
    judge_of,
    make_services,
    set_default_fields,
    share_of,
    trace,
)
from duallisten.server.shutdown import (
    SIGNAL_INTERVAL,
    Pause,
    end,
    linger_seconds,
    logged,
    start_or_give_up,
    start_patience,
)

if TYPE_CHECKING:
    from duallisten.config.uvicorn_contract import ServerState
    from duallisten.observability import RowRef
    from duallisten.observability.slow_requests import SlowRequests
    from duallisten.server.heartbeat import Observation
    from duallisten.server.registration import Registration
    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")


class Server(UvicornServer):
    """Serves one application on two listeners. In all else it is a `uvicorn.Server`, with `started` and the rest.

    Args:
        config: What to serve, and where.
        plan: The plan; without it the server makes one when it starts. This and the following are for workers.
        bound: The plan's sockets, bound by the caller, such as a supervisor.
        seat: The process's row on the launch's scoreboard, where it is one of several processes.

    Raises:
        LaunchError: By `run` and `serve`, where the launch fails. `run` logs it, and raises it as a `SystemExit`, too.
        ShutdownError: By both at their end, if a step of the shutdown has failed.
    """

    config: Config

    def __init__(
        self,
        config: Config,
        *,
        plan: Plan | None = None,
        bound: list[BoundSocket] | None = None,
        seat: RowRef | None = None,
    ) -> None:
        if not isinstance(config, Config):
            raise TypeError("duallisten.Server takes a duallisten.Config")
        self._pause = Pause()
        super().__init__(config)
        self.listeners = ListenerSet(plan, bound)
        self._reception: AcceptorState | None = None
        self.lines = access_lines(config)
        self.slow_requests: list[SlowRequests] = []
        self.clock: Clock | None = None
        self.lifecycle = Lifecycle()
        self._seat = seat
        self.observation: Observation | None = None
        self.is_alone = bound is None  # no other process has its sockets
        self.registration: Registration | None = None
        self._register()
        self._watch: AddressWatch | None = None
        self.alarm = Alarm()

    @property
    def plan(self) -> Plan | None:
        """The plan; None before it is made."""
        return self.listeners.plan

    @property
    def bound(self) -> list[BoundSocket] | None:
        """The plan's sockets; None before they are bound."""
        return self.listeners.bound

    @property
    def phase(self) -> Phase:
        """The current phase, for a readiness check."""
        return self.lifecycle.phase

    @property
    def ending(self) -> bool:
        """Whether shutdown has begun."""
        return self.phase >= Phase.DRAINING

    @property
    def addresses(self) -> dict[Side, tuple[str, int]]:
        """The first bound address of each side: (address, port in host order), or (path, 0)."""
        return {one.side: one.bound[0] for one in self._served if one.bound}

    def url(self, side: Side) -> str:
        """Return the first base URL of a side, without a slash at its end; empty if the side is not bound."""
        return next((one.urls[0] for one in self._served if one.side == side and one.bound), "")

    @property
    def _served(self) -> Iterable[ServedListener]:
        return served_listeners(self.config, self.plan, self.bound or ()) if self.plan is not None else ()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, in a new event loop; `sockets` are as for `serve`."""
        try:
            run_server(self, sockets)
        except LaunchError as error:
            raise (logged(error) if self.is_alone else error) from None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop; `sockets` are bound sockets for the public listener."""
        await self.prepare(sockets)
        self._observe()
        if self.observation is not None:
            self.observation.start()
        try:
            await super().serve(sockets)
        finally:
            if self.observation is not None:
                self.observation.stop()
            self.alarm.turn_off()
            self.lines.write()
            for slow in self.slow_requests:
                slow.stop()
            if self.clock is not None:
                self.clock.stop()
            sock.close(self.bound or [])
            if self.is_alone and self.plan is not None:
                sock.remove_path(self.plan)

    def _observe(self) -> None:
        """Build the observation, if it is asked for; late, because its shared memory cannot be pickled."""
        if self.observation is None and self.config.is_observed:
            from duallisten.server.heartbeat import Observation

            self.observation = Observation(self.listeners, self.lifecycle, self._seat)

    async def prepare(self, sockets: list[socket.socket] | None = None) -> None:
        """Build the plan and bind its sockets, once; raises LaunchError."""
        plan = self.plan
        if plan is None:
            import anyio.to_thread  # its event loop back end takes 35 ms to import; a launch plans before its loop runs

            request = request_of(self.config)
            if sockets:  # they replace host and port of the public listener
                request = request._replace(uds=None, fd=sockets[0].fileno())
            plan = await anyio.to_thread.run_sync(await_plan, request, read_host, abandon_on_cancel=True)
            self.listeners.plan = plan
            self.config.check_pages(has_private=plan.private is not None or plan.later)
        if self.bound is None:
            self.listeners.bound = sock.bind(plan, sockets, share=share_of(plan, sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept: on the private side first, on the public side last."""
        if self.ending:
            self._begin_again()
        await self.prepare(sockets)
        assert self.plan is not None and self.bound is not None  # noqa: S101
        self.lifespans = Lifespans(self.lifespan, self.config)
        if not self.config.loaded:
            self.config.load()
        self._observe()
        self.clock = Clock(asyncio.get_running_loop())
        self.listeners.services = make_services(self, self.plan)
        self.refresh_headers()
        if not await start_or_give_up(self, self.lifespans):
            return
        await self.before_accepting()
        if self.should_exit:  # a stop signal came meanwhile: shut the application down, and open no listener
            await end(self, self.lifespans)
            return
        trace(self.listeners.services)
        self._reception = AcceptorState(self.listeners.services, asyncio.get_running_loop())
        try:
            for one in sorted(self.bound, key=lambda bound: bound.side):  # "private" comes before "public"
                await self.accept(one)
        except OSError as error:
            with suppress(ShutdownError):
                await self.shutdown()
            raise LaunchError(f"the {one.side} listener cannot listen on {one.name}: {error.strerror}") from None
        if self.is_alone:
            log_listeners(self.config, self.plan, self.bound, lambda side: f"process {os.getpid()}")
        self.started = True
        import_websockets(self.config)
        self.await_private()
        self._tell()

    def _begin_again(self) -> None:
        """Reset the server: a program may start it again after a shutdown, as it may start uvicorn's."""
        self.listeners.bound = None
        self.listeners.listening.clear()
        self.lifespan = self.config.lifespan_class(self.config)
        if self.clock is not None:
            self.clock.stop()
        self._register()
        self.lifecycle.enter(Phase.STARTING)

    def _register(self) -> None:
        """Register the launch when it is ready, if that is asked for and this server is the whole launch."""
        if self.registration is not None:
            self.lifecycle.observers.remove(self.registration.hear)
        self.registration = registration_of(self.config, self.listeners) if self.is_alone else None
        if self.registration is not None:
            self.lifecycle.observers.append(self.registration.hear)

    async def before_accepting(self) -> None:
        """Run between the application's startup and the first connection: here, warn of unused rules."""
        if unused := self.config.unused_rules:
            logger.warning(unused)

    def await_private(self) -> None:
        """Open the private listener when its address appears, if the plan says so."""
        assert self.plan is not None  # noqa: S101
        if self.plan.later:
            self._watch = AddressWatch(request_of(self.config))
            self._watch.hand_over(asyncio.get_running_loop(), self._open_private)

    async def _open_private(self, plan: Plan, bound: list[BoundSocket]) -> None:
        """Open the private listener, whose address has appeared late, and log it."""
        await self.adopt(plan, bound)
        if self.plan is plan:
            log_listeners(self.config, plan, bound, lambda side: f"process {os.getpid()}")

    def _tell(self) -> None:
        """Enter the phase for the listeners that accept."""
        assert self.plan is not None  # noqa: S101
        self.lifecycle.enter(Phase.AWAITING_PRIVATE if self.plan.later else Phase.READY)

    async def adopt(self, plan: Plan, bound: list[BoundSocket]) -> None:
        """Replace the plan that waited for a private listener, and accept from the new sockets."""
        assert self.bound is not None  # noqa: S101
        if self.ending:
            sock.close(bound)
            return
        waiting, self.listeners.plan = self.plan, plan
        try:
            for one in bound if self._reception is not None else ():  # before that, `startup` accepts from them
                await self.accept(one)
        except OSError as error:
            logger.error("The %s listener cannot listen on %s: %s", one.side, one.name, error.strerror)
            self.listeners.drop(bound)
            self.listeners.plan = waiting
            return
        self.bound.extend(bound)
        if self.started:
            self._tell()

    async def accept(self, bound: BoundSocket) -> Listening:
        """Listen on a bound socket; raises OSError."""
        assert self.plan is not None and self._reception is not None  # noqa: S101
        plan = self.plan
        sock.listen(bound.socket, self.config.side(bound.side).backlog)
        acceptor = Acceptor(self._reception, judge_of(bound.side, self.plan, lambda: self.plan or plan), bound.side)
        service = self.listeners.services[Verdict.PRIVATE if bound.side == "private" else Verdict.PUBLIC]
        limit = None if self.plan.shared else service.limit
        server = AcceptLoop(bound.socket, acceptor.take, lambda: self.listeners.taken, limit)
        await server.start_serving()
        listening = Listening(bound, server, acceptor)
        if self.ending:  # shutdown began meanwhile and does not know this listener
            listening.server.close()
        else:
            self.listeners.listening.append(listening)
        return listening

    @property
    def servers(self) -> list[AcceptLoop]:  # type: ignore[override]
        """The accept loops, which have `sockets`, in place of `uvicorn.Server`'s servers; the public side's first."""
        listening = sorted(self.listeners.listening, key=lambda one: one.bound.side != "public")
        return [one.server for one in listening]

    @property
    def handshakes(self) -> set[asyncio.Task[None]]:
        """The tasks of connections that the engine does not have yet."""
        return self._reception.handshakes if self._reception is not None else set()

    @property
    def states(self) -> list[ServerState]:
        """The state of each side, each once; the first is uvicorn's own."""
        return list({id(state): state for state in (self.server_state, *self.listeners.states())}.values())

    @property
    def should_exit(self) -> bool:
        """Whether the server was told to stop, or has stopped. Any thread or a signal handler may set it."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        """Stop the server: responses say `Connection: close` and the main loop ends, both at once."""
        self._should_exit = value
        if value:
            for service in tuple(self.listeners.services.values()):
                service.context.is_ending = True
            self._pause.end()

    async def main_loop(self) -> None:
        """Call `on_tick` as uvicorn does until the server should stop."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864000
            await self._pause.wait(SIGNAL_INTERVAL)

    async def on_tick(self, counter: int) -> bool:
        """Do uvicorn's periodic work for every side; return whether to exit."""
        should_exit = await super().on_tick(counter)
        if counter % 10 == 0:
            self.refresh_headers()
        limit = self.limit_max_requests
        if not should_exit and limit is not None and sum(state.total_requests for state in self.states) >= limit:
            logger.info("Maximum request limit of %d exceeded. Terminating process.", limit)
            return True
        return should_exit

    def refresh_headers(self) -> None:
        """Set the date header, and `Connection: close` during shutdown; look again how access lines are logged."""
        set_default_fields(self.listeners.services.values(), is_ending=self.should_exit or self.ending)
        self.lines.look_again()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal, as uvicorn does, and set the alarm for a startup that blocks the event loop."""
        super().handle_exit(sig, frame)
        if not self.started and not self.ending:
            self.alarm.set(start_patience(self.config) + SIGNAL_INTERVAL)

    def linger(self, side: Side) -> float:
        """Return the seconds that a listener of `side` still accepts during shutdown."""
        assert self.plan is not None  # noqa: S101
        return linger_seconds(self.config, self.plan, side)

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Shut down, in the order of the module `shutdown`."""
        logger.info("Shutting down")
        if self._watch is not None:
            self._watch.stop()
        try:
            await end(self, self.lifespans)
        finally:
            for given in sockets or ():
                given.close()

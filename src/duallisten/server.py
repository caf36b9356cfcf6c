"""The server: uvicorn's, with two listeners, one lifespan and one application state.

In place of uvicorn's single listener it opens those of the plan. The order of a launch, and why:

1. plan and bind (`prepare`), before the application is even imported: a port in use costs no half-run start-up;
2. the application's lifespan, once, whatever listeners there are;
3. the private listener accepts, then the public one: a platform takes its first accepted connection as ready.

Each listener has a `uvicorn.Config` and a `ServerState` of its own, so that a flood on one side uses up no limit of
the other. It never exits and never prints: what goes wrong is raised.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from email.utils import formatdate

import uvicorn
from uvicorn.server import ServerState

from duallisten import sockets as sock
from duallisten.acceptor import Acceptor, Judge, Reception, Service
from duallisten.accesslog import AccessLog
from duallisten.addresses import TCPAddress
from duallisten.admission import Side, Verdict
from duallisten.config import Config
from duallisten.corking import Corks
from duallisten.drain import drain
from duallisten.errors import LaunchError
from duallisten.lifespans import Lifespans
from duallisten.network import read_host
from duallisten.plan import Plan, await_plan
from duallisten.serving import log_listeners, scheme
from duallisten.sockets import BoundSocket

logger = logging.getLogger("uvicorn.error")


class Server(uvicorn.Server):
    """Serves one application on the listeners of a plan.

    config: a `duallisten.Config`
    plan: the plan to carry out; made when the server starts if it is not given
    bound: the plan's sockets, bound by someone else, such as a supervisor

    Beside uvicorn's (`run`, `serve`, `started`, `should_exit`, `startup`, `shutdown`) it has `addresses`. `run` and
    `serve` raise `LaunchError` for what stops a launch.
    """

    config: Config

    def __init__(self, config: Config, *, plan: Plan | None = None, bound: list[BoundSocket] | None = None) -> None:
        if not isinstance(config, Config):
            raise TypeError("duallisten.Server takes a duallisten.Config")
        super().__init__(config)
        self.plan = plan
        self.bound = bound
        self.services: dict[Verdict, Service] = {}
        self._reception: Reception | None = None
        self.access_log = AccessLog()
        self._owns_sockets = bound is None

    @property
    def addresses(self) -> dict[Side, tuple[str, int]]:
        """Where each side is bound: (address, port in host order), or (path, 0); empty until bound."""
        found: dict[Side, tuple[str, int]] = {}
        for one in self.bound or ():
            found.setdefault(one.side, one.name)
        if self.plan is not None and self.plan.shared and "public" in found:
            found["private"] = (str(self.plan.admission.private_address), found["public"][1])
        return found

    def url(self, side: Side) -> str:
        """Give the base URL of a side, without a slash at its end; empty for a side that is not bound."""
        if side not in self.addresses:
            return ""
        return f"{scheme(self.config, side)}://{TCPAddress(*self.addresses[side])}"

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        sockets: bound sockets to use as the public listener's
        """
        await self.prepare(sockets)
        try:
            await super().serve(sockets)
        finally:
            self.access_log.write()
            sock.close(self.bound or [])
            if self._owns_sockets and self.plan is not None:
                sock.remove_path(self.plan)

    async def prepare(self, sockets: list[socket.socket] | None = None) -> None:
        """Make the plan and bind its sockets, once; raises LaunchError."""
        if self.plan is None:
            import anyio.to_thread  # its event loop back end takes 35 ms to import; a launch plans before its loop runs

            request = self.config.request
            if sockets:  # they are the public listener, whatever host and port say
                request = request._replace(uds=None, fd=sockets[0].fileno())
            self.plan = await anyio.to_thread.run_sync(await_plan, request, read_host, abandon_on_cancel=True)
        if self.bound is None:
            self.bound = sock.bind(self.plan, sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept: on the private side first, on the public side last."""
        await self.prepare(sockets)
        assert self.plan is not None and self.bound is not None  # noqa: S101
        self.lifespans = Lifespans(self.lifespan, self.config)
        self._make_services(self.plan)
        await self.lifespans.startup()
        await self.before_accepting()
        if self.should_exit:  # told to end meanwhile: what has been started is shut down, and nothing is opened
            if not self.force_exit:
                await self.lifespans.shutdown()
            return
        self._reception = Reception(self.services, asyncio.get_running_loop())
        self.servers: list[asyncio.base_events.Server] = []
        try:
            for one in sorted(self.bound, key=lambda bound: bound.side):  # "private" comes before "public"
                self.servers.append(await self._accept(one, self._reception))
        except OSError as error:
            await self.shutdown()
            raise LaunchError(f"the {one.side} listener cannot listen on {one.name}: {error.strerror}") from None
        if self._owns_sockets:
            log_listeners(self.config, self.plan, self.bound, lambda side: f"process {os.getpid()}")
        self.started = True

    async def before_accepting(self) -> None:
        """Do what must come between the application's start and the first connection: nothing, in this class."""

    def _make_services(self, plan: Plan) -> None:
        """Give each side its configuration and state; the public side of the side door shares the public state."""
        config = self.config
        self.corks = Corks(asyncio.get_running_loop())
        if not config.loaded:
            config.load()
        if plan.public is not None:
            self._add_service(Verdict.PUBLIC, "public", config.listener_config("public"), self.server_state)
            if plan.admission.side_door == "serve":
                side_door = config.listener_config("public", side_door=True)
                self._add_service(Verdict.SIDE_DOOR, "public", side_door, self.server_state)
        if plan.private is not None:
            state = self.server_state if plan.public is None else ServerState()
            self._add_service(Verdict.PRIVATE, "private", config.listener_config("private"), state)

    def _add_service(self, verdict: Verdict, side: Side, config: uvicorn.Config, state: ServerState) -> None:
        app_state = self.lifespans.state(side)
        self.services[verdict] = Service(side, config, state, app_state, self.access_log, self.corks)

    async def _accept(self, bound: BoundSocket, reception: Reception) -> asyncio.base_events.Server:
        """Listen on a bound socket; raises OSError, which of uvloop's `create_server` would only be logged."""
        assert self.plan is not None  # noqa: S101
        judge = _judge(self.plan, bound.side)
        backlog = self.config.value("backlog", bound.side)
        sock.listen(bound.socket, backlog)

        def accept() -> Acceptor:
            return Acceptor(reception, judge)

        if bound.socket.family == socket.AF_UNIX:
            return await reception.loop.create_unix_server(accept, sock=bound.socket, backlog=backlog)
        return await reception.loop.create_server(accept, sock=bound.socket, backlog=backlog)

    @property
    def states(self) -> list[ServerState]:
        """The state of each side, each once; the first is uvicorn's own."""
        states = [self.server_state, *(service.state for service in self.services.values())]
        return list({id(state): state for state in states}.values())

    async def on_tick(self, counter: int) -> bool:
        """Do uvicorn's periodic work for every side; tells whether to exit."""
        should_exit = await super().on_tick(counter)
        if counter % 10 == 0:
            date = (b"date", formatdate(usegmt=True).encode())
            for service in self.services.values():
                dated = [date] if service.config.date_header else []
                service.state.default_headers = dated + service.config.encoded_headers
        limit = self.limit_max_requests
        if not should_exit and limit is not None and sum(state.total_requests for state in self.states) >= limit:
            logger.info("Maximum request limit of %d exceeded. Terminating process.", limit)
            return True
        return should_exit

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Stop accepting on both sides, let what was accepted end, then shut the application down."""
        logger.info("Shutting down")
        for server in self.servers:
            server.close()
        for given in sockets or ():
            given.close()
        for handshake in tuple(self._reception.handshakes if self._reception else ()):
            handshake.cancel()
        timeout = self.config.timeout_graceful_shutdown
        await drain(self.states, timeout=timeout, forced=lambda: self.force_exit)
        if not self.force_exit:
            await self.lifespans.shutdown()


def _judge(plan: Plan, side: Side) -> Judge:
    """Give the rule by which a socket of `side` judges its connections."""
    admission = plan.admission
    if plan.shared:
        return admission.shared
    if side == "private":
        return lambda local, peer: admission.private(peer)
    return admission.public

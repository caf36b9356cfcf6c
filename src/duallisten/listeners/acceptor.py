"""The acceptor: decides once per connection which side serves it; and the listeners of a process.

The accept loop passes it each accepted connection. `Admission` decides by the connection's local and peer address:
the connection is closed, or the engine's `Connection` is made with the `Context` of its side and passed to
`loop.connect_accepted_socket`. It costs nothing per request. A user's own protocol class (`--http MODULE:CLASS`) is
made with the side's `uvicorn.Config` and `ServerState` instead.

Invariants:

- The admission decision and the side's limits are checked before a byte of the connection is read.
- A PROXY protocol header is read after that. It only says who the client is (`proxy_protocol`).
- TLS starts only then, so a peer that is not admitted never gets to a handshake. A handshake may take as long as the
  head of a request. The engine gets the connection when the handshake is complete.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from duallisten.http import Connection
from duallisten.listeners.admission import Verdict
from duallisten.logs import RateLimiter

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages
    from duallisten.config.uvicorn_contract import ServerState, UvicornConfig
    from duallisten.http import Context
    from duallisten.listeners.accept_loop import AcceptLoop, ConnectionLimit
    from duallisten.listeners.plan import Plan
    from duallisten.listeners.sockets import BoundSocket
    from duallisten.observability import RequestCounter
    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

HANDSHAKE_SECONDS = 60.0
"""The longest time for a TLS handshake, as in asyncio."""

NOT_ADMITTED: dict[Side, str] = {
    "public": "the side door is closed (--side-door refuse)",
    "private": "the peer is in no admitted network (--private-network, --private-allow)",
}
"""Why a connection to a listener is refused by the addresses of its ends."""

NO_PROXY = "not a trusted proxy, which --proxy-protocol requires (--forwarded-allow-ips)"
"""Why a connection is refused whose peer may not speak the PROXY protocol."""

AdmissionPolicy = Callable[[str | None, str | None], Verdict]
"""Decides about a connection by the host parts of its local and its peer's socket address."""

Refusal = Literal["peer", "side door", "limit", "proxy"]
"""Why a connection was refused: the peer is not admitted, the side door is closed, a limit is reached, or the PROXY
header is missing."""


@dataclass(slots=True)
class ListenerService:
    """Serves the connections of one side in this process.

    Attributes:
        config: The side's own configuration, loaded.
        state: The side's own connections and tasks.
        context: The engine's context, which all its connections share.
        is_engine: Whether the engine serves them, not a user's own protocol class.
        limit: The side's connection limits.
        counter: Counts its connections; None where they are not counted.
        pages: duallisten's own pages, answered before the application; None where there are none.
        proxies: Returns for a peer's host whether it may speak the PROXY protocol. Each connection must then have a
            PROXY header. None where the protocol is off.
    """

    side: Side
    config: UvicornConfig
    state: ServerState
    context: Context
    is_engine: bool
    limit: ConnectionLimit
    counter: RequestCounter | None = None
    pages: Pages | None = None
    proxies: Callable[[str | None], bool] | None = None

    def protocol(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Build the protocol of one connection."""
        if self.is_engine:
            return Connection(self.context)
        make: Any = self.config.http_protocol_class
        protocol = make(config=self.config, server_state=self.state, app_state=self.context.app_state, _loop=loop)
        if not self.config.access_log:
            protocol.access_log = False
        return protocol


@dataclass(slots=True)
class AcceptorState:
    """The state that all acceptors of a process share.

    Attributes:
        services: The services by verdict; a verdict without a service is a refusal.
        handshakes: Tasks of connections that the engine does not have yet: it gets them after two turns of the loop,
            or after the TLS handshake.
    """

    services: dict[Verdict, ListenerService]
    loop: asyncio.AbstractEventLoop
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)
    refused: int = 0
    _throttle: RateLimiter = field(default_factory=RateLimiter)

    def start(self, serving: Coroutine[Any, Any, None]) -> None:
        """Run the task that brings a connection to the engine, and keep it until it is done."""
        task = self.loop.create_task(serving)
        self.handshakes.add(task)
        task.add_done_callback(self.handshakes.discard)

    def refuse(self, verdict: Verdict, why: Refusal, ends: tuple[str | None, str | None], reason: str) -> None:
        """Count a refused connection, and log it, at most once in ten seconds.

        Args:
            verdict: The verdict of the side that also counts the refusal.
            why: The reason that it is counted under.
            ends: The host parts of the connection's local and its peer's address.
            reason: The reason for the log.
        """
        self.refused += 1
        if self._throttle.lets_through(self.loop.time()):
            count = f" ({self.refused} so far)" if self.refused > 1 else ""
            local, peer = ends
            logger.warning("Refused a connection from %s to %s: %s%s", peer, local, reason, count)
        service = self.services.get(verdict)
        if service is not None and service.counter is not None:
            service.counter.connection_refused(why)


class Acceptor:
    """Takes the connections of one listening socket.

    Args:
        reception: The state that all acceptors share.
        judge: Decides about each connection.
        side: The side of the socket's listener.
    """

    def __init__(self, reception: AcceptorState, judge: AdmissionPolicy, side: Side) -> None:
        self.reception = reception
        self.judge = judge
        self.side = side

    def take(self, connection: socket.socket, peer: Any) -> None:
        """Decide about a connection, and serve or close it, before a byte is read.

        Args:
            connection: The connection, non-blocking.
            peer: The peer's socket address.
        """
        reception = self.reception
        try:
            local = host_of(connection.getsockname())
        except OSError:  # the peer has closed it already
            local = None
        host = host_of(peer)
        verdict = self.judge(local, host)
        service = reception.services.get(verdict)
        if service is None:
            connection.close()
            why: Refusal = "peer" if self.side == "private" else "side door"
            reception.refuse(Verdict(self.side), why, (local, host), NOT_ADMITTED[self.side])
        elif service.proxies is not None and not service.proxies(host):
            connection.close()
            reception.refuse(verdict, "proxy", (local, host), NO_PROXY)
        elif reason := service.limit.refuses(None if service.proxies is not None else host):
            connection.close()  # a socket that both sides share still accepts where one of them is full
            reception.refuse(verdict, "limit", (local, host), reason)
        elif service.proxies is not None:
            service.limit.enter(None)
            reception.start(self._introduce(connection, (local, host), verdict, service))
        else:
            if service.counter is not None:
                service.counter.connection_accepted(is_side_door=verdict is Verdict.SIDE_DOOR)
            service.limit.enter(host)
            make = partial(service.protocol, reception.loop)
            reception.start(_serve(connection, host, service, reception.loop, make))

    async def _introduce(
        self,
        connection: socket.socket,
        ends: tuple[str | None, str | None],
        verdict: Verdict,
        service: ListenerService,
    ) -> None:
        """Read a connection's PROXY header and serve the client that it names; close the connection without one."""
        from duallisten.listeners.proxy_protocol import UNKNOWN, BadHeader, Introduced, receive_header  # few need it

        limit, loop = service.limit, self.reception.loop
        make: Callable[[], Any] = partial(service.protocol, loop)
        why: Refusal = "proxy"
        header, host, reason = None, ends[1], ""
        try:
            header = await receive_header(connection, loop, service.context.limits.head_seconds)
            if header is not None and header.client is not None:
                host = header.client[0] if header.client != UNKNOWN else None
            if header is not None and (reason := limit.refuses_peer(host)):
                header, why = None, "limit"
        except BadHeader as error:
            reason = str(error)
        except OSError:  # the connection is lost
            pass
        finally:
            if header is None:
                connection.close()
                limit.settle()
        if reason:
            self.reception.refuse(verdict, why, ends, reason)
        if header is not None:
            if service.counter is not None:
                service.counter.connection_accepted(is_side_door=False)
            limit.enter_peer(host)
            if header.client is not None:
                make = partial(Introduced, make, header.client)
            await _serve(connection, host, service, loop, make)


async def _serve(
    connection: socket.socket,
    peer: str | None,
    service: ListenerService,
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], Any],
) -> None:
    """Pass a connection to the engine, after its TLS handshake if it has one; close it if the handshake fails.

    Args:
        connection: The connection.
        peer: The peer's host, as it is counted.
        service: The service of its side.
        loop: The running event loop.
        make: Builds its protocol.
    """
    tls: dict[str, Any] = {}
    if service.config.ssl is not None:
        seconds = min(service.context.limits.head_seconds or HANDSHAKE_SECONDS, HANDSHAKE_SECONDS)
        tls = {"ssl": service.config.ssl, "ssl_handshake_timeout": seconds}
    try:
        await loop.connect_accepted_socket(make, connection, **tls)
    except OSError as error:  # ssl.SSLError and TimeoutError are OSErrors
        connection.close()
        service.limit.leave(peer)
        logger.debug("TLS handshake on the %s listener failed: %s", service.side, error)
    finally:
        service.limit.settle()


def host_of(address: Any) -> str | None:
    """Return the host part of a socket address; None for a UNIX domain socket, or where the kernel cannot tell."""
    return str(address[0]) if isinstance(address, tuple) else None


class Listening(NamedTuple):
    """A bound socket, its accept loop and its acceptor."""

    bound: BoundSocket
    server: AcceptLoop
    acceptor: Acceptor


@dataclass(slots=True, eq=False)
class ListenerSet:
    """The listeners of a process, for the server, its heartbeat, its drain and the status page.

    It changes while the process runs: a private address may appear late, and a worker may also accept from another
    worker's queues.

    Attributes:
        plan: The plan; None before it is made.
        bound: The plan's sockets; None before they are bound.
        services: The services by verdict; empty before the application has started.
        listening: The sockets that are accepted from.
    """

    plan: Plan | None = None
    bound: list[BoundSocket] | None = None
    services: dict[Verdict, ListenerService] = field(default_factory=dict)
    listening: list[Listening] = field(default_factory=list)

    @property
    def private(self) -> ListenerService | None:
        """The service of the private side; None without one."""
        return self.services.get(Verdict.PRIVATE)

    @property
    def accepting(self) -> set[Side]:
        """The sides whose connections are accepted."""
        sides = {one.bound.side for one in self.listening}
        if sides and self.plan is not None and self.plan.shared:  # one socket serves both
            sides.add("private")
        return sides

    @property
    def taken(self) -> int:
        """How many connections are open or being opened, on both sides."""
        return sum(limit.taken for limit in {service.limit for service in self.services.values()})

    def drop(self, bound: list[BoundSocket]) -> None:
        """Stop accepting from these sockets, and close them."""
        for one in [one for one in self.listening if one.bound in bound]:
            one.server.close()
            self.listening.remove(one)
        for each in bound:
            each.socket.close()

    def states(self, side: Side | None = None) -> list[ServerState]:
        """Return the `ServerState` objects of a side, or of both, each once."""
        return list(dict.fromkeys(one.state for one in self.services.values() if side in (None, one.side)))

"""The acceptor: one decision per connection, then out of the way.

It is given each accepted connection. From the connection's own and its peer's socket address the `Admission` says what
becomes of it: it is closed, or the engine's `Connection` is made with that side's own `Context`, and given to
`loop.connect_accepted_socket`. It costs nothing per request. A protocol class that a user brings
(`--http MODULE:CLASS`) is made with that side's `uvicorn.Config` and `ServerState` instead.

TLS starts only after that decision, so that a peer that is not admitted does not get as far as a handshake, which has
as long as the head of a request. The engine hears of the connection when the handshake is complete.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from duallisten.config.uvicorn_contract import ServerState, UvicornConfig
from duallisten.http import Connection, Context
from duallisten.listeners.accept_loop import ConnectionLimit, PeerLimit
from duallisten.listeners.admission import Verdict
from duallisten.logs import RateLimiter
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages

logger = logging.getLogger("uvicorn.error")

AdmissionPolicy = Callable[[str | None, str | None], Verdict]
"""Judges a connection by the host parts of its own and its peer's socket address."""

Refusal = Literal["peer", "side door", "limit"]
"""Why a connection was refused: the peer is not admitted, the side door is shut, or there is no room."""


class ConnectionCounter(Protocol):
    """Hears what becomes of each connection, and counts."""

    def connection_accepted(self, *, is_side_door: bool) -> None:
        """Count a connection that was admitted."""

    def connection_refused(self, why: Refusal) -> None:
        """Count a connection that was closed before a byte was read."""

    def count(self) -> None:
        """Put what was noted since the last time where others read it."""


HANDSHAKE_SECONDS = 60.0
"""The longest time for a TLS handshake: asyncio's own."""


@dataclass(slots=True)
class ListenerService:
    """What answers the connections of one side in this process.

    Attributes:
        config: The side's own configuration, loaded.
        state: The side's own connections and tasks.
        context: What the engine's connections share.
        is_engine: Whether the engine serves them; otherwise a protocol class that the user brings.
        room: For how many connections there is room; None where there is no limit.
        peers: How many of them one peer may have; None where there is no limit.
        counter: What counts its connections; None where nothing does.
        pages: duallisten's own that stand in front of the application; None where there are none.
        arriving: Connections that were taken, and are not yet among those of the state.
    """

    side: Side
    config: UvicornConfig
    state: ServerState
    context: Context
    is_engine: bool
    room: ConnectionLimit | None = None
    peers: PeerLimit | None = None
    counter: ConnectionCounter | None = None
    pages: Pages | None = None
    arriving: int = 0

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
    """What all acceptors of a process share.

    Attributes:
        services: What answers, by verdict; a verdict without a service is a refusal.
        handshakes: Connections that the engine has yet to hear of: in two turns of the loop, or after TLS's part.
    """

    services: dict[Verdict, ListenerService]
    loop: asyncio.AbstractEventLoop
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)
    refused: int = 0
    _throttle: RateLimiter = field(default_factory=RateLimiter)

    def note_refusal(self, local: str | None, peer: str | None, reason: str = "not admitted there") -> None:
        """Count a refused connection; the log gets the first, and then at most one line in ten seconds."""
        self.refused += 1
        if self._throttle.lets_through(self.loop.time()):
            count = f" ({self.refused} so far)" if self.refused > 1 else ""
            logger.warning("Refused a connection from %s to %s: %s%s", peer, local, reason, count)

    def count_refused(self, verdict: Verdict, why: Refusal) -> None:
        """Count a refused connection for the side that would have had it, where that is counted."""
        service = self.services.get(verdict)
        if service is not None and service.counter is not None:
            service.counter.connection_refused(why)


class Acceptor:
    """Takes the connections of one listening socket.

    Args:
        reception: What all acceptors share.
        judge: Decides about each connection.
        side: The side of the listener that the socket is of.
    """

    def __init__(self, reception: AcceptorState, judge: AdmissionPolicy, side: Side) -> None:
        self.reception = reception
        self.judge = judge
        self.side = side

    def take(self, connection: socket.socket, peer: Any) -> None:
        """Judge a connection, and serve or close it before a byte is read.

        Args:
            connection: The connection, not blocking.
            peer: The socket address of the other end.
        """
        reception = self.reception
        local, host = host_of(_name(connection)), host_of(peer)
        verdict = self.judge(local, host)
        service = reception.services.get(verdict)
        if service is None:
            connection.close()
            reception.note_refusal(local, host)
            if self.side == "private":
                reception.count_refused(Verdict.PRIVATE, "peer")
            else:
                reception.count_refused(Verdict.PUBLIC, "side door")
        elif reason := _lacks_room(service, host):
            connection.close()
            reception.note_refusal(local, host, reason)
            reception.count_refused(verdict, "limit")
        else:
            if service.counter is not None:
                service.counter.connection_accepted(is_side_door=verdict is Verdict.SIDE_DOOR)
            service.arriving += 1
            if service.room is not None:
                service.room.arriving += 1
            if service.peers is not None:
                service.peers.add(host)
            task = reception.loop.create_task(_serve(connection, host, service, reception.loop))
            reception.handshakes.add(task)
            task.add_done_callback(reception.handshakes.discard)


def _lacks_room(service: ListenerService, peer: str | None) -> str:
    """Say why there is no room for a connection; empty where there is."""
    if service.room is not None and service.room.is_full:  # both sides come in at one socket, which goes on
        return f"{service.room.limit} connections are open"
    if service.peers is not None and not service.peers.admits(peer):
        return f"it has {service.peers.limit} connections open"
    return ""


async def _serve(
    connection: socket.socket, peer: str | None, service: ListenerService, loop: asyncio.AbstractEventLoop
) -> None:
    """Give a connection to the engine, after its TLS handshake if it has one; a peer that fails it is gone."""
    tls: dict[str, Any] = {}
    if service.config.ssl is not None:
        seconds = min(service.context.limits.head_seconds or HANDSHAKE_SECONDS, HANDSHAKE_SECONDS)
        tls = {"ssl": service.config.ssl, "ssl_handshake_timeout": seconds}
    try:
        await loop.connect_accepted_socket(lambda: service.protocol(loop), connection, **tls)
    except OSError as error:  # ssl.SSLError and time-outs are OSErrors
        connection.close()
        if service.peers is not None:
            service.peers.remove(peer)
        logger.debug("TLS handshake on the %s listener failed: %s", service.side, error)
    finally:
        service.arriving -= 1
        if service.room is not None:
            service.room.arriving -= 1
            service.room.tell()


def _name(connection: socket.socket) -> Any:
    """Return a socket's own address; None where it has gone already."""
    try:
        return connection.getsockname()
    except OSError:
        return None


def host_of(address: Any) -> str | None:
    """Return the host part of a socket address; None for a UNIX domain socket, or where the kernel cannot tell."""
    return str(address[0]) if isinstance(address, tuple) else None

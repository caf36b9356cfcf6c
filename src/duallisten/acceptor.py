"""The acceptor: one decision per connection, then out of the way.

asyncio makes an `Acceptor` for each accepted connection and calls `connection_made`. From the connection's own and its
peer's socket address the `Admission` says what becomes of it; the acceptor builds uvicorn's protocol with that
side's own `uvicorn.Config` and `ServerState`, and hands the transport over (`set_protocol`). It works for whatever
protocol class uvicorn has or gets, and costs nothing per request.

TLS starts only after that decision, so that a peer that is not admitted does not get as far as a handshake. The
listening socket is a plain one; the accepted socket is duplicated before anything is read from it and given to
`loop.connect_accepted_socket`, which completes the handshake before uvicorn's protocol hears of the connection.
`loop.start_tls` would be the nearer way, but a uvloop transport starts to read behind the back of a protocol that
pauses it in `connection_made`, and the client's first bytes are lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from duallisten.accesslog import AccessLog, PrivateWebSocketLogger
from duallisten.admission import Side, Verdict
from duallisten.corking import Corks, corking
from duallisten.limits import NONE, Limits
from duallisten.parsers import guarded

logger = logging.getLogger("uvicorn.error")

Judge = Callable[[str | None, str | None], Verdict]
"""Judges a connection by the host parts of its own and its peer's socket address."""

HANDSHAKE_SECONDS = 60.0
"""The longest time for a TLS handshake: asyncio's own."""

REFUSAL_LOG_INTERVAL = 10.0
"""Seconds between two log lines about refused connections: a flood of them must not flood the log."""


@dataclass(slots=True)
class Service:
    """What answers the connections of one side in this process.

    config: the side's own configuration, loaded
    state: the side's own connections, tasks and default headers
    app_state: what the application's lifespan has given its requests
    access_log: the access log of the process
    corks: the corked connections of the process
    limits: what its peers may take up
    """

    side: Side
    config: uvicorn.Config
    state: ServerState
    app_state: dict[str, Any]
    access_log: AccessLog
    corks: Corks
    limits: Limits = NONE

    def __post_init__(self) -> None:
        guard = guarded(self.config.http_protocol_class, self.limits.head_bytes)
        self.config.http_protocol_class = corking(guard, self.corks)
        if self.config.ws_protocol_class is not None:
            make: Any = _completing(self.config.ws_protocol_class)
            self.config.ws_protocol_class = _marking(make) if self.side == "private" else make  # type: ignore[assignment]

    def protocol(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Make uvicorn's protocol for one connection."""
        make: Any = self.config.http_protocol_class
        protocol = make(config=self.config, server_state=self.state, app_state=self.app_state, _loop=loop)
        if not self.config.access_log:
            protocol.access_log = False
        elif getattr(protocol, "access_log", False):
            protocol.access_logger = self.access_log.logger(self.side)
        return protocol


def _completing(make: Any) -> Any:
    """Let a WebSocket protocol know that a handshake which is answered with an HTTP response is complete.

    uvicorn's websockets-sansio does not, and logs an error for each such answer (Kludex/uvicorn#3138).
    """
    if not isinstance(make, type) or make.__name__ != "WebSocketsSansIOProtocol":
        return make

    class Completing(make):  # type: ignore[misc]
        _accepted = False

        @property
        def handshake_complete(self) -> bool:
            return self._accepted or (self.close_sent and self.initial_response is not None)

        @handshake_complete.setter
        def handshake_complete(self, accepted: bool) -> None:
            self._accepted = accepted

    return Completing


def _marking(make: Any) -> Callable[..., Any]:
    """Make WebSocket protocols whose handshake lines say that they are of the private side."""

    def marked(**arguments: Any) -> Any:
        protocol = make(**arguments)
        protocol.logger = PrivateWebSocketLogger()
        return protocol

    return marked


@dataclass(slots=True)
class Reception:
    """What all acceptors of a process share.

    services: what answers, by verdict; a verdict without a service is a refusal
    handshakes: TLS handshakes under way
    """

    services: dict[Verdict, Service]
    loop: asyncio.AbstractEventLoop
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)
    refused: int = 0
    _last_told: float = float("-inf")

    def note_refusal(self, local: str | None, peer: str | None) -> None:
        """Count a refused connection; the log gets the first, and then at most one line in ten seconds."""
        self.refused += 1
        now = self.loop.time()
        if now - self._last_told >= REFUSAL_LOG_INTERVAL:
            self._last_told = now
            count = f" ({self.refused} so far)" if self.refused > 1 else ""
            logger.warning("Refused a connection from %s to %s: not admitted there%s", peer, local, count)


class Acceptor(asyncio.Protocol):
    """The protocol of a connection until it is decided whose it is."""

    def __init__(self, reception: Reception, judge: Judge) -> None:
        self.reception = reception
        self.judge = judge

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Judge the connection, and hand it over or close it before a byte is read."""
        reception = self.reception
        local, peer = _host(transport, "sockname"), _host(transport, "peername")
        service = reception.services.get(self.judge(local, peer))
        if service is None:
            transport.abort()
            reception.note_refusal(local, peer)
        elif service.config.ssl is not None:
            accepted = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            transport.abort()  # closes its own descriptor; nothing has been read or sent
            task = reception.loop.create_task(_secure(accepted, service, reception))
            reception.handshakes.add(task)
            task.add_done_callback(reception.handshakes.discard)
        else:
            protocol = service.protocol(reception.loop)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)


async def _secure(accepted: socket.socket, service: Service, reception: Reception) -> None:
    """Complete the TLS handshake and serve; a peer that fails it has gone its own way."""

    def protocol() -> Any:
        return service.protocol(reception.loop)

    seconds = min(service.limits.head_seconds or HANDSHAKE_SECONDS, HANDSHAKE_SECONDS)
    try:
        await reception.loop.connect_accepted_socket(
            protocol, accepted, ssl=service.config.ssl, ssl_handshake_timeout=seconds
        )
    except OSError as error:  # ssl.SSLError and time-outs are OSErrors
        logger.debug("TLS handshake on the %s listener failed: %s", service.side, error)


def _host(transport: asyncio.Transport, name: str) -> str | None:
    """Give the host part of a socket's name; None for a UNIX domain socket, or where the kernel cannot tell."""
    address = transport.get_extra_info(name)
    return str(address[0]) if isinstance(address, tuple) else None

"""The acceptor: one decision per connection, then out of the way.

asyncio makes an `Acceptor` for each accepted connection and calls `connection_made`. From the connection's own and its
peer's socket address the `Admission` says what becomes of it; the acceptor builds uvicorn's protocol with that
side's own `uvicorn.Config` and `ServerState`, and hands the transport over (`set_protocol`). It works for whatever
protocol class uvicorn has or gets, and costs nothing per request.

TLS starts only after that decision, so that a peer that is not admitted does not get as far as a handshake:
the listening socket is a plain one, and the transport is upgraded (`loop.start_tls`). uvicorn's protocol must hear of
the connection before its data, and `start_tls` may deliver data first: `_Handshake` keeps it in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from duallisten.accesslog import PrivateAccessLogger, PrivateWebSocketLogger
from duallisten.admission import Side, Verdict

logger = logging.getLogger("uvicorn.error")

Judge = Callable[[str | None, str | None], Verdict]
"""Judges a connection by the host parts of its own and its peer's socket address."""

REFUSAL_LOG_INTERVAL = 10.0
"""Seconds between two log lines about refused connections: a flood of them must not flood the log."""


@dataclass(slots=True)
class Service:
    """What answers the connections of one side in this process.

    config: the side's own configuration, loaded
    state: the side's own connections, tasks and default headers
    """

    side: Side
    config: uvicorn.Config
    state: ServerState
    access_logger: PrivateAccessLogger = field(default_factory=PrivateAccessLogger)

    def __post_init__(self) -> None:
        if self.side == "private" and self.config.ws_protocol_class is not None:
            self.config.ws_protocol_class = _marking(self.config.ws_protocol_class)  # type: ignore[assignment]

    def protocol(self, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Any:
        """Make uvicorn's protocol for one connection."""
        make: Any = self.config.http_protocol_class
        protocol = make(config=self.config, server_state=self.state, app_state=app_state, _loop=loop)
        if not self.config.access_log:
            protocol.access_log = False
        elif self.side == "private":
            protocol.access_logger = self.access_logger
        return protocol


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
    app_state: dict[str, Any]
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
            transport.pause_reading()
            task = reception.loop.create_task(self._secure(transport, service))
            reception.handshakes.add(task)
            task.add_done_callback(reception.handshakes.discard)
        else:
            protocol = service.protocol(reception.app_state, reception.loop)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)

    async def _secure(self, plain: asyncio.Transport, service: Service) -> None:
        """Complete the TLS handshake, then hand over."""
        reception, waiting = self.reception, _Handshake()
        try:
            assert service.config.ssl is not None  # noqa: S101
            secured = await reception.loop.start_tls(plain, waiting, service.config.ssl, server_side=True)
        except (OSError, asyncio.CancelledError):  # ssl.SSLError and time-outs are OSErrors
            plain.abort()
            return
        if secured is None or waiting.lost:
            plain.abort()
            return
        protocol = service.protocol(reception.app_state, reception.loop)
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        waiting.replay(protocol)


class _Handshake(asyncio.Protocol):
    """Keeps what arrives between the end of a TLS handshake and the hand-over."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.ended = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data.append(data)

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def replay(self, protocol: asyncio.Protocol) -> None:
        for data in self.data:
            protocol.data_received(data)
        if self.ended:
            protocol.eof_received()


def _host(transport: asyncio.Transport, name: str) -> str | None:
    """Give the host part of a socket's name; None for a UNIX domain socket, or where the kernel cannot tell."""
    address = transport.get_extra_info(name)
    return str(address[0]) if isinstance(address, tuple) else None

"""The acceptor: one decision per connection, then out of the way.

It is given each accepted connection. From the connection's own and its peer's socket address the `Admission` says what
becomes of it: it is closed, or uvicorn's protocol is built with that side's own `uvicorn.Config` and `ServerState`, and
given to `loop.connect_accepted_socket`. It works for whatever protocol class uvicorn has or gets, and costs nothing per
request.

TLS starts only after that decision, so that a peer that is not admitted does not get as far as a handshake, which has
as long as the head of a request. uvicorn's protocol hears of the connection when the handshake is complete.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from duallisten.accesslog import AccessLog
from duallisten.admission import Side, Verdict
from duallisten.board_layout import Cell
from duallisten.corking import Corks, corking
from duallisten.handshakes import shaking
from duallisten.limits import NONE, Limits
from duallisten.listening import Room
from duallisten.parsers import guarded, guarded_app
from duallisten.recorder import Recorder
from duallisten.recording import recording
from duallisten.recording_websockets import recording_websocket
from duallisten.throttle import Throttle

if TYPE_CHECKING:
    from duallisten.pages import Pages

logger = logging.getLogger("uvicorn.error")

Judge = Callable[[str | None, str | None], Verdict]
"""Judges a connection by the host parts of its own and its peer's socket address."""

HANDSHAKE_SECONDS = 60.0
"""The longest time for a TLS handshake: asyncio's own."""


@dataclass(slots=True)
class Service:
    """What answers the connections of one side in this process.

    config: the side's own configuration, loaded
    state: the side's own connections, tasks and default headers
    app_state: what the application's lifespan has given its requests
    access_log: the access log of the process
    corks: the corked connections of the process
    limits: what its peers may take up
    room: for how many connections there is room; None where there is no limit
    recorder: what records its requests; None where nothing does
    pages: duallisten's own that stand in front of the application; None where there are none
    """

    side: Side
    config: uvicorn.Config
    state: ServerState
    app_state: dict[str, Any]
    access_log: AccessLog
    corks: Corks
    limits: Limits = NONE
    room: Room | None = None
    recorder: Recorder | None = None
    pages: Pages | None = None

    def __post_init__(self) -> None:
        protocol_class, most, recorder = self.config.http_protocol_class, self.limits.head_bytes, self.recorder
        self.config.loaded_app = guarded_app(self.config.loaded_app, protocol_class, most)
        guard = guarded(protocol_class, most)
        if recorder is None:
            self.config.http_protocol_class = corking(guard, self.corks)
        else:
            limited = self.config.limit_concurrency is not None
            self.config.http_protocol_class = recording(guard, self.corks, recorder, is_limited=limited)
        if self.config.ws_protocol_class is not None:
            make: Any = self.config.ws_protocol_class
            make = make if recorder is None else recording_websocket(make, recorder)
            self.config.ws_protocol_class = shaking(make, self.side)

    def protocol(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Make uvicorn's protocol for one connection."""
        make: Any = self.config.http_protocol_class
        protocol = make(config=self.config, server_state=self.state, app_state=self.app_state, _loop=loop)
        if not self.config.access_log:
            protocol.access_log = False
        elif getattr(protocol, "access_log", False):
            protocol.access_logger = self.access_log.logger(self.side)
        return protocol


@dataclass(slots=True)
class Reception:
    """What all acceptors of a process share.

    services: what answers, by verdict; a verdict without a service is a refusal
    handshakes: connections that uvicorn's protocol has yet to hear of: in two turns of the loop, or after TLS's part
    """

    services: dict[Verdict, Service]
    loop: asyncio.AbstractEventLoop
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)
    refused: int = 0
    _throttle: Throttle = field(default_factory=Throttle)

    def note_refusal(self, local: str | None, peer: str | None, reason: str = "not admitted there") -> None:
        """Count a refused connection; the log gets the first, and then at most one line in ten seconds."""
        self.refused += 1
        if self._throttle.lets_through(self.loop.time()):
            count = f" ({self.refused} so far)" if self.refused > 1 else ""
            logger.warning("Refused a connection from %s to %s: %s%s", peer, local, reason, count)

    def record(self, verdict: Verdict, cell: Cell) -> None:
        """Count what became of a connection, where that is recorded."""
        service = self.services.get(verdict)
        if service is not None and service.recorder is not None:
            service.recorder.add(cell)


class Acceptor:
    """Takes the connections of one listening socket.

    side: the side of the listener that the socket is of
    """

    def __init__(self, reception: Reception, judge: Judge, side: Side) -> None:
        self.reception = reception
        self.judge = judge
        self.side = side

    def take(self, connection: socket.socket, peer: Any) -> None:
        """Judge a connection, and serve or close it before a byte is read.

        peer: the socket address of the other end
        """
        reception = self.reception
        local, peer = host_of(_name(connection)), host_of(peer)
        verdict = self.judge(local, peer)
        service = reception.services.get(verdict)
        if service is None:
            connection.close()
            reception.note_refusal(local, peer)
            if self.side == "private":
                reception.record(Verdict.PRIVATE, Cell.REFUSED_PEER)
            else:
                reception.record(Verdict.PUBLIC, Cell.REFUSED_SIDE_DOOR)
        elif service.room is not None and service.room.is_full:  # both sides come in at one socket, which goes on
            connection.close()
            reception.note_refusal(local, peer, f"{service.room.limit} connections are open")
            reception.record(verdict, Cell.REFUSED_LIMIT)
        else:
            if service.recorder is not None:
                service.recorder.add(Cell.ACCEPTED)
                if verdict is Verdict.SIDE_DOOR:
                    service.recorder.add(Cell.SIDE_DOOR)
            if service.room is not None:
                service.room.arriving += 1
            task = reception.loop.create_task(_serve(connection, service, reception.loop))
            reception.handshakes.add(task)
            task.add_done_callback(reception.handshakes.discard)


async def _serve(connection: socket.socket, service: Service, loop: asyncio.AbstractEventLoop) -> None:
    """Give a connection to uvicorn's protocol, after its TLS handshake if it has one; a peer that fails it is gone."""
    tls: dict[str, Any] = {}
    if service.config.ssl is not None:
        seconds = min(service.limits.head_seconds or HANDSHAKE_SECONDS, HANDSHAKE_SECONDS)
        tls = {"ssl": service.config.ssl, "ssl_handshake_timeout": seconds}
    try:
        await loop.connect_accepted_socket(lambda: service.protocol(loop), connection, **tls)
    except OSError as error:  # ssl.SSLError and time-outs are OSErrors
        connection.close()
        logger.debug("TLS handshake on the %s listener failed: %s", service.side, error)
    finally:
        if service.room is not None:
            service.room.arriving -= 1
            service.room.tell()


def _name(connection: socket.socket) -> Any:
    """Give a socket's own address; None where it has gone already."""
    try:
        return connection.getsockname()
    except OSError:
        return None


def host_of(address: Any) -> str | None:
    """Give the host part of a socket address; None for a UNIX domain socket, or where the kernel cannot tell."""
    return str(address[0]) if isinstance(address, tuple) else None

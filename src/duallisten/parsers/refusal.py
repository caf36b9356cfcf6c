"""How a connection ends on which something came that cannot be served.

The answer must arrive: a socket that is closed while bytes of the peer wait in it sends a reset, and a reset overtakes
the answer. So the answer is followed by the end of our side alone, and what the peer still sends is dropped for
`LINGER`; with TLS, which has no such half-closing, the connection is closed at once.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

LINGER = 1.0
"""Seconds in which a peer can read its answer and stop sending."""

MESSAGES = {400: "Invalid HTTP request received.", 431: "Request head too large."}


class _Lingering(asyncio.Protocol):
    """Takes the place of a protocol that has said its last word."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def data_received(self, data: bytes) -> None:
        """Drop what the peer sends."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)


def refuse(protocol: Any, status: int) -> None:
    """Answer with `status` and end the connection; there must be no answer under way.

    protocol: one of uvicorn's HTTP protocols
    """
    transport = protocol.transport
    if transport.is_closing():
        return
    if (note := getattr(protocol, "note_bad_request", None)) is not None:  # where requests are recorded
        note()
    text = MESSAGES[status].encode()
    head = [b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())]
    head += [b"%s: %s\r\n" % header for header in protocol.server_state.default_headers]
    head.append(b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(text))
    transport.write(b"".join([*head, b"connection: close\r\n\r\n", text]))
    linger(protocol)


def linger(protocol: Any) -> None:
    """End our side of a connection, and the whole of it when the peer has had the time to read what was sent."""
    transport = protocol.transport
    protocol._unset_keepalive_if_required()
    if transport.is_closing() or not transport.can_write_eof():
        transport.close()
        return
    protocol.flow.resume_reading()
    transport.write_eof()
    transport.set_protocol(_Lingering(protocol))
    protocol.loop.call_later(LINGER, transport.close)


class _LastAnswer:
    """The transport as the last request on a connection sees it: what closes it lingers."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        linger(self._protocol)


def end_after(protocol: Any, cycle: Any) -> None:
    """Let a connection end with the answer to its last request.

    cycle: the request's `RequestResponseCycle`
    """
    cycle.keep_alive = False
    cycle.transport = _LastAnswer(protocol)


def abandon(protocol: Any, cycle: Any) -> None:
    """Close a connection whose request cannot be read to its end; its application is told that the peer is gone.

    cycle: the request's `RequestResponseCycle`, which is running
    """
    if cycle.response_started:
        linger(protocol)
    else:
        refuse(protocol, 400)
    cycle.disconnected = True
    cycle.message_event.set()


async def bad_request(scope: Any, receive: Any, send: Any) -> None:
    """Answer in the place of the application, where a request waits behind others and turned out to be broken."""
    text = MESSAGES[400].encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 400, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": text})

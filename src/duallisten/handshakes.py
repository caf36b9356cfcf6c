"""WebSocket handshakes: how they are answered, and what the log says of them.

Three things are done to uvicorn's WebSocket protocols, each by a subclass or around one:

- A handshake that is answered with an HTTP response is complete. websockets-sansio does not know that, and logs an
  error for each such answer (Kludex/uvicorn#3138).
- A handshake that the application has yet to decide about when the server ends is answered 503: the client may try
  elsewhere. uvicorn says 500, as for an application that failed. Its own checks decide whether anything may be said.
- The lines of the private side's handshakes say so.

It must never write into another answer, nor touch a WebSocket that is open.
"""

from __future__ import annotations

from typing import Any

from duallisten.accesslog import PrivateWebSocketLogger
from duallisten.admission import Side

UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 19\r\nconnection: close\r\n\r\nService Unavailable"
)


def shaking(make: Any, side: Side) -> Any:
    """Make WebSocket protocols of `make`, a class of uvicorn's, for one side; anything but a class stays as it is."""
    if isinstance(make, type):
        make = _ending(_completing(make))
    return _marking(make) if side == "private" else make


def _completing(make: Any) -> Any:
    if make.__name__ != "WebSocketsSansIOProtocol":
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


class _Unavailable:
    """A transport on which a 500 becomes a 503."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.write(UNAVAILABLE if data.startswith(b"HTTP/1.1 500 ") else data)


def _ending(make: Any) -> Any:
    class Ending(make):  # type: ignore[misc]
        transport: Any
        _is_ending = False

        def shutdown(self) -> None:
            self._is_ending = True
            super().shutdown()

        def send_500_response(self) -> None:
            if not self._is_ending:
                super().send_500_response()
            elif not self.transport.is_closing():  # the handshake was answered; its application has ended since
                transport = self.transport
                self.transport = _Unavailable(transport)
                try:
                    super().send_500_response()
                finally:
                    self.transport = transport

    return Ending


def _marking(make: Any) -> Any:
    def marked(**arguments: Any) -> Any:
        protocol = make(**arguments)
        protocol.logger = PrivateWebSocketLogger()
        return protocol

    return marked

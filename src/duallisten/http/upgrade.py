"""What becomes of a connection whose client asks to go on as a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duallisten.http.head import BadRequest, Framing

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.context import Scope


def begin_handshake(connection: Connection, scope: Scope, framing: Framing) -> None:
    """Ask the application whether it accepts the WebSocket; what came behind the handshake is in the inbox.

    Raises:
        BadRequest: 400 for a handshake with a body.
    """
    if framing.length != 0:
        raise BadRequest(400, "a WebSocket handshake with a body")
    from duallisten.http.websocket import WebSocket  # its library takes 30 ms to import

    WebSocket(connection, scope, keep_alive=framing.keep_alive).start()


def hand_over(connection: Connection, data: bytes) -> None:
    """Leave a connection to a WebSocket protocol that the user brings; for the engine it is lost.

    Args:
        connection: The connection.
        data: The handshake as it came, and what came behind it.
    """
    give = connection.context.hand_over
    assert give is not None  # noqa: S101
    connection.connection_lost(None)
    give(connection.transport, data)

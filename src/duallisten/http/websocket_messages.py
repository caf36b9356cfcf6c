"""Messages out of frames: what a WebSocket's peer may send as one message, without any I/O.

`websockets` parses the frames, inflates them and checks their order, all within the limit on a message's size. That
limit counts bytes. A fragment costs memory though it be empty, so their number has a limit, too.

`websockets` parses all that it is given at once, and a read may hold 40,000 frames without data: a quarter of a second
of work, or many messages that are small until they are inflated. So what was read is cut first, at the ends of frames.

Facts it rests on: RFC 6455, 5.2 (the head of a frame), 5.4 (fragments), 5.6 (text is UTF-8), 7.4.1 (1007, 1008); one
byte deflated makes at most 1,032 (zlib's technical details).

Invariants:
    - What is held of a message is bounded by its size and by `MAX_FRAGMENTS`.
    - A piece holds at most `PIECE` bytes, and then the rest of one frame.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from duallisten.http.settings import WebSocketSettings

MAX_FRAGMENTS = 4096
"""Fragments of one message."""


PIECE = 2048
"""Bytes that are parsed at a time: some 340 frames without data, or a millisecond of work."""

HEAD = b"GET / HTTP/1.1\r\n\r\n"
"""What `websockets` reads in place of the handshake's head, which the engine has read already."""


class BadMessage(Exception):  # noqa: N818
    """A message that is not taken.

    Attributes:
        code: The code to close with.
        reason: What is wrong with it; the peer is told.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def make_frames(settings: WebSocketSettings, logger: logging.Logger) -> ServerProtocol:
    """Build what decides about a handshake, and then parses and writes frames; compression is as in uvicorn."""
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
    extensions = [deflate] if settings.per_message_deflate else []
    frames = ServerProtocol(extensions=extensions, max_size=settings.max_size, logger=logger)
    frames.receive_data(HEAD)
    frames.events_received()
    return frames


class MessageReader:
    """Makes messages of the data frames of one WebSocket.

    Attributes:
        size: Bytes of the last message.
    """

    __slots__ = ("_fragments", "_is_text", "size")

    def __init__(self) -> None:
        self._fragments: list[Any] = []
        self._is_text = False
        self.size = 0

    def read(self, frame: Frame) -> dict[str, Any] | None:
        """Take a data frame; return the message that it completes, as ASGI has it.

        Raises:
            BadMessage: Text that is not UTF-8, or too many fragments.
        """
        data: Any = frame.data
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin or frame.opcode is Opcode.CONT:
            fragments = self._fragments
            fragments.append(data)
            if len(fragments) > MAX_FRAGMENTS:
                raise BadMessage(1008, "too many fragments")
            if not frame.fin:
                return None
            data = b"".join(fragments)
            fragments.clear()
        self.size = len(data)
        if not self._is_text:
            return {"type": "websocket.receive", "bytes": data}
        try:
            return {"type": "websocket.receive", "text": str(data, "utf-8")}
        except UnicodeDecodeError:
            raise BadMessage(1007, "text that is not UTF-8") from None


class FrameCutter:
    """Cuts what was read from one WebSocket at the ends of frames."""

    __slots__ = ("_missing",)

    def __init__(self) -> None:
        self._missing = 0  # bytes of the last frame that are still to come

    def cut(self, data: bytes, begin: int) -> int:
        """Return where the piece ends that begins at `begin`.

        Args:
            data: What was read.
            begin: Where the last piece ended; less than the length of `data`.

        Returns:
            The end; `begin` itself, where there is only a part of a frame's head, which is to be given again with what
            comes next.
        """
        end = len(data)
        at = begin + self._missing
        while at < end and at - begin < PIECE:
            if end - at < 2:
                break
            length = data[at + 1]
            size = 2
            if length & 0x80:  # it has a mask
                length &= 0x7F
                size = 6
            if length > 125:
                bits = 2 if length == 126 else 8
                if end - at < 2 + bits:
                    break
                length = int.from_bytes(data[at + 2 : at + 2 + bits], "big")
                size += bits
            at += size + length
        if at > end:
            self._missing = at - end
            return end
        self._missing = 0
        return at

"""A client of HTTP/2 that may break the rules: frames by hyperframe, heads by hpack, on a socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http.engine import DEADLINE, Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0x1, 0x3, 0x5, 0x6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x7, 0x8, 0x9, 0xB

Fields = Sequence[tuple[str, str]]

GET: Fields = ((":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/"))


def asking(path: str = "/", method: str = "GET", *more: tuple[str, str]) -> Fields:
    """Give the fields of a request."""
    return ((":method", method), (":scheme", "http"), (":authority", "x"), (":path", path), *more)


class Got(NamedTuple):
    """A response: its status, fields and body, the code of a reset (None without), and whether its end is there."""

    status: int
    headers: dict[str, str]
    body: bytes
    reset: int | None
    is_whole: bool
    trailers: dict[str, str]


class Http2Client:
    """One connection, on which nothing happens but what a test asks for; SETTINGS and PINGs are not answered.

    frames: all that has come, without what `hold` leaves
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.encoder, self.decoder = Encoder(), Decoder()
        self.frames: list[Frame] = []
        self.is_over = False
        self._rest = b""
        self._pings = 0

    def start(self, **settings: int) -> None:
        """Begin with the preface and SETTINGS, by their names in small letters."""
        values = {getattr(SettingsFrame, name.upper()): value for name, value in settings.items()}
        self.socket.sendall(PREFACE + SettingsFrame(0, settings=values).serialize())

    def send(self, *frames: Frame) -> None:
        self.socket.sendall(b"".join(frame.serialize() for frame in frames))

    def head(self, stream: int, fields: Any = GET, *flags: str) -> Frame:
        """Make HEADERS; they end the stream and the head unless other flags are given."""
        block = self.encoder.encode(fields)
        return HeadersFrame(stream, data=block, flags=flags or ("END_STREAM", "END_HEADERS"))

    def ask(self, stream: int, path: str = "/", method: str = "GET", *more: tuple[str, str], body: bytes = b"") -> None:
        """Send a request."""
        flags = ("END_HEADERS",) if body else ("END_HEADERS", "END_STREAM")
        self.send(self.head(stream, asking(path, method, *more), *flags))
        if body:
            self.send(DataFrame(stream, data=body, flags=["END_STREAM"]))

    def read(self) -> bool:
        """Read some frames; return whether there may be more."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.is_over = not data
        self._rest += data
        while len(self._rest) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._rest[:9]))
            if len(self._rest) < 9 + length:
                break
            frame.parse_body(memoryview(self._rest[9 : 9 + length]))
            self._rest = self._rest[9 + length :]
            self.frames.append(frame)
        return not self.is_over

    def until(self, is_there: Callable[[], Any]) -> Any:
        """Read until something is there; return it."""
        while not (found := is_there()):
            assert self.read(), self.frames
        return found

    def of(self, kind: type[Any], stream: int | None = None) -> list[Any]:
        """Give the frames of one kind that have come."""
        return [one for one in self.frames if type(one) is kind and stream in (None, one.stream_id)]

    def response(self, stream: int) -> Got:
        """Read until a response is whole, or its stream was reset."""
        got: Got = self.until(lambda: self._response(stream))
        return got

    def _response(self, stream: int) -> Got | None:
        mine = [one for one in self.frames if one.stream_id == stream]
        reset = next((one.error_code for one in mine if isinstance(one, RstStreamFrame)), None)
        ended = any("END_STREAM" in one.flags for one in mine if isinstance(one, HeadersFrame | DataFrame))
        if reset is None and not ended:
            return None
        heads: list[dict[Any, Any]] = [dict(self.decoder.decode(one.data)) for one in mine if type(one) is HeadersFrame]
        finals = [head for head in heads if not head.get(":status", "").startswith("1")]
        headers = finals[0] if finals else {}
        body = b"".join(one.data for one in mine if isinstance(one, DataFrame))
        trailers = finals[1] if len(finals) > 1 else {}
        return Got(int(headers.get(":status", 0)), headers, body, reset, ended, trailers)

    def goaway(self) -> GoAwayFrame:
        """Read until the server says that it ends; give its last word."""
        while self.read():
            pass
        found: GoAwayFrame = self.of(GoAwayFrame)[-1]
        return found

    def ping(self) -> None:
        """Ask for a sign that all that was sent has been read."""
        self._pings += 1
        data = b"%08d" % self._pings
        self.send(PingFrame(0, opaque_data=data))
        self.until(lambda: any("ACK" in one.flags and one.opaque_data == data for one in self.of(PingFrame)))

    def open(self, stream: int, size: int) -> None:
        """Open a window; stream 0 is the connection's."""
        self.send(WindowUpdateFrame(stream, window_increment=size))


@contextmanager
def http2(engine: Wire | tuple[str, int], **settings: int) -> Iterator[Http2Client]:
    """Connect to an engine, and begin."""
    with engine.connect() if isinstance(engine, Wire) else socket.create_connection(engine, DEADLINE) as connection:
        client = Http2Client(connection)
        client.start(**settings)
        yield client


__all__ = ["ContinuationFrame", "Http2Client", "http2"]

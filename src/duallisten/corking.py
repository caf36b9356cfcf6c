"""Corking: the head of an answer leaves together with the first of its body, in one system call and one segment.

uvicorn writes the head when the application sends it and the body when that comes, and both of its event loops hand
each write to the kernel at once. With TCP_NODELAY that is two system calls and two segments for the smallest answer,
and writing is the dearest thing that a server does for it. An application nearly always sends its body right after the
head, in the same turn of the event loop.

So a connection's transport is wrapped (`Corked`): a write that begins like the head of an answer is held, and goes out
with the next write, or at the end of the turn. What it must never do: hold anything longer than that turn (no timer),
change, lose or reorder a byte, or hold a byte of a connection that is about to close. Everything but writing passes
through to the transport itself.

A held write that is no head does no harm: the body of an answer may begin with `HTTP/`, too.
"""

from __future__ import annotations

import asyncio
from typing import Any

Data = bytes | bytearray | memoryview

HEAD = b"HTTP/"
"""What the head of an answer begins with (RFC 9112, 4)."""

MOST_COPIED = 1 << 16
"""Bytes; a body up to this size is copied behind its head, which costs less than handing over two pieces."""


class Corks:
    """The connections of a process that hold something back in this turn of its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._holding: list[Corked] = []

    def add(self, transport: Corked) -> None:
        """See that what a transport holds is written when the turn is over."""
        if not self._holding:
            self.loop.call_soon(self._release)
        self._holding.append(transport)

    def _release(self) -> None:
        holding, self._holding = self._holding, []
        for transport in holding:
            if transport._held is not None:
                transport.release()


def _passed_on(name: str) -> Any:
    """Make a method that is the transport's own.

    `__getattr__` would do for all of them, but a class that has it pays twice for every attribute that is there.
    """

    def call(self: Corked, *arguments: Any) -> Any:
        return getattr(self._transport, name)(*arguments)

    return call


class Corked:
    """A transport that holds the head of an answer for the rest of a turn.

    transport: the transport that does the work
    """

    __slots__ = ("_corks", "_held", "_transport", "_write", "abort", "is_closing")

    def __init__(self, transport: asyncio.Transport, corks: Corks) -> None:
        self._transport = transport
        self._corks = corks
        self._held: Data | None = None
        self._write = transport.write
        self.abort = transport.abort  # what is held is lost with the rest of what was not sent
        self.is_closing = transport.is_closing

    def write(self, data: Data) -> None:
        """Write, or hold what is the head of an answer."""
        held = self._held
        if held is not None:
            self._held = None
            if len(data) <= MOST_COPIED:
                write = self._write  # read first: CPython 3.11 does not specialise a call of what a slot holds
                write(b"".join((held, data)))
            else:
                self._transport.writelines((held, data))
        elif data[:5] == HEAD:
            self._held = data
            self._corks.add(self)
        else:
            self._write(data)

    def release(self) -> None:
        """Write what is held."""
        held, self._held = self._held, None
        if held is not None and not self.is_closing():
            self._write(held)

    def writelines(self, pieces: Any) -> None:
        """Write pieces, behind what is held."""
        self.release()
        self._transport.writelines(pieces)

    def write_eof(self) -> None:
        """Close the sending half, behind what is held."""
        self.release()
        self._transport.write_eof()

    def close(self) -> None:
        """Close, when what is held has been sent with the rest."""
        self.release()
        self._transport.close()

    can_write_eof = _passed_on("can_write_eof")
    get_extra_info = _passed_on("get_extra_info")
    get_protocol = _passed_on("get_protocol")
    get_write_buffer_limits = _passed_on("get_write_buffer_limits")
    get_write_buffer_size = _passed_on("get_write_buffer_size")
    is_reading = _passed_on("is_reading")
    pause_reading = _passed_on("pause_reading")
    resume_reading = _passed_on("resume_reading")
    set_protocol = _passed_on("set_protocol")
    set_write_buffer_limits = _passed_on("set_write_buffer_limits")


def corking(make: Any, corks: Corks) -> Any:
    """Make an HTTP protocol class of uvicorn's whose connections are corked; anything but a class stays as it is."""
    if not isinstance(make, type):
        return make

    class Corking(make):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Corked(transport, corks))

    return Corking

"""The launch's part of a control socket: opens the socket, and reads requests in its own thread.

Facts it rests on:

- A UNIX socket refuses connections before it listens (connect(2), ECONNREFUSED). So its mode is set between `bind` and
  `listen`, and no other user can connect meanwhile.
- A client needs write permission on the socket (unix(7)); with mode 0600 only its owner and root have it.
- A process that was killed leaves a socket behind that refuses connections. Such a socket is replaced.

The thread has its own event loop, so neither a slow client nor a blocked application keeps other clients waiting.

Invariants:
    - A client delays no other one: its request has `READ_SECONDS` and `LONGEST_REQUEST` bytes, its answer
      `SEND_SECONDS`, and there are at most `MOST` clients.
    - No client can stop a launch, or delay its shutdown by more than `STOP_SECONDS`.
    - The path is removed at the end, unless another launch has replaced the socket meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from duallisten.control.protocol import LONGEST_REQUEST, Request, answered, decode, failed
from duallisten.errors import LaunchError

logger = logging.getLogger("uvicorn.error")

READ_SECONDS = 2.0
"""Seconds that a client has for its request."""

SEND_SECONDS = 10.0
"""Seconds that a client has to read its answer."""

STOP_SECONDS = 1.0
"""Seconds that the shutdown of a launch waits for the thread, which is a daemon."""

MOST = 16
"""The most clients at a time."""

BACKLOG = 16
"""The most clients in the accept queue."""

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of the longest path (unix(7): 108 with the NUL at its end; macOS has 104)."""

Answer = Callable[[Request], Awaitable[Any]]
"""Carries out a request, and returns a value that JSON can encode; raises Refused."""


@contextmanager
def control_socket(path: str) -> Iterator[socket.socket]:
    """Open a control socket at `path` for the block.

    Raises:
        LaunchError: The socket cannot be opened, or another launch has it.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise LaunchError("--control needs UNIX sockets, which this system does not have")
    place = Path(path).absolute()  # the application may change the directory
    with open_socket(place) as sock:
        made = place.stat(follow_symlinks=False)
        try:
            yield sock
        finally:
            with suppress(OSError):
                there = place.stat(follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino):
                    place.unlink()


def open_socket(place: Path) -> socket.socket:
    """Listen at a path that only the owner can use; raises LaunchError."""
    name = str(place)
    if len(os.fsencode(name)) > LONGEST_PATH:
        raise LaunchError(
            f"--control {name}: the path has {len(os.fsencode(name))} bytes, more than the {LONGEST_PATH} of a "
            "UNIX socket; choose a shorter path"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(place)
        sock.bind(name)
        place.chmod(0o600)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise LaunchError(
            f"--control {name}: cannot create the socket: {error.strerror}; its directory must exist and be writable"
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(place: Path) -> None:
    """Remove a socket that no process listens at; raises LaunchError where another one is there, and OSError."""
    try:
        mode = place.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LaunchError(f"--control {place}: a file that is not a socket exists there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # `connect` would wait where the queue of the other launch is full
        result = probe.connect_ex(str(place))
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise LaunchError(f"--control {place}: another launch uses this socket; choose another path")
    place.unlink(missing_ok=True)


class ControlThread:
    """Answers the clients of a control socket.

    Args:
        sock: The socket, which listens.
        answer: Carries out a request, in the thread's event loop.
    """

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self._socket = sock
        self._answer = answer
        self._clients = 0
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._loop = self._runner.get_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="duallisten-control", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and abort the connections that are left."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._talk, sock=self._socket, limit=LONGEST_REQUEST)
        try:
            await self._ended.wait()
        finally:
            server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > MOST:
                reply = failed("too many clients at once; try again")
            else:
                async with asyncio.timeout(READ_SECONDS):
                    line = await _read_line(reader)
                reply = await self._reply(line)
            async with asyncio.timeout(SEND_SECONDS):
                writer.write(reply)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):  # the task is cancelled when the thread stops
            pass
        finally:
            self._clients -= 1
            writer.transport.abort()

    async def _reply(self, line: bytes) -> bytes:
        """Return the line with the answer to a request, or with the error."""
        try:
            return answered(await self._answer(decode(line)))
        except LaunchError as error:
            return failed(str(error))
        except Exception as error:
            logger.exception("A request to the control socket failed")
            return failed(f"internal error: {type(error).__name__}: {error}; see the log of the launch")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # the line is longer than `LONGEST_REQUEST`
        return b""

"""The launch's end of a control socket: it is opened, and requests are read in a thread of their own.

Facts it rests on:

- A UNIX socket refuses whoever connects before it listens (connect(2), ECONNREFUSED). So its mode is set between
  `bind` and `listen`, and nobody who may not gets in for a moment.
- Who connects needs write permission on the socket (unix(7)); with mode 0600 only its owner and root have that.
- Nobody listens at the socket that a process has left behind which was killed. Such a one is replaced.

The thread has an event loop of its own, so that neither a slow client nor a blocked application keeps others from being
answered.

Invariants:
    - A client holds up nobody: its request has `READ_SECONDS` and `LONGEST_REQUEST` bytes, its answer `SEND_SECONDS`,
      and there are at most `MOST` clients.
    - Nothing that a client does stops a launch, or its end.
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
"""Seconds that a client has to take its answer."""

STOP_SECONDS = 1.0
"""Seconds that the end of a launch waits for the thread, which is a daemon."""

MOST = 16
"""Clients at a time."""

BACKLOG = 16
"""Clients that wait for the thread."""

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of a path (unix(7): 108 with a NUL at its end; macOS has 104)."""

Answer = Callable[[Request], Awaitable[Any]]
"""Carries out a request, and returns what JSON has a form for; raises Refused."""


@contextmanager
def control_socket(path: str) -> Iterator[socket.socket]:
    """Have a control socket at `path` for as long as the block lasts.

    Raises:
        LaunchError: There can be none, or another launch has it.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise LaunchError("--control needs UNIX sockets, which this system does not have")
    place = Path(path).absolute()  # the application may go to another directory
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
    """Listen at a path, for the owner alone; raises LaunchError."""
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
    """Remove a socket at which nobody listens; raises LaunchError where something else is there, and OSError."""
    try:
        mode = place.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LaunchError(f"--control {place}: a file that is not a socket exists there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # where the queue of who listens is full, it would wait
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
        """End it, and cut off the clients that are left."""
        with suppress(RuntimeError):  # it has ended
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
        except (OSError, TimeoutError, asyncio.CancelledError):  # the last one: the launch ends, and so does this task
            pass
        finally:
            self._clients -= 1
            writer.transport.abort()

    async def _reply(self, line: bytes) -> bytes:
        """Return the answer to a request, which may be the reason why there is none."""
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
    except ValueError:  # it is longer than a request
        return b""

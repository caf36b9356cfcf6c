"""The client of a control socket: one request, one answer.

Invariants:
    - It never waits for ever. Each error is one line that says what to do.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from duallisten.control.protocol import Request, encode, read_answer
from duallisten.errors import LaunchError

PATIENCE = 30.0
"""Seconds to wait for an answer."""

CHUNK = 1 << 16


def ask(path: str, request: Request) -> Any:
    """Send a request to a launch, and return its answer.

    Args:
        path: The launch's control socket.
        request: The request.

    Raises:
        LaunchError: There is no launch, it does not answer, or it refuses.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise LaunchError("this system has no UNIX sockets")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(path)
            with suppress(BrokenPipeError, ConnectionResetError):  # the launch may have refused and closed already
                sock.sendall(encode(request))
            line = _read_line(sock)
        return read_answer(line)
    except FileNotFoundError:
        raise LaunchError(f"{path}: no such socket; is a launch running with --control {path}?") from None
    except ConnectionRefusedError:
        raise LaunchError(f"{path}: connection refused; the launch that had this socket has ended") from None
    except PermissionError:
        raise LaunchError(f"{path}: permission denied; run this as the user of the launch") from None
    except TimeoutError:
        raise LaunchError(f"{path}: no answer from the launch within {PATIENCE:g} s") from None
    except (BrokenPipeError, ConnectionResetError):
        raise LaunchError(f"{path}: the launch closed the connection; it has probably ended") from None
    except OSError as error:  # such as a path that is too long
        raise LaunchError(f"{path}: cannot connect: {error.strerror or error}") from None
    except ValueError:
        what = "sent an invalid answer" if line else "closed the connection; it has probably ended"
        raise LaunchError(f"{path}: the launch {what}") from None


def _read_line(sock: socket.socket) -> bytes:
    chunks: list[bytes] = []
    while (chunk := sock.recv(CHUNK)) and not chunk.endswith(b"\n"):
        chunks.append(chunk)
    return b"".join((*chunks, chunk))

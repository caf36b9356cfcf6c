"""A peer on the wire: run inside a namespace, it connects, sends, and prints what became of it.

It is a script of its own, on plain sockets, so that a test sees every byte that came back and how the connection ended.
Its argument is JSON (see `visits.py`), and so is what it prints: a list with one object for each connection.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

TIMEOUT = 10.0


def visit(
    host: str, port: int, send: str, authority: str | None, leave: bool, source: str | None = None
) -> dict[str, Any]:
    """Connect once.

    authority: a file with the certificate to trust, for a connection with TLS
    leave: go when the first bytes have come, rather than wait for the end
    source: the address to come from
    """
    seen: dict[str, Any] = {"me": None, "received": "", "end": "eof"}
    try:
        with socket.create_connection((host, port), TIMEOUT, (source, 0) if source else None) as connection:
            seen["me"] = connection.getsockname()[:2]
            if authority is not None:
                connection = secured(connection, host, authority)  # noqa: PLW2901
            with connection:
                connection.sendall(send.encode("latin-1"))
                while data := connection.recv(65536):
                    seen["received"] += data.decode("latin-1")
                    if leave:
                        seen["end"] = "left"
                        break
    except TimeoutError:
        seen["end"] = "timeout"
    except OSError as error:
        seen["end"] = type(error).__name__
    return seen


def secured(connection: socket.socket, host: str, authority: str) -> socket.socket:
    """Begin TLS."""
    import ssl

    return ssl.create_default_context(cafile=authority).wrap_socket(connection, server_hostname=host)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    times = order.pop("times")
    json.dump([visit(**order) for _ in range(times)], sys.stdout)

"""Visits: what a peer sends from a namespace, and what comes back to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.netns.topology import Namespace
from tests.support.running import PYTHON, Launched, run

VISITOR = Path(__file__).with_name("visitor.py")
CLOSED = ("eof", "ConnectionResetError", "BrokenPipeError")
"""The ends of a connection that the server closed."""


@dataclass(frozen=True)
class Visit:
    """What became of one connection, seen from the peer.

    me: the peer's own address and port, as the demo application writes them; None where no connection came about
    received: all that came back
    end: `eof`, `timeout`, `left` by the peer itself, or the name of the exception that ended it
    """

    me: str | None
    received: bytes
    end: str

    @property
    def answer(self) -> dict[str, Any]:
        """What the application said."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), self
        answer = json.loads(body)
        assert isinstance(answer, dict)
        return answer

    @property
    def side(self) -> str:
        """The side that the application says it was asked on."""
        return str(self.answer["side"])

    @property
    def you(self) -> str:
        """The peer's address, as the application was told."""
        return str(self.answer["you"])

    @property
    def is_named_truly(self) -> bool:
        """Whether the application was told the peer's own address, be it as a socket for both families writes it."""
        host, _, port = str(self.me).rpartition(":")
        return self.you in (self.me, f"[::ffff:{host}]:{port}")

    @property
    def was_shut_out(self) -> bool:
        """Whether the connection came about, and was closed without a byte of an answer."""
        return self.me is not None and self.received == b"" and self.end in CLOSED

    @property
    def found_nobody(self) -> bool:
        """Whether nothing listens there."""
        return self.me is None and self.end == "ConnectionRefusedError"


@dataclass(frozen=True)
class Order:
    """What `visitor.py` is to do, in its terms."""

    host: str
    port: int
    send: str
    authority: str | None = None
    leave: bool = False
    times: int = 1
    source: str | None = None


def visit(
    peer: Namespace,
    host: str,
    port: int,
    headers: Mapping[str, str] | None = None,
    *,
    authority: Path | None = None,
    source: str | None = None,
) -> Visit:
    """Connect from `peer`, ask for `/`, and see what comes back.

    headers: more header fields for the request
    authority: the certificate to trust, for a connection with TLS
    source: the address to come from, of those that `peer` has
    """
    authority_file = str(authority) if authority else None
    return _carry_out(peer, Order(host, port, _request(headers), authority_file, source=source))[0]


@contextmanager
def begun(peer: Namespace, host: str, port: int, path: str) -> Iterator[list[Visit]]:
    """Connect and ask for `path`; what became of it is in the list after the block, when all has come back."""
    seen: list[Visit] = []
    with Launched(_command(peer, Order(host, port, _request(path=path)))) as visitor:
        yield seen
        assert visitor.wait() == 0, visitor.output
        seen += _read_all(visitor.output)


def visits(peer: Namespace, host: str, port: int, times: int, headers: Mapping[str, str] | None = None) -> list[Visit]:
    """Connect and ask for `/` several times, one after the other."""
    return _carry_out(peer, Order(host, port, _request(headers), times=times))


def say(peer: Namespace, host: str, port: int, words: bytes) -> Visit:
    """Connect, send `words` as they are, and leave when the first bytes come back."""
    return _carry_out(peer, Order(host, port, words.decode("latin-1"), leave=True))[0]


def _request(headers: Mapping[str, str] | None = None, path: str = "/") -> str:
    """Write a request that asks for the connection to be closed after it."""
    lines = [f"GET {path} HTTP/1.1", "Host: app", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""])


def _carry_out(peer: Namespace, order: Order) -> list[Visit]:
    done = run(command=_command(peer, order))
    assert done.returncode == 0, done.stderr
    return _read_all(done.stdout)


def _command(peer: Namespace, order: Order) -> list[str]:
    # Isolated and without site-packages, the interpreter starts in half the time.
    return peer.inside(*PYTHON, "-I", "-S", str(VISITOR), json.dumps(asdict(order)))


def _read_all(output: str) -> list[Visit]:
    return [_read(seen) for seen in json.loads(output)]


def _read(seen: dict[str, Any]) -> Visit:
    me = None
    if seen["me"] is not None:
        host, port = seen["me"]
        me = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Visit(me, seen["received"].encode("latin-1"), seen["end"])

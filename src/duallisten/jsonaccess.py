"""Access lines as JSON: one for each request whose answer is complete, or that has been aborted.

uvicorn writes its access line when an answer begins; that one is off, and this one is written where the request is
counted (`recording`), so that it can tell how long it took and what was sent. A WebSocket's handshake has a line of the
same form, with the status of its answer, in the place of uvicorn's.

Like the lines of text (`accesslines`), it is formed directly and written once per turn of the event loop, where the
handler is as `jsonlog` has made it; where the user has changed how the access log is written, it goes through
`logging`: a record with uvicorn's five arguments and all fields as attributes. What its fields are, `fields_of` says;
the line that is formed directly is the same, and what a connection's lines have in common is written out once.

A client can send any byte. Bytes are read as Latin-1, which has a character for each, so what was sent can be had back,
and every text is written by `json`'s own encoder, but for ids: those have nothing in them that it would change.

What uvicorn says of a connection through its error logger is told with side and addresses, and within a request with
that request (`ConnectionLogger`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from duallisten.accesslines import ACCESS_LOGGER, HANDSHAKE, AccessLines, plain_handler
from duallisten.accesslog import ProtocolLogger
from duallisten.admission import Side
from duallisten.clock import now
from duallisten.endpoints import request_id
from duallisten.jsonlog import THREE_DIGITS, JSONFormatter, as_line, quote, timestamp
from duallisten.recorder import Connected, Finished, clock
from duallisten.records import Told

MESSAGE = '%s - "%s %s HTTP/%s" %d'
"""uvicorn's own message of an access line."""

_QUOTED = {text: quote(text) for text in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "1.0", "1.1")}


_ABORTED = ',"aborted":true}\n'
_DONE = "}\n"


class Ended(NamedTuple):
    """How a request has ended.

    status: 0 where none was sent
    elapsed: seconds
    """

    status: int
    elapsed: float
    aborted: bool


@dataclass(slots=True)  # whose attributes are found three times as fast as those of a NamedTuple
class Connection:
    """What the lines of a connection have in common.

    peer: the other end of the socket, as in a scope
    local: its own end
    is_direct: whether its lines are written without `logging`
    begin: of a line, from the time on, up to the client
    end: of that, from the client to the method, where the client is another than the peer
    alike: all of that where it is the peer
    """

    peer: Any
    local: Any
    is_direct: bool
    begin: str
    end: str
    alike: str

    def between(self, client: Any) -> str:
        """Give what stands between the time and the method of a line."""
        if client is self.peer or client == self.peer:
            return self.alike
        return f"{self.begin}{as_text(address(client))}{self.end}"


def address(of: Any) -> str | None:
    """Write an address of a scope as in a URL; the host alone where it has no port."""
    if not of:
        return None
    try:
        host, port = of
        if not port:
            return str(host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    except (TypeError, ValueError):  # an application's own idea of a client
        return str(of)


def as_text(text: str | None) -> str:
    """Write a text, or that there is none, as JSON."""
    return "null" if text is None else quote(text)


def target(scope: Any, root: bytes) -> str:
    """Give the path with the query, as received.

    root: what uvicorn puts before the path
    """
    try:
        path, query = scope["raw_path"].removeprefix(root), scope["query_string"]
        return str((path + b"?" + query if query else path).decode("latin-1"))
    except (KeyError, TypeError, AttributeError):  # an application's own idea of its scope
        return str(scope.get("path"))


def fields_of(record: Told, cycle: Any, side: Side, root: bytes, ended: Ended) -> dict[str, Any]:
    """Give the fields of a request's line, beside time, level and logger.

    cycle: what uvicorn has made for the request
    root: what uvicorn puts before the path
    """
    scope, connection = cycle.scope, record.connection
    client = scope.get("client")
    return {
        "side": side,
        "client": address(client),
        **({"peer": address(connection.peer)} if client != connection.peer else {}),
        "local": address(connection.local),
        "method": scope.get("method", "GET"),
        "path": target(scope, root),
        "http_version": scope.get("http_version"),
        "status": ended.status or None,
        "bytes": record.sent,
        "duration_ms": int(ended.elapsed * 1e6) / 1000,
        "request_id": cycle.request_id,
        **({"aborted": True} if ended.aborted else {}),
    }


def stamped(wrote: float) -> tuple[float, float, str]:
    """Tell from when to when a time of day is the same to the millisecond, and what it is.

    wrote: a time within that, of `recorder.clock`, as are those that are told
    """
    ahead = now() - clock()
    milliseconds = int((wrote + ahead) * 1000)
    return milliseconds / 1000 - ahead, (milliseconds + 1) / 1000 - ahead, timestamp(milliseconds)


def finishing(lines: AccessLines, side: Side, root_path: str) -> Finished:
    """Make what writes the line of each request of a side that has ended.

    root_path: what uvicorn puts before the path
    """
    root, known, digits, waiting, write = root_path.encode(), _QUOTED, THREE_DIGITS, lines.waiting, lines.write
    since, until, stamp = 0.0, 0.0, ""

    def finished(record: Told, cycle: Any, status: int, elapsed: float, aborted: bool) -> None:
        nonlocal since, until, stamp
        scope, connection = cycle.scope, record.connection
        if not connection.is_direct:
            log(lines.logger, record, cycle, side, root, Ended(status, elapsed, aborted))
            return
        if not since <= record.wrote < until:
            since, until, stamp = stamped(record.wrote)
        try:
            client, method, version = scope["client"], scope.get("method", "GET"), scope["http_version"]
            path, query, microseconds = scope["raw_path"], scope["query_string"], int(elapsed * 1e6)
            if root:
                path = path.removeprefix(root)
            if query:
                path = path + b"?" + query
            between = connection.alike if client is connection.peer else connection.between(client)
            line = (
                f'{{"time":"{stamp}{between}'
                f'{known[method] if method in known else quote(method)},"path":{quote(path.decode("latin-1"))},'
                f'"http_version":{known[version] if version in known else quote(version)},"status":{status or "null"},'
                f'"bytes":{record.sent},"duration_ms":{microseconds // 1000}.{digits[microseconds % 1000]},'
                f'"request_id":"{cycle.request_id}"{_ABORTED if aborted else _DONE}'
            )
            if not waiting:  # `AccessLines.add`, written out
                asyncio.get_running_loop().call_soon(write)
            waiting.append(line)
        except (KeyError, TypeError, AttributeError):  # an application's own idea of its scope
            fields = fields_of(record, cycle, side, root, Ended(status, elapsed, aborted))
            lines.add(as_line({"time": stamp, "level": "INFO", "logger": ACCESS_LOGGER, **fields}) + "\n")

    return finished


def log(logger: logging.Logger, record: Told, cycle: Any, side: Side, root: bytes, ended: Ended) -> None:
    """Write a request's line through `logging`, where it is to be written."""
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = fields_of(record, cycle, side, root, ended)
    arguments = (fields["client"] or "", fields["method"], fields["path"], fields["http_version"])
    logger.info(MESSAGE, *arguments, fields["status"] or 0, extra=fields)


def connecting(lines: AccessLines, side: Side, root_path: str) -> Connected:
    """Make what is told of each new connection of a side: it sees to its lines.

    root_path: what uvicorn puts before the path
    """
    root = root_path.encode()

    def connected(protocol: Any, record: Told) -> None:
        connection = record.connection
        if connection is None:
            record.connection = connection = connection_of(protocol, lines.logger, side)
        known = {"side": side, "client": address(connection.peer), "local": address(connection.local)}
        protocol.logger = ConnectionLogger(known, root)

    return connected


def connection_of(protocol: Any, logger: logging.Logger, side: Side) -> Connection:
    """Write out what the lines of a connection have in common."""
    peer, local = protocol.client, protocol.server
    handler = plain_handler(logger)
    own, at = as_text(address(peer)), as_text(address(local))
    begin = f'","level":"INFO","logger":"{ACCESS_LOGGER}","side":"{side}","client":'
    return Connection(
        peer,
        local,
        is_direct=handler is not None and type(handler.formatter) is JSONFormatter,
        begin=begin,
        end=f',"peer":{own},"local":{at},"method":',
        alike=f'{begin}{own},"local":{at},"method":',
    )


class ConnectionLogger(ProtocolLogger):
    """The logger of a protocol, which tells of its connection and its requests.

    known: of the connection
    root: what uvicorn puts before the path
    """

    def __init__(self, known: dict[str, Any], root: bytes) -> None:
        super().__init__()
        self._known = known
        self._root = root

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what is not a handshake's line: that has one of ours."""
        if not (isinstance(msg, str) and msg.startswith(HANDSHAKE)):
            super().info(msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add what is known of the connection, and of the request in whose task this is said."""
        kwargs["extra"] = {**self._known, **told_of(current_scope(), self._root), **(kwargs.get("extra") or {})}
        return msg, kwargs


def current_scope() -> Any:
    """Give the scope of the request in whose task this runs; None elsewhere.

    Requests of a connection overlap, for an application may go on when its answer is complete; but each runs in a task
    of its own, whose coroutine is a method of what uvicorn has made for it.
    """
    try:
        coroutine: Any = asyncio.current_task().get_coro()  # type: ignore[union-attr]
        return coroutine.cr_frame.f_locals["self"].scope
    except (AttributeError, KeyError, RuntimeError):
        return None


def told_of(scope: Any, root: bytes) -> dict[str, Any]:
    """Tell of a request what a line about it should have; nothing where there is none."""
    if scope is None:
        return {}
    told = {"client": address(scope.get("client")), "method": scope.get("method", "GET"), "path": target(scope, root)}
    return {**told, "request_id": request_id(scope)}

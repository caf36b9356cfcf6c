"""Access lines as JSON: one for each request, when its response is complete or the request has been aborted.

uvicorn writes its access line when a response begins. This line is written when the response has ended, so it has the
duration and the bytes sent. A WebSocket handshake has a line of the same form, with the status of its response.

Like a line of text (`access_log`), a JSON line is built directly and written once per turn of the event loop if the
handler is as `logs` has configured it. If the user has changed how the access log is written, the line goes through
`logging`, as a record with uvicorn's five arguments and all fields as attributes. `fields_of` defines the fields, also
for a line that is built directly.

A client can send any byte. Bytes are read as Latin-1, which maps each byte to one character, so the original bytes can
be recovered. `json`'s own encoder writes every text except ids, which contain nothing to escape.

Other log records of the engine about a request, such as an exception of its application, have the same fields
(`describe`).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from duallisten.http import Connection, Exchange, Observer
from duallisten.logs import ACCESS_LOGGER, THREE_DIGITS, JSONFormatter, as_line, quote, timestamp, wall_clock
from duallisten.observability.access_log import MESSAGE, AccessLines, plain_handler
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.http.websocket import WebSocket

    Ended = Exchange | WebSocket

_QUOTED = {text: quote(text) for text in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "1.0", "1.1")}

_ABORTED, _DONE = ',"aborted":true}\n', "}\n"


def is_plain_json(logger: logging.Logger) -> bool:
    """Whether a line of `logger` is written by `logs.JSONFormatter`, as `--log-format json` configures it."""
    handler = plain_handler(logger)
    return handler is not None and type(handler.formatter) is JSONFormatter


class Peer:
    """The parts that all lines of a connection have in common, kept in `Connection.note`.

    Attributes:
        begin: The part from the time to the client.
        end: The part from the client to the method, if the client is not the peer.
        alike: The part from the time to the method, if the client is the peer.
    """

    __slots__ = ("alike", "begin", "end")

    def __init__(self, connection: Connection, side: Side) -> None:
        own, at = as_text(address(connection.client)), as_text(address(connection.server))
        self.begin = f'","level":"INFO","logger":"{ACCESS_LOGGER}","side":"{side}","client":'
        self.end = f',"peer":{own},"local":{at},"method":'
        self.alike = f'{self.begin}{own},"local":{at},"method":'


class JSONAccessLog(Observer):
    """Writes the lines of the requests and handshakes of one side, and describes them for other log records.

    Args:
        lines: The waiting lines of the process.
        side: The side of the requests.
        root_path: The prefix that the engine puts before the path.
    """

    def __init__(self, lines: AccessLines, side: Side, root_path: str) -> None:
        self._lines = lines
        self._side: Side = side
        self._root = root_path.encode()
        self._since = self._until = 0.0  # the period for which `_stamp` is the time of day
        self._stamp = ""

    def exchange_ended(self, exchange: Exchange) -> None:
        """Write the line of a request."""
        if not exchange.is_own:
            self._write(exchange, not exchange.complete)

    def handshake_ended(self, websocket: WebSocket) -> None:
        """Write the line of a handshake."""
        self._write(websocket, not websocket.status)

    def _write(self, of: Ended, aborted: bool) -> None:
        lines = self._lines
        if not lines.are_direct:
            self._log(of, aborted)
            return
        if not self._since <= of.ended < self._until:
            self._tell_time(of.ended)
        scope, connection = of.scope, of.connection
        peer: Peer = connection.note
        if peer is None:
            connection.note = peer = Peer(connection, self._side)
        try:
            client, method, version = scope["client"], scope.get("method", "GET"), scope["http_version"]
            path, query, microseconds = scope["raw_path"], scope["query_string"], int((of.ended - of.began) * 1e6)
            if self._root:
                path = path.removeprefix(self._root)
            if query:
                path = path + b"?" + query
            between = peer.alike
            if client is not connection.client and client != connection.client:
                between = f"{peer.begin}{as_text(address(client))}{peer.end}"
            lines.add(
                f'{{"time":"{self._stamp}{between}'
                f'{_QUOTED.get(method) or quote(method)},"path":{quote(path.decode("latin-1"))},'
                f'"http_version":{_QUOTED.get(version) or quote(version)},"status":{of.status or "null"},'
                f'"bytes":{of.sent},"duration_ms":{microseconds // 1000}.{THREE_DIGITS[microseconds % 1000]},'
                f'"request_id":"{of.request_id}"{_ABORTED if aborted else _DONE}'
            )
        except (KeyError, TypeError, AttributeError):  # the application has changed its scope
            fields = fields_of(of, self._side, self._root, aborted=aborted)
            lines.add(as_line({"time": self._stamp, "level": "INFO", "logger": ACCESS_LOGGER, **fields}) + "\n")

    def _tell_time(self, wrote: float) -> None:
        """Format the time of day of `wrote`, and compute the period for which it is the same to the millisecond.

        Args:
            wrote: A time of `time.perf_counter`.
        """
        ahead = wall_clock() - time.perf_counter()
        milliseconds = int((wrote + ahead) * 1000)
        self._since, self._until = milliseconds / 1000 - ahead, (milliseconds + 1) / 1000 - ahead
        self._stamp = timestamp(milliseconds)

    def _log(self, of: Ended, aborted: bool) -> None:
        """Write a line through `logging`, if the logger is enabled."""
        logger = self._lines.logger
        if not logger.isEnabledFor(logging.INFO):
            return
        fields = fields_of(of, self._side, self._root, aborted=aborted)
        arguments = (fields["client"] or "", fields["method"], fields["path"], fields["http_version"])
        logger.info(MESSAGE, *arguments, fields["status"] or 0, extra=fields)

    def describe(self, connection: Connection, of: Ended | None) -> dict[str, Any]:
        """Return a log record's fields about a connection, and about an exchange or a WebSocket on it."""
        if of is None:
            return {"side": self._side, "client": address(connection.client), "local": address(connection.server)}
        fields = fields_of(of, self._side, self._root, aborted=False)
        return {name: fields[name] for name in ("side", "client", "local", "method", "path", "request_id")}


def address(of: Any) -> str | None:
    """Format an address of a scope as in a URL; only the host if there is no port."""
    if not of:
        return None
    try:
        host, port = of
        if not port:
            return str(host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    except (TypeError, ValueError):  # the application has changed the client
        return str(of)


def as_text(text: str | None) -> str:
    """Return a text as JSON; None as `null`."""
    return "null" if text is None else quote(text)


def target(scope: Any, root: bytes) -> str:
    """Return the path with the query, as received.

    Args:
        scope: The scope of a request.
        root: The prefix that the engine puts before the path.
    """
    try:
        path, query = scope["raw_path"].removeprefix(root), scope["query_string"]
        return str((path + b"?" + query if query else path).decode("latin-1"))
    except (KeyError, TypeError, AttributeError):  # the application has changed its scope
        return str(scope.get("path"))


def fields_of(of: Ended, side: Side, root: bytes, *, aborted: bool) -> dict[str, Any]:
    """Return the fields of a line, except time, level and logger."""
    scope, connection = of.scope, of.connection
    client = scope.get("client")
    return {
        "side": side,
        "client": address(client),
        **({"peer": address(connection.client)} if client != connection.client else {}),
        "local": address(connection.server),
        "method": scope.get("method", "GET"),
        "path": target(scope, root),
        "http_version": scope.get("http_version"),
        "status": of.status or None,
        "bytes": of.sent,
        "duration_ms": int((of.ended - of.began) * 1e6) / 1000,
        "request_id": of.request_id,
        **({"aborted": True} if aborted else {}),
    }

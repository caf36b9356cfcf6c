"""The access log: a line for each request, byte for byte as uvicorn writes it.

On the private side a line ends in ` (private)`. `logging` spends twice as long on such a line as uvicorn does on the
request. While the logging configuration is uvicorn's own, the text of a line is known beforehand. It is then built with
one f-string. All lines of one turn of the event loop are written and flushed together at the end of the turn, to the
handler's own stream. There is no timer and no thread, and no line waits longer than that turn.

A program may change its logging at any time. So `AccessLines` checks in each turn that logger, handler and formatter
are as uvicorn configures them, and each second that the methods that a line passes through are the original ones
(`is_untouched`: a tracer may replace them). With a filter, another handler, level or format, colours, or a record
factory, each line goes through `logging` at once, in the context of its request.

This relies on two facts: uvicorn calls `access_logger.info(message, client, method, path, http_version, status)`, and
`AccessFormatter` builds the line from these five, with `INFO:` padded to ten, and the status with its phrase.

Invariants:
    - No line is written that `logging` would write differently, or not at all.
    - A stream that blocks, blocks here as in `logging`. The handler reports a closed or broken stream.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from http import HTTPStatus
from logging import INFO, Logger, LogRecord, StreamHandler, getLevelName, getLogRecordFactory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from duallisten.config.uvicorn_contract import AccessFormatter
from duallisten.http import Exchange, Observer
from duallisten.logs import ACCESS_LOGGER, PRIVATE_MARK, SideFormatter
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.http.websocket import WebSocket

SUFFIXES: dict[Side, str] = {"public": "", "private": PRIVATE_MARK}
"""The end of a line of each side."""

MESSAGE = '%s - "%s %s HTTP/%s" %d'
"""uvicorn's message for an access line."""

FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
"""uvicorn's format for an access line."""

WHOLE = 4096
"""Bytes that are written to a pipe atomically: PIPE_BUF of Linux. The lines are ASCII."""

KNOWN = 256
"""The greatest length of path and query that is cached."""

STATUSES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_format_message = AccessFormatter.formatMessage
_emit = StreamHandler.emit
_call_handlers = Logger.callHandlers

ON_THE_WAY: dict[type, tuple[str, ...]] = {
    Logger: ("info", "isEnabledFor", "_log", "makeRecord", "handle", "filter", "callHandlers"),
    StreamHandler: ("handle", "filter", "emit", "format", "flush"),
    AccessFormatter: ("format", "formatMessage", "usesTime", "get_status_code"),
    LogRecord: ("__init__", "getMessage"),
}
"""The methods that an access line passes through in `logging`."""

HANDLER_FIELDS, LOGGER_FIELDS = len(StreamHandler().__dict__), len(logging.getLogger(ACCESS_LOGGER).__dict__)
"""How many attributes an unmodified handler and logger have; more if a method, say, was replaced on the instance."""

logger = logging.getLogger("uvicorn.error")


def is_untouched() -> bool:
    """Whether the methods that a line passes through are the original ones, and the level INFO has its own name."""
    known = vars(logging), vars(sys.modules[AccessFormatter.__module__])
    return getLevelName(INFO) == "INFO" and all(
        any(getattr(getattr(kind, name), "__globals__", None) is one for one in known)
        for kind, names in ON_THE_WAY.items()
        for name in names
    )


def plain_handler(logger: logging.Logger) -> logging.Handler | None:
    """Return the handler that writes a line of `logger` at level INFO, if both are as uvicorn configures them.

    Returns:
        None if such a line is handled in any other way. The formatter is not looked at.
    """
    handlers = logger.handlers
    if type(logger) is not Logger or len(handlers) != 1 or logger.propagate:
        return None
    handler = handlers[0]
    if type(handler) is not StreamHandler or handler.level > INFO or len(handler.__dict__) != HANDLER_FIELDS:
        return None
    if logger.filters or handler.filters or not logger.isEnabledFor(INFO) or len(logger.__dict__) != LOGGER_FIELDS:
        return None
    if StreamHandler.emit is not _emit or Logger.callHandlers is not _call_handlers:
        return None
    if getLogRecordFactory() is not LogRecord:
        return None
    return handler


def is_as_uvicorn_has_it(logger: logging.Logger) -> bool:
    """Whether a line of `logger` at level INFO is written just as under uvicorn's own configuration."""
    handler = plain_handler(logger)
    formatter: Any = handler.formatter if handler is not None else None
    if type(formatter) is SideFormatter:  # `logs.mark_private_lines` has wrapped uvicorn's formatter
        formatter = formatter.formatter
    return (
        type(formatter) is AccessFormatter
        and not formatter.use_colors
        and formatter._fmt == FORMAT
        and AccessFormatter.formatMessage is _format_message
        and "formatMessage" not in formatter.__dict__
    )


class AccessLines:
    """The access lines of a process that are still to be written.

    Args:
        is_plain: Whether lines may be written without `logging`, under the present configuration of a logger.
    """

    def __init__(self, is_plain: Callable[[logging.Logger], bool] = is_as_uvicorn_has_it) -> None:
        self.logger = logging.getLogger(ACCESS_LOGGER)
        self._is_plain = is_plain
        self._waiting: list[str] = []
        self._handler: logging.Handler | None = None
        self._is_untouched = is_untouched()

    @property
    def are_direct(self) -> bool:
        """Whether lines may be passed to `add` in this turn of the event loop; otherwise `logging` must write them."""
        return bool(self._waiting) or (self._is_untouched and self._is_plain(self.logger))

    def look_again(self) -> None:
        """Check whether methods that a line passes through have been replaced; called each second."""
        self._is_untouched = is_untouched()

    def add(self, line: str) -> None:
        """Add a line, including its newline, to be written at the end of this turn of the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.write)
            self._handler = self.logger.handlers[0]
        self._waiting.append(line)

    def write(self) -> None:
        """Write all waiting lines; called at the end of a turn of the loop, and before the process ends."""
        text = "".join(self._waiting)
        self._waiting.clear()
        handler = self._handler  # the handler when the first line was added
        if not text or not isinstance(handler, logging.StreamHandler):
            return
        handler.acquire()
        try:
            for piece in pieces(text):
                handler.stream.write(piece)
                handler.flush()
        except Exception:
            record = self.logger.makeRecord(ACCESS_LOGGER, logging.INFO, "", 0, text.rstrip("\n"), (), None)
            handler.handleError(record)
        finally:
            handler.release()


def pieces(text: str) -> Iterator[str]:
    """Divide lines into pieces that a pipe takes whole; a longer line is a piece of its own.

    Writes of up to PIPE_BUF bytes from several processes to one pipe do not interleave (pipe(7)).
    """
    begin = 0
    while len(text) - begin > WHOLE:
        end = text.rfind("\n", begin, begin + WHOLE) + 1 or text.find("\n", begin) + 1 or len(text)
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


class TextAccessLog(Observer):
    """Writes uvicorn's lines for the requests of one side (`--access-log`).

    Args:
        lines: The waiting lines of the process.
        side: The side of the requests.
    """

    def __init__(self, lines: AccessLines, side: Side) -> None:
        self._lines = lines
        self._side: Side = side
        self._suffix = SUFFIXES[side]

    def response_started(self, exchange: Exchange) -> None:
        """Write the line of a request when its response begins, as uvicorn does."""
        if exchange.is_own:
            return
        scope, status = exchange.scope, exchange.status
        lines = self._lines
        if lines.are_direct:
            client, connection = scope["client"], exchange.connection
            if client is connection.client and connection.note is not None:
                who = connection.note
            else:
                who = client_text(scope)
                if client is connection.client:
                    connection.note = who
            path, query = scope["path"], scope["query_string"]
            write = _known_request if len(path) + len(query) <= KNOWN else _request
            what = write(scope["method"], path, query, scope["http_version"], status)
            lines.add(f'INFO:     {who} - "{what}{self._suffix}\n')
        elif lines.logger.isEnabledFor(logging.INFO) and lines.logger.hasHandlers():
            arguments = (client_text(scope), scope["method"], full_path(scope), scope["http_version"], status)
            lines.logger.info(MESSAGE + self._suffix, *arguments, extra={"side": self._side})


class TextHandshakeLog(Observer):
    """Writes uvicorn's lines for the WebSocket handshakes of one side, also without `--access-log`."""

    def __init__(self, side: Side) -> None:
        self._suffix = SUFFIXES[side]
        self._extra = {"side": side} if side == "private" else None

    def handshake_ended(self, websocket: WebSocket) -> None:
        """Write the line of a handshake when the application answers it, as uvicorn does."""
        if websocket.status:
            scope = websocket.scope
            what = "[accepted]" if websocket.is_accepted else str(websocket.status)
            message = '%s - "WebSocket %s" ' + what + self._suffix
            logger.info(message, client_text(scope), full_path(scope), extra=self._extra)


def client_text(scope: Any) -> str:
    """Format a scope's client as uvicorn does; empty if there is none."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def full_path(scope: Any) -> str:
    """Format the path with the query as uvicorn does: the decoded path, encoded again."""
    path, query = quote(scope["path"]), scope["query_string"]
    return f"{path}?{query.decode('ascii')}" if query else path


def _request(method: str, path: str, query: bytes, version: str, status: int) -> str:
    """Format the rest of a line, after the client and a quotation mark."""
    full = full_path({"path": path, "query_string": query})
    return f'{method} {full} HTTP/{version}" {STATUSES.get(status) or f"{status} "}'


_known_request = lru_cache(maxsize=2048)(_request)
"""`_request` with a cache: most requests repeat earlier ones."""

"""The access log: a line for each request, as uvicorn writes it, byte for byte.

On the private side a line ends in ` (private)`. `logging` spends twice as long on such a line as uvicorn does on the
request. Where nobody has changed how it is logged, its text is known beforehand: then it is formed with one f-string,
and what came together in a turn of the event loop is written and flushed in one go when that turn is over, through the
handler's own stream. No timer, no thread, and no line that waits longer than that.

A program may change its logging at any time. So `AccessLines` looks anew in each turn whether logger, handler and
formatter are as uvicorn makes them, and each second whether the classes are on the way of a line (`is_untouched`: a
tracer may replace their methods). With a filter, another handler, level or format, with colours, or a factory of
records, each line goes through `logging` at once, in the context of its request.

Facts it rests on: uvicorn calls `access_logger.info(message, client, method, path, http_version, status)`;
`AccessFormatter` makes the line of these five, with `INFO:` padded to ten, and the status with its phrase.

Invariants:
    - No line is written that `logging` would write otherwise, or not at all.
    - A stream that blocks, blocks as it does there; one that is closed or broken is the handler's to report.
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
"""What stands at the end of a line of each side."""

MESSAGE = '%s - "%s %s HTTP/%s" %d'
"""uvicorn's message of an access line."""

FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
"""uvicorn's format of an access line."""

WHOLE = 4096
"""Bytes that a pipe takes in one piece: PIPE_BUF of Linux. The lines are ASCII."""

KNOWN = 256
"""The longest path with its query that is remembered."""

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
"""The methods that an access line passes in `logging`."""

HANDLER_FIELDS, LOGGER_FIELDS = len(StreamHandler().__dict__), len(logging.getLogger(ACCESS_LOGGER).__dict__)
"""How many attributes a handler and a logger have on which nobody has set one of their own, such as a method."""

logger = logging.getLogger("uvicorn.error")


def is_untouched() -> bool:
    """Whether the methods that a line passes are those of `logging` and uvicorn, and its level has its own name."""
    known = vars(logging), vars(sys.modules[AccessFormatter.__module__])
    return getLevelName(INFO) == "INFO" and all(
        any(getattr(getattr(kind, name), "__globals__", None) is one for one in known)
        for kind, names in ON_THE_WAY.items()
        for name in names
    )


def plain_handler(logger: logging.Logger) -> logging.Handler | None:
    """Return the handler that writes a line of `logger` at level INFO, if it is as uvicorn's configuration makes it.

    Returns:
        None where something else is done with such a line, or more, or nothing. Its formatter is not looked at.
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
    """Whether a line of `logger` at level INFO becomes what uvicorn's configuration makes of it, and no more."""
    handler = plain_handler(logger)
    formatter: Any = handler.formatter if handler is not None else None
    if type(formatter) is SideFormatter:  # `logs.mark_private_lines` has put it around uvicorn's
        formatter = formatter.formatter
    return (
        type(formatter) is AccessFormatter
        and not formatter.use_colors
        and formatter._fmt == FORMAT
        and AccessFormatter.formatMessage is _format_message
        and "formatMessage" not in formatter.__dict__
    )


class AccessLines:
    """The access lines of a process that are yet to be written.

    Args:
        is_plain: Whether lines may be written without `logging`, as its configuration is now.
    """

    def __init__(self, is_plain: Callable[[logging.Logger], bool] = is_as_uvicorn_has_it) -> None:
        self.logger = logging.getLogger(ACCESS_LOGGER)
        self._is_plain = is_plain
        self._waiting: list[str] = []
        self._handler: logging.Handler | None = None
        self._is_untouched = is_untouched()

    @property
    def are_direct(self) -> bool:
        """Whether a line may be given to `add` in this turn of the event loop; otherwise it is `logging`'s."""
        return bool(self._waiting) or (self._is_untouched and self._is_plain(self.logger))

    def look_again(self) -> None:
        """See whether somebody has replaced methods that a line passes; called each second."""
        self._is_untouched = is_untouched()

    def add(self, line: str) -> None:
        """Add a line, with its end, to be written when this turn of the event loop is over."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.write)
            self._handler = self.logger.handlers[0]
        self._waiting.append(line)

    def write(self) -> None:
        """Write what there is; called when a turn of the loop is over, and before the process ends."""
        text = "".join(self._waiting)
        self._waiting.clear()
        handler = self._handler  # as it was when the first of them came
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
    """Divide lines into pieces that a pipe takes whole; a line that is longer than that is a piece of its own.

    What several processes write to one pipe at a time is not mixed up to PIPE_BUF bytes (pipe(7)).
    """
    begin = 0
    while len(text) - begin > WHOLE:
        end = text.rfind("\n", begin, begin + WHOLE) + 1 or text.find("\n", begin) + 1 or len(text)
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


class TextAccessLog(Observer):
    """Writes uvicorn's lines of the requests of one side (`--access-log`).

    Args:
        lines: Those of the process.
        side: Which side's.
    """

    def __init__(self, lines: AccessLines, side: Side) -> None:
        self._lines = lines
        self._side: Side = side
        self._suffix = SUFFIXES[side]

    def response_started(self, exchange: Exchange) -> None:
        """Write the line of a request, as uvicorn does when its answer begins."""
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
    """Writes uvicorn's lines of the WebSocket handshakes of one side, which there always are."""

    def __init__(self, side: Side) -> None:
        self._suffix = SUFFIXES[side]
        self._extra = {"side": side} if side == "private" else None

    def handshake_ended(self, websocket: WebSocket) -> None:
        """Write the line of a handshake, as uvicorn does when it is answered by the application."""
        if websocket.status:
            scope = websocket.scope
            what = "[accepted]" if websocket.is_accepted else str(websocket.status)
            message = '%s - "WebSocket %s" ' + what + self._suffix
            logger.info(message, client_text(scope), full_path(scope), extra=self._extra)


def client_text(scope: Any) -> str:
    """Write a scope's client as uvicorn does; empty where there is none."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def full_path(scope: Any) -> str:
    """Write the path with the query as uvicorn does: the decoded path, encoded again."""
    path, query = quote(scope["path"]), scope["query_string"]
    return f"{path}?{query.decode('ascii')}" if query else path


def _request(method: str, path: str, query: bytes, version: str, status: int) -> str:
    """Write what comes behind the client and a quotation mark."""
    full = full_path({"path": path, "query_string": query})
    return f'{method} {full} HTTP/{version}" {STATUSES.get(status) or f"{status} "}'


_known_request = lru_cache(maxsize=2048)(_request)
"""The same, remembered: most requests are like others."""

"""Access lines at a small cost: formed directly, and written once per turn of the event loop.

`logging` spends twice as long on uvicorn's access line as uvicorn does on the request. Where nobody has changed how
that line is logged, its text is known beforehand: `AccessLines` forms it with one f-string, and what came together in a
turn of the loop is written and flushed in one go when that turn is over, through the handler's own stream. No timer,
no thread, and no line that is held back longer than that.

What it rests on, in uvicorn: the protocols call `access_logger.info(message, client, method, path, http_version,
status)`; `AccessFormatter` makes the line of these five, with `INFO:` padded to ten, and the status with its phrase.

What it must never do: write another line than `logging` would. So every connection asks anew whether the logger, its
handler and its formatter are as uvicorn makes them (`is_as_uvicorn_has_it`); with a filter, another handler, level or
format, colours, or a factory of records, the user's logging is used as it is. A stream that blocks, blocks as it does
there; one that is closed or broken is the handler's to report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from uvicorn.logging import AccessFormatter

from duallisten.admission import Side

ACCESS_LOGGER = "uvicorn.access"

HANDSHAKE = '%s - "WebSocket '
"""What uvicorn's messages about WebSocket handshakes begin with."""

SUFFIXES: dict[Side, str] = {"public": "", "private": " (private)"}
"""What stands at the end of a line of each side."""

FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
"""uvicorn's own format of an access line."""

WHOLE = 4096
"""Bytes that a pipe takes in one piece: PIPE_BUF of Linux. The lines are ASCII."""

STATUSES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def plain_handler(logger: logging.Logger) -> logging.Handler | None:
    """Give the handler that writes a line of `logger` at level INFO, if it is as uvicorn's own configuration makes it.

    None where something else is done with such a line, or more, or nothing; its formatter is the caller's to look at.
    """
    if type(logger) is not logging.Logger or len(logger.handlers) != 1:
        return None
    if logger.propagate or logger.disabled or logger.filters or not logger.isEnabledFor(logging.INFO):
        return None
    if logging.getLogRecordFactory() is not logging.LogRecord or logging.getLevelName(logging.INFO) != "INFO":
        return None
    handler = logger.handlers[0]
    if type(handler) is not logging.StreamHandler or handler.filters or handler.level > logging.INFO:
        return None
    return handler


def is_as_uvicorn_has_it(logger: logging.Logger, formatter_of: Callable[[logging.Handler], Any]) -> bool:
    """Tell whether a line of `logger` at level INFO becomes what uvicorn's own configuration makes of it, and no more.

    formatter_of: gives the formatter of a handler, without what duallisten has put around it
    """
    handler = plain_handler(logger)
    formatter = formatter_of(handler) if handler is not None else None
    return type(formatter) is AccessFormatter and not formatter.use_colors and formatter._fmt == FORMAT


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


def leave_no_line(send: Any) -> None:
    """See that uvicorn writes no access line of a request.

    send: its own, a method of what it has made for the request
    """
    cycle = getattr(send, "__self__", None)
    if cycle is not None:
        cycle.access_log = False


class AccessLines:
    """The lines of a process that are yet to be written.

    logger: uvicorn's access logger
    waiting: the lines, each with its end; whoever adds the first has `write` called when this turn of the loop is over
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.waiting: list[str] = []

    def add(self, line: str) -> None:
        """Have a line, with its end, written when this turn of the loop is over."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.write)
        self.waiting.append(line)

    def writer(self, side: Side) -> _Writer:
        """Make what stands in a protocol of `side` where uvicorn's access logger would."""
        suffix = SUFFIXES[side] + "\n"
        waiting, write = self.waiting, self.write

        def info(message: str, client: str, method: str, path: str, http_version: str, status: int) -> None:
            if not waiting:  # `add`, written out
                asyncio.get_running_loop().call_soon(write)
            text = STATUSES.get(status) or f"{status} "
            waiting.append(f'INFO:     {client} - "{method} {path} HTTP/{http_version}" {text}{suffix}')

        return _Writer(info)

    def write(self) -> None:
        """Write what there is; called when a turn of the loop is over, and before the process ends."""
        text = "".join(self.waiting)
        self.waiting.clear()
        handler = next(iter(self.logger.handlers), None)
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


class _Writer:
    """As much of a logger as a protocol asks for."""

    __slots__ = ("info",)

    def __init__(self, info: Callable[[str, str, str, str, str, int], None]) -> None:
        self.info = info

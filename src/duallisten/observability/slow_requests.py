"""Log lines about slow requests (`--log-slow-requests`): one when a request becomes slow, and one when it ends.

The first line says where the request's task waits (`task_frames`). One timer checks all connections of a side, several
times in the period that makes a request slow; requests have no timers of their own. So the first line may be late by
one interval of the timer. While the event loop is blocked the timer does not run: then only the line about the end is
logged.

Invariants:
    - A WebSocket is never a slow request, nor is a request for one of duallisten's own pages.
    - A request has at most one line of each kind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from duallisten.http import Exchange, Observer, exchanges_of
from duallisten.observability.access_log import client_text, full_path
from duallisten.observability.task_frames import waiting_frames

if TYPE_CHECKING:
    from types import FrameType

    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

SHORTEST_LOOK, LONGEST_LOOK = 0.02, 0.5
"""Bounds of the timer's interval, in seconds; it is a tenth of the time that makes a request slow."""


class SlowRequests(Observer):
    """Logs the slow requests of one side.

    Args:
        seconds: The duration from which a request is slow.
        side: The side of the requests.
        connections: The open connections of the side, a live collection.
        loop: The running event loop.
    """

    def __init__(self, seconds: float, side: Side, connections: Iterable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._side = side
        self._connections = connections
        self._loop = loop
        self._interval = min(LONGEST_LOOK, max(SHORTEST_LOOK, seconds / 10))
        self._told: set[Exchange] = set()
        self._timer = loop.call_later(self._interval, self._look)

    def stop(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._look)
        now = time.perf_counter()
        for exchange in chain.from_iterable(map(exchanges_of, self._connections)):
            if exchange.complete or exchange.is_own or exchange.scope["type"] != "http":
                continue
            if now - exchange.began >= self._seconds and exchange not in self._told:
                self._told.add(exchange)
                answer = f"answering with {exchange.status}" if exchange.status else "not answered yet"
                where = describe_wait(exchange.task)
                self._log(exchange, f"in flight for {now - exchange.began:.1f} s, {answer}; {where}")

    def exchange_ended(self, exchange: Exchange) -> None:
        """Log the end of a request that was slow."""
        if exchange.ended - exchange.began >= self._seconds and not exchange.is_own:
            self._told.discard(exchange)
            answer = f"answered with {exchange.status}" if exchange.complete else "aborted"
            self._log(exchange, f"{answer} after {exchange.ended - exchange.began:.1f} s")

    def _log(self, exchange: Exchange, what: str) -> None:
        scope, describe = exchange.scope, exchange.connection.context.describe
        logger.warning(
            'Slow request on the %s side: %s - "%s %s"%s %s',
            self._side,
            client_text(scope),
            exchange.method,
            full_path(scope),
            f" (id {exchange.request_id})" if exchange.request_id else "",
            what,
            extra=describe(exchange.connection, exchange) if describe is not None else {"side": self._side},
        )


def describe_wait(task: asyncio.Task[Any] | None) -> str:
    """Describe where a task waits: file and line, and the line of the application that called it."""
    frames = waiting_frames(task) if task is not None and not task.done() else []
    if not frames:
        return "its task has ended"
    own = [frame for frame in frames if not _is_library(frame.f_code.co_filename)]
    text = f"waits at {_place(frames[-1])}"
    return f"{text}, called from {_place(own[-1])}" if own and own[-1] is not frames[-1] else text


def _is_library(file: str) -> bool:
    """Whether a file belongs to Python, an installed package or duallisten."""
    import sysconfig  # needed only for a slow request

    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return file.startswith((*folders, "<", __file__.removesuffix("observability/slow_requests.py")))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"

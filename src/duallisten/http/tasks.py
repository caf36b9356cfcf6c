"""Calling applications, each in a task of its own.

Where Python can (3.12 and newer), a task is started eagerly: its first step, which for most requests is the whole of
it, runs at once, and the event loop never hears of it. That is done for all requests of a turn of the loop together,
when the turn has read what there was to read. Started one by one between two reads they cost about 6 % more CPU:
reading and answering each do better in a row.

A task gets a copy of the context in which the listener was opened. The current one will not do: what goes on after an
answer (the next request, reading again) runs in the context of the request before.

Facts it rests on: `eager_start` of `asyncio.Task` registers the task as the current one while its first step runs; a
task factory is called by `create_task` alone.

Invariants:
    - What one request puts into its context variables, no other request sees.
    - Where one request's task cannot be started, the others' are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duallisten.http.exchange import Exchange
    from duallisten.sides import Application

IS_EAGER = sys.version_info >= (3, 12)
"""Whether asyncio can run the first step of a task at once."""

_new_task: Any = asyncio.Task  # what type checkers know of it is of Python 3.11


class Tasks:
    """The tasks of one listener's requests.

    Args:
        loop: The running event loop.
        running: Where tasks are kept that have not ended.
        reset_variables: Whether each task has an empty context (`--reset-contextvars`).
    """

    __slots__ = ("_is_reset", "_loop", "_running", "_variables", "_waiting", "call")

    def __init__(self, loop: asyncio.AbstractEventLoop, running: set[asyncio.Task[None]], *, reset_variables: bool):
        self._loop = loop
        self._running = running
        self._is_reset = reset_variables
        self._variables = copy_context()
        self._waiting: list[tuple[Application, Exchange]] = []
        self.call = self._call_soon if IS_EAGER else self._call
        """Call an application for an exchange."""

    @property
    def waiting(self) -> int:
        """How many requests of this turn of the event loop are yet to be started."""
        return len(self._waiting)

    def _call_soon(self, app: Application, exchange: Exchange) -> None:
        if not self._waiting:
            self._loop.call_soon(self._call_all)
        self._waiting.append((app, exchange))

    def _call_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for app, exchange in waiting:
            try:
                self._call(app, exchange)
            except Exception as error:
                exchange.connection.abort()
                self._loop.call_exception_handler({"message": "A request's task cannot be started", "exception": error})

    def _call(self, app: Application, exchange: Exchange) -> None:
        """Call an application; the head of a response that it holds back in its first step is sent after that."""
        connection = exchange.connection
        connection.is_starting = True
        exchange.task = task = self._start(exchange.run(app))
        connection.is_starting = False
        if not task.done():
            self._running.add(task)
            if exchange.held is not None:
                exchange.flush()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task, with variables of its own."""
        variables = Variables() if self._is_reset else self._variables.copy()
        loop = self._loop
        if loop.get_task_factory() is not None:  # the program's, which need not know of contexts
            return variables.run(loop.create_task, coroutine)
        if IS_EAGER:
            task: asyncio.Task[None] = _new_task(coroutine, loop=loop, context=variables, eager_start=True)
            return task
        return loop.create_task(coroutine, context=variables)

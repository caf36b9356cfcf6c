"""Calls the application for each request, in a task of its own.

On Python 3.12 and newer a task is started eagerly: its first step runs at once, without a pass through the event loop.
For most requests the first step is the whole task. All requests of one turn of the event loop are started together,
after the turn has read its data. Starting each request right after its own read costs about 6 % more CPU.

A task gets a copy of the context (contextvars) in which the listener was opened. The current context would be wrong:
the code that runs after a response (reading on, the next request) runs in the context of the previous request.

Facts it rests on: with `eager_start`, `asyncio.Task` registers the task as the current one while its first step runs;
only `create_task` calls a task factory.

Invariants:
    - No request sees the context variables that another request has set.
    - If one request's task cannot be started, the other requests still are.
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

_new_task: Any = asyncio.Task  # Any: type checkers use the signature of Python 3.11


class Tasks:
    """The tasks of one listener's requests.

    Args:
        loop: The running event loop.
        running: The set that holds the running tasks.
        reset_variables: Whether each task gets an empty context (`--reset-contextvars`).
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
        """The number of requests in this turn of the event loop that are not started yet."""
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
                self._loop.call_exception_handler({"message": "Cannot start the task of a request", "exception": error})

    def _call(self, app: Application, exchange: Exchange) -> None:
        """Call an application; after its first step, send the response head if it is held back."""
        connection = exchange.connection
        connection.is_starting = True
        exchange.task = task = self._start(exchange.run(app))
        connection.is_starting = False
        if not task.done():
            self._running.add(task)
            if exchange.held is not None:
                exchange.flush()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task with its own context."""
        variables = Variables() if self._is_reset else self._variables.copy()
        loop = self._loop
        if loop.get_task_factory() is not None:  # set by the user; it may not support the `context` argument
            return variables.run(loop.create_task, coroutine)
        if IS_EAGER:
            task: asyncio.Task[None] = _new_task(coroutine, loop=loop, context=variables, eager_start=True)
            return task
        return loop.create_task(coroutine, context=variables)

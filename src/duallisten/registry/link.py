"""`Link`: calls a registry that may be slow or down. Every call has a time limit and raises one kind of error.

A call that is not answered in time is cancelled. The cancellation is not waited for, because it may take as long. After
an error the back end is closed, because the state of its connection is unknown; the next call builds a new one.

Invariants:
    - Nothing is logged here, and no error raised here repeats the message of another error (`backend.reason`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from duallisten.errors import DuallistenError
from duallisten.registry.backend import Backend, RegistryError, check_url, make_backend, reason

T = TypeVar("T")

FIRST_PAUSE = 1.0
"""Seconds until a registry that has failed is called again; doubled each time."""


class Link:
    """Calls the registry at a URL, from one event loop.

    Args:
        url: It may contain credentials, which this object does not show.
        timeout: Seconds that a call may take, including the connection.

    Raises:
        UsageError, LaunchError: No back end takes the URL (see `check_url`).
    """

    def __init__(self, url: str, timeout: float) -> None:
        check_url(url)
        self._url = url
        self._timeout = timeout
        self._backend: Backend | None = None
        self._has_answered = False
        self._left: set[asyncio.Future[Any]] = set()

    def prepare(self) -> Backend:
        """Build the back end if there is none, which imports its library. Raises as `make_backend` does."""
        if self._backend is None:
            self._backend = make_backend(self._url)
            self._has_answered = False
        return self._backend

    async def ask(self, question: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """Call the back end, and return its answer; raises only RegistryError.

        A call may be repeated once: if the database has closed an idle connection, the next call fails.
        """
        may_repeat = self._backend is not None and self._has_answered
        while True:
            try:
                return await self._ask(question)
            except Exception as error:
                if may_repeat and not isinstance(error, TimeoutError):
                    may_repeat = False
                elif isinstance(error, DuallistenError):  # our own error, from building the back end
                    raise RegistryError(str(error)) from None
                else:
                    raise RegistryError(f"cannot reach the registry: {reason(error)}") from None

    async def _ask(self, question: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        backend = self.prepare()
        try:
            answer = await self.within(self._timeout, question(backend))
        except Exception:
            if self._backend is backend:
                self._backend = None
                self.leave(backend.aclose())
            raise
        self._has_answered = True
        return answer

    async def within(self, seconds: float, answer: Coroutine[Any, Any, T]) -> T:
        """Wait at most `seconds` for an answer; then cancel the call in the background and raise TimeoutError."""
        task = asyncio.ensure_future(answer)
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if not task.done():
                task.cancel()
                self.leave(task)
        if not task.done():
            raise TimeoutError
        return task.result()

    def leave(self, what: Awaitable[Any]) -> None:
        """Let an awaitable finish in the background, such as the close of a connection."""
        task = asyncio.ensure_future(what)
        self._left.add(task)
        task.add_done_callback(self._forget)

    async def aclose(self, seconds: float = 1.0) -> None:
        """Close the connections, within `seconds`."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self.leave(backend.aclose())
        if self._left:
            await asyncio.wait(set(self._left), timeout=seconds)
        for task in self._left:
            task.cancel()
        if self._left:
            await asyncio.wait(set(self._left), timeout=seconds / 4)  # avoids asyncio's "Task was destroyed" error

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            with suppress(Exception):
                task.exception()  # asyncio logs exceptions that are never retrieved


def pauses(longest: float) -> Iterator[float]:
    """Yield the seconds to wait before each retry: at most `longest`, randomly shortened by up to half."""
    pause = FIRST_PAUSE
    while True:
        yield min(pause, longest) * random.uniform(0.5, 1.0)  # noqa: S311  # so that clients do not retry together
        pause = min(pause * 2, longest)

"""`Link`: asks a registry that may be slow or away. Every question has a time limit and raises one kind of error.

A question that is not answered in time is cancelled, and nobody waits for the end of that, which may take as long.
After an error the back end is closed, for the state of its connection is not known; the next question makes a new one.

Invariants:
    - Nothing is logged here, and no error that leaves this module repeats another's message (`backend.reason`).
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
"""Seconds until a registry that has failed is asked again; then twice as long each time."""


class Link:
    """Asks the registry at a URL, from one event loop.

    Args:
        url: It may hold credentials, which this object does not show.
        timeout: Seconds that a question may take, connecting included.

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
        """Build the back end, if there is none: this imports what it takes. Raises as `make_backend` does."""
        if self._backend is None:
            self._backend = make_backend(self._url)
            self._has_answered = False
        return self._backend

    async def ask(self, question: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """Ask the back end, and return its answer; raises RegistryError, and nothing else.

        A question may be asked twice: that the other side has closed an idle connection shows when it is used again.
        """
        may_repeat = self._backend is not None and self._has_answered
        while True:
            try:
                return await self._ask(question)
            except Exception as error:
                if may_repeat and not isinstance(error, TimeoutError):
                    may_repeat = False
                elif isinstance(error, DuallistenError):  # ours, of making the back end
                    raise RegistryError(str(error)) from None
                else:
                    raise RegistryError(f"the registry cannot be asked: {reason(error)}") from None

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
        """Wait so long for an answer, then leave it behind; raises TimeoutError."""
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
        """Let something end in the background, such as closing a connection."""
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
            await asyncio.wait(set(self._left), timeout=seconds / 4)  # or the loop would complain of them

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            with suppress(Exception):
                task.exception()  # asyncio logs an exception that nobody has looked at


def pauses(longest: float) -> Iterator[float]:
    """Yield the seconds to wait before each further try, at most `longest`; up to half less, at random."""
    pause = FIRST_PAUSE
    while True:
        yield min(pause, longest) * random.uniform(0.5, 1.0)  # noqa: S311  # not all at once
        pause = min(pause * 2, longest)

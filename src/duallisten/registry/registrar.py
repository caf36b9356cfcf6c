"""`Registrar`: registers a process, keeps its entry alive, and deregisters it.

It runs in a thread with its own event loop: an application that blocks its loop does not miss a beat, and a registry
that hangs delays no request. Every method returns at once, except that `draining` and `remove` wait a bounded time
until their change is written.

One task writes the wanted state, at once when it changes and again at each beat. So writes never overtake each other,
and a failed write is repeated when the registry is back. The next beat restores an entry that the registry has lost. If
another launch has meanwhile registered the same id, the beat is refused, and this registrar logs a warning and stops
for good. After `remove` nothing is written any more, even if the removal failed.

Invariants:
    - After the constructor it never raises, and never stops a launch.
    - It logs at most one warning each time that the registry becomes unreachable, and never the registry's URL.
    - The thread is started after the last fork.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Literal, NamedTuple

from duallisten.errors import UsageError
from duallisten.registry.backend import RegistryError, Write
from duallisten.registry.entry import BadEntry, Instance, State, from_json, to_json
from duallisten.registry.link import Link, pauses

logger = logging.getLogger("uvicorn.error")

Standing = Literal["unregistered", "registering", "registered", "unreachable", "superseded", "removed"]

CLOSING = 0.5
"""The most seconds for connections to close at the end."""


class Timing(NamedTuple):
    """How often an entry is written.

    Attributes:
        ttl: Seconds after the last write until an entry expires.
        beat: Seconds between two writes, randomly up to a fifth more or less.
        timeout: The most seconds that a write may take.
        longest_pause: The most seconds between two attempts while the registry cannot be reached.
    """

    ttl: float = 30.0
    beat: float = 10.0
    timeout: float = 3.0
    longest_pause: float = 30.0


class Registrar:
    """Keeps one entry in a registry. Before `starting` or `ready`, nothing is written and no thread is started.

    The id should be new at each launch, such as the container's name with a random suffix: a container and its
    replacement may have the same name for a while, and a registry keeps one entry for each id.

    Args:
        url: The registry's URL.
        instance: The entry; its `state` is set by the methods below.
        timing: How often the entry is written.

    Attributes:
        instance: The entry that was written last or will be written next.
        standing: The state of the registration; `superseded` if another launch has registered the same id.

    Raises:
        UsageError: No back end accepts the URL, or readers would refuse the instance.
        LaunchError: An extra is not installed.
    """

    def __init__(self, url: str, instance: Instance, timing: Timing = Timing()) -> None:  # noqa: B008  # it is frozen
        try:
            from_json(to_json(instance))
        except BadEntry as error:
            raise UsageError(f"invalid instance: {error}") from None
        self.instance = instance
        self.standing: Standing = "unregistered"
        self._link = Link(url, timing.timeout)
        self._timing = timing
        self._owner = secrets.token_hex(16)
        self._token = self._number = 0
        self._wanted: Instance | None = instance
        self._is_over = False
        self._waiting: list[Future[bool]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="duallisten-registrar", daemon=True)

    def starting(self) -> None:
        """Register, or change the entry, with the state `starting`."""
        self._want("starting")

    def ready(self) -> None:
        """Register, or change the entry, with the state `ready`."""
        self._want("ready")

    def draining(self, timeout: float = 2.0) -> bool:
        """Set the entry's state to `draining`, so that new requests go elsewhere.

        Args:
            timeout: The most seconds to wait for the write; 0 to write in the background.

        Returns:
            Whether the state was written within that time.
        """
        return self._loop is not None and _outcome(self._want("draining"), timeout)

    def remove(self, timeout: float = 2.0) -> bool:
        """Deregister the entry if it is still ours, and stop.

        Args:
            timeout: The most seconds to wait for that; connections that do not close take a second more.

        Returns:
            Whether the entry was removed within that time.
        """
        is_out = self._loop is None or _outcome(self._want(None), timeout)
        self._is_over = True
        if self._loop is not None:
            self._call(self._stop)
            self._thread.join(2 * CLOSING)
        return is_out

    def _want(self, state: State | None) -> Future[bool]:
        """Request that a state be written; the future's result is whether it was. None deregisters."""
        written: Future[bool] = Future()
        if self._is_over:
            written.set_result(False)
            return written
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._changed = asyncio.Event()
            self.standing = "registering"
            self._thread.start()
        if not self._call(self._take, state, written):
            written.set_result(False)
        return written

    def _call(self, function: Callable[..., None], *arguments: object) -> bool:
        """Schedule a call in the thread; return whether the thread's loop still runs."""
        assert self._loop is not None  # noqa: S101
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed
            return False
        return True

    # The methods below run in the thread.

    def _run(self) -> None:
        assert self._loop is not None  # noqa: S101
        try:
            self._task = self._loop.create_task(self._keep())
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
            self._loop.run_until_complete(self._link.aclose(CLOSING))
        finally:
            self._loop.close()
            self._answer(False)

    def _take(self, state: State | None, written: Future[bool]) -> None:
        self._answer(False)  # callers that wait for an earlier state
        self._waiting.append(written)
        self._wanted = None if state is None else self.instance._replace(state=state)
        if self._wanted is not None:
            self.instance = self._wanted
        self._changed.set()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _answer(self, is_written: bool) -> None:
        for future in self._waiting:
            future.set_result(is_written)
        self._waiting.clear()

    async def _keep(self) -> None:
        tries = pauses(self._timing.longest_pause)
        await self._changed.wait()
        while True:
            self._changed.clear()
            wanted = self._wanted
            try:
                token = await self._write(wanted)
            except RegistryError as error:
                self._note_failure(error, wanted)
                pause = next(tries)
            else:
                tries = pauses(self._timing.longest_pause)
                if not self._note(token, wanted):
                    self._is_over = True
                    return
                pause = self._timing.beat * random.uniform(0.8, 1.2)  # noqa: S311
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)

    async def _write(self, wanted: Instance | None) -> int | None:
        return await self._link.ask(lambda backend: backend.write(self._next_write(wanted)))

    def _next_write(self, wanted: Instance | None) -> Write:
        self._number += 1  # also at a retry: the previous attempt may have been carried out
        about = self.instance
        body = "" if wanted is None else to_json(wanted)
        return Write(about.service, about.id, self._owner, self._token, self._number, self._timing.ttl, body)

    def _note(self, token: int | None, wanted: Instance | None) -> bool:
        """Record the result of a write; return whether to go on writing."""
        about = self.instance
        if wanted is None:
            self.standing = "removed"
        elif token is None:
            self.standing = "superseded"
            logger.warning(
                "Another process registered or removed %s of %s; this process no longer registers it",
                about.id,
                about.service,
            )
        else:
            self._token = token
            if self.standing != "registered":
                logger.info("Registered as instance %s of %s", about.id, about.service)
            self.standing = "registered"
        if wanted is self._wanted:
            self._answer(token is not None or wanted is None)
        return self.standing == "registered"

    def _note_failure(self, error: RegistryError, wanted: Instance | None) -> None:
        if self.standing != "unreachable":
            logger.warning("Cannot update the registration: %s; retrying, requests are not affected", error)
        self.standing = "unreachable"
        if wanted is self._wanted:
            self._answer(False)  # do not keep a caller waiting that is shutting down


def _outcome(written: Future[bool], timeout: float) -> bool:
    try:
        return written.result(timeout)
    except TimeoutError:
        return False

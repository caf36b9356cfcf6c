"""`Registrar`: puts a process into a registry, keeps it there, and takes it out.

It runs in a thread with an event loop of its own: an application that blocks its loop does not miss a beat, and a
registry that hangs delays no request. Every method returns at once, except that `draining` and `remove` wait a bounded
time until their change is written.

One task writes the state that is wanted, at once when it changes and again at each beat. So writes never overtake each
other, and what could not be written is written when the registry is back. An entry that the registry has lost comes
back with the next beat. Where another launch has registered the same id since, the beat is refused, and this registrar
stops for good, with a warning. After `remove` nothing is written any more, even if the removal failed.

Invariants:
    - Once it is made it never raises, and never stops a launch.
    - It logs at most one warning each time that the registry goes away, and never the registry's URL.
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
"""Seconds for connections to close at the end."""


class Timing(NamedTuple):
    """How often an entry is written.

    Attributes:
        ttl: Seconds until an entry expires that is not written again.
        beat: Seconds between two writes, up to a fifth more or less at random.
        timeout: Seconds that a write may take.
        longest_pause: The most seconds between two tries, while the registry cannot be reached.
    """

    ttl: float = 30.0
    beat: float = 10.0
    timeout: float = 3.0
    longest_pause: float = 30.0


class Registrar:
    """Keeps one entry. Nothing is written, and no thread started, before `ready` or `starting`.

    The id should be a new one at each launch, such as a container's name with something random: while containers are
    replaced, the old and the new one may have one name, and a registry keeps one entry for each id.

    Args:
        url: The registry's URL.
        instance: What to write; its `state` is replaced by that of the last call.
        timing: How often it is written.

    Attributes:
        instance: What was written last, or will be next.
        standing: Whether it is in the registry; `superseded` where another launch has registered the same id.

    Raises:
        UsageError: No back end takes the URL, or readers would refuse the instance.
        LaunchError: An extra is not installed.
    """

    def __init__(self, url: str, instance: Instance, timing: Timing = Timing()) -> None:  # noqa: B008  # it is frozen
        try:
            from_json(to_json(instance))
        except BadEntry as error:
            raise UsageError(f"this cannot be registered: {error}") from None
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
        """Register as one that is not ready yet."""
        self._want("starting")

    def ready(self) -> None:
        """Register, or change the entry, as one that serves."""
        self._want("ready")

    def draining(self, timeout: float = 2.0) -> bool:
        """Change the entry, so that new requests go elsewhere.

        Args:
            timeout: The most seconds to wait for that. With 0 it is written in the background.

        Returns:
            Whether it was written within that time.
        """
        return self._loop is not None and _outcome(self._want("draining"), timeout)

    def remove(self, timeout: float = 2.0) -> bool:
        """Take the entry out if it is still ours, and stop.

        Args:
            timeout: The most seconds to wait for that; a second more where connections do not close.

        Returns:
            Whether it was taken out within that time.
        """
        is_out = self._loop is None or _outcome(self._want(None), timeout)
        self._is_over = True
        if self._loop is not None:
            self._call(self._stop)
            self._thread.join(2 * CLOSING)
        return is_out

    def _want(self, state: State | None) -> Future[bool]:
        """Ask for a state to be written; the future says whether it was."""
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
        """Call in the thread; return whether there is one that still runs."""
        assert self._loop is not None  # noqa: S101
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed
            return False
        return True

    # What follows runs in the thread.

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
        self._answer(False)  # those who wait for an earlier state
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
        self._number += 1  # at each try: the one before may have been carried out
        about = self.instance
        body = "" if wanted is None else to_json(wanted)
        return Write(about.service, about.id, self._owner, self._token, self._number, self._timing.ttl, body)

    def _note(self, token: int | None, wanted: Instance | None) -> bool:
        """Note what came of a write; return whether there is anything more to write."""
        about = self.instance
        if wanted is None:
            self.standing = "removed"
        elif token is None:
            self.standing = "superseded"
            logger.warning(
                "%s of %s has been registered or taken out by another process; giving up", about.id, about.service
            )
        else:
            self._token = token
            if self.standing != "registered":
                logger.info("Registered as %s of %s", about.id, about.service)
            self.standing = "registered"
        if wanted is self._wanted:
            self._answer(token is not None or wanted is None)
        return self.standing == "registered"

    def _note_failure(self, error: RegistryError, wanted: Instance | None) -> None:
        if self.standing != "unreachable":
            logger.warning("Cannot keep up the registration: %s; retrying, requests are not affected", error)
        self.standing = "unreachable"
        if wanted is self._wanted:
            self._answer(False)  # whoever waits has something to end


def _outcome(written: Future[bool], timeout: float) -> bool:
    try:
        return written.result(timeout)
    except TimeoutError:
        return False

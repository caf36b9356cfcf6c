"""The lifespans of what is served: one for each application, whatever listeners lead to it.

Both applications are started, whichever listeners are open: the public one first, then the private one if it is
another, so that the private one may build on what the public one has made. They are shut down the other way round. If
one fails to start, those that have been started before it are shut down in order, and nothing is served.

A server that is told to end can cut a start or a shutdown short that takes too long (`cut_start_short`,
`cut_shutdown_short`): the application's task is cancelled, so that its `finally` blocks run. The protocol has no
message for it: an application that starts does not listen, and one that shuts down has been told. A start that blocks
the event loop (it waits for a database in a plain function, say) is interrupted by an `Alarm`.

uvicorn's own lifespan protocol does each (`Config.lifespan_class`); `uvicorn.Server` knows of the first alone. It
runs the application in a task that it keeps to itself, made of its `main()`.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from duallisten.errors import LaunchError

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.sides import Side


logger = logging.getLogger("uvicorn.error")


class Lifespans:
    """What starts and shuts down the applications of a server.

    first: the lifespan of the public side's application, as `uvicorn.Server` has made it
    config: the loaded configuration

    Attributes:
        failed: The applications that have failed to shut down.
    """

    def __init__(self, first: Any, config: Config) -> None:
        source = config.source("private")
        own: Any = first if source is config else source.lifespan_class(source)
        self._by_side: dict[Side, Any] = {"public": first, "private": own}
        self._names = {own: f"the private application {source.app_name}", first: "the application"}
        self._tasks: dict[Any, asyncio.Task[Any] | None] = {}
        self._cut = False
        self.failed: list[str] = []
        for lifespan in self._names:
            self._observe(lifespan)

    def _observe(self, lifespan: Any) -> None:
        """Note the task that a lifespan runs its application in."""
        run = getattr(lifespan, "main", None)  # there is none with --lifespan off
        if run is None:
            return

        async def main() -> None:
            self._tasks[lifespan] = asyncio.current_task()
            await run()

        lifespan.main = main

    def cut_start_short(self) -> None:
        """Cancel the application that is starting, and start no other."""
        self._cut = True
        for lifespan, task in self._running():
            if not lifespan.startup_event.is_set():
                lifespan.startup_failed = True  # so that uvicorn does not take it for an application without a lifespan
                task.cancel()

    def cut_shutdown_short(self) -> None:
        """Cancel every application that has not shut down yet."""
        for lifespan, task in self._running():
            lifespan.shutdown_failed = True
            task.cancel()

    def _running(self) -> list[tuple[Any, asyncio.Task[Any]]]:
        return [(lifespan, task) for lifespan, task in self._tasks.items() if task is not None and not task.done()]

    def state(self, side: Side) -> dict[str, Any]:
        """Return the state that the lifespan of a side's application shares with its requests."""
        state: dict[str, Any] = self._by_side[side].state
        return state

    async def startup(self) -> None:
        """Start them in order; raises LaunchError where one fails, when the others have been shut down again."""
        started: list[Any] = []
        for lifespan in dict.fromkeys(self._by_side.values()):
            if not self._cut:
                await lifespan.startup()
            if self._cut or lifespan.should_exit:
                for other in reversed(started):
                    await other.shutdown()
                name = self._names[lifespan]
                raise LaunchError(f"{name} failed to start: see the error above; no listener was opened")
            if not getattr(lifespan, "error_occurred", True):  # it has a lifespan: what it raises from now on is told
                lifespan.config = copy.copy(lifespan.config)
                lifespan.config.lifespan = "on"
            started.append(lifespan)

    async def shutdown(self) -> None:
        """Shut them down, the last one first; one that fails is logged, and keeps no other from being shut down."""
        for lifespan in reversed(dict.fromkeys(self._by_side.values())):
            had_failed = getattr(lifespan, "error_occurred", False)  # it has no lifespan, or lost it before
            try:
                await lifespan.shutdown()
            except Exception:
                lifespan.shutdown_failed = True
                logger.exception("The shutdown of %s failed", self._names[lifespan])
            has_raised = getattr(lifespan, "error_occurred", False) and not had_failed
            if has_raised or getattr(lifespan, "shutdown_failed", False):
                self.failed.append(self._names[lifespan])


class Alarm:
    """Interrupts a start that blocks the event loop: a signal must not wait for it for ever.

    A signal handler only notes the signal; the event loop acts upon it, which it cannot while it is blocked. So the
    handler sets an alarm (setitimer(2)), which the loop turns off when it has noticed the signal. An alarm that
    rings raises KeyboardInterrupt in the code that blocks, so that its `finally` blocks run. A handler that started a
    thread instead could wait for a lock that the interrupted code holds.

    It works in the main thread, and where there is such a timer; elsewhere it does nothing.

    Attributes:
        rang: Whether it has rung.
    """

    def __init__(self) -> None:
        self.rang = False
        self._before: Any = None
        self._is_set = False

    def set(self, seconds: float) -> None:
        """Set it, unless it is set already or has rung."""
        if self._is_set or self.rang or not hasattr(signal, "setitimer"):
            return
        if threading.current_thread() is threading.main_thread():
            self._is_set = True
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))

    def turn_off(self) -> None:
        """Turn it off, if it is set."""
        if self._is_set:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._is_set = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.turn_off()
        self.rang = True
        raise KeyboardInterrupt

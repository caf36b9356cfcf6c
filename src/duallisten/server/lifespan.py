"""The lifespans of the applications: one for each application, whichever listeners serve it.

Both applications are started, whichever listeners are open: first the public one, then the private one if it is
another. So the private one may use what the public one has set up. They are shut down in reverse order. If one fails to
start, those that have started are shut down, and nothing is served.

A server that received a stop signal can cut short a startup or a shutdown that takes too long (`cut_start_short`,
`cut_shutdown_short`). It cancels the application's task, so that its `finally` blocks run. The lifespan protocol has no
message for this: during startup the application does not receive, and during shutdown it has the message already. A
startup that blocks the event loop (such as a database call in a plain function) is interrupted by an `Alarm`.

uvicorn's own lifespan class runs each lifespan (`Config.lifespan_class`); `uvicorn.Server` itself knows only the first
one. The class runs the application in a private task, with its method `main()`.
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
    """Starts and shuts down the applications of a server.

    Args:
        first: The lifespan of the public side's application, made by `uvicorn.Server`.
        config: The loaded configuration.

    Attributes:
        failed: The names of the applications that failed to shut down.
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
        """Note the task in which a lifespan runs its application."""
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
                lifespan.startup_failed = True  # else uvicorn would conclude that the application has no lifespan
                task.cancel()

    def cut_shutdown_short(self) -> None:
        """Cancel every application that has not shut down yet."""
        for lifespan, task in self._running():
            lifespan.shutdown_failed = True
            task.cancel()

    def _running(self) -> list[tuple[Any, asyncio.Task[Any]]]:
        return [(lifespan, task) for lifespan, task in self._tasks.items() if task is not None and not task.done()]

    def state(self, side: Side) -> dict[str, Any]:
        """Return the lifespan state of a side's application, which its requests share."""
        state: dict[str, Any] = self._by_side[side].state
        return state

    async def startup(self) -> None:
        """Start the applications in order; where one fails, shut down the others and raise LaunchError."""
        started: list[Any] = []
        for lifespan in dict.fromkeys(self._by_side.values()):
            if not self._cut:
                await lifespan.startup()
            if self._cut or lifespan.should_exit:
                for other in reversed(started):
                    await other.shutdown()
                name = self._names[lifespan]
                raise LaunchError(f"{name} failed to start: see the error above; no listener was opened")
            if not getattr(lifespan, "error_occurred", True):  # it has a lifespan, so log what it raises from now on
                lifespan.config = copy.copy(lifespan.config)
                lifespan.config.lifespan = "on"
            started.append(lifespan)

    async def shutdown(self) -> None:
        """Shut the applications down, the last one first; a failure is logged, and the others are still shut down."""
        for lifespan in reversed(dict.fromkeys(self._by_side.values())):
            had_failed = getattr(lifespan, "error_occurred", False)  # it has no lifespan, or its lifespan failed before
            try:
                await lifespan.shutdown()
            except Exception:
                lifespan.shutdown_failed = True
                logger.exception("The shutdown of %s failed", self._names[lifespan])
            has_raised = getattr(lifespan, "error_occurred", False) and not had_failed
            if has_raised or getattr(lifespan, "shutdown_failed", False):
                self.failed.append(self._names[lifespan])


class Alarm:
    """Interrupts a startup that blocks the event loop, so that a signal does not wait for it for ever.

    A signal handler only notes the signal. The event loop acts on it, but not while it is blocked. So the handler sets
    an alarm (setitimer(2)), and the loop turns it off when it acts on the signal. An alarm that rings raises
    KeyboardInterrupt in the blocking code, so that its `finally` blocks run. (A thread would not do: starting one in
    the handler could wait for a lock that the interrupted code holds.)

    It works in the main thread of systems that have the timer; elsewhere it does nothing.

    Attributes:
        rang: Whether the alarm has rung.
    """

    def __init__(self) -> None:
        self.rang = False
        self._before: Any = None
        self._is_set = False

    def set(self, seconds: float) -> None:
        """Set the alarm, unless it is set already or has rung."""
        if self._is_set or self.rang or not hasattr(signal, "setitimer"):
            return
        if threading.current_thread() is threading.main_thread():
            self._is_set = True
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))

    def turn_off(self) -> None:
        """Turn the alarm off, if it is set."""
        if self._is_set:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._is_set = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.turn_off()
        self.rang = True
        raise KeyboardInterrupt

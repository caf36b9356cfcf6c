"""The shutdown of a server, step by step: it loses no accepted connection, and stays within the platform's time.

1. The observers of `Phase.DRAINING` are told first (a service manager, a registry).
2. Every response that starts from now on says `Connection: close`; `Server.should_exit` sets that.
3. The public listener accepts for another `--public-linger` seconds, until the load balancer knows of the shutdown. The
   private one accepts for `--private-linger` seconds, because neighbours keep using a resolved address, and at least as
   long as the public one, because `readyz` is there. Idle connections stay open meanwhile: the process runs anyway, and
   closing one could lose a request.
4. A listener whose time is over stops: the connections in its queue are accepted and answered, and its WebSockets are
   closed with 1012. When the last listener has stopped, the connections of both sides are closed (`drain`).
5. The application is shut down.

Steps 2 to 4 have `--timeout-graceful-shutdown` seconds (`Config.graceful_seconds`). On a platform that is less than the
grace before SIGKILL, and the application's shutdown has the rest. A second SIGINT ends everything at once, as in
uvicorn.

An exception in one step is logged, and the other steps still run (`Steps`). `ShutdownError` is raised at the end.

A server that receives a stop signal during startup waits for startup to finish (`start_patience`), so that the
application can be shut down properly. Then it cuts startup short (`lifespan`). No listener is opened.

Closing a listening socket resets the connections in its queue (`sockets.drop_newcomers`). Event loops accept in
batches, so the queue may hold more connections than the loop has accepted so far.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from duallisten.errors import LaunchError, LaunchExit, ShutdownError
from duallisten.listeners import drop_newcomers, has_waiting
from duallisten.observability import Phase
from duallisten.server.drain import POLL_INTERVAL, Steps, drain, end_requests

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.listeners import Listening, Plan
    from duallisten.server.lifespan import Lifespans
    from duallisten.server.server import Server
    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

START_PATIENCE = 10.0
"""Seconds that an application has to finish startup after a signal, without --timeout-graceful-shutdown."""

SIGNAL_INTERVAL = 0.1
"""Seconds between two checks for a signal, as in uvicorn's main loop."""

CUT_PATIENCE = 3.0
"""Seconds that a cancelled application has for its `finally` blocks."""

RESERVE = 1.0
"""Seconds of a platform's grace that are never used."""

HANDSHAKE = 0.05
"""Seconds for TCP handshakes that have begun when their listener stops."""

FULL_QUEUE = 1.0
"""Seconds to empty the queue of a socket that stops, also if new connections fill it as fast."""


class Pause:
    """A pause in the event loop that any thread or a signal handler can end."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until `end` is called."""
        loop = asyncio.get_running_loop()
        self._over = over = loop.create_future()
        timer = loop.call_later(seconds, _set_done, over)
        try:
            await over
        finally:
            timer.cancel()
            self._over = None

    def end(self) -> None:
        """End the pause, if there is one."""
        if (over := self._over) is not None:
            with suppress(RuntimeError):  # the loop is closed
                over.get_loop().call_soon_threadsafe(_set_done, over)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def linger_seconds(config: Config, plan: Plan, side: Side) -> float:
    """Return the seconds that a socket of `side` still accepts during shutdown.

    They are at most half of the graceful time, so that the last connections have time, too. The private side accepts at
    least as long as the public one, because its `readyz` tells the load balancer of the shutdown.
    """
    public = (config.options.public_linger or 0.0) if plan.whole.public is not None else 0.0
    private = max(public, config.options.private_linger or 0.0)
    return min(private if "private" in plan.served_by(side) else public, config.graceful_seconds / 2)


def start_patience(config: Config) -> float:
    """Return the seconds that an application has to finish startup after a stop signal."""
    return config.timeout_graceful_shutdown or START_PATIENCE


async def start_or_give_up(server: Server, lifespans: Lifespans) -> bool:
    """Start the applications; after a stop signal, give up when startup takes too long. Raises LaunchError.

    Returns:
        Whether they were started; otherwise nothing is left to shut down.
    """
    starting = asyncio.ensure_future(lifespans.startup())
    loop = asyncio.get_running_loop()
    patience = start_patience(server.config)
    deadline = None
    try:
        while not starting.done():
            await asyncio.wait([starting], timeout=SIGNAL_INTERVAL)
            if not server.should_exit:
                continue
            server.alarm.turn_off()
            if deadline is None:
                deadline = loop.time() + patience
                logger.info("Received a stop signal during startup; waiting up to %g s for startup to finish", patience)
            if server.force_exit or loop.time() >= deadline:
                break
    except asyncio.CancelledError:
        starting.cancel()
        raise
    if server.alarm.rang:
        logger.error("The application blocked the event loop during startup; interrupted it after the stop signal")
    if starting.done():
        if server.alarm.rang and starting.exception() is not None:
            return False
        starting.result()
        return True
    await server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    logger.error("Startup has not finished; cancelling it")
    lifespans.cut_start_short()
    await asyncio.wait([starting], timeout=CUT_PATIENCE)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def end(server: Server, lifespans: Lifespans) -> None:
    """Shut down a server whose applications were started; raises ShutdownError at the end where a step has failed."""
    steps = Steps()
    began = asyncio.get_running_loop().time()
    grace = server.config.place.grace
    if server.config.graceful_seconds >= grace:  # the user has asked for more, so must have raised the platform's, too
        grace = 0.0
    try:
        await _end_connections(server, began, steps)
    finally:
        try:
            if not server.force_exit:
                with steps.step("shut down the application"):
                    await _shut_down(server, lifespans, began + grace - RESERVE if grace else None)
        finally:
            await server.lifecycle.enter(Phase.STOPPED)
    if failed := [*lifespans.failed, *([f"{steps.failed} shutdown step(s)"] if steps.failed else [])]:
        logger.info("Finished server process [%d]", os.getpid())  # the exception below skips uvicorn's own line
        raise ShutdownError(f"the shutdown of {' and of '.join(failed)} failed: see the error above")


async def _end_connections(server: Server, began: float, steps: Steps) -> None:
    """Tell the observers, stop accepting, and wait for the connections.

    Args:
        server: The server.
        began: The begin of the shutdown, on the event loop's clock.
        steps: Logs failures.
    """
    telling = server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    server.refresh_headers()
    dating = asyncio.ensure_future(_keep_dating(server))
    seconds = server.config.graceful_seconds
    forced, handshakes = lambda: server.force_exit, server.handshakes
    try:
        await telling
        with steps.step("stop accepting"):
            await _stop_listening(server, began, steps)
        with steps.step("wait for the connections"):
            await drain(server.states, began=began, seconds=seconds, steps=steps, forced=forced, handshakes=handshakes)
    finally:
        dating.cancel()


async def _stop_listening(server: Server, began: float, steps: Steps) -> None:
    """Stop each listener when its linger time after `began` is over."""
    loop = asyncio.get_running_loop()
    plan = server.plan
    assert plan is not None  # noqa: S101
    left = list(server.listeners.listening)
    seconds = {one.bound.side: server.linger(one.bound.side) if server.started else 0.0 for one in left}
    for moment in sorted({0.0, *seconds.values()}):
        while loop.time() < began + moment and not server.force_exit:
            await asyncio.sleep(min(POLL_INTERVAL, max(0.0, began + moment - loop.time())))
        due = [one for one in left if seconds[one.bound.side] == moment]
        left = [one for one in left if one not in due]
        await _stop(server, due, steps)
        lingering = {side: seconds[one.bound.side] for one in left for side in plan.served_by(one.bound.side)}
        for side in {one.bound.side for one in due} - set(lingering) if left else ():
            end_requests(server.listeners.states(side), steps)
        if not moment:
            for side, time in lingering.items():
                logger.info("Draining: the %s side accepts connections for another %g s", side, time)


async def _stop(server: Server, listening: list[Listening], steps: Steps) -> None:
    """Accept the connections in the queues of these sockets, then close the sockets.

    New connections are kept out meanwhile. For a socket that several processes share, another process does that.
    """
    loop = asyncio.get_running_loop()
    for one in listening:
        if server.is_alone and one.bound.ours:
            drop_newcomers(one.bound.socket)
        one.server.lift_limit()
    if listening and not server.force_exit:
        await asyncio.sleep(HANDSHAKE)
    deadline = loop.time() + FULL_QUEUE
    while any(has_waiting(one.bound.socket) for one in listening) and loop.time() < deadline and not server.force_exit:
        await asyncio.sleep(0)
    for one in listening:
        with steps.step(f"stop accepting on {one.bound.name}"):
            one.server.close()
    for _ in range(5):  # turns of the loop until the engine has the connections that were accepted last
        await asyncio.sleep(0)
    for side in sorted({one.bound.side for one in listening}):
        logger.info("Draining: the %s listener stopped accepting connections", side)


async def _keep_dating(server: Server) -> None:
    """Keep the date header current, because uvicorn's main loop has ended."""
    while True:
        await asyncio.sleep(1.0)
        server.refresh_headers()


async def _shut_down(server: Server, lifespans: Lifespans, killed: float | None) -> None:
    """Shut the applications down, and cut the shutdown short before SIGKILL.

    Args:
        server: The server.
        lifespans: The lifespans of the applications.
        killed: `RESERVE` seconds before the platform kills the process; None where it does not.
    """
    loop = asyncio.get_running_loop()
    ending = asyncio.ensure_future(lifespans.shutdown())
    while not ending.done() and not server.force_exit:
        await asyncio.wait([ending], timeout=POLL_INTERVAL)
        if not ending.done() and killed is not None and loop.time() >= killed - CUT_PATIENCE:
            logger.error("Application shutdown has not finished; cancelling it before the platform sends SIGKILL")
            lifespans.cut_shutdown_short()
            await asyncio.wait([ending], timeout=CUT_PATIENCE)
            break
    if ending.done():
        ending.result()
    else:
        ending.cancel()


def logged(error: LaunchError) -> LaunchExit:
    """Log the error that stops a launch, and return it as a `LaunchExit`, for callers that expect uvicorn to exit."""
    logger.error(error)
    return LaunchExit(str(error))

"""The end of a server, in its order: nothing that was accepted is lost, and all of it within the platform's time.

1. Others are told first: the observers of `Phase.DRAINING` (a service manager, a registry).
2. Every answer that begins from now on says `Connection: close`; `Server.should_exit` sees to that.
3. The public listener goes on accepting for `--public-linger` seconds, for a balancer that is yet to hear of the end;
   the private one for `--private-linger`, since neighbours go on using an address that they have resolved, and as long
   as the public one, since `readyz` is there. Idle connections stay open as long: the process lives anyway, and closing
   one might lose a request.
4. A listener whose time is over stops. What its queue holds is accepted and answered, its WebSockets are closed with
   1012. When the last one has stopped, the connections of both sides end (`drain`).
5. The application is shut down.

The time of 2 to 4 is `--timeout-graceful-shutdown` (`Config.graceful_seconds`); on a platform it is shorter than the
grace before SIGKILL, and what is left of that is the application's. A second SIGINT ends all of it at once, as in
uvicorn.

Each step is on its own (`Steps`): what one raises is logged, and the rest runs. `ShutdownError` is raised at the end.

A server that is told to end while its application starts waits as long for the start to finish, so that the application
can be shut down as it should; then the start is cut short (`lifespan`). No listener is opened.

Closing a listening socket resets the connections in its queue (`sockets.drop_newcomers`). Event loops accept in
batches, so a loop that has been told of a connection may have more of them in the queue.
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
"""Seconds that an application has to finish its start after a signal, without --timeout-graceful-shutdown."""

SIGNAL_INTERVAL = 0.1
"""Seconds between two looks whether a signal has come, as in uvicorn's main loop."""

CUT_PATIENCE = 3.0
"""Seconds that an application has for its `finally` blocks when it was cut short."""

RESERVE = 1.0
"""Seconds of a platform's grace that are not used at all."""

HANDSHAKE = 0.05
"""Seconds that a TCP handshake has which was under way when its listener stopped accepting."""

FULL_QUEUE = 1.0
"""Seconds after which a queue is given up that is filled as fast as it is emptied."""


class Pause:
    """A pause in the event loop that any thread, or a signal handler, may end."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Wait until it is over, or is ended."""
        loop = asyncio.get_running_loop()
        self._over = over = loop.create_future()
        timer = loop.call_later(seconds, _set_done, over)
        try:
            await over
        finally:
            timer.cancel()
            self._over = None

    def end(self) -> None:
        """End it, if there is one."""
        if (over := self._over) is not None:
            with suppress(RuntimeError):  # the loop is closed
                over.get_loop().call_soon_threadsafe(_set_done, over)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def linger_seconds(config: Config, plan: Plan, side: Side) -> float:
    """Return the seconds that a socket of `side` goes on accepting when all ends.

    They are half of the whole time at most, for what is accepted last. The private side goes on for at least as long as
    the public one: there `readyz` says that it ends.
    """
    public = (config.options.public_linger or 0.0) if plan.whole.public is not None else 0.0
    private = max(public, config.options.private_linger or 0.0)
    return min(private if "private" in plan.served_by(side) else public, config.graceful_seconds / 2)


def start_patience(config: Config) -> float:
    """Return the seconds that an application has to finish its start after a signal."""
    return config.timeout_graceful_shutdown or START_PATIENCE


async def start_or_give_up(server: Server, lifespans: Lifespans) -> bool:
    """Start the applications, unless told to end meanwhile and that takes too long; raises LaunchError.

    Returns whether they were started; otherwise all is ended.
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
    """End a server whose applications were started; raises ShutdownError at the end where a step has failed."""
    steps = Steps()
    began = asyncio.get_running_loop().time()
    grace = server.config.place.grace
    if server.config.graceful_seconds >= grace:  # the user has asked for more, and must have raised it there
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
        logger.info("Finished server process [%d]", os.getpid())  # uvicorn does not, through which this is raised
        raise ShutdownError(f"the shutdown of {' and of '.join(failed)} failed: see the error above")


async def _end_connections(server: Server, began: float, steps: Steps) -> None:
    """Tell others, stop accepting, and wait for connections.

    began: when the end began, of the event loop's clock
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
    """Stop each listener when it has lingered since `began`: those that do not linger first."""
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
    """Accept what the queues of these sockets hold, then close them.

    Newcomers are kept out meanwhile. Of a socket that other processes have, too, another one does that.
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
    for _ in range(5):  # turns of the loop in which what was accepted last becomes a connection
        await asyncio.sleep(0)
    for side in sorted({one.bound.side for one in listening}):
        logger.info("Draining: the %s listener stopped accepting connections", side)


async def _keep_dating(server: Server) -> None:
    """Keep the date of answers, which uvicorn's main loop does no more."""
    while True:
        await asyncio.sleep(1.0)
        server.refresh_headers()


async def _shut_down(server: Server, lifespans: Lifespans, killed: float | None) -> None:
    """Shut the applications down, or cut that short before SIGKILL does.

    killed: when the platform kills the process, nearly; None where it does not
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
    """Log what stops a launch, and return it as it leaves to whoever would have seen uvicorn exit."""
    logger.error(error)
    return LaunchExit(str(error))

"""The end of a server, in its order: nothing that was accepted is lost, and all of it within the platform's time.

1. Others are told first: the observers of `Phase.DRAINING` (a service manager, a registry).
2. Every answer that begins from now on says `Connection: close`. The public listener stops accepting; what its queue
   holds is accepted and answered. Public WebSockets are closed with 1012.
3. The private listener goes on accepting for `--private-linger` seconds, since neighbours go on using an address that
   they have resolved. Idle connections stay open as long: the process lives anyway, and closing one might lose a
   request.
4. The private listener stops, and the connections of both sides end (`drain`).
5. The application is shut down.

The time of 2 to 4 is `--timeout-graceful-shutdown`, or `PATIENCE`; on a platform it is shorter than the grace before
SIGKILL, and what is left of that is the application's. A second SIGINT ends all of it at once, as in uvicorn.

A server that is told to end while its application starts waits as long for the start to finish, so that the application
can be shut down as it should; then the start is cut short (`lifespan`). No listener is opened.

Closing a listening socket resets the connections in its queue (`sockets.drop_newcomers`). Event loops accept in
batches, so a loop that has been told of a connection may have more of them in the queue.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from duallisten.listeners import drop_newcomers, has_waiting
from duallisten.observability import Phase
from duallisten.server.drain import POLL_INTERVAL, drain, end_requests

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.listeners import Listening
    from duallisten.server.lifespan import Lifespans
    from duallisten.server.server import Server

logger = logging.getLogger("uvicorn.error")

PATIENCE = 30.0
"""Seconds that connections have to end without --timeout-graceful-shutdown: a client that does not read its answer, or
does not send its body, must not hold the end up for ever."""

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


def limit_linger(linger: float | None, timeout: float | None) -> float:
    """Return the seconds that a private listener lingers: half of the whole time at most, for what it accepts last."""
    return min(linger or 0.0, float("inf") if timeout is None else timeout / 2)


def start_patience(config: Config) -> float:
    """Return the seconds that an application has to finish its start after a signal."""
    timeout = config.timeout_graceful_shutdown
    return START_PATIENCE if timeout is None else timeout


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
        logger.error("The application has blocked while it started, and was interrupted")
    if starting.done():
        if server.alarm.rang and starting.exception() is not None:
            return False
        starting.result()
        return True
    await server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    logger.error("The application has not started by then, and is cut short")
    lifespans.cut_start_short()
    await asyncio.wait([starting], timeout=CUT_PATIENCE)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def end(server: Server, lifespans: Lifespans) -> None:
    """End a server whose applications were started; an error in one step does not keep the next ones from running."""
    began = asyncio.get_running_loop().time()
    grace = server.config.place.platform.grace
    try:
        await _end_connections(server, began)
    finally:
        try:
            if not server.force_exit:
                await _shut_down(server, lifespans, began + grace - RESERVE if grace else None)
        finally:
            await server.lifecycle.enter(Phase.STOPPED)


async def _end_connections(server: Server, began: float) -> None:
    """Tell others, stop accepting, and wait for connections.

    began: when the end began, of the event loop's clock
    """
    loop = asyncio.get_running_loop()
    timeout = server.config.timeout_graceful_shutdown
    linger_until = began + limit_linger(server.linger if server.started else 0.0, timeout)
    drained_by = began + (PATIENCE if timeout is None else timeout)
    telling = server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    server.refresh_headers()
    dating = asyncio.ensure_future(_keep_dating(server))
    try:
        await telling
        await _stop_listening(server, linger_until)
        left = max(0.0, drained_by - loop.time())
        await drain(server.states, timeout=left, forced=lambda: server.force_exit, handshakes=server.handshakes)
    finally:
        dating.cancel()


async def _stop_listening(server: Server, linger_until: float) -> None:
    """Stop on the public side, later on the private one."""
    loop = asyncio.get_running_loop()
    plan = server.plan
    assert plan is not None  # noqa: S101
    left = linger_until - loop.time()
    late = [one for one in server.listeners.listening if left > 0 and plan.lingers(one.bound.side)]
    await _stop(server, [one for one in server.listeners.listening if one not in late])
    if late:
        end_requests(server.states, websockets=False)
        end_requests(server.listeners.states("public"), websockets=True)
        logger.info("Draining: the private side goes on accepting for %g s", round(left, 1))
        while loop.time() < linger_until and not server.force_exit:
            await asyncio.sleep(min(POLL_INTERVAL, max(0.0, linger_until - loop.time())))
        await _stop(server, late)


async def _stop(server: Server, listening: list[Listening]) -> None:
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
        one.server.close()
    for _ in range(5):  # turns of the loop in which what was accepted last becomes a connection
        await asyncio.sleep(0)
    for side in sorted({one.bound.side for one in listening}):
        logger.info("Draining: the %s listener accepts no more", side)


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
            logger.error("The application has not shut down in time, and is cut short")
            lifespans.cut_shutdown_short()
            await asyncio.wait([ending], timeout=CUT_PATIENCE)
            break
    if ending.done():
        ending.result()
    else:
        ending.cancel()

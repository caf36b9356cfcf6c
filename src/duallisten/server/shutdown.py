"""The end of a server, in its order: nothing that was accepted is lost, and all of it within the platform's time.

1. What is told to others goes first (`drain_steps`): that it is not ready, that it is not to be found here any more.
2. Every answer that begins from now on says `Connection: close`. The public listener stops accepting; what its queue
   holds is accepted and answered. Public WebSockets are closed with 1012.
3. The private listener goes on accepting for `--private-linger` seconds, for neighbours go on using an address that
   they have resolved. Idle connections stay open as long: the process lives anyway, and closing one might lose a
   request.
4. The private listener stops, and the connections of both sides end (`drain`).
5. The application is shut down.

The time of 2 to 4 is `--timeout-graceful-shutdown`, or `PATIENCE`; on a platform it is shorter than the grace before
SIGKILL, and what is left of that is the application's. A second SIGINT ends all of it at once, as in uvicorn.

A server that is told to end while its application starts gives it as long to come through, so that its shutdown can run
as it should; then the start is cut short (`lifespan`, and if it blocks the event loop `start_interrupt`). It opens
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, Protocol

from duallisten.config import Config
from duallisten.config.uvicorn_contract import ServerState
from duallisten.listeners import ListenerSet, Listening
from duallisten.observability import Lifecycle, Phase
from duallisten.server.drain import POLL_INTERVAL, drain, end_requests, stop_accepting
from duallisten.server.lifespan import Lifespans
from duallisten.server.start_interrupt import Alarm

logger = logging.getLogger("uvicorn.error")

PATIENCE = 30.0
"""Seconds that connections have to end without --timeout-graceful-shutdown: a client that does not read its answer, or
does not send its body, must not hold the end up for ever."""

START_PATIENCE = 10.0
"""Seconds that an application has to come through its start after a signal, without --timeout-graceful-shutdown."""

SIGNAL_INTERVAL = 0.1
"""Seconds between two looks whether a signal has come, as in uvicorn's main loop."""

STEP_PATIENCE = 2.0
"""Seconds that a drain step may take."""

CUT_PATIENCE = 3.0
"""Seconds that an application has for its `finally` blocks when it was cut short."""

RESERVE = 1.0
"""Seconds of a platform's grace that are not used at all."""


class DrainStep(NamedTuple):
    """What is done first of all when a server ends, such as leaving a registry.

    name: what it does, for the log
    """

    name: str
    run: Callable[[], Awaitable[None]]


class Ends(Protocol):
    """A server, as far as its end is concerned; see `server.Server`."""

    config: Config
    listeners: ListenerSet
    drain_steps: list[DrainStep]
    started: bool
    lifecycle: Lifecycle
    should_exit: bool
    force_exit: bool
    alarm: Alarm

    @property
    def linger(self) -> float: ...  # noqa: D102
    @property
    def is_alone(self) -> bool: ...  # noqa: D102
    @property
    def states(self) -> list[ServerState]: ...  # noqa: D102
    @property
    def handshakes(self) -> Collection[asyncio.Task[None]]: ...  # noqa: D102
    def refresh_headers(self) -> None: ...  # noqa: D102


class Budget(NamedTuple):
    """The times of an end, of the event loop's clock; None where nobody kills the process.

    linger: until when the private listener goes on accepting
    drained: when connections are no longer waited for
    grace: when the process is killed, nearly
    """

    linger: float
    drained: float
    grace: float | None

    @classmethod
    def begin(cls, server: Ends) -> Budget:
        """Begin to count."""
        now = asyncio.get_running_loop().time()
        timeout = server.config.timeout_graceful_shutdown
        linger = server.linger if server.started else 0.0
        grace = server.config.place.platform.grace
        return cls(
            linger=now + limit_linger(linger, timeout),
            drained=now + (PATIENCE if timeout is None else timeout),
            grace=now + grace - RESERVE if grace else None,
        )


def limit_linger(linger: float | None, timeout: float | None) -> float:
    """Return the seconds that a private listener lingers: half of the whole time at most, for what it accepts last."""
    return min(linger or 0.0, float("inf") if timeout is None else timeout / 2)


def start_patience(config: Config) -> float:
    """Return the seconds that an application has to come through its start after a signal."""
    timeout = config.timeout_graceful_shutdown
    return START_PATIENCE if timeout is None else timeout


async def start_or_give_up(server: Ends, lifespans: Lifespans) -> bool:
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
    server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    logger.error("The application has not started by then, and is cut short")
    lifespans.cut_start_short()
    await asyncio.wait([starting], timeout=CUT_PATIENCE)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def end(server: Ends, lifespans: Lifespans, budget: Budget) -> None:
    """End a server whose applications were started."""
    server.lifecycle.enter(Phase.DRAINING)
    server.alarm.turn_off()
    server.refresh_headers()
    dating = asyncio.ensure_future(_keep_dating(server))
    try:
        for step in server.drain_steps:
            await _take(step)
        await _stop_listening(server, budget)
        await drain(
            server.states, timeout=_left(budget.drained), forced=lambda: server.force_exit, handshakes=server.handshakes
        )
    finally:
        dating.cancel()
    if not server.force_exit:
        await _shut_down(server, lifespans, _left(budget.grace))


async def _stop_listening(server: Ends, budget: Budget) -> None:
    """Stop on the public side, later on the private one."""
    loop = asyncio.get_running_loop()
    plan = server.listeners.plan
    assert plan is not None  # noqa: S101
    left = budget.linger - loop.time()
    late = [one for one in server.listeners.listening if left > 0 and plan.lingers(one.bound.side)]
    await _stop(server, [one for one in server.listeners.listening if one not in late])
    if late:
        end_requests(server.states, websockets=False)
        end_requests(server.listeners.states("public"), websockets=True)
        logger.info("Draining: the private side goes on accepting for %g s", round(left, 1))
        while loop.time() < budget.linger and not server.force_exit:
            await asyncio.sleep(min(POLL_INTERVAL, max(0.0, budget.linger - loop.time())))
        await _stop(server, late)


async def _stop(server: Ends, listening: list[Listening]) -> None:
    await stop_accepting(listening, alone=server.is_alone, forced=lambda: server.force_exit)
    for side in sorted({one.bound.side for one in listening}):
        logger.info("Draining: the %s listener accepts no more", side)


async def _take(step: DrainStep) -> None:
    """Take a step; one that fails or hangs holds nothing up."""
    logger.info("Draining: %s", step.name)
    try:
        async with asyncio.timeout(STEP_PATIENCE):
            await step.run()
    except Exception as error:
        logger.error("Draining: %s failed: %r", step.name, error)


async def _keep_dating(server: Ends) -> None:
    """Keep the date of answers, which uvicorn's main loop does no more."""
    while True:
        await asyncio.sleep(1.0)
        server.refresh_headers()


async def _shut_down(server: Ends, lifespans: Lifespans, within: float | None) -> None:
    """Shut the applications down, or cut that short before SIGKILL does."""
    ending = asyncio.ensure_future(lifespans.shutdown())
    deadline = None if within is None else asyncio.get_running_loop().time() + max(0.0, within - CUT_PATIENCE)
    while not ending.done() and not server.force_exit:
        await asyncio.wait([ending], timeout=POLL_INTERVAL)
        if not ending.done() and deadline is not None and asyncio.get_running_loop().time() >= deadline:
            logger.error("The application has not shut down in time, and is cut short")
            lifespans.cut_shutdown_short()
            await asyncio.wait([ending], timeout=CUT_PATIENCE)
            break
    if ending.done():
        ending.result()
    else:
        ending.cancel()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())

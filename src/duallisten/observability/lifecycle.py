"""How a process, or a whole launch, stands: one list of phases, and whoever wants to hear of a change.

A server enters its phases in order. Its scoreboard row (which health and metrics read), the service manager and the
registry are observers: nobody asks a server what it is doing, and a server knows none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum

logger = logging.getLogger("uvicorn.error")

PATIENCE = 4.0
"""Seconds that an observer may take."""


class Phase(IntEnum):
    """How a process or a launch stands; it is ready when every listener that it is to have accepts."""

    STARTING = 0
    AWAITING_PRIVATE = 1
    READY = 2
    DRAINING = 3
    STOPPED = 4

    @property
    def label(self) -> str:
        """What it is called in health checks, metrics and on the status page."""
        return "awaiting the private address" if self is Phase.AWAITING_PRIVATE else self.name.lower()

    @property
    def serves(self) -> bool:
        """Whether connections are accepted, on one side at least."""
        return self in (Phase.AWAITING_PRIVATE, Phase.READY)


PhaseObserver = Callable[[Phase], Awaitable[None] | None]
"""Hears of each phase that is entered, in the event loop. What takes time is returned, to be awaited."""


class Lifecycle:
    """The phase of a server, and who hears when it enters another.

    Attributes:
        phase: The phase.
        observers: They are told in this order. One that fails is logged, and keeps no other from being told.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.observers: list[PhaseObserver] = []

    def enter(self, phase: Phase) -> Awaitable[object]:
        """Enter a phase, and tell the observers; nothing where that is the phase already.

        Returns:
            Ends when all observers have acted, or `PATIENCE` is over. It need not be awaited.
        """
        observers = self.observers if phase is not self.phase else ()
        self.phase = phase
        return asyncio.gather(*[acting for one in observers if (acting := _tell(one, phase)) is not None])


def _tell(observer: PhaseObserver, phase: Phase) -> Awaitable[None] | None:
    try:
        acting = observer(phase)
    except Exception:
        logger.exception("An observer of the phase %r failed", phase.label)
        return None
    return _wait_for(acting, phase) if acting is not None else None


async def _wait_for(acting: Awaitable[None], phase: Phase) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await acting
    except Exception:
        logger.exception("An observer of the phase %r failed", phase.label)

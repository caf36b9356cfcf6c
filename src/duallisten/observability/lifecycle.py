"""The phases of a process or a whole launch, and the observers that are called when the phase changes.

A server enters its phases in order. Its scoreboard row (which health and metrics read), the service manager and the
registry are observers: they do not query the server, and the server does not know them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum

logger = logging.getLogger("uvicorn.error")

PATIENCE = 4.0
"""The most seconds that an observer may take."""


class Phase(IntEnum):
    """The phase of a process or a launch. It is ready when all its planned listeners accept."""

    STARTING = 0
    AWAITING_PRIVATE = 1
    READY = 2
    DRAINING = 3
    STOPPED = 4

    @property
    def label(self) -> str:
        """The name of the phase in health checks, metrics and on the status page."""
        return "awaiting the private address" if self is Phase.AWAITING_PRIVATE else self.name.lower()

    @property
    def serves(self) -> bool:
        """Whether at least one side accepts connections."""
        return self in (Phase.AWAITING_PRIVATE, Phase.READY)


PhaseObserver = Callable[[Phase], Awaitable[None] | None]
"""Called in the event loop with each phase that is entered. If the work takes time, it returns an awaitable."""


class Lifecycle:
    """The phase of a server, and the observers of its changes.

    Attributes:
        phase: The current phase.
        observers: Called in this order. If one fails, that is logged, and the others are still called.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.observers: list[PhaseObserver] = []

    def enter(self, phase: Phase) -> Awaitable[object]:
        """Enter a phase, and call the observers; do nothing if the server is already in that phase.

        Returns:
            An awaitable that ends when all observers are done, or after `PATIENCE`. It need not be awaited.
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

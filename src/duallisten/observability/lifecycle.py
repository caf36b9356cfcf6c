"""How a process, or a whole launch, stands: one list of phases, and whoever wants to hear of a change.

A server enters its phases in order; health and metrics read them from the scoreboard, and a service manager is told of
them. Nobody asks a server what it is doing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import IntEnum

logger = logging.getLogger("uvicorn.error")


class Phase(IntEnum):
    """How a process or a launch stands; it is ready when every listener that it is to have accepts."""

    STARTING = 0
    AWAITING_PRIVATE = 1
    READY = 2
    DRAINING = 3

    @property
    def label(self) -> str:
        """What it is called in health checks, metrics and on the status page."""
        return "awaiting the private address" if self is Phase.AWAITING_PRIVATE else self.name.lower()

    @property
    def serves(self) -> bool:
        """Whether connections are accepted, on one side at least."""
        return self in (Phase.AWAITING_PRIVATE, Phase.READY)


class Lifecycle:
    """The phase of a server, and who hears when it enters another.

    Attributes:
        phase: The phase.
        observers: Each is called with the new phase, in order, in the event loop; one that fails is logged.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.observers: list[Callable[[Phase], None]] = []

    def enter(self, phase: Phase) -> None:
        """Enter a phase, and tell; nothing where that is the phase already."""
        if phase is self.phase:
            return
        self.phase = phase
        for observer in self.observers:
            try:
                observer(phase)
            except Exception:
                logger.exception("An observer of the phase %r failed", phase.label)

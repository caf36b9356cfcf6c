"""An alarm for a start that blocks: a signal must not wait for it for ever.

A signal handler only notes the signal, and the event loop acts upon it. While an application's start keeps the loop
from turning (it waits for a database in a plain function, say) nobody does. So the handler sets an alarm
(setitimer(2)), which the loop turns off when it has noticed. If it rings, it raises KeyboardInterrupt in whatever
blocks, so that its `finally` blocks run. A handler that started a thread instead could wait for a lock that the
interrupted code holds.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Alarm:
    """Rings in the main thread; elsewhere, and where there is no timer, it does nothing.

    rang: whether it has rung
    """

    def __init__(self) -> None:
        self.rang = False
        self._before: Any = None
        self._is_set = False

    def set(self, seconds: float) -> None:
        """Have it ring then, unless it is set already, or has rung."""
        if self._is_set or self.rang or not hasattr(signal, "setitimer"):
            return
        if threading.current_thread() is threading.main_thread():
            self._is_set = True
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))

    def turn_off(self) -> None:
        """Let it not ring."""
        if self._is_set:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._is_set = False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.turn_off()
        self.rang = True
        raise KeyboardInterrupt

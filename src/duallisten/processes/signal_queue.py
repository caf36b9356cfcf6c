"""Signals as events: queued where they come in, taken when the program is ready for them.

A handler that did the work itself would run between any two lines of what it interrupts. Here it only notes the
number, and a socket becomes readable (`signal.set_wakeup_fd`), so that a wait for other things ends with a signal, too.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any


class SignalQueue:
    """The signals that have come in and were not taken yet; made by `queued`.

    patience: seconds that a wait takes at most, whatever it is for; None: as long as asked for
    """

    def __init__(self, wakeup: socket.socket) -> None:
        self.patience: float | None = None
        self._wakeup = wakeup
        self._numbers: deque[int] = deque()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal: what `signal.signal` is given."""
        self._numbers.append(number)

    def take(self) -> Iterator[signal.Signals]:
        """Take the signals, in the order in which they came."""
        while self._numbers:
            yield signal.Signals(self._numbers.popleft())

    def wait(self, things: Iterable[Any], timeout: float | None = None) -> None:
        """Wait until one of `things` can be read, a signal comes in, or `timeout` seconds are over."""
        limits = [limit for limit in (timeout, self.patience) if limit is not None]
        wait([self._wakeup, *things], timeout=min(limits, default=None))
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)


@contextlib.contextmanager
def queued(numbers: Iterable[int]) -> Iterator[SignalQueue]:
    """Queue these signals for as long as the block lasts; what handled them before does so again afterwards."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    queue = SignalQueue(reading)
    handlers = {number: signal.signal(number, queue.note) for number in numbers}
    wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield queue
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()

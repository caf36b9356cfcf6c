"""How a supervisor ends its workers: the order of `shutdown`, as far as it is the supervisor's.

A worker that is told to end accepts what its queues hold and closes them. But the supervisor has them open, too: the
kernel would go on completing connections that nobody accepts, and reset them when the supervisor ends. So the
supervisor sees to it that none is begun any more, and lets go of the queues: of the public side's before it tells the
workers, of the private side's when the workers have lingered. Where the kernel cannot do so, and for sockets that are
others', too, the window between a worker's last look into its queue and its close is a few microseconds.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from duallisten.config import Config
from duallisten.processes.signal_queue import SignalQueue
from duallisten.processes.worker_handle import Worker
from duallisten.processes.worker_slots import Slots
from duallisten.server import limit_linger

LOOK_INTERVAL = 1.0
"""Seconds between two looks whether a worker has ended."""


def tell_all(workers: list[Worker], slots: Slots, *, linger: bool) -> None:
    """Tell every worker to end, when no new connection can reach its public side.

    linger: whether the private side goes on for its time; otherwise it is closed to newcomers, too
    """
    slots.refuse(lambda slot, one: not (linger and slot.pool.plan.lingers(one.side)))
    for worker in workers:
        if linger:
            worker.terminate()
        else:
            worker.retire()


def press_on(workers: list[Worker], pressed: int) -> None:
    """Have them end at once on the first SIGINT that comes when all have been told to end, and kill them on the next.

    pressed: how many have come
    """
    if pressed:
        for worker in workers:
            worker.signal(signal.SIGINT if pressed == 1 else signal.SIGKILL)


def wait_for_all(
    workers: Callable[[], list[Worker]], slots: Slots, config: Config, signals: SignalQueue, press: Callable[[], None]
) -> None:
    """Wait until every worker has ended, and let go of it; refuse newcomers on the private side when its time is over.

    workers: gives all of them
    press: takes the signals that came in, and passes on what they ask for
    """
    due: float | None = time.monotonic() + limit_linger(config.options.private_linger, config.timeout_graceful_shutdown)
    while alive := [worker for worker in workers() if worker.process.is_alive()]:
        # What a worker has forked may outlive it and keep its sentinel open: so look from time to time, too.
        left = LOOK_INTERVAL if due is None else min(LOOK_INTERVAL, max(0.0, due - time.monotonic()))
        signals.wait((worker.process.sentinel for worker in alive), timeout=left)
        if due is not None and time.monotonic() >= due:
            slots.refuse(lambda slot, one: True)
            due = None
        press()
    for worker in workers():
        worker.close()

"""The supervisor: starts the workers, replaces those that die, and ends them all.

It keeps the bound sockets, so what waits in their queue survives any worker. It serves nothing itself and runs no code
of the application. It waits for the workers' pipes, their ends and its own signals at once, so that it acts when
something happens and not at the next look.

- At launch every worker must come to serve; the first that cannot stops the launch, with its reason.
- Later a worker that dies is replaced, at once if it had lived, after a growing delay if it died young.
- SIGHUP replaces the workers one at a time: the old one is told to end only when its successor serves, and a successor
  that fails ends the attempt with the old ones still there.
- SIGTTIN and SIGTTOU add and remove a worker; SIGTERM and SIGINT end all, a second SIGINT at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from duallisten.config import Config
from duallisten.errors import LaunchError
from duallisten.plan import Plan
from duallisten.serving import log_listeners
from duallisten.sockets import BoundSocket
from duallisten.worker import Worker

logger = logging.getLogger("uvicorn.error")

YOUNG = 10.0
"""Seconds; a worker that dies earlier, or before it has served, died young."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died young is replaced: the first time, and at most."""

MOST_YOUNG_DEATHS = 10
"""Young deaths in a row, while no worker serves, after which the supervisor gives up."""

HEALTH_INTERVAL = 1.0
"""Seconds between two questions for a sign of life."""

SIGNALS = tuple(
    getattr(signal, name)
    for name in ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH"]
    if hasattr(signal, name)
)
"""uvicorn's supervisor takes these; those without a meaning here are ignored, as there."""


@dataclass(eq=False)
class Slot:
    """A worker's place: the worker in it, its successor during a replacement, and its record.

    young_deaths: how many in a row
    due: when an empty slot is filled again, in seconds of the monotonic clock
    """

    worker: Worker | None = None
    successor: Worker | None = None
    young_deaths: int = 0
    due: float = 0.0


class Supervisor:
    """Runs `config.workers` workers on the plan's sockets."""

    def __init__(self, config: Config, plan: Plan, bound: list[BoundSocket]) -> None:
        self.config = config
        self.plan = plan
        self.bound = bound
        self.slots = [Slot() for _ in range(config.workers)]
        self.retiring: list[Worker] = []
        self.to_replace: deque[Slot] = deque()
        self.launched = False
        self.should_exit = False
        self.interrupts = 0
        self._signals: deque[int] = deque()
        self._next_health = 0.0

    def run(self) -> None:
        """Supervise until told to stop; raises LaunchError where the workers cannot be brought to serve."""
        logger.info("Started parent process [%d]", os.getpid())
        with self._handled_signals() as wakeup:
            try:
                while not self.should_exit:
                    self._fill_slots()
                    self._wait(wakeup)
                    self._take_signals()
                    self._hear_workers()
                    self._announce_launch()
                    self._advance_replacement()
            finally:
                self._end_all(wakeup)
        logger.info("Stopping parent process [%d]", os.getpid())

    @property
    def workers(self) -> list[Worker]:
        """Every worker process there is, those on their way out included."""
        placed = (worker for slot in self.slots for worker in (slot.worker, slot.successor))
        return [*(worker for worker in placed if worker is not None), *self.retiring]

    def _start_worker(self) -> Worker:
        return Worker(self.config, self.plan, self.bound)

    def _fill_slots(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.worker is None and slot.due <= now:
                slot.worker = self._start_worker()

    def _wait(self, wakeup: socket.socket) -> None:
        """Wait for a signal, a word from a worker, the end of one, or the time of what is due next."""
        things: list[Any] = [worker.process.sentinel for worker in self.workers]
        things += [worker.pipe for worker in self.workers if not worker.pipe.closed]
        now = time.monotonic()
        due = [slot.due for slot in self.slots if slot.worker is None]
        _rest(wakeup, things, timeout=max(0.0, min([HEALTH_INTERVAL, *(when - now for when in due)])))

    def _hear_workers(self) -> None:
        now = time.monotonic()
        ask = now >= self._next_health
        if ask:
            self._next_health = now + HEALTH_INTERVAL
        for worker in self.workers:
            worker.listen()
            if worker.is_silent(self.config.timeout_worker_healthcheck) and not worker.stopping:
                logger.error("Child process [%d] does not answer, killing it", worker.pid)
                worker.signal(signal.SIGKILL)
                worker.process.join()
            elif ask:
                worker.ask()
            if not worker.process.is_alive():
                self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """Take note of an ended worker; raises LaunchError where that ends the launch."""
        worker.listen()
        worker.close()
        if worker in self.retiring:
            self.retiring.remove(worker)
            return
        slot = next(slot for slot in self.slots if worker in (slot.worker, slot.successor))
        if worker is slot.successor:
            slot.successor = None
            self.to_replace.clear()
            logger.error("New child process %s; the old ones stay, the replacement is given up", _story(worker))
            return
        slot.worker = None
        if self.should_exit:
            return
        if not self.launched:
            raise LaunchError(worker.failure or f"a worker failed to start: child process {_story(worker)}")
        logger.info("Child process %s", _story(worker))
        self._delay(slot, worker)

    def _delay(self, slot: Slot, worker: Worker) -> None:
        """Decide when the slot of a dead worker is filled again."""
        ended_well = worker.serving and worker.process.exitcode == 0  # such as at --limit-max-requests
        if ended_well or (worker.serving and worker.age >= YOUNG):
            slot.young_deaths = 0
            slot.due = 0.0
            return
        slot.young_deaths += 1
        if slot.young_deaths >= MOST_YOUNG_DEATHS and not any(other.serving for other in self.workers):
            raise LaunchError(f"the workers keep dying; the last one: child process {_story(worker)}")
        delay = min(FIRST_DELAY * 2 ** (slot.young_deaths - 1), LONGEST_DELAY)
        slot.due = time.monotonic() + delay
        logger.warning("It died young; its successor starts in %g s", delay)

    def _announce_launch(self) -> None:
        if not self.launched and all(slot.worker is not None and slot.worker.serving for slot in self.slots):
            self.launched = True
            process = f"process {os.getpid()}, {len(self.slots)} workers"
            log_listeners(self.config, self.plan, self.bound, process)

    def _advance_replacement(self) -> None:
        """Take the replacement one step further: one successor at a time, and one worker ending at a time."""
        for slot in self.slots:
            if slot.successor is not None:
                if not slot.successor.serving:
                    return
                old, slot.worker, slot.successor = slot.worker, slot.successor, None
                slot.young_deaths = 0
                if old is not None:
                    self._retire(old)
        if self.to_replace and not self.retiring:
            slot = self.to_replace.popleft()
            if slot in self.slots:
                slot.successor = self._start_worker()

    def _retire(self, worker: Worker) -> None:
        self.retiring.append(worker)
        worker.terminate()

    def _take_signals(self) -> None:
        meanings: dict[int, Callable[[], None]] = {
            signal.SIGHUP: self._on_hangup,
            signal.SIGTTIN: self._on_more,
            signal.SIGTTOU: self._on_fewer,
        }
        while self._signals:
            number = self._signals.popleft()
            if number in (signal.SIGINT, signal.SIGTERM):
                logger.info("Received %s, exiting.", signal.Signals(number).name)
                self.should_exit = True
                self.interrupts += number == signal.SIGINT
            elif number in meanings and self.launched:
                meanings[number]()
            else:
                logger.debug("Received %s, which means nothing here.", signal.Signals(number).name)

    def _on_hangup(self) -> None:
        logger.info("Received SIGHUP, replacing the workers one at a time.")
        for slot in self.slots:
            if slot.successor is not None:  # it may have been started on what has changed since
                self._retire(slot.successor)
                slot.successor = None
        self.to_replace = deque(self.slots)

    def _on_more(self) -> None:
        logger.info("Received SIGTTIN, increasing the number of processes.")
        self.slots.append(Slot())

    def _on_fewer(self) -> None:
        logger.info("Received SIGTTOU, decreasing number of processes.")
        if len(self.slots) <= 1:
            logger.info("Already reached one process, cannot decrease the number of processes anymore.")
            return
        slot = self.slots.pop()
        for worker in (slot.worker, slot.successor):
            if worker is not None:
                self._retire(worker)

    def _end_all(self, wakeup: socket.socket) -> None:
        """End every worker and wait for it; each further SIGINT is more pressing."""
        self.should_exit = True
        for worker in self.workers:
            worker.terminate()
        pressed = self.interrupts
        while alive := [worker for worker in self.workers if worker.process.is_alive()]:
            _rest(wakeup, [worker.process.sentinel for worker in alive])
            self._take_signals()
            if self.interrupts > max(pressed, 1):
                for worker in alive:
                    worker.signal(signal.SIGINT if self.interrupts == 2 else signal.SIGKILL)
                pressed = self.interrupts
        for worker in self.workers:
            worker.close()

    @contextlib.contextmanager
    def _handled_signals(self) -> Iterator[socket.socket]:
        """Queue the signals, and give a socket that becomes readable with each; restores what was before."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)

        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        handlers = {number: signal.signal(number, note) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            reading.close()
            writing.close()


def _rest(wakeup: socket.socket, things: list[Any], timeout: float | None = None) -> None:
    """Wait for one of `things` or for a signal, and forget what the signals wrote into `wakeup`."""
    wait([wakeup, *things], timeout=timeout)
    with contextlib.suppress(BlockingIOError):
        wakeup.recv(4096)


def _story(worker: Worker) -> str:
    """Tell how a worker ended, for a message."""
    code = worker.process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    return f"[{worker.pid}] {how}" + (f": {worker.failure}" if worker.failure else "")

"""The supervisor: starts the workers, replaces those that die, and ends them all.

It keeps the bound sockets, so what waits in their queues survives any worker (`worker_slots`, `accept_queues`). It
serves nothing itself and runs no code of the application. It waits for the workers' pipes, their ends and its own
signals at once, so that it acts when something happens and not at the next look.

- At launch every worker must come to serve; the first that cannot stops the launch, with its reason.
- A worker accepts when the supervisor permits it, which first makes sure that the address is nobody else's.
- Later a worker that dies is replaced, at once if it had lived, after a growing delay if it died young.
- SIGHUP replaces the workers one at a time: the old one is told to end only when its successor serves, and a successor
  that fails ends the attempt with the old ones still there.
- A private address that may come later is waited for here, and its listener opened in every worker.
- SIGTTIN and SIGTTOU add and remove a worker (of the public side, where the private one has its own); SIGTERM and
  SIGINT end all, a second SIGINT at once (`supervisor_shutdown`).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from typing import Any

from duallisten.config import Config
from duallisten.errors import LaunchError
from duallisten.listeners import BoundSocket, Latecomer, Plan, Pool, log_listeners, make_pools, request_of
from duallisten.processes.launch_status import LaunchBoard
from duallisten.processes.signal_queue import SignalQueue, queued
from duallisten.processes.supervisor_shutdown import press_on, tell_all, wait_for_all
from duallisten.processes.worker_factory import make_factory
from duallisten.processes.worker_handle import Worker
from duallisten.processes.worker_slots import FIRST_DELAY, MOST_YOUNG_DEATHS, Slot, Slots
from duallisten.server import registration_of
from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

HEALTH_INTERVAL = 1.0
"""Seconds between two questions for a sign of life."""

SIGNALS = tuple(
    getattr(signal, name)
    for name in ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH"]
    if hasattr(signal, name)
)
"""uvicorn's supervisor takes these; those without a meaning here are ignored, as there."""


class SupervisorObserver:
    """Hears of what happens to a launch, and does nothing about it by itself: a base class.

    interval: seconds between two calls of `tick` at most; None where it needs none
    """

    interval: float | None = None

    def launched(self) -> None:
        """Every worker serves for the first time."""

    def extended(self) -> None:
        """Every worker serves the private listener, too, that has come late."""

    def reloading(self) -> None:
        """SIGHUP has come, and the workers will be replaced."""

    def reloaded(self, complete: bool) -> None:
        """The replacement has ended; where it is not complete, old workers still serve."""

    def stopping(self) -> None:
        """The workers are about to be told to end."""

    def tick(self) -> None:
        """The supervisor turns; it does so also while the workers end."""


class Supervisor:
    """Runs the workers of a launch.

    pools: which workers there are, the public side's first
    bound: the plan's sockets
    observers: who hears of what happens to the launch
    """

    def __init__(self, config: Config, plan: Plan, pools: tuple[Pool, ...], bound: list[BoundSocket]) -> None:
        self.config = config
        self.plan = plan
        self.unannounced = list(bound)
        self.pool = pools[0]
        self.slots = Slots(pools, bound, backlog=lambda side: config.side(side).backlog)
        self.board = LaunchBoard(config)
        self.registration = registration_of(config)
        self.factory = make_factory(config, self.board.board)
        self.observers: list[SupervisorObserver] = []
        self.retiring: list[Worker] = []
        self.to_replace: deque[Slot] = deque()
        self.launched = False
        self.should_exit = False
        self.pressed = 0
        self._reloaded_from: set[int] | None = None
        self._next_health = 0.0
        self._latecomer = Latecomer(request_of(config)) if plan.later else None

    def run(self) -> None:
        """Supervise until told to stop; raises LaunchError where the workers cannot be brought to serve."""
        logger.info("Started parent process [%d]", os.getpid())
        with queued(SIGNALS) as signals:
            signals.patience = min((one.interval for one in self.observers if one.interval is not None), default=None)
            try:
                while True:
                    self._fill_slots()
                    self.board.tell(self.plan, launched=self.launched, ending=self.should_exit)
                    self._wait(signals)
                    self._tick()
                    self._take(signals)
                    if self.should_exit:
                        break  # whatever has ended was told to, perhaps by the same signal to all of us
                    self._hear_factory()
                    self._open_private()
                    self._hear_workers()
                    self._announce()
                    self._advance_replacement()
                    self._note_reload()
                    self.slots.cover()
            finally:
                self._end_all(signals)
        logger.info("Stopping parent process [%d]", os.getpid())

    @property
    def workers(self) -> list[Worker]:
        """Every worker process there is, those on their way out included."""
        return [*self.slots.workers, *self.retiring]

    def _start_worker(self, slot: Slot) -> Worker | None:
        """Start a worker for a slot; None where that fails after the launch, to be tried again."""
        seat = self.board.seat()
        try:
            return self.factory.start(slot.pool.plan, slot.queues, seat)
        except (LaunchError, OSError) as error:  # OSError: no process, no memory or no descriptor to be had now
            self.board.clear(seat)
            if not self.launched:
                raise LaunchError(f"a worker cannot be started: {error}") from None
            logger.error("A worker cannot be started: %s", error)
            slot.due = time.monotonic() + FIRST_DELAY
            return None

    def _fill_slots(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.worker is None and slot.due <= now and self.factory.is_ready:
                slot.worker = self._start_worker(slot)

    def _wait(self, signals: SignalQueue) -> None:
        """Wait for a signal, a word from a worker, the end of one, or the time of what is due next."""
        things: list[Any] = [worker.process.sentinel for worker in self.workers]
        things += [worker.pipe for worker in self.workers if not worker.pipe.closed]
        things += [self._latecomer.pipe] if self._latecomer is not None else []
        now = time.monotonic()
        due = [slot.due for slot in self.slots if slot.worker is None and self.factory.is_ready]
        timeout = max(0.0, min([HEALTH_INTERVAL, *(when - now for when in due)]))
        signals.wait([*things, *self.factory.pipes], timeout=timeout)

    def _tick(self) -> None:
        for observer in self.observers:
            observer.tick()

    def _hear_factory(self) -> None:
        if not self.factory.hear():
            return
        for slot in self.slots:
            if slot.successor is not None:  # it was started on what has changed since
                self._retire(slot.successor)
                slot.successor = None
        self.to_replace = deque(self.slots)

    def _open_private(self) -> None:
        """Have the private listener served that has come late, by the workers or by some of its own."""
        if self._latecomer is None or (found := self._latecomer.take()) is None:
            return
        plan, bound = found
        pool, *others = make_pools(plan, self.config.workers, self.config.options.private_workers)
        try:
            self.slots.widen(self.pool, pool, [] if others else bound)
        except LaunchError as error:
            logger.error("The private side cannot be opened yet: %s", error)
            self._latecomer = Latecomer(request_of(self.config))
            return
        for other in others:
            self.slots.add_pool(other, bound)
        self._latecomer, self.plan, self.pool = None, plan, pool
        self.unannounced += bound

    def _hear_workers(self) -> None:
        now = time.monotonic()
        ask = now >= self._next_health
        if ask:
            self._next_health = now + HEALTH_INTERVAL
        for worker in self.workers:
            worker.listen()
            if worker.ready and not (worker.permitted or worker.stopping):
                self.slots.open(self.slots.of(worker))
                worker.permit()
            if worker.accepts and worker not in self.retiring:
                self.slots.inform(worker)
            if worker.is_silent(self.config.timeout_worker_healthcheck) and not worker.stopping:
                logger.error("Worker [%d] does not answer, killing it", worker.pid)
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
        self.board.clear(worker.seat, died=worker not in self.retiring)
        if worker in self.retiring:
            self.retiring.remove(worker)
            return
        slot = self.slots.of(worker)
        if worker is slot.successor:
            slot.successor = None
            self.to_replace.clear()
            logger.error("New worker %s; reload aborted, old workers kept", worker.story)
            return
        slot.worker = None
        if self.should_exit:
            return
        if not self.launched:
            raise LaunchError(worker.failure or f"a worker failed to start: {worker.story}")
        delay = self._delay(slot, worker)
        if delay:
            logger.warning("Worker %s %.1f s after its start; restarting in %g s", worker.story, worker.age, delay)
        else:
            logger.info("Worker %s; restarting", worker.story)

    def _delay(self, slot: Slot, worker: Worker) -> float:
        """Return the seconds until the slot of a dead worker is filled again; raise LaunchError if all keep dying."""
        delay = slot.note_death(worker)
        if delay and slot.young_deaths >= MOST_YOUNG_DEATHS and not self.slots.serve(slot.pool):
            raise LaunchError(f"the workers keep dying; the last one: worker {worker.story}")
        return delay

    def _announce(self) -> None:
        if not (self.unannounced and self.slots.is_full):
            return
        log_listeners(self.config, self.plan, self.unannounced, self._describe)
        self.unannounced = []
        if self.registration is not None and not self.plan.later:
            self.registration.begin(self.plan, self.slots.bound)
        for observer in self.observers:
            if self.launched:
                observer.extended()
            else:
                observer.launched()
        self.launched = True

    def _describe(self, side: Side) -> str:
        """Say which processes serve a side."""
        count = self.slots.count(side)
        return f"process {os.getpid()}, {count} worker{'s' if count != 1 else ''}"

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
        if self.to_replace and not self.retiring and self.factory.is_ready:
            slot = self.to_replace.popleft()
            if slot.wanted:
                slot.successor = self._start_worker(slot)
                if slot.successor is None:
                    self.to_replace.clear()
                    logger.error("Reload aborted, old workers kept")

    def _note_reload(self) -> None:
        """Tell the observers when a replacement that SIGHUP has asked for has ended, whole or not."""
        if self._reloaded_from is None or self.factory.is_renewing or self.to_replace:
            return
        if any(slot.successor is not None for slot in self.slots):
            return
        old, self._reloaded_from = self._reloaded_from, None
        complete = not any(slot.worker is not None and slot.worker.pid in old for slot in self.slots)
        for observer in self.observers:
            observer.reloaded(complete)

    def _retire(self, worker: Worker) -> None:
        self.retiring.append(worker)
        worker.retire()

    def _take(self, signals: SignalQueue) -> None:
        meanings = {signal.SIGHUP: self._on_hangup, signal.SIGTTIN: self._on_more, signal.SIGTTOU: self._on_fewer}
        for number in signals.take():
            if number in (signal.SIGINT, signal.SIGTERM):
                logger.info("Received %s, exiting.", number.name)
                self.pressed += self.should_exit and number == signal.SIGINT
                self.should_exit = True
            elif number in meanings and self.launched:
                meanings[number]()
            else:
                logger.debug("Received %s, which means nothing here.", number.name)

    def _on_hangup(self) -> None:
        logger.info("Received SIGHUP, replacing the workers one at a time.")
        self._reloaded_from = {worker.pid for worker in self.slots.workers}
        for observer in self.observers:
            observer.reloading()
        self.to_replace.clear()
        self.factory.renew()

    def _on_more(self) -> None:
        logger.info("Received SIGTTIN, increasing the number of processes.")
        try:
            self.slots.add(self.pool)
        except LaunchError as error:
            logger.error("%s", error)

    def _on_fewer(self) -> None:
        logger.info("Received SIGTTOU, decreasing number of processes.")
        slot = self.slots.drop(self.pool)
        if slot is None:
            logger.info("Already reached one process, cannot decrease the number of processes anymore.")
            return
        for worker in (slot.worker, slot.successor):
            if worker is not None:
                self._retire(worker)
        slot.worker = slot.successor = None

    def _end_all(self, signals: SignalQueue) -> None:
        """End every worker and wait for it; each further SIGINT is more pressing."""
        for observer in self.observers:
            observer.stopping()
        self.board.tell(self.plan, launched=self.launched, ending=True)
        if self._latecomer is not None:
            self._latecomer.stop()
        if self.registration is not None:
            self.registration.drain()
        tell_all(self.workers, self.slots, linger=self.should_exit and self.launched)
        self.should_exit = True
        wait_for_all(lambda: self.workers, self.slots, self.config, signals, lambda: self._press(signals))
        self.factory.end()
        self.slots.close()
        if self.registration is not None:
            self.registration.end()

    def _press(self, signals: SignalQueue) -> None:
        self._take(signals)
        press_on(self.workers, self.pressed)
        self._tick()

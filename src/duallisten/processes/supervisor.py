"""The supervisor: starts the workers, replaces those that die, and ends them all.

It keeps the bound sockets, so what waits in their queues survives any worker (`worker_slots`). It waits for the
workers' pipes, their ends and its own signals at once, so that it acts when something happens and not at the next look.

- At launch every worker must come to serve; the first that cannot stops the launch, with its reason.
- A worker accepts when the supervisor permits it, which first makes sure that the address is nobody else's.
- Later a worker that dies is replaced, at once if it had lived, after a growing delay if it died young.
- SIGHUP replaces the workers one at a time: the old one is told to end only when its successor serves, and a successor
  that fails ends the attempt with the old ones still there.
- A private address that may come later is waited for here, and its listener opened in every worker.
- SIGTTIN and SIGTTOU add and remove a worker (of the public side, where the private one has its own). SIGTERM and
  SIGINT end all; a second SIGINT ends them at once, and a third kills them.

A worker that is told to end accepts what its queues hold and closes them. But the supervisor has them open, too: the
kernel would go on completing connections that nobody accepts, and reset them when the supervisor ends. So the
supervisor first lets no new ones begin (`Slots.refuse`): before it tells the workers, or where they linger when they
have. Where the kernel cannot do so, and for sockets that are others', too, a connection can still be lost in the
microseconds between a worker's last look into its queue and its close.

Invariants:
    - It serves nothing itself, and runs no code of the application.
    - A worker accepts only at an address that is this launch's own.
    - A slot's worker is told to end only when its successor serves.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from duallisten.errors import LaunchError
from duallisten.listeners import AddressWatch, log_listeners, make_pools, request_of
from duallisten.processes.launch_status import LaunchBoard, SupervisorObserver
from duallisten.processes.worker_handle import WorkerFactory
from duallisten.processes.worker_slots import FIRST_DELAY, Slots
from duallisten.server import linger_seconds, registration_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan, Pool
    from duallisten.processes.worker_handle import Worker
    from duallisten.processes.worker_slots import Slot

logger = logging.getLogger("uvicorn.error")

INTERVAL = 1.0
"""Seconds that the supervisor waits at most before it looks at everything again, and between two pings of a worker."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
IGNORED = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
"""uvicorn's supervisor takes these, too, and does nothing about them."""


class Supervisor:
    """Runs the workers of a launch.

    pools: which workers there are, the public side's first
    bound: the plan's sockets
    observers: hear of what happens to the launch
    retiring: workers that were told to end, and whose slots have others
    to_reload: slots whose worker is yet to be replaced
    interrupts: how many SIGINTs have come since it was told to end
    """

    def __init__(self, config: Config, plan: Plan, pools: tuple[Pool, ...], bound: list[BoundSocket]) -> None:
        self.config = config
        self.plan = plan
        self.unannounced = list(bound)
        self.pool = pools[0]
        self.slots = Slots(pools, bound, backlog=lambda side: config.side(side).backlog)
        self.board = LaunchBoard(config)
        self.registration = registration_of(config)
        self.factory = self._make_factory()
        self.observers: list[SupervisorObserver] = []
        self.retiring: list[Worker] = []
        self.to_reload: deque[Slot] = deque()
        self.launched = False
        self.should_exit = False
        self.interrupts = 0
        self._signals: socket.socket
        self._pids_before: set[int] | None = None
        self._next_ping = 0.0
        self._latecomer = AddressWatch(request_of(config)) if plan.later else None

    def run(self) -> None:
        """Supervise until told to stop; raises LaunchError where the workers cannot be brought to serve."""
        logger.info("Started parent process [%d]", os.getpid())
        with _caught([*HANDLED, *IGNORED]) as self._signals:
            try:
                while True:
                    self._fill_slots()
                    self._tick()
                    self._wait_for_events()
                    if self.should_exit:
                        break  # whatever has ended was told to, perhaps by the same signal to all of us
                    self._poll_factory()
                    self._open_private()
                    self._check_workers()
                    self._announce()
                    self._advance_reload()
                    self.slots.back_up()
            finally:
                self._end_all()
        logger.info("Stopping parent process [%d]", os.getpid())

    @property
    def workers(self) -> list[Worker]:
        """Every worker process there is, those on their way out included."""
        return [*self.slots.workers, *self.retiring]

    def _make_factory(self) -> WorkerFactory:
        """Build what starts workers; raises LaunchError where this system cannot do what is asked for."""
        if not self.config.options.preload:
            return WorkerFactory(self.config)
        from duallisten.processes.fork_server import ForkingFactory

        return ForkingFactory(self.config, self.board.board)

    def _start_worker(self, slot: Slot) -> Worker | None:
        """Start a worker for a slot; None where that fails after the launch, to be tried again."""
        row = self.board.take_row()
        try:
            return self.factory.start(slot.pool.plan, slot.queues, row)
        except (LaunchError, OSError) as error:  # OSError: there is no process, memory or descriptor to be had now
            self.board.free_row(row)
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

    def _wait_for_events(self) -> None:
        """Wait for a signal, a report, the end of a worker, or the time of what is due next."""
        things: list[Any] = [worker.process.sentinel for worker in self.workers]
        things += [worker.pipe for worker in self.workers if not worker.pipe.closed]
        things += [self._latecomer.pipe] if self._latecomer is not None else []
        now = time.monotonic()
        due = [slot.due - now for slot in self.slots if slot.worker is None and self.factory.is_ready]
        self._wait([*things, *self.factory.pipes], *due)

    def _wait(self, things: Iterable[Any], *limits: float) -> None:
        """Wait for a signal, or for one of `things`, and act on the signals.

        limits: how long to wait at most, in seconds
        """
        intervals = [observer.interval for observer in self.observers if observer.interval is not None]
        wait([self._signals, *things], max(0.0, min([INTERVAL, *limits, *intervals])))
        with suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                self._on_signal(number)

    def _tick(self) -> None:
        self.board.show(self.plan, launched=self.launched, ending=self.should_exit)
        for observer in self.observers:
            observer.tick()

    def _poll_factory(self) -> None:
        if not self.factory.poll():
            return
        for slot in self.slots:
            if slot.successor is not None:  # it was started on what has changed since
                self._retire(slot.successor)
                slot.successor = None
        self.to_reload = deque(self.slots)

    def _open_private(self) -> None:
        """Open the private listener when its address has come, in the workers or in some of its own."""
        if self._latecomer is None or (found := self._latecomer.take()) is None:
            return
        plan, bound = found
        pool, *others = make_pools(plan, self.config.workers, self.config.options.private_workers)
        try:
            self.slots.widen(self.pool, pool, [] if others else bound)
        except LaunchError as error:
            logger.error("The private side cannot be opened yet: %s", error)
            self._latecomer = AddressWatch(request_of(self.config))
            return
        for other in others:
            self.slots.add_pool(other, bound)
        self._latecomer, self.plan, self.pool = None, plan, pool
        self.unannounced += bound

    def _check_workers(self) -> None:
        now = time.monotonic()
        ping_due = now >= self._next_ping
        if ping_due:
            self._next_ping = now + INTERVAL
        for worker in self.workers:
            worker.read_reports()
            if worker.ready and not (worker.permitted or worker.stopping):
                self.slots.permit(worker)
            if worker.accepts and worker not in self.retiring:
                self.slots.extend(worker)
            if worker.is_silent(self.config.timeout_worker_healthcheck) and not worker.stopping:
                logger.error("Worker [%d] does not answer, killing it", worker.pid)
                worker.signal(signal.SIGKILL)
                worker.process.join()
            elif ping_due:
                worker.ping()
            if not worker.process.is_alive():
                self._on_end(worker)

    def _on_end(self, worker: Worker) -> None:
        """Take a worker that has ended out of its slot; raises LaunchError where that ends the launch."""
        worker.read_reports()
        worker.close()
        self.board.free_row(worker.row, died=worker not in self.retiring)
        if worker in self.retiring:
            self.retiring.remove(worker)
            return
        slot = self.slots.of(worker)
        if worker is slot.successor:
            slot.successor = None
            self.to_reload.clear()
            logger.error("New worker %s; reload aborted, old workers kept", worker.exit_reason)
            return
        slot.worker = None
        if not self.launched:
            raise worker.launch_error(f"a worker failed to start: {worker.exit_reason}")
        delay = self.slots.note_end(slot, worker)
        if delay:
            logger.warning(
                "Worker %s %.1f s after its start; restarting in %g s", worker.exit_reason, worker.age, delay
            )
        else:
            logger.info("Worker %s; restarting", worker.exit_reason)

    def _announce(self) -> None:
        if not (self.unannounced and self.slots.is_full):
            return
        log_listeners(self.config, self.plan, self.unannounced, self.slots.describe)
        if unused := next((worker.unused_rules for worker in self.workers), ""):
            logger.warning(unused)
        self.unannounced = []
        if self.registration is not None and not self.plan.later:
            self.registration.begin(self.plan, self.slots.bound)
        for observer in self.observers:
            if self.launched:
                observer.extended()
            else:
                observer.launched()
        self.launched = True

    def _advance_reload(self) -> None:
        """Take the replacement one step further: one successor at a time, and one worker ending at a time."""
        for slot in self.slots:
            if slot.successor is not None:
                if not slot.successor.serving:
                    return
                old, slot.worker, slot.successor = slot.worker, slot.successor, None
                slot.young_deaths = 0
                if old is not None:
                    self._retire(old)
        if self.to_reload and not self.retiring and self.factory.is_ready:
            slot = self.to_reload.popleft()
            if slot.wanted:
                slot.successor = self._start_worker(slot)
                if slot.successor is None:
                    self.to_reload.clear()
                    logger.error("Reload aborted, old workers kept")
        self._note_reload()

    def _note_reload(self) -> None:
        """Tell the observers when a reload has ended, complete or not."""
        is_reloading = self.factory.is_renewing or self.to_reload or any(slot.successor for slot in self.slots)
        if self._pids_before is None or is_reloading:
            return
        old, self._pids_before = self._pids_before, None
        complete = all(slot.worker is None or slot.worker.pid not in old for slot in self.slots)
        for observer in self.observers:
            observer.reloaded(complete)

    def _retire(self, worker: Worker) -> None:
        self.retiring.append(worker)
        worker.retire()

    def _on_signal(self, number: int) -> None:
        meanings = {signal.SIGHUP: self._on_hangup, signal.SIGTTIN: self._on_more, signal.SIGTTOU: self._on_fewer}
        if number in (signal.SIGINT, signal.SIGTERM):
            logger.info("Received %s, exiting.", signal.Signals(number).name)
            self.interrupts += self.should_exit and number == signal.SIGINT
            self.should_exit = True
        elif number in meanings and self.launched and not self.should_exit:
            meanings[signal.Signals(number)]()
        else:
            logger.debug("Received signal %d, which means nothing here.", number)

    def _on_hangup(self) -> None:
        logger.info("Received SIGHUP, replacing the workers one at a time.")
        self._pids_before = {worker.pid for worker in self.slots.workers}
        for observer in self.observers:
            observer.reloading()
        self.to_reload.clear()
        self.factory.renew()

    def _on_more(self) -> None:
        logger.info("Received SIGTTIN, increasing the number of processes.")
        try:
            self.slots.add(self.pool)
        except LaunchError as error:
            logger.error("%s", error)

    def _on_fewer(self) -> None:
        logger.info("Received SIGTTOU, decreasing number of processes.")
        workers = self.slots.drop(self.pool)
        if workers is None:
            logger.info("Already reached one process, cannot decrease the number of processes anymore.")
        for worker in workers or ():
            self._retire(worker)

    def _end_all(self) -> None:
        """End every worker, and wait for it."""
        linger = self.should_exit and self.launched
        self.should_exit = True
        for observer in self.observers:
            observer.stopping()
        self._tick()
        if self._latecomer is not None:
            self._latecomer.stop()
        if self.registration is not None:
            self.registration.drain()
        told_at = time.monotonic()
        self._refuse(told_at if linger else float("-inf"))
        for worker in self.workers:
            if linger:
                worker.terminate()
            else:
                worker.retire()
        self._wait_for_ends(told_at)
        self.factory.close()
        self.slots.close()
        if self.registration is not None:
            self.registration.end()

    def _refuse(self, told_at: float) -> float:
        """Refuse newcomers at the queues that have lingered since `told_at`; return the seconds until the next has."""
        left: list[float] = []

        def is_due(slot: Slot, queue: BoundSocket) -> bool:
            seconds = told_at + linger_seconds(self.config, slot.pool.plan, queue.side) - time.monotonic()
            if seconds > 0:
                left.append(seconds)
            return seconds <= 0

        self.slots.refuse(is_due)
        return min(left, default=INTERVAL)

    def _wait_for_ends(self, told_at: float) -> None:
        """Wait until every worker has ended; refuse newcomers at each queue when it has lingered since `told_at`."""
        while running := [worker for worker in self.workers if worker.process.is_alive()]:
            # What a worker has forked may outlive it and keep its sentinel open: so look from time to time, too.
            self._wait([worker.process.sentinel for worker in running], self._refuse(told_at))
            if self.interrupts:
                for worker in running:
                    worker.signal(signal.SIGINT if self.interrupts == 1 else signal.SIGKILL)
            self._tick()
        for worker in self.workers:
            worker.close()


@contextmanager
def _caught(numbers: Iterable[int]) -> Iterator[socket.socket]:
    """Turn each of these signals into a byte, its number, that can be read from a socket (`signal.set_wakeup_fd`).

    A handler that did the work itself would run between any two lines of what it interrupts, and a wait would not end.
    """
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield reading
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

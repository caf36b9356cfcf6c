"""The supervisor: starts the workers, replaces those that die, and ends them all.

It keeps the bound sockets open, so connections that wait in their queues survive any worker (`worker_slots`). It waits
for the workers' pipes, their ends and its own signals at once, so it acts on each event at once.

- At launch every worker has to serve. The first that cannot stops the launch, and its reason is the launch's error.
- A worker accepts when the supervisor permits it. Before, the supervisor ensures that no other process has the address.
- Later a worker that dies is replaced: after a growing delay if it died young, else at once. A worker that ends by
  itself is replaced as soon as it reports that, before its process has ended.
- A worker that does not answer, is blocked, or cannot exit is killed (`worker_watch`).
- SIGHUP replaces the workers one at a time (`rolling`); so does a limit that a worker has reached (`recycling`).
- Requests at the control socket are carried out between two waits (`supervisor_control`).
- If the private address may come later, the supervisor waits for it, and then opens its listener in every worker.
- SIGTTIN and SIGTTOU add and remove a worker (of the public side, if the private side has its own). SIGUSR2 is passed
  on to every worker (`process_signals`). SIGTERM and SIGINT end all workers; a second SIGINT ends them at once, and a
  third kills them. A worker that fails to end well makes `run` raise ShutdownError.

A worker that is told to end accepts the connections in its queues, and closes them. But the supervisor has the queues
open, too: the kernel would go on completing connections that no worker accepts, and reset them when the supervisor
ends. So the supervisor first refuses new connections (`Slots.refuse`), before it tells the workers to end, or after the
linger time if they linger. If the kernel cannot do that, or another process has the socket, too, a connection can still
be lost in the microseconds between a worker's last accept and its close.

Invariants:
    - The supervisor serves nothing itself, and runs no code of the application.
    - A worker accepts only at an address that this launch has for itself.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from duallisten.errors import LaunchError, ShutdownError
from duallisten.listeners import AddressWatch, log_listeners, make_pools, request_of
from duallisten.processes.launch_status import LaunchBoard, SupervisorObserver
from duallisten.processes.process_signals import caught
from duallisten.processes.recycling import Recycling
from duallisten.processes.rolling import Rolling
from duallisten.processes.worker_handle import WorkerFactory
from duallisten.processes.worker_slots import FIRST_DELAY, Slots
from duallisten.processes.worker_watch import WorkerWatch
from duallisten.server import linger_seconds, registration_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan, Pool
    from duallisten.processes.rolling import Reread
    from duallisten.processes.worker_handle import Worker
    from duallisten.processes.worker_slots import Slot
    from duallisten.processes.zygote import Zygote

logger = logging.getLogger("uvicorn.error")

INTERVAL = 1.0
"""Seconds that the supervisor waits at most before it checks everything again; also between two pings of a worker."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2)
IGNORED = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGWINCH)
"""Signals that do nothing, as in uvicorn's supervisor."""


class Supervisor:
    """Runs the workers of a launch.

    pools: the pools of workers, that of the public side first
    bound: the plan's sockets
    observers: are called at each event of the launch
    retiring: workers that are ending and have left their slots
    interrupts: how many SIGINTs have come since the end began
    """

    def __init__(
        self,
        config: Config,
        plan: Plan,
        pools: tuple[Pool, ...],
        bound: list[BoundSocket],
        reread: Reread | None = None,
        zygote: Zygote | None = None,
    ) -> None:
        self.config = config
        self.plan = plan
        self.unannounced = list(bound)
        self.pool = pools[0]
        self.slots = Slots(pools, bound, backlog=lambda side: config.side(side).backlog)
        self.board = LaunchBoard(config)
        self.registration = registration_of(config)
        self.factory = self._make_factory(zygote)
        self.observers: list[SupervisorObserver] = []
        self.retiring: list[Worker] = []
        self.rolling = Rolling(self, reread)
        self.recycling = Recycling(self)
        self.watch = WorkerWatch()
        self.launched = False
        self.should_exit = False
        self.interrupts = 0
        self._signals: socket.socket
        self._next_ping = 0.0
        self._latecomer = AddressWatch(request_of(config)) if plan.later else None

    def run(self) -> None:
        """Supervise until told to stop.

        Raises LaunchError if the workers cannot serve, and ShutdownError if one did not end well.
        """
        logger.info("Started parent process [%d]", os.getpid())
        with caught([*HANDLED, *IGNORED]) as self._signals:
            try:
                while True:
                    self._fill_slots()
                    self._tick()
                    self._wait_for_events()
                    if self.should_exit:
                        break  # workers that have ended were told to, perhaps by the same signal
                    if self.factory.poll():
                        self.rolling.start()
                    self._open_private()
                    self._check_workers()
                    self._announce()
                    self.recycling.look()
                    self.rolling.advance()
                    self.slots.back_up()
            finally:
                self._end_all()
        logger.info("Stopping parent process [%d]", os.getpid())
        if failed := [worker.exit_reason for worker in self.workers if worker.failed_to_end and not self.interrupts]:
            raise ShutdownError(f"workers that failed to shut down: {len(failed)} (worker {', worker '.join(failed)})")

    @property
    def workers(self) -> list[Worker]:
        """Every worker process, including those that are ending."""
        return [*self.slots.workers, *self.retiring]

    def _make_factory(self, zygote: Zygote | None) -> WorkerFactory:
        """Build the factory of workers; raises LaunchError if this system does not support `--preload`."""
        if not self.config.options.preload:
            return WorkerFactory(self.config, zygote)
        from duallisten.processes.fork_server import ForkingFactory

        return ForkingFactory(self.config, self.board.board, zygote)

    def start_worker(self, slot: Slot) -> Worker | None:
        """Start a worker for a slot; None if that fails after the launch, to be tried again."""
        row = self.board.take_row()
        try:
            return self.factory.start(slot.pool.plan, slot.queues, row)
        except (LaunchError, OSError) as error:  # OSError: no process, memory or descriptor is available now
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
                slot.worker = self.start_worker(slot)

    def _wait_for_events(self) -> None:
        """Wait for a signal, a report, the end of a worker, or the next deadline."""
        things: list[Any] = [worker.process.sentinel for worker in self.workers]
        things += [worker.pipe for worker in self.workers if not worker.pipe.closed]
        things += [self._latecomer.pipe] if self._latecomer is not None else []
        now = time.monotonic()
        due = [slot.due - now for slot in self.slots if slot.worker is None and self.factory.is_ready]
        self._wait([*things, *self.factory.pipes], *due)

    def _wait(self, things: Iterable[Any], *limits: float) -> None:
        """Wait for a signal or for one of `things`, then act on the signals.

        limits: the longest waits, in seconds
        """
        intervals = [observer.interval for observer in self.observers if observer.interval is not None]
        waking = [thing for observer in self.observers for thing in observer.things]
        wait([self._signals, *waking, *things], max(0.0, min([INTERVAL, *limits, *intervals])))
        with suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                self._on_signal(number)

    def _tick(self) -> None:
        self.board.show(self.plan, launched=self.launched, ending=self.should_exit)
        for observer in self.observers:
            observer.tick()

    def _open_private(self) -> None:
        """Open the private listener when its address has come, in these workers or in a pool of its own."""
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
            if worker.ready and not (worker.permitted or worker.stopping or worker.ending):
                self.slots.permit(worker)
            if worker.accepts and worker not in self.retiring:
                self.slots.extend(worker)
            if self.watch.check(worker, self.config) and ping_due:
                worker.ping()
            if not worker.process.is_alive():
                self._on_end(worker)
            elif worker.ending and self.launched and worker not in self.retiring:
                self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """Free the slot of a worker that ends by itself; raises LaunchError if all workers keep ending."""
        slot = self.slots.of(worker)
        if worker is slot.successor:
            return  # it has not served yet, or is about to take the slot
        slot.worker = None
        self.retiring.append(worker)
        if delay := self.slots.note_end(slot, worker):
            logger.warning("Worker [%d] ends %.1f s after its start; restarting in %g s", worker.pid, worker.age, delay)
        else:
            logger.info("Worker [%d] is ending; starting another in its place", worker.pid)

    def _on_end(self, worker: Worker) -> None:
        """Remove a worker that has ended from its slot; raises LaunchError if that ends the launch."""
        worker.read_reports()
        worker.close()
        self.board.free_row(worker.row, died=not worker.stopping)
        if worker in self.retiring:
            self.retiring.remove(worker)
            if worker.failed_to_end or not worker.stopping:
                logger.log(logging.ERROR if worker.failed_to_end else logging.INFO, "Worker %s", worker.exit_reason)
            return
        slot = self.slots.of(worker)
        if worker is slot.successor:
            self.rolling.fail(slot, worker.exit_reason)
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

    @property
    def has_leaving(self) -> bool:
        """Whether a worker was told to end and may still accept."""
        return any(worker.permitted and not worker.ending for worker in self.retiring)

    def retire(self, worker: Worker) -> None:
        """Tell a worker to end that has left its slot."""
        self.retiring.append(worker)
        worker.retire()

    def _on_signal(self, number: int) -> None:
        meanings = {
            signal.SIGHUP: self._on_hangup,
            signal.SIGTTIN: self._on_more,
            signal.SIGTTOU: self._on_fewer,
            signal.SIGUSR2: self._on_dump,
        }
        if number in (signal.SIGINT, signal.SIGTERM):
            logger.info("Received %s, exiting.", signal.Signals(number).name)
            self.interrupts += self.should_exit and number == signal.SIGINT
            self.should_exit = True
        elif number in meanings and (number == signal.SIGUSR2 or (self.launched and not self.should_exit)):
            meanings[signal.Signals(number)]()
        else:
            logger.debug("Received signal %d, ignoring it.", number)

    def _on_hangup(self) -> None:
        logger.info("Received SIGHUP, replacing the workers one at a time.")
        self.rolling.begin()

    def _on_dump(self) -> None:
        for worker in self.workers:
            if worker.began:  # before that the signal would kill it
                logger.info("Received SIGUSR2, asking worker [%d] for its stacks and tasks.", worker.pid)
                worker.signal(signal.SIGUSR2)

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
            self.retire(worker)

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
        """Refuse new connections at queues whose linger time has passed; return the seconds until the next one is due.

        told_at: when the linger time began
        """
        left: list[float] = []

        def is_due(slot: Slot, queue: BoundSocket) -> bool:
            seconds = told_at + linger_seconds(self.config, slot.pool.plan, queue.side) - time.monotonic()
            if seconds > 0:
                left.append(seconds)
            return seconds <= 0

        self.slots.refuse(is_due)
        return min(left, default=INTERVAL)

    def _wait_for_ends(self, told_at: float) -> None:
        """Wait until every worker has ended; refuse new connections at each queue when its linger time has passed."""
        interrupts = 0
        while running := [worker for worker in self.workers if worker.process.is_alive()]:
            # A child of a worker may outlive it and keep its sentinel open. So check from time to time, too.
            pipes = [worker.pipe for worker in running if not worker.pipe.closed]
            sentinels = [worker.process.sentinel for worker in running]
            self._wait([*sentinels, *pipes], self._refuse(told_at))
            for worker in running:
                worker.read_reports()
                self.watch.check_end(worker, self.config, hurried=True)
            if self.interrupts > interrupts:
                interrupts = self.interrupts
                for worker in running:
                    worker.signal(signal.SIGINT if self.interrupts == 1 else signal.SIGKILL)
            self._tick()
        for worker in self.workers:
            worker.close()

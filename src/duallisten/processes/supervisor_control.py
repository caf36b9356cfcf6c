"""The control socket of a launch with workers: requests to the supervisor, and questions to the workers.

Requests that change something are carried out by the supervisor's own thread, between two of its waits (`tick`). A
worker answers a question over a separate socket, which comes with the order (`worker_protocol`). A worker that stops in
the middle of a long answer delays the client by at most `ANSWER_SECONDS`, and the supervisor not at all.

Invariants:
    - The supervisor waits for no client and for no worker.
    - No order is sent to a worker that has not answered its last ping: it might not read its pipe.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from duallisten.control.protocol import Refused
from duallisten.logs import set_level
from duallisten.observability import SIDES
from duallisten.processes.control import ENDING, STARTING, Control
from duallisten.processes.launch_status import SupervisorObserver
from duallisten.processes.starting import starting
from duallisten.server.inspection import Question, stacks

if TYPE_CHECKING:
    from duallisten.control.protocol import Request
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import Scoreboard
    from duallisten.processes.supervisor import Supervisor
    from duallisten.processes.worker_handle import Worker
    from duallisten.processes.worker_slots import Slot

logger = logging.getLogger("uvicorn.error")

TURN_SECONDS = 5.0
"""Seconds that the supervisor has to carry out a request."""

ANSWER_SECONDS = 3.0
"""Seconds that a worker has to answer."""

SILENT_SECONDS = 2.0
"""Seconds without an answer to a ping after which a worker is not asked."""

SILENT = "it does not answer; on SIGUSR2 it may still write its stacks to standard error"

T = TypeVar("T")


class Asked(NamedTuple):
    """A question to a worker.

    sock: the socket that the answer comes over; None if the worker could not be asked, for `reason`
    """

    pid: int
    sock: socket.socket | None = None
    reason: str = ""


class SupervisorControl(Control, SupervisorObserver):
    """Answers requests about a launch with workers. It is also one of the supervisor's observers."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(supervisor.config)
        self._supervisor = supervisor
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self.things = (self._woken,)
        self._level: str | None = None
        self._leveled: set[Worker] = set()

    # Called by the supervisor.

    def tick(self) -> None:
        """Carry out the waiting requests, and tell new workers the log level."""
        self._config = self._supervisor.config  # a reload has replaced it
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()()
        if self._level is not None:
            self._tell_level(self._level)

    # Called by the thread of the control socket.

    async def _do(self, function: Callable[[], T]) -> T:
        """Call a function in the supervisor's thread, and return its result or raise its error."""
        future: Future[T] = Future()

        def do() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)

        self._jobs.put(do)
        with suppress(BlockingIOError):  # the supervisor is being woken already
            self._waker.send(b"\0")
        try:
            async with asyncio.timeout(TURN_SECONDS):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Refused("the supervisor is busy; see its stacks") from None

    def _described(self) -> tuple[Scoreboard, Plan, Iterable[BoundSocket]]:
        supervisor = self._supervisor
        assert supervisor.board.board is not None  # noqa: S101  # a launch with a control socket is observed
        return supervisor.board.board, supervisor.plan, supervisor.slots.bound

    def _status(self) -> dict[str, Any]:
        starts = [start._asdict() for start in starting(self._supervisor)]
        return super()._status() | {"starting": starts}

    async def _workers(self, request: Request) -> Any:
        if request.action == "list":
            return await self._do(self._list)
        return await self._do(lambda: self._change(request))

    async def _reload(self) -> Any:
        def reload() -> dict[str, Any]:
            self._require_running()
            logger.info("Reload requested at the control socket, replacing the workers one at a time.")
            self._supervisor.rolling.begin()
            return {"reloading": [worker.pid for worker in self._supervisor.slots.workers]}

        return await self._do(reload)

    async def _drain(self, *, is_on: bool) -> Any:
        def drain() -> dict[str, Any]:
            self._require_running()
            board, _, _ = self._described()
            return self._set_drained(board, self._supervisor.registration, is_on=is_on)

        return await self._do(drain)

    async def _log_level(self, level: str) -> Any:
        def tell() -> dict[str, Any]:
            self._level = level
            self._leveled.clear()
            self._tell_level(level)
            logger.info("Log level set to %s at the control socket", level)
            return {"level": level}

        return await self._do(tell)

    async def _ask(self, question: Question) -> list[dict[str, Any]]:
        own = [{"role": "supervisor", **stacks()}] if question == "stacks" else []
        try:
            asked = await self._do(lambda: [self._send(worker, question) for worker in self._supervisor.workers])
        except Refused as refused:
            if not own:
                raise
            return [*own, {"role": "worker", "pid": None, "reason": str(refused)}]
        return [*own, *await asyncio.gather(*map(_read, asked))]

    # Run in the supervisor's thread.

    def _require_running(self) -> None:
        """Raise Refused if the launch does not serve yet, or is ending."""
        supervisor = self._supervisor
        if supervisor.should_exit or not supervisor.launched:
            raise Refused(ENDING if supervisor.should_exit else STARTING)

    def _tell_level(self, level: str) -> None:
        set_level(level)  # at each tick: a reload configures logging again
        workers = {worker for worker in self._supervisor.workers if worker.began}
        for worker in workers - self._leveled:
            if not worker.is_silent(SILENT_SECONDS):
                worker.set_level(level)
                self._leveled.add(worker)
        self._leveled &= workers

    def _send(self, worker: Worker, question: Question) -> Asked:
        """Put a question to a worker."""
        if not worker.began:
            return Asked(worker.pid, reason="it is still starting")
        if worker.is_silent(SILENT_SECONDS):
            return Asked(worker.pid, reason=SILENT)
        ours, theirs = socket.socketpair()
        with theirs:
            if worker.ask(question, theirs):
                return Asked(worker.pid, ours)
        ours.close()
        return Asked(worker.pid, reason="it is ending")

    def _list(self) -> dict[str, Any]:
        supervisor = self._supervisor
        successors = {slot.successor: slot.worker for slot in supervisor.slots if slot.successor is not None}
        workers = []
        for worker in supervisor.workers:
            replaced = successors.get(worker)
            workers.append(
                {
                    "pid": worker.pid,
                    "state": _state(worker),
                    "sides": [side for side in SIDES if side in worker.plan.sides],
                    "age": round(worker.age, 1),
                    "blocked": round(worker.blocked_for, 1) if worker.is_blocked else None,
                    "replaces": replaced.pid if replaced is not None else None,
                }
            )
        missing = sum(slot.worker is None for slot in supervisor.slots)
        return {"workers": workers, "missing": missing}

    def _change(self, request: Request) -> dict[str, Any]:
        """Add, remove or replace a worker."""
        self._require_running()
        supervisor = self._supervisor
        if request.action == "add":
            supervisor.slots.add(supervisor.pool)
            logger.info("Adding a worker, as requested at the control socket.")
            return {"added": 1}
        slot = self._slot_of(request.pid) if request.pid is not None else None
        if request.action == "replace":
            assert slot is not None  # noqa: S101  # `decode` has refused the request otherwise
            supervisor.rolling.replace(slot, "is to be replaced, as requested at the control socket")
            return {"replacing": request.pid}
        workers = supervisor.slots.drop(slot.pool if slot is not None else supervisor.pool, slot)
        if workers is None:
            raise Refused("the last worker of a pool cannot be removed")
        logger.info("Removing a worker, as requested at the control socket.")
        for worker in workers:
            supervisor.retire(worker)
        return {"removed": [worker.pid for worker in workers]}

    def _slot_of(self, pid: int) -> Slot:
        for slot in self._supervisor.slots:
            if slot.worker is not None and slot.worker.pid == pid:
                return slot
        if any(worker.pid == pid for worker in self._supervisor.workers):
            raise Refused(f"worker {pid} is ending, or does not serve yet")
        raise Refused(f"there is no worker {pid}; `workers` lists them")


def _state(worker: Worker) -> str:
    if worker.ending or worker.stopping:
        return "ending"
    return "serving" if worker.serving else "starting"


async def _read(asked: Asked) -> dict[str, Any]:
    """Return the answer of a worker, or the reason why there is none."""
    told = {"role": "worker", "pid": asked.pid}
    if asked.sock is None:
        return {**told, "reason": asked.reason}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(sock=asked.sock)
            try:
                return {**told, **json.loads(await reader.read())}
            finally:
                writer.close()
    except TimeoutError:
        return {**told, "reason": SILENT}
    except (OSError, ValueError):
        return {**told, "reason": "it is ending"}

"""Slots: the places of workers. Each slot has its own accept queues, which outlive every worker in it.

With one socket for all workers the kernel wakes the fastest one, and a few workers get most of the connections. With
one socket per slot, bound with SO_REUSEPORT to one address, the kernel chooses the socket by a hash of the connection's
addresses and ports. This rests on these facts (Linux; socket(7), listen(2), tcp(7)):

- Of the sockets bound to an address only those that listen get connections; the others do not count.
- A connection is in the queue of one socket. The socket and its queue live as long as any process has the socket open.
  The supervisor keeps every socket open, so the successor of a dead worker accepts the connections that wait there.
- The kernel gives each queue its share, whether or not a worker accepts from it. So while a slot has no worker that
  accepts, another worker of the same pool *backs it up*: it accepts from the slot's queues, too. The slot's worker may
  have died while its successor is starting or delayed, or it drains, or its event loop is blocked; or the slot was
  given up.
- SO_REUSEPORT hides other servers: any number of sockets of one user may listen on an address if all have the option.
  `listen()` on a socket *without* the option fails if another socket listens there. While such a socket listens,
  `listen()` on any other socket fails; the kernel decides atomically. So before the first worker accepts, the address
  is claimed: a socket without the option listens, and drops all segments that reach it. Then it gets the option, our
  sockets listen beside it, and it is closed. At no instant could another launcher's claim succeed.

On other systems than Linux, and for UNIX domain sockets and inherited ones, all slots share one socket, as in uvicorn.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duallisten.errors import LaunchError
from duallisten.listeners import bound_socket, claimed, drop_newcomers, listen, tcp_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duallisten.listeners import BoundSocket, Pool
    from duallisten.processes.worker_handle import Worker
    from duallisten.sides import Side

YOUNG = 10.0
"""Seconds; a worker that ends earlier, or before it has served, counts as died young."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died young is replaced: the first time, and at most."""

MOST_YOUNG_DEATHS = 10
"""Young deaths in a row in a slot after which the supervisor gives up, if no worker of the pool serves."""


@dataclass(eq=False)
class Slot:
    """The place of a worker.

    queues: its sockets
    successor: the worker that replaces `worker` as soon as it serves
    wanted: whether the slot should have a worker; a slot that was given up keeps its queues, which may hold connections
    opened: whether its sockets listen
    backup: the worker of another slot that accepts from its queues
    young_deaths: how many of its workers have died young in a row
    due: when the next worker is started, in seconds of the monotonic clock
    """

    pool: Pool
    queues: list[BoundSocket]
    number: int = field(default_factory=itertools.count().__next__)
    worker: Worker | None = None
    successor: Worker | None = None
    wanted: bool = True
    opened: bool = False
    backup: Worker | None = None
    young_deaths: int = 0
    due: float = 0.0

    @property
    def needs_backup(self) -> bool:
        """Whether its sockets listen and its own worker does not accept from them, and is not about to."""
        return self.opened and not (self.worker is not None and self.worker.is_available)

    def note_end(self, worker: Worker) -> float:
        """Decide when the next worker starts; return the seconds until then, 0 if this one did not die young."""
        ended_well = worker.serving and worker.process.exitcode == 0
        if ended_well or (worker.serving and worker.age >= YOUNG):
            self.young_deaths = 0
            self.due = 0.0
            return 0.0
        self.young_deaths += 1
        delay = float(min(FIRST_DELAY * 2 ** min(self.young_deaths - 1, 10), LONGEST_DELAY))
        self.due = time.monotonic() + delay
        return delay


class Slots:
    """All slots of a launch.

    pools: the pools that the slots belong to
    bound: the plan's sockets; the first slot of each pool has them, the other slots have siblings of them
    backlog: returns the length of a side's accept queues
    """

    def __init__(self, pools: tuple[Pool, ...], bound: list[BoundSocket], backlog: Callable[[Side], int]) -> None:
        self.bound = bound
        self._claims = PortClaims(backlog)
        self._all: list[Slot] = []
        for pool in pools:
            self.add_pool(pool, [])

    def __iter__(self) -> Iterator[Slot]:
        """Return the slots that should have a worker."""
        return (slot for slot in self._all if slot.wanted)

    @property
    def workers(self) -> list[Worker]:
        """Every worker in a slot, and every successor."""
        placed = (worker for slot in self._all for worker in (slot.worker, slot.successor))
        return [worker for worker in placed if worker is not None]

    @property
    def is_full(self) -> bool:
        """Whether a worker serves in each slot."""
        return all(slot.worker is not None and slot.worker.serving for slot in self)

    def describe(self, side: Side) -> str:
        """Return which processes serve a side, as text."""
        count = sum(side in slot.pool.sides for slot in self)
        return f"process {os.getpid()}, {count} worker{'s' if count != 1 else ''}"

    def of(self, worker: Worker) -> Slot:
        """Return the slot of a worker or a successor."""
        return next(slot for slot in self._all if worker in (slot.worker, slot.successor))

    def _serving(self, pool: Pool) -> list[Worker]:
        workers = [slot.worker for slot in self if slot.pool is pool]
        return [worker for worker in workers if worker is not None and worker.serving]

    def note_end(self, slot: Slot, worker: Worker) -> float:
        """Decide when the next worker of a slot starts (`Slot.note_end`); raises LaunchError if workers keep dying."""
        delay = slot.note_end(worker)
        if slot.young_deaths >= MOST_YOUNG_DEATHS and not self._serving(slot.pool):
            raise LaunchError(f"the workers keep dying; the last one: worker {worker.exit_reason}")
        return delay

    def add(self, pool: Pool) -> None:
        """Add a slot to a pool, or take back one that was given up; raises LaunchError."""
        if (old := next((slot for slot in self._all if slot.pool is pool and not slot.wanted), None)) is not None:
            old.wanted = True
            return
        bound = [queue for queue in self.bound if queue.side in pool.sides]
        if any(slot.pool is pool for slot in self._all):
            try:
                bound = bind_siblings(bound)
            except OSError as error:
                names = ", ".join(f"{host}:{port}" for _, _, (host, port), _ in bound)
                raise LaunchError(
                    f"cannot bind another socket for a worker on {names}: {error.strerror}; --workers 1 needs only one"
                ) from None
        self._all.append(Slot(pool, bound))

    def widen(self, old: Pool, new: Pool, bound: list[BoundSocket]) -> None:
        """Add the queues of a late listener to the slots of a pool; raises LaunchError.

        bound: the listener's sockets, which go to the first slot
        """
        slots = [slot for slot in self._all if slot.pool is old]
        queues = [bound]
        try:
            queues += [bind_siblings(bound) for _ in slots[1:]]
            for slot, more in zip(slots, queues, strict=True):
                if slot.opened:
                    self._claims.listen(more)
        except (OSError, LaunchError) as error:
            for queue in itertools.chain(*queues):
                queue.socket.close()
            raise LaunchError(str(error)) from None
        self.bound += bound
        for slot, more in zip(slots, queues, strict=True):
            slot.pool = new
            slot.queues = [*slot.queues, *more]
            if slot.backup is not None:
                slot.backup.release(slot.number)
                slot.backup = None  # the next `back_up` finds one again, for all queues

    def extend(self, worker: Worker) -> None:
        """Let a worker serve the current plan and queues of its slot."""
        slot = self.of(worker)
        if worker.plan is not slot.pool.plan:
            worker.open(slot.pool.plan, slot.queues)

    def add_pool(self, pool: Pool, bound: list[BoundSocket]) -> None:
        """Add the slots of another pool.

        bound: the sockets of the pool's listeners, which no other pool has
        """
        self.bound += bound
        for _ in range(pool.size):
            self.add(pool)

    def refuse(self, closing: Callable[[Slot, BoundSocket], bool]) -> None:
        """Refuse new connections at some queues; workers still accept the connections in them.

        closing: returns whether to do so for a queue of a slot
        """
        for slot in self._all:
            for queue in slot.queues:
                if queue.socket.fileno() >= 0 and closing(slot, queue):
                    if queue.ours:
                        drop_newcomers(queue.socket)
                    queue.socket.close()

    def drop(self, pool: Pool, slot: Slot | None = None) -> list[Worker] | None:
        """Give up a slot of a pool, and return its workers; None if the pool has no other slot.

        slot: the slot; if None, the last of the pool
        """
        wanted = [slot for slot in self if slot.pool is pool]
        if len(wanted) < 2:
            return None
        slot = slot or wanted[-1]
        workers = [worker for worker in (slot.worker, slot.successor) if worker is not None]
        slot.wanted, slot.worker, slot.successor = False, None, None
        return workers

    def permit(self, worker: Worker) -> None:
        """Listen on the sockets of a worker's slot, and let it accept.

        Raises LaunchError if another process has taken the address meanwhile.
        """
        slot = self.of(worker)
        if not slot.opened:
            self._claims.listen(slot.queues)
            slot.opened = True
        worker.permit()

    def back_up(self) -> None:
        """Give a backup to each slot that needs one, and take it from each other slot."""
        for slot in self._all:
            if slot.backup is not None and not slot.backup.accepts:
                slot.backup = None  # it has left the queues, or died
            if slot.backup is not None and (slot.backup.is_blocked or not slot.needs_backup):
                slot.backup.release(slot.number)
                slot.backup = None
            if slot.needs_backup and slot.backup is None:
                self._find_backup(slot)

    def _find_backup(self, slot: Slot) -> None:
        divided = [queue for queue in slot.queues if can_be_divided(queue)]  # other workers accept from a shared queue
        able = [worker for worker in self._serving(slot.pool) if worker.is_available]
        if divided and able:
            busy = Counter(id(other.backup) for other in self._all)
            slot.backup = min(able, key=lambda worker: busy[id(worker)])
            slot.backup.back_up(slot.number, divided)

    def close(self) -> None:
        """Close the sockets that this object has made."""
        for slot in self._all:
            for queue in slot.queues:
                if queue not in self.bound:
                    queue.socket.close()


def can_be_divided(queue: BoundSocket) -> bool:
    """Whether siblings can be bound beside a socket, so that the kernel spreads the connections among all."""
    return queue.ours and sys.platform == "linux"


def bind_siblings(bound: list[BoundSocket]) -> list[BoundSocket]:
    """Bind a socket beside each of `bound`, at its address; a socket that cannot be divided is returned itself.

    Raises OSError, after closing the sockets that it has made.
    """
    made: list[BoundSocket] = []
    try:
        for queue in bound:
            made.append(_bind_sibling(queue) if can_be_divided(queue) else queue)
    except BaseException:
        for queue in made:
            if queue not in bound:
                queue.socket.close()
        raise
    return made


def _bind_sibling(queue: BoundSocket) -> BoundSocket:
    queue.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock = tcp_socket(queue.socket.family, queue.socket.getsockname(), reuse_port=True)
    sock.set_inheritable(True)
    return bound_socket(queue.side, sock, ours=True)


class PortClaims:
    """The addresses that this launch has claimed: the first of its sockets listens there.

    backlog: returns the length of a side's accept queues
    """

    def __init__(self, backlog: Callable[[Side], int]) -> None:
        self._backlog = backlog
        self._claimed: set[tuple[str, int]] = set()

    def listen(self, bound: list[BoundSocket]) -> None:
        """Listen on sockets; raises LaunchError if another process listens at one of the addresses."""
        for queue in bound:
            is_ours = queue.name in self._claimed or not can_be_divided(queue)
            try:
                with contextlib.nullcontext() if is_ours else claimed(queue.socket):
                    listen(queue.socket, self._backlog(queue.side))
                self._claimed.add(queue.name)
            except OSError as error:
                raise LaunchError(
                    f"the {queue.side} listener cannot listen on {queue.name}: {error.strerror}; another process has "
                    "taken the port meanwhile"
                ) from None

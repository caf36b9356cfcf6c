"""Slots: the places of workers, each with accept queues of its own, which outlive every worker in it.

The kernel gives a share of the connections to each slot's sockets, whether or not a worker is there to accept them. So
no queue is left alone: while a slot has no worker that accepts (it died and its successor is starting or delayed, it is
draining, its slot was given up, its event loop is blocked), a worker of the same pool *stands in* for it and accepts
from its queues, too.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from duallisten.errors import LaunchError
from duallisten.listeners import BoundSocket, Pool, drop_newcomers
from duallisten.processes.accept_queues import PortClaims, beside, can_be_divided
from duallisten.processes.worker_handle import Worker
from duallisten.sides import Side

YOUNG = 10.0
"""Seconds; a worker that dies earlier, or before it has served, died young."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that died young is replaced: the first time, and at most."""

MOST_YOUNG_DEATHS = 10
"""Young deaths in a row, while no worker of the pool serves, after which the supervisor gives up."""


@dataclass(eq=False)
class Slot:
    """A worker's place.

    number: what tells it from the others
    queues: its sockets
    worker: who is in it
    successor: who takes the place of `worker` when it serves
    wanted: whether it is to have a worker; one that was given up keeps its queues, for connections may be in them
    opened: whether its sockets listen
    stand_in: who accepts from its queues in place of its worker
    young_deaths: how many of its workers have died young in a row
    due: when it is filled again, in seconds of the monotonic clock
    """

    pool: Pool
    queues: list[BoundSocket]
    number: int = field(default_factory=itertools.count().__next__)
    worker: Worker | None = None
    successor: Worker | None = None
    wanted: bool = True
    opened: bool = False
    stand_in: Worker | None = None
    young_deaths: int = 0
    due: float = 0.0

    @property
    def is_alone(self) -> bool:
        """Whether its sockets listen and no worker of its own accepts from them, or is about to."""
        return self.opened and not (self.worker is not None and self.worker.is_available)

    def note_death(self, worker: Worker) -> float:
        """Decide when it is filled again; gives the seconds until then, 0 if its worker had lived or ended well."""
        ended_well = worker.serving and worker.process.exitcode == 0  # such as at --limit-max-requests
        if ended_well or (worker.serving and worker.age >= YOUNG):
            self.young_deaths = 0
            self.due = 0.0
            return 0.0
        self.young_deaths += 1
        delay = float(min(FIRST_DELAY * 2 ** (self.young_deaths - 1), LONGEST_DELAY))
        self.due = time.monotonic() + delay
        return delay


class Slots:
    """All slots of a launch.

    pools: the pools that the slots belong to
    bound: the plan's sockets; the first slot of each pool has them, the others have sockets beside them
    backlog: gives the length of a side's accept queues
    """

    def __init__(self, pools: tuple[Pool, ...], bound: list[BoundSocket], backlog: Callable[[Side], int]) -> None:
        self.bound = bound
        self._claims = PortClaims(backlog)
        self._all: list[Slot] = []
        for pool in pools:
            for _ in range(pool.size):
                self.add(pool)

    def __iter__(self) -> Iterator[Slot]:
        """Return those that are to have a worker."""
        return (slot for slot in self._all if slot.wanted)

    @property
    def workers(self) -> list[Worker]:
        """Every worker in a slot, and every successor."""
        placed = (worker for slot in self._all for worker in (slot.worker, slot.successor))
        return [worker for worker in placed if worker is not None]

    @property
    def is_full(self) -> bool:
        """Whether a worker serves in each."""
        return all(slot.worker is not None and slot.worker.serving for slot in self)

    def serve(self, pool: Pool) -> bool:
        """Whether any worker of a pool serves."""
        return any(slot.worker is not None and slot.worker.serving for slot in self if slot.pool is pool)

    def count(self, side: Side) -> int:
        """Return how many slots serve a side."""
        return sum(side in slot.pool.sides for slot in self)

    def of(self, worker: Worker) -> Slot:
        """Return the slot that a worker is in, or is to take."""
        return next(slot for slot in self._all if worker in (slot.worker, slot.successor))

    def add(self, pool: Pool) -> None:
        """Add a slot to a pool, one that was given up before any other; raises LaunchError."""
        if (old := next((slot for slot in self._all if slot.pool is pool and not slot.wanted), None)) is not None:
            old.wanted = True
            return
        bound = [one for one in self.bound if one.side in pool.sides]
        if any(slot.pool is pool for slot in self._all):
            try:
                bound = beside(bound)
            except OSError as error:
                names = ", ".join(f"{host}:{port}" for _, _, (host, port), _ in bound)
                raise LaunchError(
                    f"a worker cannot have a socket of its own on {names}: {error.strerror}; --workers 1 needs none"
                ) from None
        self._all.append(Slot(pool, bound))

    def widen(self, old: Pool, new: Pool, bound: list[BoundSocket]) -> None:
        """Give the slots of a pool queues for a listener that has come late; raises LaunchError.

        bound: its sockets, which become those of the first slot
        """
        slots = [slot for slot in self._all if slot.pool is old]
        queues = [bound]
        try:
            queues += [beside(bound) for _ in slots[1:]]
            for slot, more in zip(slots, queues, strict=True):
                if slot.opened:
                    self._claims.listen(more)
        except (OSError, LaunchError) as error:
            for one in itertools.chain(*queues):
                one.socket.close()
            raise LaunchError(str(error)) from None
        self.bound += bound
        for slot, more in zip(slots, queues, strict=True):
            slot.pool = new
            slot.queues = [*slot.queues, *more]
            if slot.stand_in is not None:
                slot.stand_in.stand_down(slot.number)
                slot.stand_in = None  # until the next `cover`, which gives it all of them

    def inform(self, worker: Worker) -> None:
        """Have a worker serve what its slot now does."""
        slot = self.of(worker)
        if worker.plan is not slot.pool.plan:
            worker.open(slot.pool.plan, slot.queues)

    def add_pool(self, pool: Pool, bound: list[BoundSocket]) -> None:
        """Add the slots of another pool.

        bound: the sockets of its listeners, which no other pool has
        """
        self.bound += bound
        for _ in range(pool.size):
            self.add(pool)

    def refuse(self, closing: Callable[[Slot, BoundSocket], bool]) -> None:
        """Let no new connection into some of the queues, and leave what is in them to the workers that have them.

        closing: tells which
        """
        for slot in self._all:
            for one in slot.queues:
                if one.socket.fileno() >= 0 and closing(slot, one):
                    if one.ours:
                        drop_newcomers(one.socket)
                    one.socket.close()

    def drop(self, pool: Pool) -> Slot | None:
        """Give up the last slot of a pool, unless it is its only one; its workers are yet to be ended."""
        wanted = [slot for slot in self if slot.pool is pool]
        if len(wanted) < 2:
            return None
        wanted[-1].wanted = False
        return wanted[-1]

    def open(self, slot: Slot) -> None:
        """Listen on a slot's sockets; raises LaunchError where somebody else has taken the address meanwhile."""
        if not slot.opened:
            self._claims.listen(slot.queues)
            slot.opened = True

    def cover(self) -> None:
        """Ensure that a worker stands in for each slot that is alone, and for no other."""
        for slot in self._all:
            if slot.stand_in is not None and not slot.stand_in.accepts:
                slot.stand_in = None  # it has left the queue, or died
            if slot.stand_in is not None and (slot.stand_in.is_blocked or not slot.is_alone):
                slot.stand_in.stand_down(slot.number)
                slot.stand_in = None
            if slot.is_alone and slot.stand_in is None:
                self._find_stand_in(slot)

    def _find_stand_in(self, slot: Slot) -> None:
        divided = [one for one in slot.queues if can_be_divided(one)]  # what all share has others to accept from it
        of_pool = [other.worker for other in self if other.pool is slot.pool and other.worker is not None]
        able = [worker for worker in of_pool if worker.serving and worker.is_available]
        if divided and able:
            busy = Counter(id(other.stand_in) for other in self._all)
            slot.stand_in = min(able, key=lambda worker: busy[id(worker)])
            slot.stand_in.stand_in(slot.number, divided)

    def close(self) -> None:
        """Close the sockets that were made here."""
        for slot in self._all:
            for one in slot.queues:
                if one not in self.bound:
                    one.socket.close()

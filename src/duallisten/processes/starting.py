"""Lists the processes of a launch that are starting: in the log if they take long, and always in `status`.

An import or a lifespan that never ends shows no error: the old worker goes on serving, and the new code just does not
start. So one log line says which process is waited for, and which one serves meanwhile. At the launch uvicorn's own
lines say that the application is waited for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from duallisten.processes.launch_status import SupervisorObserver

if TYPE_CHECKING:
    from duallisten.processes.supervisor import Supervisor

logger = logging.getLogger("uvicorn.error")

NOTICE = 10.0
"""Seconds after which the log says that a process is still starting."""


class Start(NamedTuple):
    """A process that is starting.

    pid: its process id
    seconds: how long it has been starting
    replaces: the process id of the worker that serves meanwhile; None if there is none
    imports: whether it is a fork server that imports the application for all workers
    """

    pid: int
    seconds: float
    replaces: int | None = None
    imports: bool = False


def starting(supervisor: Supervisor) -> Iterator[Start]:
    """Return the processes of a launch that are starting; any thread may call this."""
    if (server := supervisor.factory.importing) is not None:
        yield Start(server.pid, server.age, imports=True)
    for slot in supervisor.slots:
        worker, successor = slot.worker, slot.successor
        if worker is not None and not worker.serving:
            yield Start(worker.pid, worker.age)
        if successor is not None and not successor.serving:
            yield Start(successor.pid, successor.age, worker.pid if worker is not None else None)


class StartObserver(SupervisorObserver):
    """Logs, once for each process, that it takes long to start."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._told: set[int] = set()

    def tick(self) -> None:
        """Log the processes that have been starting for `NOTICE` seconds."""
        supervisor = self._supervisor
        if not supervisor.launched or supervisor.should_exit:
            return
        late = [start for start in starting(supervisor) if start.seconds >= NOTICE]
        for start in late:
            if start.pid not in self._told:
                logger.warning("%s", describe(start, supervisor.rolling.patience))
        self._told = {start.pid for start in late}


def describe(start: Start, patience: float) -> str:
    """Return a log line: which process is waited for, and what happens meanwhile.

    patience: seconds that a successor may take to serve; infinite for no limit
    """
    if start.imports:
        what = f"Fork server [{start.pid}] has been importing the application for {start.seconds:.0f} s"
        return f"{what}; the old workers serve meanwhile; another SIGHUP restarts the reload"
    what = f"Worker [{start.pid}] has been starting for {start.seconds:.0f} s"
    if start.replaces is None:
        return f"{what}; it replaces one that has ended"
    limit = "another SIGHUP restarts the reload" if math.isinf(patience) else f"the start may take {patience:.0f} s"
    return f"{what}; worker [{start.replaces}] serves meanwhile; {limit}"

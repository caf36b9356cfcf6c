"""Where workers come from: each imports the application itself (`Spawning`), or one has done so for all (`Forking`).

A supervisor asks for workers when the factory is ready, and for new code with `renew`, after which workers that start
run it. Neither way runs code of the application in the supervisor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Protocol

from duallisten.config import Config
from duallisten.errors import LaunchError
from duallisten.listeners import BoundSocket, Plan
from duallisten.observability import RowRef, Scoreboard
from duallisten.processes.fork_server import ForkServer, can_preload
from duallisten.processes.worker_handle import Worker, launch_error, spawn

logger = logging.getLogger("uvicorn.error")

IMPORT_DELAY = 5.0
"""Seconds before the import of an application is tried again whose template died, and which has failed since."""


class WorkerFactory(Protocol):
    """What a supervisor gets its workers from."""

    @property
    def is_ready(self) -> bool:
        """Whether a worker can be had now."""

    @property
    def is_renewing(self) -> bool:
        """Whether what `renew` asked for is yet to come."""

    @property
    def pipes(self) -> Sequence[Connection]:
        """What can be read when there is something to hear."""

    def start(self, plan: Plan, queues: list[BoundSocket], seat: RowRef | None) -> Worker:
        """Start a worker; raises LaunchError where none can be had."""

    def hear(self) -> bool:
        """Take in what there is; whether what `renew` asked for has just come. Raises LaunchError before the first."""

    def renew(self) -> None:
        """Ensure that the workers that start from now on have the code as it is now."""

    def end(self) -> None:
        """End what the workers came from."""


class Spawning:
    """Workers that import the application themselves."""

    is_ready = True
    pipes: Sequence[Connection] = ()

    def __init__(self, config: Config) -> None:
        self._config = config
        self.is_renewing = False

    def start(self, plan: Plan, queues: list[BoundSocket], seat: RowRef | None) -> Worker:
        """Start a worker."""
        return spawn(self._config, plan, queues, seat)

    def hear(self) -> bool:
        """Whether `renew` was called."""
        renewed, self.is_renewing = self.is_renewing, False
        return renewed

    def renew(self) -> None:
        """Note it: a new process imports anew."""
        self.is_renewing = True

    def end(self) -> None:
        """Do nothing: there is nothing beside the workers."""


class Forking:
    """Workers that are forks of a template.

    template: what forks them now; None after it has died
    """

    def __init__(self, config: Config, board: Scoreboard | None) -> None:
        self._config = config
        self._board = board
        self.template: ForkServer | None = ForkServer(config, board)
        self._next: ForkServer | None = None
        self._retired: list[ForkServer] = []
        self._launched = False
        self._due = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether there is a template that has imported the application."""
        return self.template is not None and self.template.ready and not self.template.pipe.closed

    @property
    def is_renewing(self) -> bool:
        """Whether there is a template that has yet to import the new code."""
        return self._next is not None

    @property
    def pipes(self) -> Sequence[Connection]:
        """The pipes of all templates."""
        return [template.pipe for template in self._templates if not template.pipe.closed]

    @property
    def _templates(self) -> list[ForkServer]:
        return [one for one in (self.template, self._next, *self._retired) if one is not None]

    def start(self, plan: Plan, queues: list[BoundSocket], seat: RowRef | None) -> Worker:
        """Fork a worker; raises LaunchError."""
        assert self.template is not None  # noqa: S101
        return self.template.fork(plan, queues, seat)

    def hear(self) -> bool:
        """Take in what the templates told; whether a new one is ready."""
        for template in self._templates:
            template.listen()
        self._launched = self._launched or self.is_ready
        for template in [one for one in self._retired if not one.is_alive]:
            self._retired.remove(template)
            self._forget(template)
        self._replace_dead()
        if self._next is None or not (self._next.ready or self._next.pipe.closed):
            return False
        new, self._next = self._next, None
        if not new.ready:
            new.end()
            logger.error(
                "The new code cannot be imported: %s; reload aborted, old workers kept",
                new.failure or f"fork server {new.story}",
            )
            return False
        if self.template is not None:
            self._retire(self.template)
        self.template = new
        return True

    def _replace_dead(self) -> None:
        """Start another template in place of one that has died; raises LaunchError where it was the launch's."""
        if self.template is not None and self.template.pipe.closed:
            dead, self.template = self.template, None
            dead.end()
            self._forget(dead)
            if not self._launched:
                raise launch_error(
                    dead.failure, dead.exit_code, f"the application could not be imported: fork server {dead.story}"
                )
            logger.error("Fork server %s; restarting it", dead.story)
            self._due = 0.0 if dead.ready else time.monotonic() + IMPORT_DELAY
        if self.template is None and self._next is None and self._due <= time.monotonic():
            self.template = self._start_template()

    def _forget(self, template: ForkServer) -> None:
        """Ensure that what a template that has ended kept as long as it lived is gone, too."""
        if self._config.options.private_metrics is not None:
            from duallisten.admin.metrics_multiprocess import leave

            leave(pid=template.process.pid or 0)

    def _start_template(self) -> ForkServer | None:
        """Start a template; None where there is no process, memory or descriptor for one now."""
        try:
            return ForkServer(self._config, self._board)
        except OSError as error:
            logger.error("The application cannot be imported again now: %s", error)
            self._due = time.monotonic() + IMPORT_DELAY
            return None

    def _retire(self, template: ForkServer) -> None:
        template.retire()
        self._retired.append(template)

    def renew(self) -> None:
        """Start a new template, in place of one that is not ready yet."""
        if self._next is not None:
            self._next.end()
        self._next = self._start_template()

    def end(self) -> None:
        """End every template."""
        for template in self._templates:
            template.end()


def make_factory(config: Config, board: Scoreboard | None) -> WorkerFactory:
    """Return what was asked for; raises LaunchError where this system cannot do it.

    board: the scoreboard of the launch, if there is one
    """
    if not config.options.preload:
        return Spawning(config)
    if not can_preload():
        raise LaunchError("--preload needs Linux 5.3 or newer: elsewhere each worker imports the application itself")
    return Forking(config, board)

"""The answers of a launch at its control socket (`duallisten.control`).

A request is carried out in the socket's own thread. `SupervisorControl` (`supervisor_control`) is for a launch with
workers, `LoneControl` for one process.

Invariants:
    - Readiness and the log level apply to every process of a launch, also to those that are started later.
    - No request waits for an event loop that runs the application.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from duallisten.control.listening import ControlThread
from duallisten.control.protocol import Refused
from duallisten.logs import set_level
from duallisten.observability import Head, Phase
from duallisten.server.inspection import Inspection, Question, list_peers, sort_connections

if TYPE_CHECKING:
    import socket

    from duallisten.admin.status import Watch
    from duallisten.config import Config
    from duallisten.control.protocol import Request
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import Scoreboard
    from duallisten.server import Server
    from duallisten.server.registration import Registration

logger = logging.getLogger("uvicorn.error")

ONE_PROCESS = "this launch has one process, and no workers; launch it with --workers 2 or more"

STARTING = "the launch is still starting; try again when it serves"
ENDING = "the launch is ending"


class Control(ABC):
    """Answers requests about a launch."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._watch: Watch | None = None

    async def answer(self, request: Request) -> Any:
        """Carry out a request, and return a JSON-serialisable answer; raises LaunchError if it is refused."""
        if request.command == "status":
            return self._status()
        if request.command == "drain":
            return await self._drain(is_on=not request.off)
        if request.command == "log-level":
            return await self._log_level(request.level)
        if request.command == "workers":
            return await self._workers(request)
        if request.command == "reload":
            return await self._reload()
        question: Question = request.command  # type: ignore[assignment]  # there are no other commands
        processes = await self._ask(question)
        return merge_connections(processes) if question == "connections" else {"processes": processes}

    @abstractmethod
    def _described(self) -> tuple[Scoreboard, Plan, Iterable[BoundSocket]]:
        """Return the scoreboard, plan and sockets of the launch; raises Refused if they do not exist yet."""

    @abstractmethod
    async def _workers(self, request: Request) -> Any:
        """List the workers, or change them."""

    @abstractmethod
    async def _reload(self) -> Any:
        """Replace the workers, as SIGHUP does."""

    @abstractmethod
    async def _drain(self, *, is_on: bool) -> Any:
        """Turn readiness off, or on again."""

    @abstractmethod
    async def _log_level(self, level: str) -> Any:
        """Set the log level in every process."""

    @abstractmethod
    async def _ask(self, question: Question) -> list[dict[str, Any]]:
        """Put a question to every process; returns for each its answer, or the reason why there is none."""

    def _status(self) -> dict[str, Any]:
        from duallisten.admin.history import History
        from duallisten.admin.status import Watch, describe_launch

        board, plan, bound = self._described()
        if self._watch is None:
            self._watch = Watch(board, History(board), self._config.options.health_stall)
        figures = self._watch.look(anew=True)
        return {"launch": describe_launch(self._config, plan, bound), "figures": figures, "starting": []}

    def _set_drained(self, board: Scoreboard, registration: Registration | None, *, is_on: bool) -> dict[str, Any]:
        """Turn readiness off or on again, at /readyz and in the registry; raises Refused if the launch has neither."""
        told = ["readyz"] if self._config.options.private_health is not None else []
        told += ["registry"] if registration is not None else []
        if not told:
            raise Refused("this launch does not report its readiness: that needs --private-health or --register")
        board.head[Head.DRAINED] = is_on
        if registration is not None:
            registration.hold(is_on)
        where = " and the ".join(told)
        if is_on:
            logger.info("Drain requested at the control socket: not ready at %s; all listeners stay open", where)
        else:
            logger.info("Drain ended at the control socket: ready again at %s", where)
        return {"drained": is_on, "told": told}


class LoneControl(Control):
    """Answers requests about a launch of one process."""

    def __init__(self, config: Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def _described(self) -> tuple[Scoreboard, Plan, Iterable[BoundSocket]]:
        server = self._server
        if server.observation is None or server.plan is None:
            raise Refused("the application is still being imported; until then only `stacks` is answered")
        return server.observation.board, server.plan, server.bound or ()

    async def _workers(self, request: Request) -> Any:
        raise Refused(ONE_PROCESS)

    async def _reload(self) -> Any:
        raise Refused(f"{ONE_PROCESS}: a reload replaces them one at a time")

    async def _drain(self, *, is_on: bool) -> Any:
        board, _, _ = self._described()
        if not self._server.phase.serves:
            raise Refused(STARTING if self._server.phase is Phase.STARTING else ENDING)
        return self._set_drained(board, self._server.registration, is_on=is_on)

    async def _log_level(self, level: str) -> Any:
        set_level(level)
        logger.info("Log level set to %s at the control socket", level)
        return {"level": level}

    async def _ask(self, question: Question) -> list[dict[str, Any]]:
        observation = self._server.observation
        loop = observation.loop if observation is not None else None
        return [{"role": "server", **Inspection(self._server.listeners, loop).answer(question)}]


def merge_connections(processes: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the connections that the processes of a launch report, the longest requests first.

    `missing` lists the processes that have not answered, each with the reason.
    """
    told = [process for process in processes if "connections" in process]
    listed = [{"pid": process["pid"], **one} for process in told for one in process["connections"]]
    sort_connections(listed)
    open_, busy = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for process in told:
        for peer in process["peers"]:
            open_[peer["side"], peer["host"]] += peer["connections"]
            busy[peer["side"], peer["host"]] += peer["requests"]
    return {
        "total": sum(process["total"] for process in told),
        "peers": list_peers(open_, busy),
        "connections": listed,
        "missing": [process for process in processes if "connections" not in process],
    }


@contextmanager
def answering(sock: socket.socket, control: Control) -> Iterator[None]:
    """Answer the clients of a control socket within the block."""
    thread = ControlThread(sock, control.answer)
    thread.start()
    try:
        yield
    finally:
        thread.stop()

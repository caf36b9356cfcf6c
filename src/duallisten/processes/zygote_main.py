"""Main module of the zygote (`zygote`), and of its forks until they have their order.

- The zygote does as little as possible, because all it does writes to memory that it shares (`forking`). All imports
  come before it is forked, and a fork reads its own order.
- The supervisor acts on the signals that a terminal or a service manager sends to all processes. The zygote blocks
  SIGTERM and does not ignore it: a SIGTERM that reaches a fork before it has a handler stays pending, and ends the fork
  later (signal(7)).

Invariants:
    - The zygote imports no module of the user.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from duallisten.observability import Scoreboard
from duallisten.processes.fork_server_main import ForkServerProcess, serve_order
from duallisten.processes.forking import ForkingProcess, leave_signals
from duallisten.processes.worker_protocol import FORK, Channel

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.processes.worker_protocol import StartOrder


_held: list[Connection] = []
"""The pipe of a fork server: kept here, so that it closes when the process ends and not when it begins to exit."""


class ZygoteProcess(ForkingProcess):
    """Forks workers, and becomes a fork server.

    passed: descriptors that the supervisor keeps open, and that this process must close
    """

    def __init__(self, pipe: Connection, passed: list[int]) -> None:
        super().__init__(pipe)
        self._passed = passed

    def run(self) -> None:
        """Fork until the supervisor is gone. A fork does its work within this call, and exits."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        leave_signals()
        for descriptor in self._passed:
            os.close(descriptor)
        self._obey_orders()

    def _fork(self, order: Any, descriptors: list[int]) -> None:
        """Fork a worker, or become a fork server that takes over the pipe."""
        if order == FORK:
            super()._fork(order, descriptors)
            return
        config, board = _begin(order, descriptors)
        _held.append(pipe := self._channel.detach())
        ForkServerProcess(config, pipe, board, instrumented=False).run()
        sys.exit()

    def _become(self, order: Any, descriptors: list[int]) -> None:
        """Become the worker that the order on its pipe describes."""
        (descriptor,) = descriptors
        channel = Channel(Connection(descriptor))
        try:
            order, descriptors = channel.receive()
        except (EOFError, OSError):
            sys.exit()  # the supervisor is gone
        config, board = _begin(order, descriptors)
        assert order.fork is not None  # noqa: S101
        serve_order(config, order.fork, descriptors, channel.detach(), board)


def _begin(order: StartOrder, descriptors: list[int]) -> tuple[Config, Scoreboard | None]:
    """Set up signals, environment, logging and scoreboard of the new process; takes the board's descriptor."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.environ.clear()
    os.environ.update(order.environment)
    order.config.configure_logging()
    board = Scoreboard.attach(order.capacity, descriptors.pop()) if order.capacity else None
    return order.config, board

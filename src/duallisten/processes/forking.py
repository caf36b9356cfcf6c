"""What runs in a process that forks others off itself: the orders that it obeys, and what it reports of its forks.

A fork shares the memory of the process that it comes from, page by page, for as long as neither writes to it. The facts
this rests on, as measured with CPython 3.11:

- To use an object is to count a reference to it, which writes to its page. So what is imported before the fork is
  shared for the better part; what is imported after it is not, and importing writes to a third of what is there.
- The garbage collector writes to every object that it looks at. What is there at the fork is frozen (`gc.freeze`).
- Up to 3.11 the cache of attributes (`sys._clear_type_cache`) counts the names in it, so a fork that looks up others
  writes to two pages instead of one. Since 3.12 such names are not counted (PEP 683).

Invariants:
    - It has one thread and no event loop, listens on nothing, and answers nothing.
    - It holds no socket of ours longer than a fork takes.
    - It ends when the supervisor does, which it learns from its pipe; each fork learns it from its own.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from duallisten.config.uvicorn_contract import LOOP_FACTORIES
from duallisten.errors import DuallistenError
from duallisten.http.parsers import parser_class
from duallisten.processes.process_signals import IGNORED, ignore, release
from duallisten.processes.worker_protocol import Channel, ForkReport

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from duallisten.config import Config


def import_ahead(config: Config) -> None:
    """Import what the workers will, as far as it is not the user's; what cannot be is left to them to report."""
    import duallisten.endpoints.routes

    if config.is_engine:
        with suppress(ImportError):
            parser_class(config.http)  # type: ignore[arg-type]  # the engine's
    if config.is_websocket_engine:
        with suppress(ImportError):
            import duallisten.http.websocket  # noqa: F401
    if config.loop in LOOP_FACTORIES:
        with suppress(DuallistenError):
            config.get_loop_factory()


def freeze() -> None:
    """Prepare the memory of this process for being shared."""
    gc.collect()
    if sys.version_info < (3, 12):
        sys._clear_type_cache()
    gc.freeze()


def leave_signals() -> None:
    """Do nothing about the signals that a terminal sends to all processes: the supervisor decides."""
    for number in (signal.SIGINT, signal.SIGHUP, *IGNORED, signal.SIGUSR2):
        signal.signal(number, ignore)
    release()


class ForkingProcess:
    """Forks when it is ordered to, and reports the ends of its forks."""

    def __init__(self, pipe: Connection) -> None:
        self._channel = Channel(pipe)
        self._children: dict[int, int] = {}  # process ids, by the descriptor that tells of its end

    def _count(self, order: Any) -> int:
        """How many descriptors come with an order."""
        return 1

    def _become(self, order: Any, descriptors: list[int]) -> None:
        """Do, in a fork, what it was made for."""

    def _report(self, report: ForkReport, descriptors: tuple[int, ...] = ()) -> None:
        with suppress(OSError):
            self._channel.send(report, descriptors)

    def _obey_orders(self) -> None:
        """Fork for each order until an empty one comes, and report the ends of all."""
        more = True
        while more or self._children:
            for readable in wait([*([self._channel.pipe] if more else []), *self._children]):
                if isinstance(readable, int):
                    self._reap(readable)
                    continue
                try:
                    order, descriptors = self._channel.receive()
                except (EOFError, OSError):
                    return  # the supervisor is gone
                if order is None:
                    more = False
                else:
                    self._fork(order, descriptors)

    def _reap(self, end: int) -> None:
        _, status = os.waitpid(pid := self._children.pop(end), 0)
        os.close(end)
        self._report(ForkReport("ended", pid=pid, code=os.waitstatus_to_exitcode(status)))

    def _fork(self, order: Any, descriptors: list[int]) -> None:
        """Fork a process, which does its work and exits within this call."""
        if len(descriptors) != self._count(order):  # this process may open no more
            for descriptor in descriptors:
                os.close(descriptor)
            self._report(ForkReport("forked"))
            return
        for stream in (sys.stdout, sys.stderr):  # each fork would write out again what is buffered
            with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
                stream.flush()
        try:
            pid = os.fork()
        except OSError:  # there is no process or memory to be had now
            pid = -1
        if pid == 0:
            self._channel.close()
            for end in self._children:
                os.close(end)
            self._become(order, descriptors)
            sys.exit()
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            self._report(ForkReport("forked"))
            return
        end = os.pidfd_open(pid)
        self._children[end] = pid
        self._report(ForkReport("forked", pid=pid), (end,))

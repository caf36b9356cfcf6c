"""Base class of the processes that fork others off themselves: they obey orders, and report the ends of their forks.

A fork shares the memory of its parent, page by page, until one of the two writes to a page. This rests on these facts,
as measured with CPython 3.11:

- Using an object changes its reference count, which writes to its page. Most of what is imported before the fork stays
  shared. Imports after the fork are not shared, and they write to a third of the pages that were.
- The garbage collector writes to every object that it visits. So the objects that exist at the fork are frozen
  (`gc.freeze`).
- Up to 3.11 the attribute cache (`sys._clear_type_cache`) counts references to the names in it. So a fork that looks up
  other names writes to two pages instead of one. Since 3.12 these names are immortal and not counted (PEP 683).

Invariants:
    - The process has one thread and no event loop, listens on no socket, and answers no client.
    - It holds a socket of ours only while it forks.
    - It ends when its pipe closes, which means that the supervisor has ended. Each fork has a pipe of its own for that.
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
    """Import what the workers need, without the user's modules; a worker reports what cannot be imported."""
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
    """Prepare the memory of this process to be shared with forks."""
    gc.collect()
    if sys.version_info < (3, 12):
        sys._clear_type_cache()
    gc.freeze()


def leave_signals() -> None:
    """Do nothing on the signals that a terminal sends to all processes: the supervisor acts on them."""
    for number in (signal.SIGINT, signal.SIGHUP, *IGNORED, signal.SIGUSR2):
        signal.signal(number, ignore)
    release()


class ForkingProcess:
    """Forks for each order, and reports the ends of its forks."""

    def __init__(self, pipe: Connection) -> None:
        self._channel = Channel(pipe)
        self._children: dict[int, int] = {}  # process ids by pidfd

    def _count(self, order: Any) -> int:
        """Return how many descriptors come with an order."""
        return 1

    def _become(self, order: Any, descriptors: list[int]) -> None:
        """Do the work of a fork, in the fork."""

    def _report(self, report: ForkReport, descriptors: tuple[int, ...] = ()) -> None:
        with suppress(OSError):
            self._channel.send(report, descriptors)

    def _obey_orders(self) -> None:
        """Fork for each order until an empty one comes, and return when all forks have ended and were reported."""
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
        """Fork; the fork does its work within this call, and exits."""
        if len(descriptors) != self._count(order):  # this process has reached its limit of descriptors
            for descriptor in descriptors:
                os.close(descriptor)
            self._report(ForkReport("forked"))
            return
        for stream in (sys.stdout, sys.stderr):  # each fork would write the buffered text again
            with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
                stream.flush()
        try:
            pid = os.fork()
        except OSError:  # no process or memory is available now
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

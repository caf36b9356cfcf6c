"""The zygote: a fork of the supervisor, made before that has opened anything, from which other processes come.

A spawned process imports anew what the supervisor has imported, and has a copy of its own in memory. A fork shares it,
for as long as nobody writes to it, and need not wait for it. So the command forks itself once, early: the zygote has
neither sockets nor threads, and imports nothing of the application's. Workers are its forks, each of which imports the
application for itself. With `--preload` the zygote becomes the first fork server.

It is for Linux 5.3 and newer, and for a process that is the launch's alone. Where that process has threads, was
instrumented, or has imported something of the application already, processes are spawned as uvicorn does it. So are
those that come after the zygote has died, or after a file that it has imported has changed: what was installed anew
must not be mixed with what was there before.

Invariants:
    - Whatever is opened by the launch is opened after the fork.
    - What a fork finds in its environment is what the supervisor has there when it orders it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duallisten.processes.forker import ForkedProcess, Forker
from duallisten.processes.forking import freeze, import_ahead
from duallisten.processes.process_signals import STDERR
from duallisten.processes.worker_protocol import FORK, Channel, fork_order, send_start

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import RowRef

logger = logging.getLogger("uvicorn.error")


class Zygote(Forker):
    """The zygote's process, as the supervisor sees it.

    imported: the files of what it has imported
    """

    def __init__(self, process: ForkedProcess, pipe: Connection, imported: Files) -> None:
        super().__init__(process, pipe)
        self._imported = imported

    def start(
        self,
        config: Config,
        ends: tuple[Connection, Connection],
        plan: Plan,
        queues: list[BoundSocket],
        row: RowRef | None,
    ) -> ForkedProcess | None:
        """Fork a worker, and tell it over its pipe what it is for; None where it has to be spawned.

        ends: the supervisor's end of its pipe, and its own
        """
        pipe, child_end = ends
        if self.pipe.closed:
            return None
        if self._imported.have_changed():
            logger.info("What is installed has changed: workers import it anew from now on")
            self.end()
            return None
        try:
            process = self.ask(FORK, [child_end.fileno()])
        except OSError as error:
            logger.warning("Workers are spawned from now on, which takes more memory: %s", error)
            return None
        channel = Channel(pipe)
        with suppress(OSError):  # it has ended already, as its sentinel tells
            send_start(channel, config, row.board if row is not None else None, fork_order(plan, queues, row), queues)
        channel.detach()
        return process

    def poll(self) -> None:
        """Read its reports, and say so where it has died."""
        if self.pipe.closed:
            return
        self.read_reports()
        if self.pipe.closed:
            self.end()
            logger.warning("Zygote %s; workers are spawned from now on, which takes more memory", self.exit_reason)


class Files:
    """The files of all that this process has imported, as they are now."""

    def __init__(self) -> None:
        modules = list(sys.modules.values())
        self._paths = "\0".join(sorted({file for one in modules if (file := getattr(one, "__file__", None))}))
        self._seen = self._look()

    def have_changed(self) -> bool:
        """Whether one of them is no longer as it was."""
        return self._look() != self._seen

    def _look(self) -> int:
        return hash(tuple(map(_state, self._paths.split("\0"))))


def _state(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116  # there are hundreds
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def forked_early(config: Config) -> Iterator[Zygote | None]:
    """Have a zygote within the block; None where there can be none. In the zygote and its forks it does not return."""
    zygote = _fork(config) if _is_possible(config) else None
    try:
        yield zygote
    finally:
        if zygote is not None:
            zygote.end()  # or the fork server that it has become


def _is_possible(config: Config) -> bool:
    """Whether this process may be forked: it has one thread, nothing of the application, and the kernel can do it."""
    if not hasattr(os, "pidfd_open") or "opentelemetry.instrumentation.auto_instrumentation" in sys.modules:
        return False
    if any(map(_is_imported, (config.app, config.options.private_app))):  # by what it logs with, for example
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _is_imported(app: Any) -> bool:
    """Whether the package of an application has been imported already; ours has, and has no application that minds."""
    package = app.partition(":")[0].partition(".")[0] if isinstance(app, str) else ""
    return package in sys.modules and package != "duallisten"


def _fork(config: Config) -> Zygote | None:
    import duallisten.processes.fork_server
    import duallisten.processes.supervisor  # noqa: F401  # a supervisor that imported it later would share less
    from duallisten.processes.zygote_main import ZygoteProcess

    if not config.options.preload:  # a fork server does so itself
        import_ahead(config)
    imported = Files()
    ours, its = Pipe()
    freeze()
    try:
        pid = os.fork()
    except OSError:  # there is no process or memory to be had now
        return None
    if pid == 0:
        ours.close()
        ZygoteProcess(its, _passed(config)).run()
        sys.exit()
    its.close()
    return Zygote(ForkedProcess(pid, os.pidfd_open(pid), _exit_code), ours, imported)


def _exit_code(pid: int) -> int | None:
    with suppress(ChildProcessError):  # process 1 reaps whatever ends
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None


def _passed(config: Config) -> list[int]:
    """The descriptors of sockets that were passed to the launch: a zygote would keep them open."""
    found = {one.descriptor for one in (*config.passed.public, *config.passed.private)}
    given = found | ({config.fd} if config.fd is not None else set())
    return sorted(descriptor for descriptor in given if descriptor > STDERR)

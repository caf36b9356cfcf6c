"""The zygote: an early fork of the supervisor, which forks other processes off itself.

A spawned process imports again all that the supervisor has imported, and has its own copy in memory. A fork shares that
memory until it is written to, and starts without these imports. So the command forks itself once, early: the zygote has
neither sockets nor threads, and imports nothing of the application. Workers are forks of the zygote, and each imports
the application itself. With `--preload` the zygote becomes the first fork server.

This needs Linux 5.3 or newer, and a process that exists only for the launch. If that process has threads, was
instrumented, or has imported a part of the application already, workers are spawned as in uvicorn. They are also
spawned after the zygote has died, and after a file that it has imported has changed: a newly installed version must not
be mixed with the old one.

Invariants:
    - The launch opens everything after the fork.
    - A fork has the environment that the supervisor has when it orders the fork.
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
    """The supervisor's view of the zygote.

    imported: the files that it has imported
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
        """Fork a worker, and send it its order over its pipe; None if the worker has to be spawned.

        ends: the supervisor's end of the worker's pipe, and the worker's end
        """
        pipe, child_end = ends
        if self.pipe.closed:
            return None
        if self._imported.have_changed():
            logger.info("Imported files have changed; workers are spawned from now on")
            self.end()
            return None
        try:
            process = self.ask(FORK, [child_end.fileno()])
        except OSError as error:
            logger.warning("Workers are spawned from now on, which takes more memory: %s", error)
            return None
        channel = Channel(pipe)
        with suppress(OSError):  # the fork has ended already; its sentinel shows that
            send_start(channel, config, row.board if row is not None else None, fork_order(plan, queues, row), queues)
        channel.detach()
        return process

    def poll(self) -> None:
        """Read its reports, and log if it has died."""
        if self.pipe.closed:
            return
        self.read_reports()
        if self.pipe.closed:
            self.end()
            logger.warning("Zygote %s; workers are spawned from now on, which takes more memory", self.exit_reason)


class Files:
    """The files of all modules that this process has imported, with their present time and size."""

    def __init__(self) -> None:
        modules = list(sys.modules.values())
        self._paths = "\0".join(sorted({file for one in modules if (file := getattr(one, "__file__", None))}))
        self._seen = self._look()

    def have_changed(self) -> bool:
        """Whether one of the files has changed since."""
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
    """Fork a zygote for the block; None if that is not possible. In the zygote and its forks this does not return."""
    zygote = _fork(config) if _is_possible(config) else None
    try:
        yield zygote
    finally:
        if zygote is not None:
            zygote.end()  # or the fork server that it has become


def _is_possible(config: Config) -> bool:
    """Whether this process can be forked: it has one thread, has imported no application, and has `pidfd_open`."""
    if not hasattr(os, "pidfd_open") or "opentelemetry.instrumentation.auto_instrumentation" in sys.modules:
        return False
    if any(map(_is_imported, (config.app, config.options.private_app))):  # by a logging configuration, for example
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _is_imported(app: Any) -> bool:
    """Whether the package of an application has been imported already; our own package does not count."""
    package = app.partition(":")[0].partition(".")[0] if isinstance(app, str) else ""
    return package in sys.modules and package != "duallisten"


def _fork(config: Config) -> Zygote | None:
    import duallisten.processes.fork_server
    import duallisten.processes.supervisor  # noqa: F401  # a supervisor that imported it later would share less
    from duallisten.processes.zygote_main import ZygoteProcess

    if not config.options.preload:  # a fork server calls `import_ahead` itself
        import_ahead(config)
    imported = Files()
    ours, its = Pipe()
    freeze()
    try:
        pid = os.fork()
    except OSError:  # no process or memory is available now
        return None
    if pid == 0:
        ours.close()
        ZygoteProcess(its, _passed(config)).run()
        sys.exit()
    its.close()
    return Zygote(ForkedProcess(pid, os.pidfd_open(pid), _exit_code), ours, imported)


def _exit_code(pid: int) -> int | None:
    with suppress(ChildProcessError):  # as process 1 the supervisor may have reaped it already
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None


def _passed(config: Config) -> list[int]:
    """Return the descriptors of sockets that were passed to the launch: the zygote must not keep them open."""
    found = {one.descriptor for one in (*config.passed.public, *config.passed.private)}
    given = found | ({config.fd} if config.fd is not None else set())
    return sorted(descriptor for descriptor in given if descriptor > STDERR)

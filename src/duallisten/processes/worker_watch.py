"""Kills workers that hang, and logs the reason in one line.

- A worker that does not answer a ping for `--timeout-worker-healthcheck` runs no thread at all. With 0 it is kept.
- A worker whose event loop has been blocked for `--timeout-worker-stall` answers no request. It is first asked for its
  stacks (SIGUSR2, `process_signals`), and has `DUMP_TIME` to write them. If its loop runs again by then, it is kept:
  all processes of the container may have been paused for a while.
- A worker with a debugger may have stopped at a breakpoint, and is kept. If it does not answer, one line says so.
- A worker that is ending has the time of `exit_watch`. A thread or an `atexit` function that does not end may keep it.
  If the whole launch ends, it has less time to exit, because the launch waits for it.

Invariants:
    - An ending worker whose event loop is blocked is not killed before its time is over.
"""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING

from duallisten.processes.exit_watch import DEFAULT_GRACE, EXIT_PATIENCE, end_patience

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.processes.worker_handle import Worker

logger = logging.getLogger("uvicorn.error")

DUMP_TIME = 1.0
"""Seconds that a worker has to write its stacks."""


class WorkerWatch:
    """Checks workers, and kills those that hang."""

    def __init__(self) -> None:
        self._dumping: dict[Worker, float] = {}
        self._kept: set[Worker] = set()

    def check(self, worker: Worker, config: Config) -> bool:
        """Check a worker; return False if it was killed."""
        if worker.killed:
            return False
        if worker.stopping or worker.ending:
            self._dumping.pop(worker, None)
            self._kept.discard(worker)
            return self.check_end(worker, config)
        timeout = config.timeout_worker_healthcheck
        is_silent = timeout > 0 and worker.is_silent(timeout)
        if worker.debugged:
            self._keep(worker, is_silent=is_silent)
        elif is_silent:
            logger.error("Worker [%d] does not answer, killing it", worker.pid)
            worker.kill()
        elif config.options.timeout_worker_stall:
            self._check_stall(worker, config.options.timeout_worker_stall)
        return not worker.killed

    def _keep(self, worker: Worker, *, is_silent: bool) -> None:
        """Log that a worker does not answer and why it is kept, once until it answers again."""
        if not is_silent:
            self._kept.discard(worker)
        elif worker not in self._kept:
            self._kept.add(worker)
            logger.warning("Worker [%d] does not answer; it is kept because a debugger is attached to it", worker.pid)

    def _check_stall(self, worker: Worker, timeout: float) -> None:
        dumped_at = self._dumping.get(worker)
        if worker.blocked_for <= timeout:
            if self._dumping.pop(worker, None) is not None:
                logger.info("The event loop of worker [%d] runs again; the worker is kept", worker.pid)
        elif dumped_at is None:
            self._dumping[worker] = time.monotonic()
            logger.error(
                "The event loop of worker [%d] has been blocked for %.0f s (--timeout-worker-stall); "
                "its threads' stacks follow, then it is killed",
                worker.pid,
                worker.blocked_for,
            )
            worker.signal(signal.SIGUSR2)
        elif time.monotonic() - dumped_at >= DUMP_TIME:
            logger.error("Worker [%d] is still blocked, killing it", worker.pid)
            del self._dumping[worker]
            worker.kill()

    def check_end(self, worker: Worker, config: Config, *, hurried: bool = False) -> bool:
        """Check a worker that is ending; return False if it was killed.

        hurried: whether the whole launch ends
        """
        if worker.waits_for:
            logger.info("Worker [%d] no longer accepts; its shutdown waits for %s", worker.pid, worker.waits_for)
            worker.waits_for = ""
        cannot_exit = worker.exits_for > (EXIT_PATIENCE if hurried else DEFAULT_GRACE)
        if (cannot_exit or worker.ends_for > end_patience(config)) and not worker.killed:
            what = "has shut down but has not exited" if worker.exits_for else "has not ended"
            logger.error("Worker [%d] %s after %.0f s, killing it", worker.pid, what, worker.ends_for)
            worker.kill()
        return not worker.killed

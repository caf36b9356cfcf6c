"""Ensures that a process exits after its server has ended.

`asyncio.run` waits for the threads of the default executor. Then Python waits for the application's non-daemon threads,
and for the functions that were registered with `atexit`. One of them that never ends would keep the process for ever,
and no log line would say why. uvicorn does not wait at all when a signal has ended it: it dies of that signal, and no
`atexit` function runs.

The watch is a daemon thread, because Python ends daemon threads last.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from duallisten.errors import ShutdownError
from duallisten.observability import Phase

if TYPE_CHECKING:
    from duallisten.config import Config

logger = logging.getLogger("uvicorn.error")

EXIT_PATIENCE = 5.0
"""Seconds that a process has to exit after its server has ended, when it was told to end."""

END_MARGIN = 10.0
"""Seconds that a worker has to end, in addition to `--timeout-graceful-shutdown`."""

DEFAULT_GRACE = 30.0
"""Seconds that a worker has to exit after its server has ended, while the launch goes on."""


def end_patience(config: Config) -> float:
    """Return the seconds that a worker has to end; infinite if its graceful shutdown has no limit."""
    return config.graceful_seconds + END_MARGIN


class ExitWatch:
    """Ends this process `EXIT_PATIENCE` seconds after `start`, unless it has ended or `cancel` was called before.

    code: the exit code that it uses
    """

    def __init__(self, code: int = ShutdownError.exit_code) -> None:
        self._code = code
        self._cancelled = threading.Event()

    def start(self) -> None:
        """Begin to wait."""
        threading.Thread(target=self._watch, name="duallisten-exit", daemon=True).start()

    def hear(self, phase: Phase) -> None:
        """Begin to wait if the server has ended."""
        if phase is Phase.STOPPED:
            self.start()

    def cancel(self) -> None:
        """Do not end the process any more."""
        self._cancelled.set()

    def _watch(self) -> None:
        if self._cancelled.wait(EXIT_PATIENCE):
            return
        names = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        reason = f"threads that do not end: {', '.join(names)}" if names else "an atexit function that does not end"
        logger.error("Process [%d] cannot exit: the application has %s; ending it", os.getpid(), reason)
        os._exit(self._code)

"""An exit that cannot hang: the end of a process whose server has ended.

Python waits at the end of a process for threads of the application that are no daemons, and for functions that were
registered with `atexit`; `asyncio.run` waits for the threads of the default executor before. One that never ends would
keep the process for ever, with nobody to tell why. uvicorn does not wait at all where a signal ended it: it dies of
that signal, and no function of `atexit` runs.

A thread that is a daemon looks on, for Python ends such threads last of all.
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
"""Seconds that a process has to exit when its server has ended and it was told to end."""

END_MARGIN = 10.0
"""Seconds that a worker has to end, beside those of `--timeout-graceful-shutdown`."""

DEFAULT_GRACE = 30.0
"""Seconds that a worker has to exit for which nobody waits."""


def end_patience(config: Config) -> float:
    """Return the seconds that a worker has to end; without a limit if there is none for its connections."""
    return config.graceful_seconds + END_MARGIN


class ExitWatch:
    """Ends this process if it has not ended, or `cancel` was not called, `EXIT_PATIENCE` seconds after `start`.

    code: the exit code that it ends with then
    """

    def __init__(self, code: int = ShutdownError.exit_code) -> None:
        self._code = code
        self._cancelled = threading.Event()

    def start(self) -> None:
        """Begin to wait."""
        threading.Thread(target=self._watch, name="duallisten-exit", daemon=True).start()

    def hear(self, phase: Phase) -> None:
        """Begin to wait when a server has ended."""
        if phase is Phase.STOPPED:
            self.start()

    def cancel(self) -> None:
        """End nothing."""
        self._cancelled.set()

    def _watch(self) -> None:
        if self._cancelled.wait(EXIT_PATIENCE):
            return
        names = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        reason = f"threads that do not end: {', '.join(names)}" if names else "a function of atexit that does not end"
        logger.error("The application keeps process [%d] from ending by %s; ending it", os.getpid(), reason)
        os._exit(self._code)

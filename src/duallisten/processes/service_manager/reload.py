"""uvicorn's reloader, which tells systemd the state of the process under it.

systemd accepts messages only from the reloader. So the process sends its messages over a pipe, and a thread of the
reloader passes them on, except that the process is stopping: the reloader starts the next one. The reloader itself
feeds the watchdog, because systemd should not kill it for code that a developer has broken.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from duallisten.config.uvicorn_contract import change_reloader
from duallisten.processes.service_manager import Notifier, tell_phases
from duallisten.processes.worker_main import ReloadedProcess

if TYPE_CHECKING:
    from duallisten.config.uvicorn_contract import BaseReload
    from duallisten.server import Server


@dataclass(frozen=True)
class NotifyingProcess(ReloadedProcess):
    """The target of the process under the reloader, which sends its messages for systemd to the reloader.

    pipe: the pipe to the reloader
    """

    pipe: Connection

    def make_server(self, sockets: list[socket.socket] | None) -> Server:
        """Build the server."""
        server = super().make_server(sockets)
        tell_phases(server, Notifier(self._tell))
        return server

    def _tell(self, message: str) -> None:
        with suppress(OSError):
            self.pipe.send(message)


def notifying_process(process: ReloadedProcess, notifier: Notifier) -> NotifyingProcess:
    """Return a target for the reloader; a thread of this process passes its messages on to `notifier`."""
    hearing, telling = Pipe(duplex=False)
    threading.Thread(target=_relay, args=(hearing, notifier), name="duallisten-notify", daemon=True).start()
    return NotifyingProcess(process.config, process.plan, process.sides, telling)


def _relay(pipe: Connection, notifier: Notifier) -> None:
    while True:
        if pipe.poll(notifier.interval):
            message: str = pipe.recv()
            if not message.startswith("STOPPING=1"):
                notifier.tell(message)
        notifier.feed(lambda: True)


def notifying_reloader(notifier: Notifier) -> type[BaseReload]:
    """Return a subclass of uvicorn's reloader that notifies before it shuts down."""

    class Reloader(change_reloader()):  # type: ignore[misc]  # uvicorn's is imported where it is used
        def shutdown(self) -> None:
            notifier.stopping()
            super().shutdown()

    return Reloader

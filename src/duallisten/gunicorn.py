"""A worker for gunicorn that serves both sides: `gunicorn -k duallisten.gunicorn.Worker app:app`.

gunicorn opens the public sockets and manages the processes. Each worker opens its own private listener, and all share
one private port (`listeners.shared_port`). duallisten's own options come from `DUALLISTEN_*` and the configuration
file, as with its command line. Addresses, TLS, keep-alive and logging are gunicorn's.

It relies on these facts (gunicorn 23 to 27): `Worker.init_process` imports the application, and calls `run` last. A
worker that exits with `WORKER_BOOT_ERROR` stops gunicorn instead of being replaced for ever. gunicorn kills a worker
that does not call `notify`.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as BaseWorker

from duallisten.config import Config, all_options, collect, own_options, uvicorn_twins
from duallisten.config.uvicorn_contract import run_server
from duallisten.errors import DuallistenError, UsageError
from duallisten.server import Server


class Worker(BaseWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves in one of gunicorn's processes.

    Attributes:
        OPTIONS: Options of `duallisten.Config`, for a subclass to set; they override the environment.
    """

    OPTIONS: dict[str, Any] = {}  # noqa: RUF012

    def init_signals(self) -> None:
        """Reset all signals for the server's own handlers, except SIGUSR1, which reopens gunicorn's logs."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.siginterrupt(signal.SIGUSR1, False)

    def run(self) -> None:
        """Serve until told to stop."""
        self._use_gunicorn_s_logs()
        server = None
        try:
            server = Server(Config(self.wsgi, **self._options()))
            self._stop_at_once(server)
            run_server(server, [getattr(one, "sock", one) for one in self.sockets])
        except DuallistenError as error:
            self.log.error(str(error))
        if server is None or not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _stop_at_once(self, server: Server) -> None:
        """Let SIGQUIT, gunicorn's signal for a quick shutdown, stop the server without waiting for connections."""

        def stop(number: int, frame: FrameType | None) -> None:
            server.should_exit = server.force_exit = True

        signal.signal(signal.SIGQUIT, stop)

    def _use_gunicorn_s_logs(self) -> None:
        for name, log in (("uvicorn.error", self.log.error_log), ("uvicorn.access", self.log.access_log)):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = log.handlers, False
            logger.setLevel(log.level)

    def _options(self) -> dict[str, Any]:
        """Return the options from gunicorn, the environment and the file, as keywords of `Config`."""
        ours = {option.name for option in own_options()} | uvicorn_twins().keys()
        said = collect(all_options(), {}, Path()).values
        options = {name: value for name, value in said.items() if name in ours} | self.OPTIONS
        for name in ("private_workers", "preload", "control"):
            if options.get(name):
                raise UsageError(f"{name.replace('_', '-')} is for duallisten's own workers, not for gunicorn's")
        cfg = self.cfg
        trusted = cfg.settings["forwarded_allow_ips"]
        if trusted.get() != trusted.default:
            options.setdefault("forwarded_allow_ips", trusted.get())
        if cfg.is_ssl:
            names = ("keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "ciphers")
            given = {f"ssl_{name.removeprefix('ssl_')}": cfg.ssl_options.get(name) for name in names}
            options |= {name: value for name, value in given.items() if value is not None}
        return {
            "log_config": None,
            "workers": 1,
            "backlog": cfg.backlog,
            "timeout_keep_alive": cfg.keepalive,
            "timeout_graceful_shutdown": cfg.graceful_timeout,
            "timeout_notify": self.timeout,
            "callback_notify": self._tell_gunicorn,
            "limit_max_requests": self.max_requests,
            **options,
        }

    async def _tell_gunicorn(self) -> None:
        self.notify()

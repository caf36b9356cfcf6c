"""The platform's router: an nginx with connections that it keeps to its upstream, and no second try."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netns.topology import Namespace
from tests.support.running import DEADLINE, eventually

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream app {{
    server {upstream};
    keepalive 16;
    keepalive_timeout 60s;
  }}
  server {{
    listen 127.0.0.1:8080;
    keepalive_requests 100000;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""

ADDRESS = "127.0.0.1:8080"


class Nginx:
    """A running one.

    folder: what it writes into
    """

    def __init__(self, where: Namespace, folder: Path, upstream: str) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o777)  # its workers are not root
        self._configure(upstream)
        command = where.inside("nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(self._file))
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(lambda: len(self.workers) == 1), "nginx did not start"

    @property
    def _file(self) -> Path:
        return self.folder / "nginx.conf"

    def _configure(self, upstream: str) -> None:
        self._file.write_text(CONFIGURATION.format(folder=self.folder, upstream=upstream))

    @property
    def workers(self) -> set[int]:
        """Its worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in children.read_text().split()}

    def lead_to(self, upstream: str) -> None:
        """Send every request from now on to `upstream`; what is under way is finished where it is."""
        before = self.workers
        self._configure(upstream)
        self.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: bool(self.workers - before)), "nginx did not take its new configuration"
        log = self.folder / "error.log"
        assert eventually(lambda: all(f"{pid}#{pid}: gracefully shutting down" in log.read_text() for pid in before))

    def stop(self) -> None:
        """End it."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(DEADLINE)


@contextmanager
def nginx(where: Namespace, folder: Path, upstream: str) -> Iterator[Nginx]:
    """Run one in a namespace."""
    running = Nginx(where, folder, upstream)
    try:
        yield running
    finally:
        running.stop()


def is_missing() -> bool:
    """Whether there is no nginx here."""
    return shutil.which("nginx") is None

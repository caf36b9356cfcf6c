"""The platform's router: an nginx with connections that it keeps to its upstream, and no second try."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.netns.topology import Namespace
from tests.support.running import Launched

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
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
STARTED = r"start worker process (\d+)"


class Nginx(Launched):
    """A running one.

    folder: what it writes into
    """

    def __init__(self, where: Namespace, folder: Path, upstream: str) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o777)  # its workers are not root
        self._file = folder / "nginx.conf"
        self._configure(upstream)
        super().__init__(where.inside("nginx", "-p", str(folder), "-e", "stderr", "-c", str(self._file)))
        self.wait_for(STARTED)

    def _configure(self, upstream: str) -> None:
        self._file.write_text(CONFIGURATION.format(folder=self.folder, upstream=upstream))

    def lead_to(self, upstream: str) -> None:
        """Send every request from now on to `upstream`; return when what was under way is finished where it was.

        A worker that ends still hands on, to where it always did, what a client sends on a connection that it has.
        """
        before = len(self.lines)
        old = [match[1] for line in self.lines if (match := re.search(STARTED, line))]
        self._configure(upstream)
        self.send(signal.SIGHUP)
        self.wait_for(STARTED, start=before)
        self.wait_for(f"worker process {old[-1]} exited with code 0", start=before)

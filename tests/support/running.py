"""Real servers for tests: in a thread of this process, or as the command line in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import IO, Any

from duallisten import Config
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.net import TCPAddress
from duallisten.testing import ThreadedServer

DEADLINE = 30.0
"""Seconds after which something that should have happened has not."""

DUALLISTEN = (sys.executable, "-m", "duallisten")
"""The command line, in this environment."""


class ObservedServer(ThreadedServer):
    """A server in a thread, which a test may stop by itself."""

    def finish(self, timeout: float = DEADLINE) -> None:
        super().finish(timeout)


def local_config(app: Any, **options: Any) -> Config:
    """Make a configuration with free loopback ports."""
    given: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "private_port": 0, "log_config": None} | options
    return Config(app, **given)


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[ObservedServer]:
    """Serve `app` on free loopback ports in a thread, and stop when the block ends."""
    with running(ObservedServer(local_config(app, **options))) as server:
        yield server


@contextmanager
def running(server: ObservedServer) -> Iterator[ObservedServer]:
    """Run a server, and stop it when the block ends."""
    server.thread.start()
    try:
        assert server.ready.wait(DEADLINE), "the server did not start"
        if server.error is not None:
            raise server.error
        yield server
    finally:
        server.finish()


@contextmanager
def sharing(app: Any, **options: Any) -> Iterator[ObservedServer]:
    """Serve `app` on one port for both sides, which the kernel chooses.

    127.0.0.2 stands for the private address, and 127.0.0.3 for the one neighbour that is admitted.
    """
    server = ObservedServer(Config(app, log_config=None, **options))
    server.listeners.plan = Plan(
        Listener("public", (TCPAddress("0.0.0.0", 0),)),
        Listener("private", (TCPAddress("127.0.0.2", 0),)),
        Admission((ip_network("127.0.0.2/32"),), ip_address("127.0.0.2"), (ip_network("127.0.0.3/32"),)),
        shared=True,
    )
    with running(server):
        yield server


@dataclass
class Launched:
    """The command line in a process of its own.

    lines: what it has written so far, standard output and standard error in one
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls, command: Sequence[str], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Launched:
        """Start `command` with no more environment than `environ`."""
        return cls(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cwd,
                env=free_environment(environ),
            )
        )

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream: IO[str] | None = self.process.stdout
        assert stream is not None
        for line in stream:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, count: int = 1, start: int = 0, within: float = DEADLINE) -> re.Match[str]:
        """Wait `within` seconds for the `count`th line that matches `pattern`, looking from line `start` on."""

        def found() -> list[re.Match[str]]:
            matches = (re.search(pattern, line) for line in self.lines[start:])
            return [match for match in matches if match]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self._ended, within)
            matches = found()
        assert len(matches) >= count, f"no line {count} with {pattern!r} in:\n{self.output}"
        return matches[count - 1]

    def url(self, side: str) -> str:
        """Where the log says that a side is served."""
        return self.wait_for(rf"Serving the {side} side on (https?://\S+)")[1]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def stop(self) -> None:
        """End it for good, whatever state it is in; a test that fails leaves nothing behind."""
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)
        finally:
            assert self.process.stdout is not None
            if not self._reader.is_alive():  # else something that it has started holds the other end, and closing waits
                self.process.stdout.close()


def eventually(true: Callable[[], bool]) -> bool:
    """Look until `true()` is, and give up at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment that says nothing to duallisten but `environ`."""
    kept = ("PATH", "HOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "VIRTUAL_ENV", "LANG")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return inherited | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | dict(environ or {})


@contextmanager
def launched(
    *arguments: str,
    command: Sequence[str] = DUALLISTEN,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Launched]:
    """Run `duallisten`, or what stands for it, and end it when the block ends."""
    running = Launched.start([*command, *arguments], cwd=cwd, environ=environ)
    try:
        yield running
    finally:
        running.stop()


FREE = ("--port", "0", "--private-port", "0")
"""Arguments for ports that the kernel chooses."""


def run(
    *arguments: str,
    command: Sequence[str] = DUALLISTEN,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `duallisten`, or what stands for it, to its end."""
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=free_environment(environ),
        timeout=DEADLINE,
        check=False,
    )


def address(url: str) -> tuple[str, int]:
    """Give the host and the port of a URL without a path."""
    host, port = url.rpartition("/")[2].rsplit(":", 1)
    return host.strip("[]"), int(port)


def connect(url: str) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(address(url), timeout=DEADLINE)


def process_of(answer: bytes) -> int:
    """Tell which process has given an answer of the demonstration."""
    return int(json.loads(answer.partition(b"\r\n\r\n")[2])["process"])


def processes(url: str, times: int = 40) -> set[int]:
    """Ask the demonstration over new connections, and tell which processes have answered."""
    return {process_of(ask(url)) for _ in range(times)}


def ask(url: str, request: bytes | None = None) -> bytes:
    """Send one raw request over a new connection, and give all that comes back until the server closes."""
    request = request or b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer

"""Real servers for tests: in a thread of this process, or as a command in a process of its own."""

from __future__ import annotations

import errno
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
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import IO, Any, Self

import psutil

from duallisten import Config
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.net import TCPAddress
from duallisten.testing import ThreadedServer

DEADLINE = 30.0
"""Seconds after which something that should have happened has not."""

DUALLISTEN = (sys.executable, "-m", "duallisten")
"""The command line, in this environment."""

PYTHON = (sys.executable,)

ROOT = Path(__file__).parents[2]
"""The folder of the repository."""


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
        Admission((ip_network("127.0.0.2/32"),), (ip_address("127.0.0.2"),), (ip_network("127.0.0.3/32"),)),
        shared=True,
    )
    with running(server):
        yield server


def workers_of(supervisor: psutil.Process) -> list[psutil.Process]:
    """The workers of a supervisor: spawned, or forked by its zygote or by a fork server; a reloader's process, too."""
    found, line = [], supervisor.cmdline()
    for child in supervisor.children():
        with suppress(psutil.Error):  # it has ended in between
            is_spawned = "spawn_main" in " ".join(child.cmdline())
            if is_spawned and "--preload" not in line:
                found.append(child)
            elif is_spawned or child.cmdline() == line:
                found.extend(child.children())
    return found


class Launched:
    """A command in a process of its own, which has ended when the block ends.

    lines: what it has written so far, standard output and standard error in one
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.STDOUT,
        pass_fds: Sequence[int] = (),
        group: bool = False,
    ) -> None:
        """Start `command` with no more environment than `environ`.

        stdout: a descriptor that standard output goes to; `lines` are then those of standard error, if that is a pipe
        group: signals go to all processes that it starts, too
        """
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            text=True,
            cwd=cwd,
            env=free_environment(environ),
            pass_fds=pass_fds,
            start_new_session=group,
        )
        self._group = group
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    @property
    def _stream(self) -> IO[str] | None:
        """What `lines` are read from."""
        return self.process.stdout or self.process.stderr

    def _read(self) -> None:
        for line in self._stream or ():
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, count: int = 1, start: int = 0, within: float = DEADLINE) -> re.Match[str]:
        """Wait `within` seconds for the `count`th line that matches `pattern`, looking from line `start` on."""
        matches: list[re.Match[str]] = []

        def found() -> bool:
            nonlocal start
            matches.extend(match for line in self.lines[start:] if (match := re.search(pattern, line)))
            start = len(self.lines)
            return len(matches) >= count

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, within)
        assert len(matches) >= count, f"no line {count} with {pattern!r} in:\n{self.output}"
        return matches[count - 1]

    def url(self, side: str) -> str:
        """Where the log says that a side is served."""
        return self.wait_for(rf"Serving the {side} side on (https?://\S+)")[1]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes below it that serve."""
        return workers_of(psutil.Process(self.process.pid))

    def say(self, line: str = "") -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def send(self, number: int) -> None:
        if self._group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, and give its exit code."""
        if self.process.poll() is None:
            self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself, and give its exit code."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def stop(self) -> None:
        """End it for good, whatever state it is in; a test that fails leaves nothing behind."""
        assert self.process.stdin is not None
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)
        finally:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            if self._stream and not self._reader.is_alive():  # else closing waits for what it started and left behind
                self._stream.close()


def eventually(true: Callable[[], bool]) -> bool:
    """Look until `true()` is, and give up at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment that says nothing to duallisten but `environ`, and in which `tests` can be imported."""
    kept = ("PATH", "HOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "VIRTUAL_ENV", "LANG")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    ours = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    return inherited | ours | dict(environ or {})


def launched(
    *arguments: str,
    command: Sequence[str] = DUALLISTEN,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Launched:
    """Start `duallisten`, or what stands for it."""
    return Launched([*command, *arguments], cwd=cwd, environ=environ)


def hurried(module: str, **constants: float) -> list[str]:
    """The command line, with other seconds in a module of duallisten, for it and for what it forks."""
    lines = [
        f"import duallisten.{module} as module",
        *(f"module.{name} = {value}" for name, value in constants.items()),
    ]
    return [sys.executable, "-c", "; ".join([*lines, "from duallisten.__main__ import main", "main()"])]


FREE = ("--port", "0", "--private-port", "0")
"""Arguments for ports that the kernel chooses."""


def run(
    *arguments: str,
    command: Sequence[str] = DUALLISTEN,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `duallisten`, or what stands for it, to its end, with `text` for its standard input."""
    return subprocess.run(
        [*command, *arguments],
        input=text,
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


def is_refused(url: str) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(address(url)) == errno.ECONNREFUSED


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

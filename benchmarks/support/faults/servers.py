"""What the comparison of faults stands on: servers that may break, each in its own folder, and clients that see it.

Each server is started by its own command line (`contenders`) in a session of its own, so that whatever is left of it,
orphans included, can be ended by the benchmark and by nothing else. What it writes goes to one file, standard output
and standard error alike, unless a fault is about that. What is seen is what clients and the kernel see, never what a
server says of itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from support import contenders
from support.contenders import Contender
from support.measuring import HERE, PATIENCE, SCRIPTS, environment, family

Make = Callable[..., Contender]

SERVERS: Mapping[str, Make] = {
    "duallisten": partial(contenders.duallisten, name="duallisten"),
    "uvicorn": contenders.uvicorn,
    "gunicorn, uvicorn worker": contenders.gunicorn_uvicorn,
    "hypercorn": contenders.hypercorn,
    "granian": contenders.granian,
}

APP = "apps.broken:app"
WORKERS = ("--workers", "2")
"""What all of them call it."""

CLIENTS = 8
TIMEOUT = 5.0
"""Seconds after which a client gives up."""

INTERVAL = 0.02
"""Seconds between two looks at something that is awaited."""


def flags_of(make: Make, by_server: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Give the flags that one server has for something that each calls by another name; None where it has none."""
    return by_server.get(next(name for name, known in SERVERS.items() if known is make))


class Seen(NamedTuple):
    """What one server did: in a few words, and whether it is what one would wish."""

    fact: str
    good: bool


class Launch(NamedTuple):
    """How a server is run where a fault asks for more than its command line.

    fault: what breaks in the application
    log: whether there is an access log
    output: the descriptor of a pipe that its output goes to, instead of to the file
    shell: how a shell runs it, where that sets a limit or closes a descriptor
    variables: what its environment has beside what every server has
    answers: whether it is awaited until it answers on all its ports
    """

    fault: str = ""
    log: bool = False
    output: int | None = None
    shell: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    answers: bool = True


@dataclass
class Running:
    """A server that runs.

    ports: of its listeners; duallisten's are the public and the private one
    folder: where the application and the server write to
    """

    process: subprocess.Popen[bytes]
    ports: tuple[int, ...]
    folder: Path

    @property
    def port(self) -> int:
        """The port of the world."""
        return self.ports[0]

    @property
    def output(self) -> str:
        """What it has written so far."""
        return (self.folder / "output").read_text(errors="replace")

    def family(self) -> list[int]:
        """Give its processes, without those that end meanwhile."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return list(family(self.process.pid))
        return []

    def starts(self) -> list[int]:
        """Give the process ids of all starts of the application so far, in order."""
        with suppress(FileNotFoundError):
            return [int(line) for line in (self.folder / "started").read_text().split()]
        return []

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""
        self.process.send_signal(number)

    def end(self, within: float = PATIENCE) -> tuple[str, float]:
        """Tell it to end: with what code it did, and after how many seconds."""
        begin = time.monotonic()
        self.signal(signal.SIGTERM)
        return self.exit_code(within), time.monotonic() - begin

    def exit_code(self, within: float) -> str:
        """Await its end."""
        try:
            return told_code(self.process.wait(within))
        except subprocess.TimeoutExpired:
            return f"not ended after {within:.0f} s"


def told_code(code: int) -> str:
    """Say how a process ended."""
    return f"exit {code}" if code >= 0 else f"{signal.Signals(-code).name}"


@contextmanager
def running(make: Make, *flags: str, how: Launch | None = None) -> Iterator[Running]:
    """Run a server, and end all that is left of it."""
    how = how or Launch()
    contender = make(APP, *flags, log=how.log)
    (command,) = contender.commands
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = (("FOLDER", name), ("FAULT", how.fault), ("PYTHONUNBUFFERED", "1"), *how.variables)
        with (folder / "output").open("wb") as output:
            where = output if how.output is None else how.output
            shell = ("sh", "-c", how.shell, "sh") if how.shell else ()
            process = subprocess.Popen(
                [*shell, str(SCRIPTS / command.arguments[0]), *command.arguments[1:]],
                cwd=HERE,
                env=environment(variables),
                start_new_session=True,
                stdout=where,
                stderr=where,
            )
        server = Running(process, command.ports, folder)
        try:
            if how.answers:
                _await_answers(server, 2 if WORKERS[0] in flags else 1)
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its session is its own: what is left of it, and nobody else
            process.wait()


def _await_answers(server: Running, workers: int) -> None:
    def all_answer() -> bool:
        return len(server.starts()) >= workers and all(ask(port) is not None for port in server.ports)

    if not eventually(all_answer):
        raise RuntimeError(f"{server.process.args!r} does not answer; it said:\n{server.output}")


def eventually(true: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Look until `true()` is, for so many seconds."""
    return seconds_until(true, within) is not None


def seconds_until(true: Callable[[], bool], within: float = PATIENCE) -> float | None:
    """Tell after how many seconds `true()` is; None where it is not for so long."""
    begin = time.monotonic()
    while not true():
        if time.monotonic() - begin > within:
            return None
        time.sleep(INTERVAL)
    return time.monotonic() - begin


# --- Clients ---


def connect(port: int, timeout: float = TIMEOUT) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def request(path: str = "/", more: bytes = b"") -> bytes:
    """Give a request for a path, with header lines."""
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path.encode(), more)


CLOSING = b"Connection: close\r\n"


def ask(port: int, path: str = "/", timeout: float = TIMEOUT) -> bytes | None:
    """Ask over a new connection; the whole answer, or None where there is none, or not all of it."""
    try:
        answer = exchange(port, request(path, CLOSING), timeout)
    except OSError:
        return None
    head, end, body = answer.partition(b"\r\n\r\n")
    return answer if head.startswith(b"HTTP/1.1 200") and end and body.endswith(b"\n") else None


def exchange(port: int, data: bytes, timeout: float = TIMEOUT) -> bytes:
    """Send something over a new connection, and give all that comes back until the server closes it."""
    with connect(port, timeout) as client:
        client.sendall(data)
        answer = b""
        while more := client.recv(1 << 16):
            answer += more
        return answer


def process_of(answer: bytes) -> int:
    return int(answer.rpartition(b"\r\n\r\n")[2])


@dataclass
class Load:
    """Clients that ask one after another, each over a new connection, from entering the block to leaving it.

    answers, failures: how many there were
    slowest: seconds of the slowest answer
    """

    port: int
    path: str = "/work"
    clients: int = CLIENTS
    answers: int = 0
    failures: int = 0
    slowest: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ended.is_set():
            begin = time.monotonic()
            answered = ask(self.port, self.path) is not None
            took = time.monotonic() - begin
            with self._lock:
                self.answers += answered
                self.failures += not answered
                self.slowest = max(self.slowest, took) if answered else self.slowest
            if not answered:
                self._ended.wait(INTERVAL)  # who is refused does not ask on at once

    @property
    def told(self) -> str:
        """What came of it."""
        return f"{self.failures} of {self.failures + self.answers} failed"

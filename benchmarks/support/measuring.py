"""What the benchmarks measure with: servers, each on its core, load on them, and the CPU time that they use up.

CPU of a request: the CPU time of a server over a load, from /proc/<pid>/stat (utime + stime of the process and its
children, proc(5)), divided by the requests that `wrk` completed: a cost, not a throughput. Servers that are to be
compared share one core, and a `wrk` for each shares another, at the same time: the kernel gives the core to one and
the other in turns of milliseconds, so whatever disturbs the machine disturbs both. Time in which a server waits for
the core is not counted.

Each server is a new process with a clean environment, so that no variable of the shell changes what is measured, and
an answer that is none spoils the measurement: it is not counted, the benchmark stops.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

HERE = Path(__file__).parents[1]
"""The folder of the commands, in which servers run: they import `apps` from it."""
SCRIPTS = Path(sys.executable).parent

CONNECTIONS = 32
WARM_UP_SECONDS = 1
POLL_INTERVAL = 0.001
CONNECT_TIMEOUT = 0.01
"""Seconds that a probe waits for its connection. On loopback one is made or refused at once, save in the instant in
which duallisten tries its addresses (`listeners.sockets`): there a SYN is dropped, which TCP sends again only a second
later. The probe does not wait for that second, it asks anew."""
PATIENCE = 20.0
"""Seconds after which a server that has not answered, or has not ended, is given up."""

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Cores(NamedTuple):
    """The cores that the servers have, and those that ask them; where costs are measured, one each."""

    servers: frozenset[int]
    clients: frozenset[int]

    @property
    def shared(self) -> Cores:
        """The same cores, all of them for both."""
        both = self.servers | self.clients
        return Cores(both, both)


class Command(NamedTuple):
    """A server to run: its command line, the ports of its listeners on 127.0.0.1, and what to load.

    loaded: the port of the listener that is loaded
    path: what is asked of it
    variables: what it has in its environment beside what every server has
    """

    arguments: tuple[str, ...]
    ports: tuple[int, ...]
    loaded: int
    path: str = "/"
    variables: tuple[tuple[str, str], ...] = ()


def duallisten(ports: Sequence[int], *flags: str, side: str = "public", path: str = "/") -> Command:
    """Give duallisten with the application that costs next to nothing.

    ports: the public listener's and the private one's
    side: which listener is loaded
    """
    public, private = ports
    arguments = ("duallisten", "apps.hello:app", *flags, "--port", str(public), "--private-port", str(private))
    return Command(arguments, (public, private), loaded=private if side == "private" else public, path=path)


def check_machine(*programs: str) -> Cores:
    """See that all is there that the measurement needs, and choose the cores.

    programs: the commands of Python packages that are needed beside uvicorn and duallisten
    """
    if sys.platform != "linux":
        stop("it reads /proc and keeps processes on one core each: it needs Linux")
    if shutil.which("wrk") is None:
        stop("wrk is not installed; it makes the load (Debian: apt install wrk; source: https://github.com/wg/wrk)")
    for name in ("uvicorn", "duallisten", *programs):
        if not (SCRIPTS / name).is_file():
            stop(f"there is no command {name} beside this Python; benchmarks/README.md tells what to install")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        stop("it needs two cores: one for the servers, one for the load")
    return Cores(servers=frozenset(cores[:1]), clients=frozenset(cores[1:2]))


def stop(message: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this process, and those that it makes meanwhile, on some cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# --- CPU of a request ---


def measure_cpu(commands: Sequence[Command], cores: Cores, seconds: int) -> tuple[float, ...]:
    """Run and load servers at the same time; microseconds of CPU per request of each."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command, cores)) for command in commands]
        load(commands, cores, WARM_UP_SECONDS)
        before = [cpu_seconds(process.pid) for process in processes]
        requests = load(commands, cores, seconds)
        after = [cpu_seconds(process.pid) for process in processes]
    return tuple((end - begin) / done * 1e6 for begin, end, done in zip(before, after, requests, strict=True))


def load(commands: Sequence[Command], cores: Cores, seconds: int) -> list[int]:
    """Load listeners over keep-alive connections, all at the same time; the requests that each answered."""
    arguments = ("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s")
    urls = [f"http://127.0.0.1:{command.loaded}{command.path}" for command in commands]
    with pinned(cores.clients):
        loads = [subprocess.Popen((*arguments, url), stdout=subprocess.PIPE, text=True) for url in urls]
    return [requests_in(told) for told in [one.communicate()[0] for one in loads]]


def requests_in(told: str) -> int:
    """Read in wrk's report how many requests it completed; one that failed spoils the measurement."""
    completed = re.search(r"(\d+) requests in", told)
    if completed is None or completed[1] == "0" or re.search("Socket errors|Non-2xx", told):
        stop(f"wrk got something else than answers:\n{told}")
    return int(completed[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants so far, in seconds."""
    ticks = 0
    for process in family(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Memory of a process and all its descendants, in MiB: what they share is divided among them (PSS, proc(5))."""
    total = 0.0
    for process in family(pid):
        with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
            total += memory_of(process)[0]
    return total


def memory_of(pid: int) -> tuple[float, float]:
    """Memory of one process, in MiB: its part of what it shares included (PSS), and what is its own alone."""
    values = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    return int(values["Pss"]) / 1024, (int(values["Private_Clean"]) + int(values["Private_Dirty"])) / 1024


def family(pid: int) -> Iterator[int]:
    """Give a process and all its descendants."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


# --- Servers ---


def free_ports(count: int) -> list[int]:
    """Let the kernel choose ports that differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(command: Command, cores: Cores) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on its core, its access log going nowhere, from when all its listeners answer."""
    arguments = [str(SCRIPTS / command.arguments[0]), *command.arguments[1:]]
    with tempfile.TemporaryFile() as errors:
        with pinned(cores.servers):
            process = subprocess.Popen(
                arguments,
                cwd=HERE,
                env=environment(command.variables),
                stdout=subprocess.DEVNULL,
                stderr=errors.fileno(),
            )
        try:
            with pinned(cores.clients):
                if not all_answer(process, command.ports):
                    errors.seek(0)
                    stop(f"{' '.join(command.arguments)} does not answer; it said:\n{errors.read().decode()}")
            yield process
        finally:
            end(process)


def environment(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The environment of a server: `variables`, and nothing else of the shell's that changes what it does."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | dict(variables)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def all_answer(process: subprocess.Popen[bytes], ports: tuple[int, ...]) -> bool:
    """Ask every port each millisecond until all have answered; False where that does not come to pass."""
    deadline = time.monotonic() + PATIENCE
    silent = ports
    while silent := tuple(port for port in silent if not answers(port)):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def answers(port: int) -> bool:
    """Send one GET; whether it is answered, with whatever status."""
    return answers_with(port, b"")


def answers_with(port: int, status: bytes, path: str = "/") -> bool:
    """Send one GET; whether it is answered with `status`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT) as client:
            client.settimeout(PATIENCE)
            client.sendall(REQUEST.replace(b"/", path.encode(), 1))
            return client.recv(4096).startswith(b"HTTP/1.1 " + status)
    except OSError:
        return False

"""What duallisten costs beside uvicorn: CPU time of a request, and time from process start to the first answer.

Both are ratios, duallisten divided by uvicorn, from one run on one machine. Every round gives one ratio, rounds swap
the order, and the median is the figure: a slow or busy machine makes both slow and leaves the ratio.

CPU of a request: two servers share one core, and a `wrk` for each shares another, at the same time. The kernel gives
the core to the one server and the other in turns of milliseconds, so whatever disturbs the machine disturbs both. The
CPU time of each over the load, from /proc/<pid>/stat (utime + stime of the process and its children, proc(5)), is
divided by the requests that its wrk completed: a cost, not a throughput. A second uvicorn beside uvicorn is measured in
the same way, as the control: as far as that ratio is from 1, the method errs.

Start: from just before the process is made until every listener has answered a GET, asked every millisecond; that is
uvicorn's one listener, and both of duallisten's. One server at a time, in turns.

Each server is a new process with a clean environment, so that no variable of the shell changes what is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple, NoReturn, TypeVar

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "launch.md"
SCRIPTS = Path(sys.executable).parent

CPU_TARGET = 1.02
START_TARGET = 1.3

CONNECTIONS = 32
WARM_UP_SECONDS = 1
STARTS_PER_ROUND = 3
WARM_UP_STARTS = 2
LEAST_STARTS = 15
POLL_INTERVAL = 0.001
CONNECT_TIMEOUT = 0.01
"""Seconds that a probe waits for its connection. On loopback one is made or refused at once, save in the instant in
which duallisten tries its addresses (`duallisten.sockets`): there a SYN is dropped, which TCP sends again only a second
later. The probe does not wait for that second, it asks anew."""
PATIENCE = 20.0
"""Seconds after which a server that has not answered, or has not ended, is given up."""

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

T = TypeVar("T")
Pair = tuple[float, float]
"""What uvicorn took, and what was compared with it, in one round."""


class Cores(NamedTuple):
    """The core that the servers have, and the one that asks them."""

    servers: int
    clients: int


class Command(NamedTuple):
    """A server to run: its command line, the ports of its listeners on 127.0.0.1, and the one of them to load."""

    arguments: tuple[str, ...]
    ports: tuple[int, ...]
    loaded: int


class Row(NamedTuple):
    """One line of the results; no target for the control."""

    name: str
    pairs: list[Pair]
    target: float | None
    unit: str

    def __str__(self) -> str:
        ratios = [other / uvicorn for uvicorn, other in self.pairs]
        cells = [self.name, *(f"{value:.3f}" for value in (median(ratios), min(ratios), max(ratios)))]
        if self.target is None:
            cells += ["", ""]
        else:
            cells += [f"{self.target:.2f}", "met" if median(ratios) <= self.target else "missed"]
        cells += [f"{median(values):.1f} {self.unit}" for values in zip(*self.pairs, strict=True)]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    options = read_options()
    cores = check_machine()
    rows = [
        *compare_cpu(cores, options.rounds, options.seconds, access_log=False),
        *compare_cpu(cores, options.rounds, options.seconds, access_log=True),
        compare_starts(cores, max(LEAST_STARTS, STARTS_PER_ROUND * options.rounds)),
    ]
    text = describe(rows, options)
    print(text, end="")
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what duallisten costs beside uvicorn.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison [default: 15]")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load per measurement [default: 3]")
    parser.add_argument("--write", action="store_true", help=f"write the results to {RESULTS.relative_to(HERE)}")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


def check_machine() -> Cores:
    """See that all is there that the measurement needs, and choose the cores."""
    if sys.platform != "linux":
        stop("it reads /proc and keeps processes on one core each: it needs Linux")
    if shutil.which("wrk") is None:
        stop("wrk is not installed; it makes the load (Debian: apt install wrk; source: https://github.com/wg/wrk)")
    for name in ("uvicorn", "duallisten"):
        if not (SCRIPTS / name).is_file():
            stop(
                f"there is no command {name} beside this Python: pip install 'uvicorn[standard]' and duallisten for it"
            )
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        stop("it needs two cores: one for the servers, one for the load")
    return Cores(servers=cores[0], clients=cores[1])


def stop(message: str) -> NoReturn:
    sys.exit(f"launch.py: {message}")


# --- CPU of a request ---


def compare_cpu(cores: Cores, rounds: int, seconds: int, *, access_log: bool) -> list[Row]:
    """Compare a second uvicorn and both of duallisten's listeners with uvicorn."""
    flags = () if access_log else ("--no-access-log",)
    log = "access log" if access_log else "no access log"
    rows = {
        "control": Row(f"CPU per request, control, {log}", [], None, "µs"),
        "public": Row(f"CPU per request, public listener, {log}", [], CPU_TARGET, "µs"),
        "private": Row(f"CPU per request, private listener, {log}", [], CPU_TARGET, "µs"),
    }
    for number in range(rounds):
        for name, row in rows.items():
            costs = measure_cpu(in_turn(servers(name, *flags), number), cores, seconds)
            row.pairs.append(in_turn(costs, number))
            tell(row, rounds)
    return list(rows.values())


def measure_cpu(commands: tuple[Command, Command], cores: Cores, seconds: int) -> Pair:
    """Run and load two servers at the same time; microseconds of CPU per request of each."""
    ports = [command.loaded for command in commands]
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command, cores)) for command in commands]
        load(ports, cores, WARM_UP_SECONDS)
        before = [cpu_seconds(process.pid) for process in processes]
        requests = load(ports, cores, seconds)
        after = [cpu_seconds(process.pid) for process in processes]
    one, other = ((end - begin) / done * 1e6 for begin, end, done in zip(before, after, requests, strict=True))
    return one, other


def load(ports: list[int], cores: Cores, seconds: int) -> list[int]:
    """Load listeners over keep-alive connections, all at the same time; the requests that each answered."""
    arguments = ("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s")
    with pinned(cores.clients):
        loads = [
            subprocess.Popen((*arguments, f"http://127.0.0.1:{port}/"), stdout=subprocess.PIPE, text=True)
            for port in ports
        ]
    return [requests_in(told) for told in [one.communicate()[0] for one in loads]]


def requests_in(told: str) -> int:
    """Read in wrk's report how many requests it completed; one that failed spoils the measurement."""
    completed = re.search(r"(\d+) requests in", told)
    if completed is None or completed[1] == "0" or re.search("Socket errors|Non-2xx", told):
        stop(f"wrk got something else than answers:\n{told}")
    return int(completed[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))


# --- Start ---


def compare_starts(cores: Cores, rounds: int) -> Row:
    """Compare the times from process start until every listener has answered."""
    row = Row("start to first answer, both listeners", [], START_TARGET, "ms")
    for number in range(-WARM_UP_STARTS, rounds):
        first, second = in_turn(servers("public"), number)
        took = measure_start(first, cores), measure_start(second, cores)
        if number >= 0:
            row.pairs.append(in_turn(took, number))
            tell(row, rounds)
    return row


def measure_start(command: Command, cores: Cores) -> float:
    """Milliseconds from just before the process is made until each listener has answered."""
    begin = time.perf_counter()
    with running(command, cores):
        return (time.perf_counter() - begin) * 1e3


# --- Servers ---


def servers(compared: str, *flags: str) -> tuple[Command, Command]:
    """Give uvicorn and what is compared with it, with the same flags, on ports that are free now.

    compared: `control` for a second uvicorn; `public` or `private` for duallisten, with that listener to be loaded
    """
    port, public, private = free_ports(3)
    uvicorn = ("uvicorn", "hello:app", *flags, "--port")
    base = Command((*uvicorn, str(port)), (port,), loaded=port)
    if compared == "control":
        return base, Command((*uvicorn, str(public)), (public,), loaded=public)
    duallisten = ("duallisten", "hello:app", *flags, "--port", str(public), "--private-port", str(private))
    return base, Command(duallisten, (public, private), loaded=private if compared == "private" else public)


def free_ports(count: int) -> list[int]:
    """Let the kernel choose ports that differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(command: Command, cores: Cores) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on its core, its access log going nowhere, from when all its listeners answer."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    arguments = [str(SCRIPTS / command.arguments[0]), *command.arguments[1:]]
    with tempfile.TemporaryFile() as errors:
        with pinned(cores.servers):
            process = subprocess.Popen(
                arguments, cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=errors.fileno()
            )
        try:
            with pinned(cores.clients):
                if not all_answer(process, command.ports):
                    errors.seek(0)
                    stop(f"{' '.join(command.arguments)} does not answer; it said:\n{errors.read().decode()}")
            yield process
        finally:
            end(process)


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
    """Send one GET; whether it is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_TIMEOUT) as client:
            client.settimeout(PATIENCE)
            client.sendall(REQUEST)
            return client.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process, and those that it makes meanwhile, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# --- Rounds and results ---


def in_turn(pair: tuple[T, T], number: int) -> tuple[T, T]:
    """Give a pair as it is in one round and turned round in the next, so that neither always goes first."""
    first, second = pair
    return (first, second) if number % 2 == 0 else (second, first)


def tell(row: Row, rounds: int) -> None:
    """Say on standard error how far it has come."""
    base, other = row.pairs[-1]
    print(f"{row.name}, {len(row.pairs)} of {rounds}: {base:.1f} {row.unit}, {other:.1f} {row.unit}", file=sys.stderr)


def describe(rows: list[Row], options: argparse.Namespace) -> str:
    """Write the results as Markdown: where, with what and how they were measured, and the table."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("duallisten", "uvicorn", "uvloop", "httptools"))
    table = "".join(f"{row}\n" for row in rows)
    wrk = subprocess.run(("wrk", "-v"), capture_output=True, text=True, check=False).stdout.split()[1]
    return f"""\
# duallisten beside uvicorn

Written by `python benchmarks/launch.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

- date: {datetime.now(UTC):%Y-%m-%d}
- processor: {processor()}, {len(os.sched_getaffinity(0))} cores
- kernel: {platform.system()} {platform.release()}
- versions: {platform.python_implementation()} {platform.python_version()}, {packages}, wrk {wrk}
- CPU per request, {options.rounds} times: {options.seconds} s of load on two servers at the same time, which share
  one core, by {CONNECTIONS} keep-alive connections each, after {WARM_UP_SECONDS} s to warm up
- start, {len(rows[-1].pairs)} times: after {WARM_UP_STARTS} to warm up

A ratio is duallisten divided by uvicorn (in the control, uvicorn divided by uvicorn) in one round. The last two columns
are medians, for orientation.

| measured | median ratio | min | max | target | result | uvicorn | compared with it |
|---|---|---|---|---|---|---|---|
{table}"""


def processor() -> str:
    """The name of the processor, as the kernel gives it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()

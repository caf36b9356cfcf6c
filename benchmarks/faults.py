"""Who survives what: duallisten, uvicorn, gunicorn with uvicorn's worker, hypercorn and granian, each through the same.

One run, one machine, one application (`broken.py`); each server by its own command line and with its own defaults. A
cell tells what was seen, and a cross says that it is not what one would wish; the wish is the same for all, and stands
in the table. Nothing here leaves the loopback interface, and each server is ended with all that it has started.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from support.faults import clients, endings, processes, surroundings
from support.faults.servers import APP, CLIENTS, SERVERS, WORKERS, Make, Seen
from support.findings import PAGES, table
from support.measuring import HERE, check_machine
from support.reporting import circumstances, publish, table_row

RESULTS = HERE / "results" / "faults.md"
PAGE = PAGES / "faults.md"
PAGE_PART = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- end -->)", re.DOTALL)
PACKAGES = ("gunicorn", "uvicorn-worker", "hypercorn", "granian")
OURS = "duallisten"


class Fault(NamedTuple):
    """A line of the table.

    name: what breaks
    wish: what a cell must say not to be crossed
    look: makes it happen to one server, and tells what was seen
    patient: it is mostly waiting, so that all servers go through it at the same time
    telling: the page on faults shows it
    """

    name: str
    wish: str
    look: Callable[[Make], Seen]
    patient: bool = False
    telling: bool = False


WAITED_FOR = f"only what was in hand fails (at most {CLIENTS}), and it is replaced"
FAULTS = (
    Fault("a worker is killed (2 workers, 8 clients)", WAITED_FOR, processes.worker_killed),
    Fault("a worker hangs (SIGSTOP; clients give up after 5 s)", WAITED_FOR, processes.worker_hung, patient=True),
    Fault(
        "the supervisor is killed",
        "the port is free within 10 s",
        processes.supervisor_killed,
        patient=True,
        telling=True,
    ),
    Fault(
        f"workers that crash all the time, twice {processes.CRASH_SECONDS // 2} s",
        "half as many restarts the second time, or an end with an exit code above 0",
        processes.crash_loop,
        telling=True,
    ),
    Fault(f"{processes.RELOADS} SIGHUPs under load", "no request fails", processes.reload_storm, telling=True),
    Fault(
        f"workers are replaced after {endings.LIMIT} requests each, under load",
        "no request fails",
        endings.recycled,
        telling=True,
    ),
    Fault(
        f"workers that have had {endings.LIMIT} requests cannot exit: a thread of the application sleeps",
        f"no request fails, others take their place, and they are ended within {endings.STUCK_SECONDS:.0f} s",
        endings.stuck_at_limit,
        patient=True,
        telling=True,
    ),
    Fault(
        "SIGTERM, and 2 workers cannot exit: a thread of the application sleeps",
        f"an end within {endings.STUCK_SECONDS:.0f} s, and no worker left",
        endings.stuck_at_end,
        patient=True,
    ),
    Fault(
        "SIGHUP amid streams without an end",
        f"both workers are new within {endings.RELOAD_SECONDS:.0f} s, and no request fails",
        endings.reload_amid_streams,
        patient=True,
    ),
    Fault(
        "a handler blocks the event loop of a worker for good",
        f"it is replaced within {endings.BLOCKED_SECONDS:.0f} s, and all are answered",
        endings.loop_blocked,
        patient=True,
        telling=True,
    ),
    Fault("process 1 of a container, with orphans of the application", "no zombie", endings.process_1),
    Fault("SIGTERM amid a request", "it is answered", processes.request_in_hand),
    Fault(
        "SIGTERM while one client sends no body and one reads nothing",
        f"an end within {endings.CUT_SECONDS:.0f} s",
        endings.end_amid_stalled_clients,
        patient=True,
        telling=True,
    ),
    Fault(
        f"SIGTERM, and a balancer hears of it {endings.LATE_SECONDS:.0f} s later",
        "no request fails",
        endings.late_balancer,
        telling=True,
    ),
    Fault("SIGUSR1, SIGUSR2, SIGQUIT, each amid a request", "it is answered", endings.other_signals),
    Fault("the import fails", "an exit code above 0", processes.import_fails),
    Fault("the import fails, 2 workers", "an exit code above 0", processes.import_fails_in_workers, telling=True),
    Fault("the start fails", "an exit code above 0", processes.start_fails),
    Fault("the start fails, 2 workers", "an exit code above 0", processes.start_fails_in_workers),
    Fault("the shutdown fails", "it is logged, and ends", processes.end_fails),
    Fault("the shutdown fails, 2 workers", "it is logged, and an exit code above 0", endings.end_fails_in_workers),
    Fault("a handler fails amid its answer", "the client sees it, the process goes on", processes.handler_fails),
    Fault("standard output is closed", "it serves, and ends when told to", surroundings.output_closed, telling=True),
    Fault("the output's reader is gone", "it serves, and ends when told to", surroundings.reader_gone),
    Fault("the output is a full pipe for 3 s", "all are answered when it is read", surroundings.pipe_full),
    Fault("the clock is set back by a day", "no request fails, a worker is replaced", surroundings.clock_set_back),
    Fault(
        f"no descriptors ({surroundings.HELD} connections, {surroundings.DESCRIPTORS} descriptors, 3 s)",
        "it answers within 10 s after; fewer than 20 lines logged, less than half a core",
        surroundings.no_descriptors,
    ),
    Fault(f"{clients.READERS} clients read nothing of 50 MiB", "a tenth of it in memory", clients.slow_readers),
    Fault(f"{clients.IDLE:,} connections send nothing", "others are answered", clients.idle_connections),
    Fault(
        "a connection sends nothing, or a byte a second",
        "both are closed",
        clients.silent_connection,
        patient=True,
        telling=True,
    ),
    Fault("a head of 64 MiB", "it is refused within 8 MiB", clients.endless_head, telling=True),
    Fault("a length together with chunks", "400", clients.length_and_chunks),
    Fault("two lengths", "400", clients.two_lengths),
    Fault(
        f"a soak of {clients.SOAK:,} requests",
        f"less than {clients.MOST_GROWTH:.0f} MiB and no descriptor left behind",
        clients.soak,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what duallisten and its peers survive.")
    parser.add_argument("--only", default="", help="only faults whose names have this in them")
    parser.add_argument("--write", action="store_true", help=f"write the results to results/{RESULTS.name}")
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--write wants all of them, without --only")
    check_machine("gunicorn", "hypercorn", "granian")
    begin = time.monotonic()
    found = {fault: go_through(fault) for fault in FAULTS if options.only in fault.name}
    publish(describe(found, time.monotonic() - begin), RESULTS, write=options.write)
    if options.write:
        PAGE.write_text(PAGE_PART.sub(lambda _: page_part(found), PAGE.read_text()), encoding="utf-8")


def go_through(fault: Fault) -> dict[str, Seen]:
    """Let a fault happen to every server."""
    begin = time.monotonic()
    with ThreadPoolExecutor(len(SERVERS) if fault.patient else 1) as pool:
        seen = dict(zip(SERVERS, pool.map(lambda make: look(fault, make), SERVERS.values()), strict=True))
    took = time.monotonic() - begin
    print(f"{fault.name}, {took:.0f} s:", *(f"\n    {name}: {one}" for name, one in seen.items()), file=sys.stderr)
    return seen


def look(fault: Fault, make: Make) -> Seen:
    """Let a fault happen to one server; once more where that fails, as when another program takes the port."""
    try:
        return fault.look(make)
    except (OSError, RuntimeError) as error:
        print(f"{fault.name}, once more: {error}", file=sys.stderr)
        return fault.look(make)


def describe(found: Mapping[Fault, Mapping[str, Seen]], seconds: float) -> str:
    """Write everything that was found, as Markdown."""
    rows = [table_row([fault.name, fault.wish, *map(cell, seen.values())]) for fault, seen in found.items()]
    rows.append(table_row(["**as wished**", "", *(f"**{count}**" for count in counts(found))]))
    missed = [f"{fault.name} ({seen[OURS].fact})" for fault, seen in found.items() if not seen[OURS].good]
    return f"""\
# Who survives what

Written by `python benchmarks/faults.py --write` in {seconds / 60:.0f} minutes.
What is done and how to read it: [benchmarks/README.md](../README.md#faults).

{circumstances(*PACKAGES)}
- command lines, with {" ".join(WORKERS)} where the table says so or processes are killed, hang or are replaced:

{command_lines()}

{table(" | ".join(["fault", "wished", *SERVERS]), rows)}

Targets of duallisten: {len(found) - len(missed)} of {len(found)} met; missed: {"; ".join(missed) or "none"}.
"""


def page_part(found: Mapping[Fault, Mapping[str, Seen]]) -> str:
    """Write what the page on faults shows."""
    rows = [table_row([fault.name, *map(cell, seen.values())]) for fault, seen in found.items() if fault.telling]
    rows.append(table_row([f"as one would wish, of {len(found)} faults", *counts(found)]))
    return table(" | ".join(["fault", *SERVERS]), rows) + "\n"


def counts(found: Mapping[Fault, Mapping[str, Seen]]) -> list[str]:
    """Tell how often each server did what is wished."""
    return [f"{sum(seen[name].good for seen in found.values())} of {len(found)}" for name in SERVERS]


def cell(seen: Seen) -> str:
    return seen.fact if seen.good else f"✗ {seen.fact}"


def command_lines() -> str:
    """Write how each server is started, with the ports of one run."""
    return "\n".join(
        f"      {' '.join(command.arguments)}" for make in SERVERS.values() for command in make(APP, log=False).commands
    )


if __name__ == "__main__":
    main()

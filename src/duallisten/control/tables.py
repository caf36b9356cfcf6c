"""Prints the answers of a launch as tables, from the same JSON that `--json` prints."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from duallisten.control.protocol import Request
from duallisten.logs import print_line, print_rows

PROCESSES = ("process", "state", "sides", "age", "heartbeat", "memory", "CPU")
SIDES = (
    *("side", "address", "requests", "per second", "median", "p99", "in flight", "connections", "WebSockets"),
    *("hidden", "bad", "aborted", "refused"),
)
WORKERS = ("worker", "state", "sides", "age", "blocked for", "replaces")
TASKS = ("process", "task", "coroutine", "where, innermost last")
PEERS = ("side", "peer", "connections", "requests in flight")
CONNECTIONS = ("process", "side", "peer", "state", "for", "request", "status")

MIB = 1 << 20

DRAINED = "drained by an operator"
"""The reason that `admin.health` gives for a drained launch."""


def print_answer(request: Request, answer: Any) -> None:
    """Print the answer to a request."""
    if request.command == "workers" and request.action == "list":
        _print_workers(answer)
    elif printer := PRINTERS.get(request.command):
        printer(answer)
    else:
        print_line(_describe_deed(request, answer))


def _print_status(answer: Any) -> None:
    launch, figures = answer["launch"], answer["figures"]
    phase = f"{figures['phase']}, but {DRAINED}" if figures["drained"] else figures["phase"]
    print_line(
        f"{launch['application']}: {phase}, launched {_age(figures['age'])} ago; "
        f"duallisten {launch['version']}, uvicorn {launch['uvicorn']}, Python {launch['python']}"
    )
    for reason in figures["reasons"]:
        if reason != DRAINED:
            print_line(f"Problem: {reason}")
    print_rows(PROCESSES, [_process(one) for one in figures["processes"]])
    urls = {one["side"]: ", ".join(one["urls"]) or one["address"] for one in launch["listeners"]}
    print_rows(SIDES, [_side(side, urls.get(side, ""), one) for side, one in figures["sides"].items()])
    for start in answer["starting"]:
        print_line(_describe_start(start))
    if figures["restarts"]:
        print_line(f"Workers that died and were replaced: {figures['restarts']}")


def _describe_start(start: Any) -> str:
    if start["imports"]:
        return f"Starting for {_age(start['seconds'])}: a fork server, {start['pid']}, that imports the application"
    kept = f"; worker {start['replaces']} serves until it does" if start["replaces"] else ""
    return f"Starting for {_age(start['seconds'])}: worker {start['pid']}{kept}"


def _process(one: Any) -> tuple[str, ...]:
    memory = "" if one["memory"] is None else f"{one['memory'] / MIB:.0f} MiB"
    cpu = "" if one["cpu"] is None else f"{one['cpu']:.0%}"
    state = f"{one['state']}, stuck" if one["stuck"] else one["state"]
    beat = _duration(one["heartbeat_age"])
    return (str(one["pid"]), state, ", ".join(one["sides"]), _age(one["age"]), f"{beat} ago", memory, cpu)


def _side(side: str, url: str, one: Any) -> tuple[str, ...]:
    counts = (one[name] for name in ("in_flight", "open", "websockets", "hidden", "bad", "aborted", "refused"))
    times = (_duration(one["median"]), _duration(one["p99"]))
    return (side, url, str(one["requests"]), f"{one['rate']:.1f}", *times, *map(str, counts))


def _print_workers(answer: Any) -> None:
    print_rows(
        WORKERS,
        [
            (
                str(one["pid"]),
                one["state"],
                ", ".join(one["sides"]),
                _age(one["age"]),
                _duration(one["blocked"]),
                str(one["replaces"] or ""),
            )
            for one in answer["workers"]
        ],
    )
    if answer["missing"]:
        print_line(f"Workers about to be started: {answer['missing']}")


def _print_tasks(answer: Any) -> None:
    rows = []
    for process in answer["processes"]:
        for task in process.get("tasks", ()):
            where = "\n".join(f"{one['file']}:{one['line']} ({one['function']})" for one in task["frames"])
            name = f"{task['name']}, running" if task["running"] else task["name"]
            rows.append((str(process["pid"]), name, task["coroutine"], where))
    print_rows(TASKS, rows)
    _print_missing(answer["processes"])


def _print_stacks(answer: Any) -> None:
    for process in answer["processes"]:
        for thread in process.get("threads", ()):
            print_line(f"{process['role'].capitalize()} {process['pid']}, thread {thread['name']}:")
            frames = [(one["file"], one["line"], one["function"], None) for one in thread["frames"]]
            print_line("".join(traceback.StackSummary.from_list(frames).format()))
    _print_missing(answer["processes"])


def _print_connections(answer: Any) -> None:
    print_rows(
        PEERS,
        [
            (one["side"], one["host"] or "-", str(one["connections"]), str(one["requests"]) if one["requests"] else "")
            for one in answer["peers"]
        ],
    )
    print_rows(CONNECTIONS, [_connection(one) for one in answer["connections"] if one["state"] != "idle"])
    if not answer["total"]:
        print_line("No open connections.")
    _print_missing(answer["missing"])


def _connection(one: Any) -> tuple[str, ...]:
    request = f"{one['method']} {one['path']}" if one["method"] else ""
    return (
        *(str(one["pid"]), one["side"], one["peer"], one["state"]),
        *(_duration(one["seconds"]), request, str(one["status"] or "")),
    )


def _print_missing(processes: Iterable[Any]) -> None:
    for process in processes:
        if reason := process.get("reason"):
            print_line(f"No answer from process {process['pid'] or '?'}: {reason}")


def _describe_deed(request: Request, answer: Any) -> str:
    """Return what was done, in one line."""
    if request.command == "log-level":
        return f"The log level is {answer['level']} in every process."
    if request.command == "reload":
        return f"Replacing workers one at a time: {_pids(answer['reloading'])}; see the log for progress."
    if request.command == "drain":
        told = " and the ".join(answer["told"])
        return f"Drained ({told}); all listeners stay open." if answer["drained"] else f"Ready again ({told})."
    if request.action == "replace":
        return f"Worker {answer['replacing']} ends when its successor is ready; see the log for progress."
    if request.action == "remove":
        return f"Stopping: {_pids(answer['removed'])}"
    return "Starting a worker."


def _pids(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids))


def _age(seconds: float) -> str:
    """Format an age to the second; a long one to the minute, hour or day."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _duration(seconds: float | None) -> str:
    """Format a duration to the millisecond; empty for None."""
    if seconds is None:
        return ""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


PRINTERS = {
    "status": _print_status,
    "tasks": _print_tasks,
    "stacks": _print_stacks,
    "connections": _print_connections,
}
"""The functions that print the answers of commands; other answers are one line."""

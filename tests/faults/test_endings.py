"""Processes that are told to end, or say that they do, and everything that could keep them from it."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.serving import faulty, request
from tests.support.running import DEADLINE, FREE, Launched, ask, eventually, launched, process_of, processes

SOON = """
import sys
from duallisten.cli import main
from duallisten.processes import exit_watch, worker_watch

if __name__ == "__main__":
    exit_watch.END_MARGIN = exit_watch.EXIT_PATIENCE = worker_watch.EXIT_PATIENCE = 0.5
    main.main()
"""
"""The command line, which waits less long for a process to exit."""

STUCK = {
    "thread": "threading.Thread(target=time.sleep, args=(600,), name='stuck').start()",
    "atexit": "atexit.register(time.sleep, 600)",
}
"""What keeps a process from exiting."""

REASONS = {"thread": "threads that do not end: stuck", "atexit": "an atexit function that does not end"}


def hurried(tmp_path: Path, kind: str, *arguments: str, more: str = "") -> Launched:
    """Launch the demonstration in processes that cannot exit, and are waited for half a second.

    more: what its module has at its end
    """
    (tmp_path / "soon.py").write_text(SOON)
    (tmp_path / "shop.py").write_text(
        f"import atexit, threading, time\nfrom duallisten.demo import app as demo\n{STUCK[kind]}\n"
        "async def app(scope, receive, send):\n    await demo(scope, receive, send)\n" + more
    )
    command = (sys.executable, str(tmp_path / "soon.py"))
    return launched("shop:app", "--timeout-graceful-shutdown", "1", *arguments, *FREE, command=command, cwd=tmp_path)


@pytest.mark.parametrize("kind", STUCK)
def test_workers_at_their_limit_of_requests_that_cannot_exit_are_replaced_and_then_killed(
    kind: str, tmp_path: Path
) -> None:
    with hurried(tmp_path, kind, "--workers", "2", "--limit-max-requests", "2") as server:
        urls = server.url("public"), server.url("private")
        seen: set[int] = set()

        def have_been_replaced() -> bool:
            seen.update(process_of(ask(url)) for url in urls)
            return len(seen) >= 4

        assert eventually(have_been_replaced)
        server.wait_for(r"Worker \[\d+\] has shut down but has not exited after \d+ s, killing it", count=2)
        assert b" 200 OK" in ask(urls[0])


@pytest.mark.parametrize("kind", STUCK)
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--workers", "2", "--preload")])
def test_a_launch_that_is_told_to_end_ends_whatever_keeps_its_processes(
    more: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    with hurried(tmp_path, kind, *more) as server:
        server.url("public")
        family = psutil.Process(server.process.pid).children(recursive=True)
        code = server.end()
        if kind == "thread" and "--preload" in more:  # the fork server has it, and forks have none of its threads
            assert code == 0
        else:
            assert code == 1
            assert ("has not exited after" in server.output) if more else (REASONS[kind] in server.output)
        assert psutil.wait_procs(family, timeout=DEADLINE)[1] == []


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--workers", "2", "--preload")])
def test_a_launch_that_fails_ends_whatever_its_application_has_started(more: tuple[str, ...], tmp_path: Path) -> None:
    with hurried(tmp_path, "thread", *more, more="raise RuntimeError('not today')\n") as server:
        assert server.wait() == 3
        assert "RuntimeError: not today" in server.output
        assert REASONS["thread"] in server.output


def test_a_worker_without_a_supervisor_that_cannot_exit_kills_itself(tmp_path: Path) -> None:
    with hurried(tmp_path, "thread", "--workers", "2") as server:
        server.url("public")
        family = server.workers
        server.send(signal.SIGKILL)
        gone, alive = psutil.wait_procs(family, timeout=DEADLINE)
        for process in alive:
            process.kill()
        assert len(gone) == 2


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_hangup_is_not_held_up_by_requests_in_hand(more: tuple[str, ...], tmp_path: Path) -> None:
    answers: list[bytes] = []
    with faulty("--workers", "2", *more, cwd=tmp_path) as server:
        url = server.url("public")
        before = processes(url)
        wait = request("/slow", b"Connection: close\r\n")
        asking = [threading.Thread(target=lambda: answers.append(ask(url, wait))) for _ in range(8)]
        for thread in asking:
            thread.start()
        assert eventually(lambda: len(list(tmp_path.glob("slow-*"))) == 8)
        server.send(signal.SIGHUP)
        server.wait_for(
            r"Worker \[\d+\] no longer accepts; its shutdown waits for \d connections?: 127.0.0.1:\d+ \(GET /slow\)"
        )
        server.wait_for("Serving|Application startup complete", count=4 if not more else 2)
        assert eventually(lambda: not before & processes(url))
        assert answers == []
        (tmp_path / "released").touch()
        for thread in asking:
            thread.join(DEADLINE)
        assert [b" 200 OK" in answer for answer in answers] == [True] * 8
        assert server.end() == 0


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_worker_whose_event_loop_is_blocked_for_too_long_is_killed_with_its_stacks_in_the_log(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    with faulty("--workers", "2", "--timeout-worker-stall", "1", *more, cwd=tmp_path) as server:
        url = server.url("public")
        before = processes(url)
        blocking = threading.Thread(target=ask_in_vain, args=(url,))
        blocking.start()
        blocked = int(server.wait_for(r"event loop of worker \[(\d+)\] has been blocked for \d+ s")[1])
        server.wait_for(r'File ".*gated\.py", line \d+ in app')
        server.wait_for(rf"Worker \[{blocked}\] is still blocked, killing it")
        server.wait_for(rf"Worker \[{blocked}\] was killed by SIGKILL")
        blocking.join(DEADLINE)
        assert eventually(lambda: len(now := processes(url)) == 2 and now & before == before - {blocked})
        assert server.end() == 0


def ask_in_vain(url: str) -> None:
    """Ask what blocks the event loop; the connection ends without an answer."""
    with suppress(ConnectionError):
        assert ask(url, request("/block", b"Connection: close\r\n")) == b""


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--workers", "2", "--preload")])
def test_signals_that_mean_nothing_lose_no_request_and_sigusr2_tells_what_is_being_done(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    answers: list[bytes] = []
    with faulty(*more, cwd=tmp_path) as server:
        wait = request("/slow", b"Connection: close\r\n")
        asking = threading.Thread(target=lambda: answers.append(ask(server.url("public"), wait)))
        asking.start()
        assert eventually(lambda: any(tmp_path.glob("slow-*")))
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        for process in family:
            for number in (signal.SIGUSR1, signal.SIGQUIT):
                if "resource_tracker" not in " ".join(process.cmdline()):
                    process.send_signal(number)
        server.send(signal.SIGUSR2)
        server.wait_for(r"Process \[\d+\] has \d+ tasks", count=2 if more else 1)
        server.wait_for(r'File ".*faulty\.py", line \d+, in be_slow')
        server.wait_for("most recent call first", count=2 if more else 1)
        (tmp_path / "released").touch()
        asking.join(DEADLINE)
        assert b" 200 OK" in answers[0]
        assert server.end() == 0


RUNNING_THREADS = """
import threading
from duallisten.demo import app

def deep(number):
    return number and 1 + deep(number - 1)

def run():
    while True:
        exec("def deeper(number):\\n return number and 1 + deeper(number - 1)\\ndeeper(30)", {})
        deep(40)

for _ in range(3):
    threading.Thread(target=run, daemon=True).start()
"""


def test_sigusr2_leaves_a_process_alone_whose_threads_run(tmp_path: Path) -> None:
    """Whoever looks at the frames of a thread that runs meanwhile may crash."""
    (tmp_path / "shop.py").write_text(RUNNING_THREADS)
    with launched("shop:app", *FREE, cwd=tmp_path) as server:
        url = server.url("public")
        for number in range(1, 21):
            server.send(signal.SIGUSR2)
            server.wait_for(r"Process \[\d+\] has \d+ tasks", count=number)
        assert b" 200 OK" in ask(url)


def test_an_application_keeps_its_own_handler_of_a_signal(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os, signal\nfrom duallisten.demo import app\n"
        "signal.signal(signal.SIGUSR2, lambda *_: os.write(1, b'the application has heard it\\n'))\n"
    )
    for more in ((), ("--workers", "2")):
        with launched("shop:app", *more, *FREE, cwd=tmp_path) as server:
            server.url("public")
            server.send(signal.SIGUSR2)
            server.wait_for("the application has heard it", count=2 if more else 1)
            assert server.end() == 0
            assert "most recent call first" not in server.output


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_code_of_a_good_end_is_0_and_functions_of_atexit_have_run(
    number: signal.Signals, more: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "import atexit\nfrom duallisten.demo import app\natexit.register(print, 'the very end', flush=True)\n"
    )
    with launched("shop:app", *more, *FREE, cwd=tmp_path) as server:
        server.url("public")
        assert server.end(number) == 0
        assert server.output.count("the very end") == (2 if more else 1)


def test_one_process_whose_terminal_is_closed_answers_what_it_has_in_hand_and_ends(tmp_path: Path) -> None:
    answers: list[bytes] = []
    with faulty(cwd=tmp_path) as server:
        wait = request("/slow", b"Connection: close\r\n")
        asking = threading.Thread(target=lambda: answers.append(ask(server.url("public"), wait)))
        asking.start()
        assert eventually(lambda: any(tmp_path.glob("slow-*")))
        server.send(signal.SIGHUP)
        server.wait_for("Shutting down")
        (tmp_path / "released").touch()
        asking.join(DEADLINE)
        assert b" 200 OK" in answers[0]
        assert server.wait() == 0

"""Several workers, as processes: started, replaced, counted and ended."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from duallisten.config import Config
from duallisten.processes.worker_handle import Worker
from duallisten.processes.worker_protocol import Channel
from duallisten.processes.worker_watch import WorkerWatch
from tests.support.gated import SHOP
from tests.support.load import steady_load
from tests.support.running import DEADLINE, FREE, ROOT, Launched, ask, eventually, is_refused, launched, run

DEMO = "duallisten.demo:app"


def workers(server: Launched) -> set[int]:
    """The process ids of the workers that run now."""
    return {worker.pid for worker in server.workers}


def wait_for_workers(server: Launched, count: int) -> None:
    server.wait_for("Application startup complete", count=count)


def test_both_listeners_are_in_every_worker() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        seen: dict[str, set[int]] = {"public": set(), "private": set()}
        for side, pids in seen.items():
            for _ in range(200):
                answer = httpx.get(server.url(side)).json()
                assert answer["side"] == side
                pids.add(answer["process"])
                if len(pids) == 2:
                    break
        assert seen["public"] == seen["private"] == workers(server)
        assert server.output.count("Serving the public side") == 1
        assert server.end() == 0
        assert server.output.count("Finished server process") == 2


def test_the_environment_asks_for_workers() -> None:
    with launched(DEMO, *FREE, environ={"WEB_CONCURRENCY": "3"}) as server:
        server.url("public")
        assert eventually(lambda: len(workers(server)) == 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_worker(number: signal.Signals) -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        server.url("public")
        pids = workers(server)
        assert server.end(number) == 0
        assert f"Received {number.name}, exiting." in server.output
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_crashed_worker_is_replaced() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        server.url("public")
        victim = sorted(workers(server))[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"Worker \[{victim}\] was killed by SIGKILL")
        wait_for_workers(server, 3)
        assert eventually(lambda: len(workers(server)) == 2)
        assert victim not in workers(server)
        assert httpx.get(server.url("private")).json()["side"] == "private"


def test_a_worker_that_dies_young_is_replaced_with_growing_delay() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        server.url("public")
        survivor = max(workers(server))
        for death, delay in ((1, "0.5"), (2, "1")):
            assert eventually(lambda: len(workers(server)) == 2)
            victim = (workers(server) - {survivor}).pop()
            os.kill(victim, signal.SIGKILL)
            server.wait_for(f"s after its start; restarting in {delay} s")
            wait_for_workers(server, 2 + death)


def test_a_worker_at_its_limit_of_requests_is_replaced_at_once() -> None:
    with launched(DEMO, "--workers", "2", "--limit-max-requests", "1", *FREE) as server:
        url = server.url("public")
        for _ in range(4):
            assert httpx.get(url).status_code == 200
        server.wait_for(r"Worker \[\d+\] has served 1 requests \(--limit-max-requests\); starting its successor")
        wait_for_workers(server, 3)
        server.wait_for("Finished server process")
        assert "restarting in" not in server.output


def test_a_worker_that_does_not_answer_is_killed_and_replaced() -> None:
    with launched(DEMO, "--workers", "2", "--timeout-worker-healthcheck", "3", *FREE) as server:
        server.url("public")
        hung = sorted(workers(server))[0]
        os.kill(hung, signal.SIGSTOP)
        server.wait_for(rf"Worker \[{hung}\] does not answer, killing it")
        wait_for_workers(server, 3)
        assert eventually(lambda: len(workers(server)) == 2)


def test_a_worker_at_a_breakpoint_of_a_debugger_is_kept(tmp_path: Path) -> None:
    """A debugger that stops all threads, as pydevd does: here it is imported, and a signal stops the worker."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nsys.modules['pydevd'] = types.ModuleType('pydevd')\n"
    )
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with launched(DEMO, "--workers", "2", "--timeout-worker-healthcheck", "1", *FREE, environ=environ) as server:
        url = server.url("public")
        halted = sorted(workers(server))[0]
        os.kill(halted, signal.SIGSTOP)
        server.wait_for(rf"Worker \[{halted}\] does not answer; it is kept because a debugger is attached to it")
        assert httpx.get(url).status_code == 200
        os.kill(halted, signal.SIGCONT)
        assert server.end() == 0
        assert server.output.count("does not answer") == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")
def test_a_debugger_that_registers_itself_is_noticed() -> None:
    code = "import sys; sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, 'mine')"
    told = "from duallisten.processes.debugger import is_debugged; print(is_debugged())"
    assert run("-c", told, command=[sys.executable]).stdout == "False\n"
    assert run("-c", f"{code}; {told}", command=[sys.executable]).stdout == "True\n"


@pytest.mark.parametrize(("timeout", "is_killed"), [(5, True), (0, False)])
def test_a_silent_worker_is_never_killed_where_nobody_asks_for_it(timeout: int, *, is_killed: bool) -> None:
    config = Config(DEMO, log_config=None, timeout_worker_healthcheck=timeout)
    killed: list[bool] = []
    worker: Any = SimpleNamespace(killed=False, stopping=False, ending=False, debugged=False, pid=1)
    worker.is_silent, worker.kill = (lambda seconds: True), (lambda: killed.append(True))
    WorkerWatch().check(worker, config)
    assert bool(killed) == is_killed


def test_hangup_replaces_the_workers_one_at_a_time_without_a_lost_request() -> None:
    """One client with a connection per request, and one with a pool, on each side, all the while."""
    with launched(DEMO, "--workers", "2", "--no-access-log", *FREE) as server:
        server.url("public")
        before = workers(server)
        with steady_load(server.url("public"), server.url("private")) as load:
            for turn in (1, 2):
                server.send(signal.SIGHUP)
                wait_for_workers(server, 2 + 2 * turn)
                server.wait_for("Finished server process", count=2 * turn)
        assert load.failures == []
        assert len(load.answers) > 100
        assert all(load.answers)
        assert eventually(lambda: len(workers(server)) == 2 and not workers(server) & before)


def test_a_successor_that_fails_leaves_the_old_workers_in_place(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from duallisten.demo import app\n")
    with launched("shop:app", "--workers", "2", *FREE, cwd=tmp_path) as server:
        url, before = server.url("public"), workers(server)
        (tmp_path / "shop.py").write_text(
            "raise RuntimeError('not today')  # of another size: a .pyc is told stale by that\n"
        )
        server.send(signal.SIGHUP)
        server.wait_for(r"New worker \[\d+\] exited with code 3: .*not today.*reload aborted")
        assert httpx.get(url).status_code == 200
        assert eventually(lambda: workers(server) == before)
        (tmp_path / "shop.py").write_text("from duallisten.demo import app\n# mended\n")
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert eventually(lambda: not workers(server) & before)


def test_workers_are_added_and_removed_by_signals() -> None:
    with launched(DEMO, "--workers", "1", *FREE) as server:
        server.url("public")
        assert workers(server) == set()
    with launched(DEMO, "--workers", "2", *FREE) as server:
        url = server.url("public")
        server.send(signal.SIGTTIN)
        wait_for_workers(server, 3)
        # It accepts a moment later; one that is told to end before that ends without the line that is awaited below.
        assert eventually(lambda: {httpx.get(url).json()["process"] for _ in range(20)} == workers(server))
        assert len(workers(server)) == 3
        for count in (1, 2):
            server.send(signal.SIGTTOU)
            server.wait_for("Finished server process", count=count)
        server.send(signal.SIGTTOU)
        server.wait_for("Already reached one process")
        assert httpx.get(server.url("private")).status_code == 200


def test_no_worker_outlives_a_killed_supervisor() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        server.url("public")
        processes = [psutil.Process(pid) for pid in workers(server)]
        server.send(signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=DEADLINE)
        assert alive == []


def test_a_worker_that_cannot_start_stops_the_launch_and_the_others(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os, pathlib\n"
        "from duallisten.demo import app\n"
        "try:\n    os.close(os.open('first', os.O_CREAT | os.O_EXCL))\n"
        "except FileExistsError:\n    raise RuntimeError('there is one already')\n"
    )
    ended = run("shop:app", "--workers", "2", *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    told = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
    assert len(told) == 1 and "there is one already" in told[0]
    assert "Serving" not in ended.stderr


def test_a_worker_that_vanishes_while_it_starts_stops_the_launch(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import os\nos._exit(7)\n")
    ended = run("shop:app", "--workers", "2", *FREE, cwd=tmp_path)
    assert ended.returncode == 3
    assert "a worker failed to start: [" in ended.stderr
    assert "exited with code 7" in ended.stderr


def test_what_waits_in_the_queue_survives_a_dead_worker(tmp_path: Path) -> None:
    """The only workers are stopped; a connection made meanwhile is served by their successors."""
    with launched(DEMO, "--workers", "2", *FREE) as server:
        url = server.url("public")
        victims = workers(server)
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(ask(url)))
        asking.start()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        asking.join(DEADLINE)
        assert answers and b"200 OK" in answers[0]


def test_an_application_object_cannot_be_given_to_workers() -> None:
    import duallisten

    with pytest.raises(duallisten.LaunchError, match="import string"):
        duallisten.run(object(), workers=2, port=0, private_port=0, log_config=None)


def test_a_unix_domain_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    arguments = (DEMO, "--workers", "2", "--uds", str(path), "--private-port", "0")
    with launched(*arguments) as server:
        server.wait_for("Serving the public side on unix socket")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://app/").json()["side"] == "public"
        assert server.end() == 0
    assert not path.exists()


FORKING = """
import os, pathlib, signal, time
from duallisten.demo import app as demo

async def app(scope, receive, send):
    if scope["type"] == "lifespan" and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path(f"child-{os.getpid()}").touch()
        time.sleep(600)
    await demo(scope, receive, send)
"""
"""An application that leaves processes behind, which have all that their worker has open."""


def test_processes_that_the_workers_leave_behind_do_not_keep_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FORKING)
    with launched("shop:app", "--workers", "2", *FREE, cwd=tmp_path) as server:
        try:
            server.url("public")
            assert eventually(lambda: len(list(tmp_path.glob("child-*"))) == 2)
            server.send(signal.SIGTERM)
            assert server.process.wait(DEADLINE) == 0
        finally:  # before the end of the block, for they keep its standard output open
            for file in tmp_path.glob("child-*"):
                os.kill(int(file.name.removeprefix("child-")), signal.SIGKILL)


def test_a_worker_that_is_killed_by_a_signal_without_a_name_is_replaced() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        server.url("public")
        victim = min(workers(server))
        os.kill(victim, signal.SIGRTMIN + 3)
        server.wait_for(rf"Worker \[{victim}\] was killed by signal {signal.SIGRTMIN + 3}")
        wait_for_workers(server, 3)


def test_a_worker_that_cannot_be_started_now_is_started_later() -> None:
    """The supervisor has no descriptor left; those that serve go on."""
    with launched(DEMO, "--workers", "2", *FREE) as server:
        url, pid = server.url("public"), server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
        os.kill(min(workers(server)), signal.SIGKILL)
        server.wait_for("A worker cannot be started: .*Too many open files")
        assert b"200 OK" in ask(url)
        server.send(signal.SIGHUP)
        server.wait_for("Reload aborted, old workers kept")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        wait_for_workers(server, 3)
        assert server.end() == 0


def test_while_the_workers_end_new_connections_are_refused_and_not_kept_waiting(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    request = b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers: list[bytes] = []
    with launched("shop:app", "--workers", "2", *FREE, cwd=tmp_path) as server:
        urls = server.url("public"), server.url("private")
        asking = threading.Thread(target=lambda: answers.append(ask(urls[0], request)))
        asking.start()
        assert eventually((tmp_path / "waiting").exists)
        server.send(signal.SIGTERM)
        server.wait_for("Shutting down", count=2)
        for url in urls:
            assert eventually(lambda url=url: is_refused(url))  # type: ignore[misc]
        (tmp_path / "released").touch()
        asking.join(DEADLINE)
        assert b"200 OK" in answers[0]
        assert server.end() == 0


def test_a_hangup_while_the_workers_end_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with launched("shop:app", "--workers", "2", *FREE, cwd=tmp_path) as server:
        request = b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        asking = threading.Thread(target=ask, args=(server.url("public"), request))
        asking.start()
        assert eventually((tmp_path / "waiting").exists)
        server.send(signal.SIGTERM)
        server.wait_for("Shutting down", count=2)
        server.send(signal.SIGHUP)
        (tmp_path / "released").touch()
        asking.join(DEADLINE)
        assert server.end() == 0
        assert "replacing the workers" not in server.output


def test_why_a_worker_failed_is_heard_also_if_it_ends_while_it_is_asked_for_a_sign_of_life() -> None:
    pipe, child_end = Pipe()
    worker = Worker(process=None, pipe=pipe, plan=None, queues=0)  # type: ignore[arg-type]
    worker.began = True
    child = Channel(child_end)
    child.send(("failed", "no database"))
    child.close()
    worker.ping()
    assert worker.failure == "no database"

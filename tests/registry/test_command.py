"""`python -m duallisten.registry`: who is there, for people and for machines."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Coroutine

import pytest

from duallisten.registry import Instance, Write
from duallisten.registry.__main__ import main
from duallisten.registry.backend import make_backend
from duallisten.registry.entry import to_json
from tests.registry.databases import PASSWORD, Database, free_port
from tests.support.running import launched, run

COMMAND = (sys.executable, "-m", "duallisten.registry")
BILLING = Instance(
    "billing", "web-1-4f", "10.240.0.5", 9240, 5000, container="web-1", started_at="2026-11-25T08:00+00:00"
)
SHIPPING = Instance("shipping", "web-2-7a", "fdaa::6", 9240, state="draining")


def ask(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, command=COMMAND, environ=environ)


def put(url: str, *instances: Instance) -> None:
    async def write() -> None:
        backend = make_backend(url)
        for one in instances:
            await backend.write(Write(one.service, one.id, one.id, 0, 1, 60.0, to_json(one)))
        await backend.aclose()

    asyncio.run(write())


def test_a_person_sees_a_table(redis: Database) -> None:
    put(redis.url, BILLING, SHIPPING)
    shown = ask(redis.url)
    assert shown.returncode == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "│" in line]
    assert [row[:5] for row in rows] == [
        ["billing", "web-1-4f", "ready", "http://10.240.0.5:9240", "5000"],
        ["shipping", "web-2-7a", "draining", "http://[fdaa::6]:9240", "-"],
    ]
    assert "shipping" not in ask(redis.url, "billing").stdout


def test_nothing_of_a_service_is_cut_in_a_pipe_and_empty_columns_are_left_out(redis: Database) -> None:
    service = "a-service-with-a-name-that-leaves-no-room-for-any-other-column-on-a-screen-of-80"
    put(redis.url, SHIPPING._replace(service=service))
    shown = ask(redis.url, COLUMNS="80")
    header, row = (
        [cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in shown.stdout.splitlines() if line[0] in "┃│"
    )
    assert row[:4] == [service, "web-2-7a", "draining", "http://[fdaa::6]:9240"]
    assert header == ["service", "id", "state", "private side"]
    assert ask(redis.url, "nobody").stdout == "No instances are registered.\n"


def test_a_machine_reads_json_and_a_variable_keeps_the_url_out_of_the_process_list(database: Database) -> None:
    put(database.url, BILLING, SHIPPING)
    shown = ask("SCALINGO_URL", "shipping", "--json", SCALINGO_URL=database.url)
    assert json.loads(shown.stdout) == [SHIPPING._asdict()]


def test_who_watches_gets_a_line_for_each_change(database: Database) -> None:
    with launched(database.url, "--json", "--watch", command=COMMAND) as watching:
        assert json.loads(watching.wait_for(r"^\[")[0] + "]") == []
        put(database.url, BILLING)
        line = watching.wait_for(r"^\[\{.*\}\]$")[0]
        assert json.loads(line) == [BILLING._asdict()]


def test_who_has_seen_enough_interrupts_it_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(running: Coroutine[None, None, None]) -> None:
        running.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run", interrupt)
    assert main(["redis://localhost", "--watch"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give the registry's URL and at most one service"),
        (("redis://:hunter2@h", "billing", "x"), 2, "give the registry's URL and at most one service"),
        (("redis://:hunter2@h", "--hunter2"), 2, "give the registry's URL and at most one service"),
        (
            ("billing", "redis://:hunter2@h"),
            2,
            "neither a URL such as redis://… nor the name of an environment variable",
        ),
        (("hunter2",), 2, "neither a URL"),
        (("mysql://u:hunter2@h/d",), 2, "registry URL mysql://…: unknown scheme"),
        (("redis://:hunter2@127.0.0.1:{port}",), 3, "cannot reach the registry: the connection was refused"),
        (("postgres://u:hunter2@127.0.0.1:{port}/d", "--watch"), 3, "the connection was refused"),
        (("redis://:hunter2@h", "a/b"), 2, "is not a valid service name"),
    ],
)
def test_what_goes_wrong_is_one_line_without_secrets(arguments: tuple[str, ...], code: int, message: str) -> None:
    port = free_port()
    shown = ask(*(argument.format(port=port) for argument in arguments))
    assert (shown.returncode, shown.stdout) == (code, "")
    error = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert len(error) == 1 and message in error[0]
    assert "hunter2" not in shown.stderr and "Traceback" not in shown.stderr


def test_a_wrong_password_is_one_line_without_it(database: Database) -> None:
    shown = ask(database.url.replace(PASSWORD, "hunter2"))
    assert shown.stderr == "Error: cannot reach the registry: authentication failed: wrong user or password\n"
    assert shown.returncode == 3

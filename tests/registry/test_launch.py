"""A launch that is found in a registry: registered when it serves, out of it when it has ended."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from duallisten import Config, LaunchError, UsageError
from duallisten.control.client import ask as ask_control
from duallisten.control.protocol import Request
from duallisten.net import Host, Interface, resolve_name
from duallisten.registry import Instance, Registry
from duallisten.server.registration import reachable, reached_first, registration_of, service_of
from tests.registry.databases import Database
from tests.support.running import DEADLINE, FREE, Launched, address, ask, launched, run

SECRET = "hunter2"


@contextmanager
def registered(database: Database, *more: str, environ: dict[str, str] | None = None) -> Iterator[Launched]:
    variables = {"DUALLISTEN_REGISTER": database.url, "DUALLISTEN_SERVICE": "billing", **(environ or {})}
    with launched("duallisten.demo:app", *FREE, *more, environ=variables) as server:
        yield server


async def found(registry: Registry, service: str = "billing") -> list[Instance]:
    return list(await registry.instances(service))


async def settled(registry: Registry, count: int, state: str | None = None) -> list[Instance]:
    """Wait until so many instances are there, in that state."""
    async for instances in registry.watch("billing"):
        seen = list(instances)
        if len(seen) == count and all(state in (None, one.state) for one in seen):
            return seen
    raise AssertionError("the watch ended")


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--workers", "1", "--private-workers", "1")])
async def test_a_launch_has_one_entry_from_when_it_serves_to_its_end(
    database: Database, registry: Registry, more: tuple[str, ...]
) -> None:
    with registered(database, *more) as server:
        (one,) = await settled(registry, 1, "ready")
        private, public = address(server.url("private")), address(server.url("public"))
        assert (one.service, one.address, one.private_port, one.public_port) == (
            "billing",
            private[0],
            private[1],
            public[1],
        )
        assert one.started_at.endswith("Z")
        server.send(signal.SIGTERM)
        await settled(registry, 0)
        server.process.wait(DEADLINE)
        assert await found(registry) == []


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
async def test_that_it_drains_is_told_while_it_still_serves(
    database: Database, registry: Registry, more: tuple[str, ...]
) -> None:
    with registered(database, "--private-linger", "20", *more) as server:
        await settled(registry, 1, "ready")
        server.send(signal.SIGTERM)
        await settled(registry, 1, "draining")
        assert server.process.poll() is None
        server.send(signal.SIGINT)
        server.process.wait(DEADLINE)


async def test_a_launch_that_is_drained_is_told_of_and_comes_back(
    database: Database, registry: Registry, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    with registered(database, "--control", path):
        await settled(registry, 1, "ready")
        assert ask_control(path, Request("drain")) == {"drained": True, "told": ["registry"]}
        await settled(registry, 1, "draining")
        assert ask_control(path, Request("drain", off=True)) == {"drained": False, "told": ["registry"]}
        await settled(registry, 1, "ready")


async def test_a_worker_that_is_replaced_leaves_the_entry_alone(database: Database, registry: Registry) -> None:
    with registered(database, "--workers", "2") as server:
        before = await settled(registry, 1, "ready")
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert await found(registry) == before


ON_PLATFORM = ("--private-missing", "loopback", "--private-wait", "0", "--private-linger", "0")


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_a_launch_whose_entry_nobody_could_read_serves_without_one(more: tuple[str, ...]) -> None:
    environ = {
        "DUALLISTEN_REGISTER": "redis://127.0.0.1:9/0",
        "APP": "shop",
        "CONTAINER": "web-1",
        "CONTAINER_VERSION": "v\t42",
        "CONTAINER_MEMORY": "1",
        "PORT": "0",
    }
    with launched("duallisten.demo:app", *ON_PLATFORM, *more, environ=environ) as server:
        server.wait_for("Not registered: invalid instance: the entry's version is invalid")
        assert b" 200 " in ask(server.url("public"))
        assert server.end() in (0, -signal.SIGTERM)
        assert "Traceback" not in server.output


async def test_a_platform_says_what_the_service_is_called(database: Database, registry: Registry) -> None:
    environ = {
        "DUALLISTEN_SERVICE": "",
        "APP": "shop",
        "CONTAINER": "web-1",
        "CONTAINER_VERSION": "42",
        "CONTAINER_MEMORY": "1",
        "PORT": "0",
    }
    with registered(database, *ON_PLATFORM, environ=environ) as server:
        server.url("public")
        assert await settled_service(registry, "shop-web")
        (one,) = await found(registry, "shop-web")
        assert (one.container, one.version) == ("web-1", "42")
        assert one.id.startswith("web-1-")


async def settled_service(registry: Registry, service: str) -> bool:
    async for instances in registry.watch(service):
        if instances:
            return True
    return False


def test_a_registry_that_is_away_costs_a_line_and_nothing_else() -> None:
    environ = {"DUALLISTEN_REGISTER": f"redis://user:{SECRET}@127.0.0.1:9/0", "DUALLISTEN_SERVICE": "billing"}
    with launched("duallisten.demo:app", *FREE, environ=environ) as server:
        server.wait_for("Cannot update the registration: .*the connection was refused")
        assert b" 200 " in ask(server.url("public"))
        assert server.end() == 0
        assert SECRET not in server.output
        assert "Application shutdown complete" in server.output


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_password_is_never_shown(as_json: tuple[str, ...], tmp_path: Path) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:9/0"
    shown = run("duallisten.demo:app", *FREE, "--register", url, "--service", "x", "--check", *as_json)
    assert shown.returncode == 0
    assert SECRET not in shown.stdout + shown.stderr
    if as_json:
        values = {value["option"]: value["value"] for value in json.loads(shown.stdout)["values"]}
        assert values["register"] == "(not shown)"
    for bad in (f"nonsense://user:{SECRET}@x", f"redis://user:{SECRET}@x:port", SECRET):
        refused = run("duallisten.demo:app", *FREE, "--register", bad, "--service", "x")
        assert refused.returncode == 2
        assert SECRET not in refused.stdout + refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_the_name_of_a_variable_keeps_the_url_out_of_the_process_list() -> None:
    environ = {"SHOP_REDIS_URL": f"redis://user:{SECRET}@127.0.0.1:9/0"}
    options = ("--register", "SHOP_REDIS_URL", "--service", "billing")
    with launched("duallisten.demo:app", *FREE, *options, environ=environ) as server:
        server.wait_for("Cannot update the registration: .*the connection was refused")
        assert "process list" not in server.output
        assert SECRET not in server.output


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
@pytest.mark.parametrize("url", [f"redis://user:{SECRET}@127.0.0.1:9/0", f"redis://127.0.0.1:9/0?password={SECRET}"])
def test_a_password_on_the_command_line_costs_one_warning(url: str, more: tuple[str, ...]) -> None:
    options = ("--register", url, "--service", "billing")
    with launched("duallisten.demo:app", *FREE, *more, *options) as server:
        server.wait_for("Cannot update the registration")
        server.end()
        assert server.output.count("--register: the URL's password is visible in the process list") == 1
        assert SECRET not in server.output


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "redis://user@127.0.0.1:9/0"])
def test_a_url_without_a_password_may_stand_on_the_command_line(url: str, caplog: pytest.LogCaptureFixture) -> None:
    given = {"register": url, "service": "billing"}
    config = Config.from_sources("duallisten.demo:app", given, {"register": "--register"})
    assert registration_of(config) is not None
    assert caplog.records == []


def test_a_variable_that_is_not_there_is_an_error_that_does_not_repeat_it() -> None:
    refused = run("duallisten.demo:app", *FREE, "--register", "SHOP_REDIS_URL", "--service", "x")
    assert refused.returncode == 2
    assert (
        "--register: neither a URL such as redis://… nor the name of an environment variable that holds one"
        in refused.stderr
    )
    assert "SHOP" not in refused.stderr


@pytest.mark.needs_redis
async def test_an_address_that_clients_do_not_follow_by_themselves_is_named_at_launch(redis: Database) -> None:
    with registered(redis) as server:
        server.wait_for("Registered as")
        assert "Registering the address 127.0.0.1, which is not private" in server.output


def test_a_name_is_needed_and_must_be_one() -> None:
    with pytest.raises(UsageError, match="give --service NAME"):
        service_of(Config("duallisten.demo:app", register="redis://x"))
    with pytest.raises(UsageError, match="--service a b: must be"):
        service_of(Config("duallisten.demo:app", register="redis://x", service="a b"))
    assert registration_of(Config("duallisten.demo:app")) is None


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duallisten.registry.backend.find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"install 'duallisten\[redis\]"):
        registration_of(Config("duallisten.demo:app", register="redis://x", service="x"))


def test_of_several_addresses_the_first_is_registered_that_others_can_reach() -> None:
    assert reached_first([("127.0.0.1", 9240), ("fdaa::5", 9241), ("10.240.0.5", 9240)]) == ("fdaa::5", 9241)
    assert reached_first([("::1", 9240), ("127.0.0.1", 9241)]) == ("::1", 9240)
    assert reached_first([("/run/app.sock", 0)]) == ("/run/app.sock", 0)


def test_a_wildcard_is_no_address_to_be_reached_at() -> None:
    from ipaddress import ip_address

    def host(*addresses: str) -> Host:
        return Host((Interface("eth0", tuple(map(ip_address, addresses))),), resolve_name)

    assert reachable("0.0.0.0", host("127.0.0.1", "fe80::1", "192.0.2.7")) == "192.0.2.7"
    assert reachable("::", host("127.0.0.1")) == "127.0.0.1"
    assert reachable("192.0.2.9", host("192.0.2.7")) == "192.0.2.9"
    assert reachable("/run/app.sock", host("192.0.2.7")) == "192.0.2.7"


def test_reloading_code_is_registered_nowhere(tmp_path: Path) -> None:
    environ = {"DUALLISTEN_REGISTER": "redis://127.0.0.1:9/0", "DUALLISTEN_SERVICE": "billing"}
    with launched(
        "duallisten.demo:app", *FREE, "--reload", "--control", "socket", cwd=tmp_path, environ=environ
    ) as server:
        server.wait_for("--control is ignored while reloading")
        server.wait_for("--register is ignored while reloading")
        server.wait_for("Application startup complete")
        assert "Cannot update the registration" not in server.output
        assert not (tmp_path / "socket").exists()

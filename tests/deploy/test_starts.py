"""Each file's command line and variables, started in a network like the platform's: who reaches what, and as whom.

router (the world, or a balancer) ---- container ---- neighbour
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.deploy import files
from tests.deploy.files import DEPLOY, Start
from tests.netns.kinds import ALONE, IPV6_INSIDE, ONE, inside
from tests.netns.topology import (
    GATEWAY,
    POD,
    PRIVATE,
    PUBLIC,
    ROUTER,
    TWO_IPV4,
    Kind,
    Namespace,
    Network,
    Topology,
    listening,
    scalingo,
    topology,
)
from tests.netns.visits import say
from tests.support.running import DUALLISTEN, PYTHON, Launched, free_environment

CLIENT = "203.0.113.7"
DEFAULT_GRACEFUL = 30
FORWARDED = {"X-Forwarded-For": f"6.6.6.6, {CLIENT}", "Fly-Client-IP": CLIENT, "X-Real-IP": CLIENT}

PASS = """
import json, os, socket, sys
passed = json.loads(sys.argv[1])
for number, (host, port) in enumerate(passed.values(), 3):
    made = socket.create_server((host, port))
    os.dup2(made.fileno(), number + 100)
for number in range(3, 3 + len(passed)):
    os.dup2(number + 100, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=":".join(passed))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A program that makes sockets as a `.socket` unit does, and becomes another one, to which they are passed."""


def compose_networks() -> Kind:
    """The two networks of the Compose file: the proxy is on one of them, and another service on the other."""
    said = files.documents("compose.yaml")[0]["networks"]
    edge, private = (ip_network(said[name]["ipam"]["config"][0]["subnet"]) for name in ("edge", "private"))
    return Kind(
        (
            Network("eth0", (f"{edge[3]}/{edge.prefixlen}",), router=(f"{edge[2]}/{edge.prefixlen}",)),
            Network("eth1", (f"{private[5]}/{private.prefixlen}",), neighbour=(f"{private[6]}/{private.prefixlen}",)),
        )
    )


VPC = Kind((Network("eth0", ("10.0.16.5/16",), router=("10.0.0.10/16",), neighbour=("10.0.16.6/16",)),))
"""A task, a load balancer in a subnet of its own, and another task."""

FLY = {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "1", "FLY_PRIVATE_IP": "fdaa::5"}
RAILWAY = {"RAILWAY_PROJECT_ID": "1", "RAILWAY_SERVICE_ID": "2", "PORT": "8080"}
RENDER = {"RENDER": "true", "RENDER_SERVICE_TYPE": "web", "PORT": "10000", "WEB_CONCURRENCY": "1"}
HEROKU = {"DYNO": "web.1", "PORT": "34567", "FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "2"}
SCALINGO = scalingo() | {"FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "2"}


class Case(NamedTuple):
    """A file, and what its platform adds.

    Attributes:
        start: Reads the file.
        kind: The network.
        public: Where the router comes in.
        private: Where the neighbour comes in; empty where there is no private side.
        client: Whom the application takes for the client of a request that the router hands on.
        more: Listeners beside the two, such as the one for a health check.
    """

    start: Callable[[], Start]
    kind: Kind
    public: tuple[str, int]
    private: str = ""
    client: str = CLIENT
    more: tuple[str, ...] = ()


CHECKED = ("127.0.0.1",)
CASES = {
    "docker": Case(files.image, ONE, (POD, 8000), POD, GATEWAY, CHECKED),
    "compose": Case(files.compose, compose_networks(), ("10.241.0.3", 8000), "10.240.0.5", CLIENT, CHECKED),
    "kubernetes": Case(
        lambda: files.kubernetes(POD).on(KUBERNETES_SERVICE_HOST="10.43.0.1"), ONE, (POD, 8000), POD, CLIENT, CHECKED
    ),
    "ecs": Case(
        lambda: files.ecs().on(ECS_CONTAINER_METADATA_URI_V4="http://169.254.170.2/v4/1"),
        *(VPC, ("10.0.16.5", 8000), "10.0.16.5", CLIENT, CHECKED),
    ),
    "fly": Case(lambda: files.fly().on(**FLY), IPV6_INSIDE, (PUBLIC, 8000), "fdaa::5", CLIENT, CHECKED),
    "railway": Case(
        lambda: files.railway().on(**RAILWAY),
        *(inside("eth1", ("fd12::5/16", "fd12::6/16")), (PUBLIC, 8080), "fd12::5", ROUTER, CHECKED),
    ),
    "render": Case(lambda: files.render().on(**RENDER), ONE, (POD, 10000), POD, GATEWAY, CHECKED),
    "heroku": Case(lambda: files.procfile().on(**HEROKU), ALONE, (POD, 34567), "", CLIENT, CHECKED),
    "scalingo": Case(lambda: files.procfile().on(**SCALINGO), TWO_IPV4, (PUBLIC, 5000), PRIVATE),
}


@contextmanager
def network(folder: Path, kind: Kind) -> Iterator[Topology]:
    """Build the network of a container that has the shop."""
    shutil.copy(DEPLOY / "shop.py", folder)
    with topology(folder, kind) as built:
        yield built


def asked(peer: Namespace, host: str, port: int, path: str = "/", **headers: str) -> tuple[int, Any]:
    """Ask the shop, and return the status and the JSON of the answer; 0 where nothing came back."""
    name = f"[{host}]" if ":" in host else host
    lines = [f"GET {path} HTTP/1.1", f"Host: {name}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head, _, body = say(peer, host, port, "\r\n".join([*lines, "", ""]).encode()).received.partition(b"\r\n\r\n")
    is_json = b"application/json" in head
    return int(head.split()[1]) if head else 0, json.loads(body) if is_json else None


def is_killed(start: Start, built: Topology) -> bool:
    """Whether the requests in hand have more time than the platform gives the process."""
    done = built.run(*start.command, "--check", "--json", environ=start.environ)
    assert done.returncode == 0, done.stderr
    said = {one["option"]: one["value"] for one in json.loads(done.stdout)["values"]}
    return start.grace is not None and said.get("timeout_graceful_shutdown", DEFAULT_GRACEFUL) >= start.grace


@pytest.mark.needs_root
@pytest.mark.needs_ipv6
@pytest.mark.parametrize("name", CASES)
def test_each_side_is_where_the_platform_s_traffic_comes_in(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    start = case.start()
    with network(tmp_path, case.kind) as built:
        assert not is_killed(start, built)
        server = built.launch(*start.command, environ=start.environ | {"DUALLISTEN_PUBLIC_LINGER": "0"})
        server.wait_for("Serving the public side on ")
        host, port = case.public
        private = {(address, 9240) for address in (case.private, *case.more) if address}
        assert listening(server.process.pid) == {("0.0.0.0", port)} | private
        assert asked(built.router, host, port, **FORWARDED) == (200, {"side": "public", "client": case.client})
        assert asked(built.router, host, port, "/internal/stock") == (404, None)
        for side, path in start.probes:
            where = (host, port) if side == "public" else (case.private, 9240)
            assert asked(built.router, *where, path)[0] == 200
        if case.private:
            see_the_private_side(built, case)
        if start.healthcheck:
            program, *arguments = start.healthcheck
            assert program == "python"
            check = built.container.inside(*PYTHON, *arguments)
            assert subprocess.run(check, env=free_environment(), check=False).returncode == 0


def see_the_private_side(built: Topology, case: Case) -> None:
    """See who reaches it, and that its neighbours reach no more than the world does at the public port."""
    host, port = case.public
    status, answer = asked(built.neighbour, case.private, 9240, **FORWARDED)
    assert (status, answer["side"]) == (200, "private")
    assert answer["client"] not in (CLIENT, "6.6.6.6"), "a neighbour's word is not believed"
    assert asked(built.neighbour, case.private, 9240, "/internal/stock") == (200, {"apples": 3})
    is_open = ":" not in case.private  # the public listener has IPv4 alone
    assert asked(built.neighbour, case.private, port, "/internal/stock") == (404 if is_open else 0, None)
    if len(case.kind.networks) > 1 and is_open:
        built.router.ip(f"route add {case.private} via {host}")
        assert asked(built.router, case.private, 9240) == (0, None)


@pytest.mark.needs_root
def test_systemd_s_sockets_become_the_two_sides(tmp_path: Path) -> None:
    passed = {name: (host, port) for name, host, port in files.sockets()}
    assert passed["private"][0] == PRIVATE
    start = files.systemd()
    with network(tmp_path, TWO_IPV4) as built:
        assert not is_killed(start, built)
        command = built.container.inside(*PYTHON, "-c", PASS, json.dumps(passed), *DUALLISTEN, *start.command)
        with Launched(command, cwd=tmp_path) as server:
            server.wait_for("Serving the public side on ")
            assert listening(server.process.pid) == {*passed.values()}
            case = Case(files.systemd, TWO_IPV4, (PUBLIC, passed["public"][1]), PRIVATE)
            assert asked(built.router, *case.public) == (200, {"side": "public", "client": ROUTER})
            assert asked(built.router, *case.public, "/internal/stock") == (404, None)
            see_the_private_side(built, case)

"""Two services in a private network that know only each other's names, and find each other by a registry or by DNS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.netns.topology import NEIGHBOUR, PRIVATE, Namespace, Topology
from tests.registry.databases import PASSWORD
from tests.registry.serving import command
from tests.support.running import DEADLINE, Launched, run

pytestmark = pytest.mark.needs_redis

ASK = """
import asyncio, sys
from duallisten.registry.http import client

async def main(*target):
    async with client(*target, timeout=30) as http:
        print((await http.get("/")).text)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def registry(network: Topology) -> Iterator[str]:
    """A Redis in the container's namespace; the URL of it."""
    network.container.ip("link set lo up")
    server = network.container.inside(
        "redis-server", "--port", "6379", "--bind", PRIVATE, "--save", "", "--requirepass", PASSWORD
    )
    with Launched(server, cwd=network.folder) as running:
        running.wait_for("Ready to accept connections")
        yield f"redis://:{PASSWORD}@{PRIVATE}:6379"


def serve(where: Namespace, service: str, address: str, url: str) -> Launched:
    options = ("--private-host", address, "--private-network", "10.240.0.0/22", "--private-port", "9240")
    return Launched(where.inside(*command(service, "1", *options)), environ={"REGISTRY": url})


def ask(where: Namespace, *target: str) -> str:
    """Ask a service from a namespace, and give the answer, or what was said in place of one."""
    script = where.inside(*command("", "")[:1], "-c", ASK, *target)
    ran = run(command=script)
    return ran.stdout or ran.stderr


def test_two_services_find_each_other_by_name(network: Topology, registry: str) -> None:
    with ExitStack() as stack:
        for where, service, address in (
            (network.container, "billing", PRIVATE),
            (network.neighbour, "shipping", NEIGHBOUR),
        ):
            server = stack.enter_context(serve(where, service, address, registry))
            server.wait_for(f"Registered as instance 1 of {service}", within=DEADLINE)
        assert f'"me": "{NEIGHBOUR}:9240"' in ask(network.container, "shipping", registry)
        assert f'"me": "{PRIVATE}:9240"' in ask(network.neighbour, "billing", registry)
        assert "no instance of accounting is registered" in ask(network.neighbour, "accounting", registry)


@contextmanager
def names(where: Namespace, text: str) -> Iterator[None]:
    """Have names resolved inside a namespace as a hosts file says; `ip netns exec` puts it in place of the host's."""
    folder = Path("/etc/netns", where.name)
    folder.mkdir(parents=True)
    try:
        (folder / "hosts").write_text(text)
        yield
    finally:
        shutil.rmtree(folder)
        with suppress(OSError):  # other namespaces have theirs, too
            folder.parent.rmdir()


def test_a_neighbour_finds_all_instances_by_their_private_name(network: Topology) -> None:
    """One of the addresses has nobody behind its port: the requests go to the other."""
    name = "web.ap-1.pn-1.private-network.internal"
    network.serve(sides=("private",))
    with names(network.neighbour, f"{NEIGHBOUR} {name}\n{PRIVATE} {name}\n"):
        assert f'"me": "{PRIVATE}:9240"' in ask(network.neighbour, name)

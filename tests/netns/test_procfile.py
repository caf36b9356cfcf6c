"""One Procfile line per set-up, under the environment that Scalingo sets for each process type."""

from __future__ import annotations

import shlex

import pytest

from tests.netns.topology import NEIGHBOUR, PRIVATE, PUBLIC, Namespace, Topology, listening, scalingo
from tests.netns.visits import visit
from tests.support.running import Launched

BOTH = ["private", "public"]


def start(network: Topology, line: str, *, sides: list[str], where: Namespace | None = None) -> Launched:
    """Start a container of the process type of a Procfile's line, and wait until `sides` are served."""
    process_type, _, command = line.partition(": ")
    program, app, *arguments = shlex.split(command)
    assert program == "duallisten"
    return network.serve(*arguments, app=app, container=f"{process_type}-1", sides=sides, where=where)


def test_a_process_type_of_ones_own_is_private_only(network: Topology) -> None:
    server = start(network, "api: duallisten duallisten.demo:app", sides=["private"])
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    assert listening(server.process.pid) == {(PRIVATE, 9240)}
    assert visit(network.router, PUBLIC, 5000).found_nobody
    assert visit(network.router, PUBLIC, 9240).found_nobody


def test_a_web_process_can_be_public_only(network: Topology) -> None:
    server = start(network, "web: duallisten duallisten.demo:app --listeners public", sides=["public"])
    assert visit(network.router, PUBLIC, 5000).side == "public"
    assert listening(server.process.pid) == {("0.0.0.0", 5000)}
    assert visit(network.neighbour, PRIVATE, 9240).found_nobody


def test_one_command_in_two_process_types_does_the_right_thing_in_each(network: Topology) -> None:
    """Here the neighbour is a second container of the application, in its private network."""
    web = start(network, "web: duallisten duallisten.demo:app", sides=BOTH)
    internal = start(network, "internal: duallisten duallisten.demo:app", sides=["private"], where=network.neighbour)
    assert listening(web.process.pid) == {("0.0.0.0", 5000), (PRIVATE, 9240)}
    assert listening(internal.process.pid) == {(NEIGHBOUR, 9240)}
    assert visit(network.router, PUBLIC, 5000).side == "public"
    assert visit(network.container, NEIGHBOUR, 9240).side == "private"
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    assert visit(network.container, NEIGHBOUR, 5000).found_nobody


@pytest.mark.parametrize("process_type", ["web", "tcp"])
def test_one_process_type_can_serve_both_sides(network: Topology, process_type: str) -> None:
    server = start(network, f"{process_type}: duallisten duallisten.demo:app", sides=BOTH)
    assert visit(network.router, PUBLIC, 5000).side == "public"
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    assert listening(server.process.pid) == {("0.0.0.0", 5000), (PRIVATE, 9240)}


def test_a_container_reaches_its_own_private_side(network: Topology) -> None:
    network.serve()
    assert visit(network.container, PRIVATE, 9240).side == "private"


def test_a_postdeploy_process_is_told_that_no_server_belongs_there(network: Topology) -> None:
    refused(network, scalingo("postdeploy-1"), "a postdeploy process on scalingo runs before a deployment")


def test_a_web_process_without_its_port_is_told_so(network: Topology) -> None:
    environment = scalingo("web-1")
    del environment["PORT"]
    refused(network, environment, "PORT is not set")


def refused(network: Topology, environment: dict[str, str], trouble: str) -> None:
    """See `duallisten duallisten.demo:app` refused in one line of standard error."""
    done = network.run("duallisten.demo:app", environ=environment)
    assert (done.returncode, done.stdout) == (3, ""), done
    (line,) = done.stderr.splitlines()
    assert trouble in line


def test_a_client_of_the_tcp_gateway_cannot_forge_its_address(network: Topology) -> None:
    start(network, "tcp: duallisten duallisten.demo:app", sides=BOTH)
    client = visit(network.router, PUBLIC, 5000, {"X-Forwarded-For": "1.2.3.4"})
    assert (client.side, client.you) == ("public", client.me)

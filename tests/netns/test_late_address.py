"""A private network that the platform attaches after the container has started."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.netns.topology import PRIVATE, PUBLIC, Topology, listening, scalingo
from tests.netns.visits import visit, visits
from tests.processes.systemd.manager import manager
from tests.support.running import eventually


@pytest.fixture
def late(network: Topology) -> Topology:
    """The network, with eth1 down and without its address."""
    network.container.ip("addr flush dev eth1", "link set eth1 down")
    return network


def test_a_private_address_that_appears_late_is_waited_for(late: Topology) -> None:
    server = late.launch("duallisten.demo:app", environ=scalingo())
    # What one look takes, from start to end, the server has then had time for, too.
    assert late.run("duallisten.demo:app", "--private-wait", "0", environ=scalingo()).returncode == 3
    assert server.process.poll() is None, server.output
    assert listening(server.process.pid) == set(), "no side is up before both can be"
    late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
    for side in ("private", "public"):
        server.wait_for(f"Serving the {side} side on ")
    assert visit(late.router, PUBLIC, 5000).side == "public"
    assert visit(late.neighbour, PRIVATE, 9240).side == "private"


def test_a_private_address_that_is_not_there_is_told_with_those_that_are(late: Topology) -> None:
    done = late.run("duallisten.demo:app", "--private-wait", "0", environ=scalingo())
    assert (done.returncode, done.stdout) == (3, ""), done
    (line,) = done.stderr.splitlines()
    assert "no address in 10.240.0.0/22" in line
    assert f"eth0 {PUBLIC}" in line
    assert "lo 127.0.0.1" in line


def test_the_public_side_alone_needs_no_private_address(late: Topology) -> None:
    late.serve("--listeners", "public", sides=["public"])
    assert visit(late.router, PUBLIC, 5000).side == "public"


LATER = ("--private-missing", "later", "--private-wait", "600")


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--workers", "2"),
        ("--workers", "2", "--preload"),
        ("--workers", "1", "--private-workers", "2"),
        ("--reload", "--loop", "uvloop"),
        ("--private-host", "eth1"),
    ],
    ids=lambda more: "".join(more) or "alone",
)
def test_the_public_side_need_not_wait_for_the_private_one(more: tuple[str, ...], late: Topology) -> None:
    server = late.serve(*LATER, *more, sides=["public"])
    server.wait_for("Serving only the public side until there is ")
    assert eventually(lambda: not visit(late.router, PUBLIC, 5000).found_nobody)  # a reloader speaks before it serves
    assert visit(late.router, PUBLIC, 5000).side == "public"
    assert {port for _, port in listening(server.process.pid)} == {5000}
    late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
    server.wait_for(rf"Serving the private side on http://{PRIVATE}:9240")
    seen = visits(late.neighbour, PRIVATE, 9240, 20)
    assert {one.side for one in seen} == {"private"}
    assert len({one.answer["process"] for one in seen}) == (2 if "2" in more else 1)
    assert visit(late.neighbour, PRIVATE, 5000).side == "public"
    late.router.ip(f"route add 10.240.0.0/22 via {PUBLIC}")
    assert visit(late.router, PRIVATE, 9240).was_shut_out
    server.end()
    assert eventually(lambda: listening_in(late) == set())


def test_a_private_side_that_comes_late_outlives_its_workers(late: Topology) -> None:
    """They are replaced, and one is killed, after the address has come."""
    server = late.serve(*LATER, "--workers", "2", sides=["public"])
    late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
    server.wait_for("Serving the private side on ")
    server.send(signal.SIGHUP)
    server.wait_for("Finished server process", count=2)
    max(server.workers, key=lambda worker: worker.pid).kill()
    assert [one.side for one in visits(late.neighbour, PRIVATE, 9240, 10)] == ["private"] * 10


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_systemd_is_told_ready_before_the_private_address_comes_and_of_its_coming(
    more: tuple[str, ...], late: Topology, tmp_path: Path
) -> None:
    with manager(tmp_path / "notify") as told:
        late.serve(*LATER, *more, sides=["public"], NOTIFY_SOCKET=told.name)
        assert told.hear().text == "READY=1\nSTATUS=Serving the public side; waiting for the private address"
        late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
        assert told.hear().text == "STATUS=Serving the public side and the private side"


def test_a_private_port_that_is_taken_when_the_address_comes_is_told_and_waited_for(late: Topology) -> None:
    server = late.serve(*LATER, sides=["public"])
    taken = late.launch("duallisten.demo:app", "--listeners", "public", "--port", "9240", environ=scalingo())
    taken.wait_for("Serving the public side on ")
    late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
    server.wait_for("Cannot open the private side yet: cannot bind the private listener to .*Address already in use")
    taken.end()
    server.wait_for("Serving the private side on ")
    assert visit(late.neighbour, PRIVATE, 9240).side == "private"


def test_an_address_that_never_comes_does_not_hold_up_the_end(late: Topology) -> None:
    for more in ((), ("--workers", "2")):
        server = late.serve(*LATER, *more, sides=["public"])
        server.end()
        assert "Application shutdown complete" in server.output


def test_a_private_side_alone_waits_and_fails_as_ever(late: Topology) -> None:
    done = late.run(
        "duallisten.demo:app", "--private-missing", "later", "--private-wait", "0.2", environ=scalingo("api-1")
    )
    assert done.returncode == 3
    assert "waited 0.2 s: no address in 10.240.0.0/22; found " in done.stderr


def test_one_port_for_both_sides_cannot_come_later(late: Topology) -> None:
    done = late.run("duallisten.demo:app", *LATER, "--private-port", "5000", environ=scalingo())
    assert done.returncode == 3
    assert "--private-missing later needs a private port of its own" in done.stderr


def listening_in(network: Topology) -> set[tuple[str, int]]:
    """What is listened on in the container, whoever does."""
    return {each for process in network.container.processes for each in listening(process)}


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_private_address_that_goes_and_comes_back_is_served_again(more: tuple[str, ...], network: Topology) -> None:
    server = network.serve(*more)
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    network.container.ip(f"addr del {PRIVATE}/22 dev eth1")
    assert visit(network.router, PUBLIC, 5000).side == "public"
    if more:  # a worker that is replaced meanwhile serves both sides, too
        max(server.workers, key=lambda worker: worker.pid).kill()
        server.wait_for("Application startup complete", count=3)
    network.container.ip(f"addr add {PRIVATE}/22 dev eth1")
    seen = visits(network.neighbour, PRIVATE, 9240, 20)
    assert {one.side for one in seen} == {"private"}
    assert visit(network.router, PUBLIC, 5000).side == "public"

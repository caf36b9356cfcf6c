"""A private side with several addresses: both IP versions, loopback for a health check, and all of an interface."""

from __future__ import annotations

import pytest

from tests.netns.topology import PRIVATE, PRIVATE6, PUBLIC, PUBLIC6, Topology, listening
from tests.netns.visits import visit

BOTH_BLOCKS = ("--private-network", "10.240.0.0/22", "--private-network", "fdaa::/16")
PRIVATE_PORTS = {(PRIVATE, 9240), (PRIVATE6, 9240), ("127.0.0.1", 9240)}

with_and_without_workers = pytest.mark.parametrize("workers", ["1", "2"], ids=["one-worker", "two-workers"])


@with_and_without_workers
def test_both_ip_versions_and_loopback_are_private_and_only_to_their_peers(network6: Topology, workers: str) -> None:
    hosts = ("--private-host", "auto", "--private-host", "127.0.0.1", "--host", PUBLIC, "--host", PUBLIC6)
    server = network6.serve(*BOTH_BLOCKS, *hosts, WEB_CONCURRENCY=workers)
    for address in (PRIVATE, PRIVATE6):
        assert visit(network6.neighbour, address, 9240).side == "private"
    assert visit(network6.container, "127.0.0.1", 9240).side == "private"
    for address in (PUBLIC, PUBLIC6):
        assert visit(network6.router, address, 5000).side == "public"
    assert visit(network6.container, "127.0.0.1", 5000).found_nobody
    network6.router.ip(f"route add 10.240.0.0/22 via {PUBLIC}", f"route add fdaa::/64 via {PUBLIC6}")
    for address in (PRIVATE, PRIVATE6):
        assert visit(network6.router, address, 9240).was_shut_out
    server.end()


@pytest.mark.parametrize(
    ("interface", "ours", "theirs"),
    [
        ("tailscale0", ("100.101.102.103", "fd7a:115c:a1e0::1"), ("100.64.7.7", "fd7a:115c:a1e0::7")),
        ("wg0", ("10.8.0.2", "fd08::2"), ("10.8.0.6", "fd08::6")),
    ],
)
def test_an_overlay_s_interface_alone_is_enough(
    interface: str, ours: tuple[str, str], theirs: tuple[str, str], network6: Topology
) -> None:
    """Its addresses have no network of their own, and a table of its own may have its routes, as Tailscale's has."""
    container, neighbour = network6.container, network6.neighbour
    container.ip(f"link add {interface} type veth peer name {interface} netns {neighbour.name}")
    for end, own, (four, six) in ((container, ours, theirs), (neighbour, theirs, ours)):
        end.ip(f"link set {interface} up", *(f"addr add {address} dev {interface} nodad" for address in own))
        end.ip(f"route add {four} dev {interface} table 52", "rule add lookup 52", f"route add {six} dev {interface}")
        end.ip(f"route add default dev {interface} table 53")
    server = network6.serve("--private-host", interface)
    for address in ours:
        assert visit(neighbour, address, 9240).side == "private"
    neighbour.ip("rule del lookup 52", f"route add {ours[0]} dev eth1")
    assert visit(neighbour, ours[0], 9240).was_shut_out, "from 10.240.0.6, which is not in the overlay network"
    assert (PRIVATE, 9240) not in listening(server.process.pid)


LATER = ("--private-missing", "later", "--private-host", "eth1", "--private-host", "127.0.0.1")


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--workers", "1", "--private-workers", "2")], ids=str)
def test_addresses_that_come_late_are_opened_all_at_once(more: tuple[str, ...], network6: Topology) -> None:
    network6.container.ip("addr flush dev eth1")
    server = network6.serve(*BOTH_BLOCKS, *LATER, *more, sides=["public"])
    server.wait_for("only the public side until there is --private-host eth1 and --private-host 127.0.0.1")
    assert visit(network6.router, PUBLIC, 5000).side == "public"
    assert visit(network6.container, "127.0.0.1", 9240).found_nobody
    network6.container.ip(f"addr add {PRIVATE6}/64 dev eth1 nodad")
    for address in (rf"\[{PRIVATE6}\]", "127.0.0.1"):
        server.wait_for(rf"Serving the private side on http://{address}:9240")
    assert visit(network6.neighbour, PRIVATE6, 9240).side == "private"
    assert visit(network6.container, "127.0.0.1", 9240).side == "private"
    server.end()


def test_of_several_addresses_one_that_cannot_be_bound_stops_the_launch(network6: Topology) -> None:
    first = network6.serve("--private-host", "127.0.0.1", container="api-1", sides=["private"])
    second = network6.run(
        "duallisten.demo:app",
        *(*BOTH_BLOCKS, "--private-host", "auto", "--private-host", "127.0.0.1", "--listeners", "private"),
        environ={},
    )
    assert second.returncode == 3
    assert second.stderr.splitlines()[-1].startswith(
        "duallisten: cannot bind the private listener to 127.0.0.1:9240: Address already in use"
    ), second
    assert listening(first.process.pid) == {("127.0.0.1", 9240)}

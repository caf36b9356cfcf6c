"""Each platform on a network of its kind, with the variables that it sets: who reaches what, and who is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from duallisten.config.platforms import Platform, load
from tests.netns.containers import PLACES, Container, parameters, public_port
from tests.netns.kinds import SIDECAR
from tests.netns.topology import GATEWAY, Kind, listening, topology
from tests.netns.visits import Visit, visit

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_ipv6]

CLIENT, STRANGER = "203.0.113.7", "203.0.113.1"

NOW, LATE = (parameters(place for place in PLACES if bool(place[1].late) == late) for late in (False, True))
"""The places where a container has all of its addresses from the start, and those where the private one comes late."""


def forwarded(platform: Platform) -> dict[str, str]:
    """What a router writes of a client that has forged an address, or a neighbour in a router's name."""
    return {
        "X-Forwarded-For": f"6.6.6.6, {CLIENT}",
        platform.client_header or "X-Real-IP": CLIENT,
        "X-Forwarded-Proto": "https",
    }


def said(seen: Visit) -> tuple[str, str, str]:
    """The side, the client and the scheme that the application was told."""
    return seen.side, seen.you, str(seen.answer["scheme"])


def truth(seen: Visit, side: str) -> tuple[str, str, str]:
    """What the application is told of a peer that is not believed."""
    return side, str(seen.me), "http"


def strangers(container: Container) -> list[Visit]:
    """What becomes of a host of the world that asks the private side, by whatever way there is.

    At one address it comes as everybody does. Else the container has to be its router, if the world speaks that family.
    """
    router, seen = container.built.router, []
    if len(container.networks) == 1:
        router.ip(f"addr add {STRANGER}/32 dev eth0")
        container.where.ip(f"route replace default via {GATEWAY}")
        return [visit(router, address, 9240, source=STRANGER) for address in container.private_side]
    for address in container.private_side:
        for gateway in container.public:
            if (":" in gateway) == (":" in address):
                router.ip(f"route add {address} via {gateway}")
                seen.append(visit(router, address, 9240))
    return seen


@pytest.mark.parametrize(("platform", "kind"), NOW)
def test_each_peer_reaches_its_own_side_and_the_routers_alone_are_believed(
    platform: Platform, kind: Kind, tmp_path: Path
) -> None:
    headers = forwarded(platform)
    with topology(tmp_path, kind) as built:
        container = Container.of(platform, built)
        server, port = container.serve()
        private = container.private_side
        assert listening(server.process.pid) == {("0.0.0.0", port), *((address, 9240) for address in private)}
        router = visit(built.router, container.public[0], port, headers)
        assert said(router) == (("public", f"{CLIENT}:0", "https") if platform.is_routed else truth(router, "public"))
        for address in container.private if platform.has_private else ():
            neighbour = visit(built.neighbour, address, 9240, headers)
            assert said(neighbour) == truth(neighbour, "private") if address in private else neighbour.found_nobody
            neighbour = visit(built.neighbour, address, port, headers)
            assert neighbour.found_nobody or said(neighbour) == truth(neighbour, "public")
        assert all(stranger.was_shut_out for stranger in strangers(container))
        server.end()
        if not platform.is_routed:  # then the router is the user's to name
            _, port = container.serve("--forwarded-allow-ips", str(router.me).rpartition(":")[0])
            router = visit(built.router, container.public[0], port, headers)
            assert said(router) == ("public", f"{CLIENT}:0", "https")
            for address in container.private:
                neighbour = visit(built.neighbour, address, port, headers)
                assert neighbour.found_nobody or said(neighbour) == truth(neighbour, "public")


@pytest.mark.parametrize(("platform", "kind"), LATE)
def test_a_private_address_that_comes_late_is_served_when_it_comes(
    platform: Platform, kind: Kind, tmp_path: Path
) -> None:
    """Where the platform promises it soon, both sides wait for it; else the user says that it comes later."""
    waits = bool(platform.private_wait)
    with topology(tmp_path, kind) as built:
        container = Container.of(platform, built)
        server = container.launch(*([] if waits else ["--private-missing", "later"]))
        if waits:
            server.wait_for("Waiting up to 10 s for ")
            assert listening(server.process.pid) == set()
        else:
            server.wait_for("Serving only the public side until there is ")
            assert visit(built.router, container.public[0], public_port(server)).side == "public"
        built.arrive()
        server.wait_for("Serving the private side on ")
        neighbour = visit(built.neighbour, container.private_side[0], 9240, forwarded(platform))
        assert said(neighbour) == truth(neighbour, "private")
        assert visit(built.router, container.public[0], public_port(server)).side == "public"


@pytest.mark.parametrize("name", ["kubernetes", "openshift", "nomad"])
def test_a_sidecar_is_admitted_to_the_private_side_and_not_believed_on_the_public_one(
    name: str, tmp_path: Path
) -> None:
    """Istio's comes from 127.0.0.6 to the pod's address."""
    platform = load(name)
    with topology(tmp_path, SIDECAR) as built:
        container = Container.of(platform, built)
        _, port = container.serve()
        sidecar = visit(built.neighbour, container.private_side[0], 9240, forwarded(platform), source="127.0.0.6")
        assert said(sidecar) == truth(sidecar, "private")
        sidecar = visit(built.neighbour, container.private[0], port, forwarded(platform), source="127.0.0.6")
        assert said(sidecar) == truth(sidecar, "public")


@pytest.mark.parametrize("name", ["cloud-run", "nomad"])
def test_a_sidecar_that_asks_on_loopback_is_given_a_private_side_there(name: str, tmp_path: Path) -> None:
    """So do Cloud Run's, and Envoy for Consul if its `local_service_address` is not changed."""
    platform = load(name)
    with topology(tmp_path, SIDECAR) as built:
        container = Container.of(platform, built)
        server, port = container.serve("--private-host", "127.0.0.1", "--forwarded-allow-ips", GATEWAY)
        assert listening(server.process.pid) == {("0.0.0.0", port), ("127.0.0.1", 9240)}
        for where, side in ((9240, "private"), (port, "public")):
            sidecar = visit(built.neighbour, "127.0.0.1", where, forwarded(platform))
            assert said(sidecar) == truth(sidecar, side)
        assert visit(built.router, container.public[0], 9240).found_nobody
        assert said(visit(built.router, container.public[0], port, forwarded(platform)))[1:] == (f"{CLIENT}:0", "https")

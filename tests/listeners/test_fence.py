"""What tells the sides apart on a host, whose address is the private one there, and who is a neighbour."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from duallisten import LaunchError
from duallisten.config.options import Options
from duallisten.config.platforms import NONE, Place, Platform, every, locate
from duallisten.errors import PrivateAddressMissing
from duallisten.listeners.plan import Plan, Request, make_plan
from duallisten.net import LOOPBACK, PRIVATE_NETWORKS, Host, InheritedSocket, Interface

POD = {"lo": "127.0.0.1 ::1", "eth0": "10.1.2.3 fe80::3%eth0"}
TWO = {"lo": "127.0.0.1 ::1", "eth0": "172.17.0.2", "eth1": "10.240.0.5"}
RANGES4 = tuple(network for network in PRIVATE_NETWORKS if network.version == 4)
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


def host(interfaces: dict[str, str]) -> Host:
    made = (Interface(name, tuple(map(ip_address, texts.split()))) for name, texts in interfaces.items())
    return Host(tuple(made), lambda name: ())


def planned(interfaces: dict[str, str], place: Place | dict[str, str], **asked: Any) -> Plan:
    """The plan on a host, in a place or with the environment of one."""
    place = place if isinstance(place, Place) else locate("auto", place)
    given: dict[str, Any] = {"host": asked.pop("host", None)}
    outer: dict[str, Any] = {name: asked.pop(name) for name in ("uds", "fd") if name in asked}
    outer["networks_asked"] = "private_network" in asked
    outer["loopback_asked"] = asked.get("private_missing") == "loopback"
    given["port"] = asked.pop("port", None)
    place.complete_uvicorn(given, {})
    options = place.complete(Options(**asked), {})
    port = 8000 if given["port"] is None else given["port"]
    return make_plan(Request(options, place, given["host"] or "0.0.0.0", port, **outer), host(interfaces))


def private(plan: Plan) -> str:
    return str(plan.private)


def test_a_host_with_one_address_has_the_port_for_a_fence() -> None:
    plan = planned(POD, {"PORT": "8080"})
    assert (plan.fence.kind, plan.admission.fence) == ("port", "port")
    assert plan.fence.why == "public traffic reaches only 10.1.2.3"
    assert private(plan) == "10.1.2.3:9240"
    assert plan.admission.allowed == (*RANGES4, *LOOPBACK)
    (note,) = plan.notes
    assert "10.1.2.3:9240 admits every peer with an address in 10.0.0.0/8, " in note
    assert "network policy" in note


def test_a_host_with_two_networks_has_the_address() -> None:
    plan = planned(TWO, {"PORT": "8080"}, private_network=(ip_network("10.240.0.0/22"),))
    assert (plan.fence.kind, plan.admission.fence) == ("address", "address")
    assert plan.fence.why == "public traffic reaches 172.17.0.2, which is not private"
    assert plan.admission.allowed == (ip_network("10.240.0.0/22"), *LOOPBACK)


@pytest.mark.parametrize(
    ("interfaces", "asked", "kind"),
    [
        (POD, {}, "port"),
        (POD, {"host": "127.0.0.1"}, "address"),  # a proxy beside it; the world comes in nowhere else
        (POD, {"host": "10.1.2.3"}, "port"),
        (POD, {"host": "::"}, "port"),
        (POD, {"uds": "/run/app.sock"}, "address"),
        (POD, {"fd": 3}, "port"),
        (POD | {"eth1": "10.9.9.9"}, {"private_host": ("eth0", "eth1")}, "address"),  # not the only one
        (POD | {"eth1": "192.0.2.7"}, {"host": "10.1.2.3"}, "port"),
        (POD | {"eth1": "192.0.2.7"}, {}, "address"),
        (POD | {"eth1": "192.0.2.7"}, {"fd": 3}, "address"),
        (POD | {"eth1": "fd00::7"}, {}, "port"),  # 0.0.0.0 has no IPv6 address
        (POD | {"eth1": "fd00::7"}, {"host": "::"}, "address"),
        ({"eth0": "192.0.2.7", "eth1": "fdaa::5"}, {"private_network": (ip_network("fdaa::/16"),)}, "address"),
    ],
)
def test_the_port_is_the_fence_where_public_traffic_reaches_the_private_address_alone(
    interfaces: dict[str, str], asked: dict[str, Any], kind: str
) -> None:
    plan = planned(interfaces, {}, **{"private_network": (ip_network("10.0.0.0/8"),)} | asked)
    assert plan.fence.kind == kind


def test_a_passed_socket_is_looked_at_where_it_is_bound() -> None:
    passed = InheritedSocket(3, None)
    assert planned(POD, {"PORT": "80"}, private_host=("10.1.2.3",), fd=passed.descriptor).fence.kind == "port"


def test_an_option_beats_the_platform_and_the_platform_the_addresses() -> None:
    assert str(planned(TWO, {}, fence="port", private_host=("10.240.0.5",)).fence) == "port (--fence)"
    kubernetes = planned(POD, KUBERNETES)
    assert str(kubernetes.fence) == "port (platform kubernetes)"
    asked = planned(POD, KUBERNETES, fence="address", private_network=(ip_network("10.0.0.0/8"),))
    assert (
        str(asked.fence)
        == "address (--fence; but public traffic reaches only 10.1.2.3, so forwarded headers are not trusted)"
    )


def test_a_pod_has_both_families_and_what_its_manifest_says() -> None:
    both = POD | {"eth0": "10.1.2.3 fd00::3"}
    assert private(planned(both, KUBERNETES)) == "10.1.2.3:9240, [fd00::3]:9240"
    assert planned(both, KUBERNETES).admission.allowed == (*PRIVATE_NETWORKS, *LOOPBACK)
    two = POD | {"net1": "10.9.9.9"}
    assert private(planned(two, KUBERNETES)) == "127.0.0.1:9240"
    assert private(planned(two, KUBERNETES | {"POD_IP": "10.1.2.3"})) == "10.1.2.3:9240"
    assert private(planned(both, KUBERNETES | {"POD_IP": "10.1.2.3", "POD_IPS": "10.1.2.3,fd00::3"})) == (
        "10.1.2.3:9240, [fd00::3]:9240"
    )


def test_a_variable_is_believed_only_of_an_address_that_the_host_owns() -> None:
    assert private(planned(POD, KUBERNETES | {"POD_IP": "10.7.7.7, nonsense 127.0.0.1"})) == "10.1.2.3:9240"


def test_a_global_address_is_private_to_nobody_but_who_is_named() -> None:
    """A pod of a cluster with global IPv6 addresses, and a server in the internet."""
    pod = planned({"eth0": "2001:db8::3"}, KUBERNETES)
    assert private(pod) == "[2001:db8::3]:9240"
    assert pod.admission.allowed == (*(one for one in PRIVATE_NETWORKS if one.version == 6), *LOOPBACK)
    named = planned({"eth0": "2001:db8::3"}, KUBERNETES, private_allow=(ip_network("2001:db8::/64"),))
    assert named.admission.allowed == (ip_network("2001:db8::/64"),)
    with pytest.raises(
        LaunchError, match=r"--private-host eth0: 198\.51\.100\.7 is in no private network \(none is known"
    ):
        planned({"eth0": "198.51.100.7"}, {"PORT": "8080"}, private_host=("eth0",))
    with pytest.raises(PrivateAddressMissing, match=r"no private network is known; found eth0 198\.51\.100\.7"):
        planned({"eth0": "198.51.100.7"}, {"PORT": "8080"})


def test_an_unknown_place_with_several_addresses_has_to_be_told() -> None:
    with pytest.raises(PrivateAddressMissing, match="name the address with --private-host"):
        planned(TWO, {"PORT": "8080"})


def test_on_a_machine_of_one_s_own_the_private_side_is_for_this_host_alone() -> None:
    plan = planned(POD, {})
    assert (private(plan), plan.admission.allowed, plan.fence.kind) == ("127.0.0.1:9240", LOOPBACK, "address")
    assert plan.notes == (
        "No private network is known here: the private side is on 127.0.0.1:9240, reachable from this host only",
    )


def test_who_wants_loopback_has_it_where_port_is_set_by_chance() -> None:
    assert private(planned(POD, {"PORT": "8080"}, private_missing="loopback")) == "127.0.0.1:9240"


def test_networks_that_a_user_names_are_the_only_ones() -> None:
    with pytest.raises(PrivateAddressMissing, match=r"no address in 192\.168\.0\.0/16"):
        planned(POD, {"PORT": "80"}, private_network=(ip_network("192.168.0.0/16"),))
    asked = {"private_network": (ip_network("192.168.0.0/16"),), "private_missing": "fail"}
    with pytest.raises(PrivateAddressMissing):
        planned(POD, KUBERNETES | {"POD_IP": "10.1.2.3"}, **asked)


def test_one_port_for_both_sides_needs_an_address_that_tells_them_apart() -> None:
    with pytest.raises(LaunchError, match=r"the fence is the port \(public traffic reaches"):
        planned(POD, {"PORT": "9240"})
    assert planned(POD, {"PORT": "9240"}, fence="address", private_network=(ip_network("10.0.0.0/8"),)).shared


def test_a_shut_side_door_is_none_where_the_port_is_the_fence() -> None:
    plan = planned(POD, KUBERNETES, side_door="refuse")
    assert plan.notes[-1].startswith("--side-door refuse has no effect")


def test_a_platform_without_a_private_network_serves_the_public_side_alone() -> None:
    heroku = {"DYNO": "web.1", "PORT": "5000"}
    plan = planned(POD, heroku)
    assert (plan.private, str(plan.public)) == (None, "0.0.0.0:5000")
    assert plan.notes == ("heroku has no private network: serving only the public side",)
    assert planned(POD, heroku, listeners="public").notes == ()
    for asked in ({"listeners": "both"}, {"private_health": "/-"}, {"private_host": ("127.0.0.1",)}):
        assert private(planned(POD, heroku, **asked)) == "127.0.0.1:9240"


def test_a_port_that_the_platform_keeps_for_itself_is_refused() -> None:
    render = {"RENDER": "true", "RENDER_SERVICE_TYPE": "web"}
    plan = planned(POD, render)
    assert (str(plan.public), private(plan)) == ("0.0.0.0:10000", "10.1.2.3:9240")
    for asked in ({"private_port": 18012}, {"port": 19099}):
        with pytest.raises(LaunchError, match=r"port 1[89]\d+ is reserved by render: change --(private-)?port"):
            planned(POD, render, **asked)


def test_an_interface_of_the_platform_s_is_the_private_one() -> None:
    """100.64.0.0/10 is others', too."""
    interfaces = {"eth0": "198.51.100.7", "eth1": "100.64.0.9", "tailscale0": "100.100.1.2"}
    place = locate("tailscale", {})
    assert private(planned(interfaces, place)) == "100.100.1.2:9240"
    del interfaces["tailscale0"]
    with pytest.raises(PrivateAddressMissing):
        planned(interfaces, place)


@pytest.mark.parametrize(
    "platform",
    [one for one in every() if not one.private_required and one is not NONE],
    ids=lambda platform: str(platform.name),
)
def test_a_known_platform_never_stops_for_a_private_address_that_nobody_promised(platform: Platform) -> None:
    place = Place(platform=platform, port=8000)
    for interfaces in ({"lo": "127.0.0.1"}, POD, {"eth0": "192.0.2.7", "eth1": "10.0.0.7"}):
        assert planned(interfaces, place).public is not None


def test_what_is_no_platform_s_is_unknown() -> None:
    assert Place().is_unknown
    assert not Place(platform=Platform(name="new")).is_unknown
    assert (NONE.private_networks, NONE.fence) == ((), "auto")

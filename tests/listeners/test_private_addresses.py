"""Several private addresses, and the networks that an interface brings along; nobody is a neighbour by accident."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from duallisten import LaunchError, UsageError
from duallisten.config.platforms import Place
from duallisten.config.platforms.scalingo import SCALINGO
from duallisten.errors import PrivateAddressMissing
from duallisten.listeners.admission import Verdict
from duallisten.listeners.plan import Plan, make_plan
from duallisten.net import LOOPBACK, Host
from tests.listeners.test_plan import BLOCK, host, request

BOTH_BLOCKS = (BLOCK, ip_network("fdaa::/16"))


def routed(this: Host, **networks: str) -> Host:
    """A host whose interfaces lead to networks."""
    return this._replace(routed=lambda name: tuple(map(ip_network, networks.get(name, "").split())))


def bound(plan: Plan) -> list[str]:
    assert plan.private is not None
    return [str(address).rpartition(":")[0].strip("[]") for address in plan.private.addresses]


def test_auto_finds_one_address_of_each_ip_version() -> None:
    this = host(eth0="172.17.0.2 2001:db8::2", eth1="10.240.0.5 fdaa::5")
    plan = make_plan(request(private_network=BOTH_BLOCKS), this)
    assert str(plan.private) == "10.240.0.5:9240, [fdaa::5]:9240"
    assert plan.admission.allowed == (*BOTH_BLOCKS, *LOOPBACK)
    assert list(map(str, plan.admission.private_addresses)) == ["10.240.0.5", "fdaa::5"]


def test_auto_does_not_choose_between_two_of_one_ip_version() -> None:
    with pytest.raises(LaunchError, match=r"fdaa::5, fdaa::9; choose one with --private-host"):
        make_plan(request(private_network=BOTH_BLOCKS), host(eth1="10.240.0.5 fdaa::5 fdaa::9"))


@pytest.mark.parametrize("loopback", ["127.0.0.1", "localhost", "lo"])
def test_loopback_may_stand_beside_the_private_address(loopback: str) -> None:
    """A container's health check asks localhost."""
    this = host(lo="127.0.0.1 ::1", eth1="10.240.0.5")._replace(resolve=lambda name: host(lo="::1 127.0.0.1").addresses)
    plan = make_plan(request(private_host=["auto", loopback]), this)
    assert set(bound(plan)) == {"10.240.0.5", "127.0.0.1", *(["::1"] if loopback != "127.0.0.1" else [])}
    assert bound(plan)[0] == "10.240.0.5"
    assert plan.admission.allowed == (BLOCK, *LOOPBACK)
    assert plan.admission.public("127.0.0.1", "127.0.0.1") is Verdict.PUBLIC, "loopback is no side door"


def test_an_address_that_is_named_twice_is_bound_once() -> None:
    assert bound(make_plan(request(private_host="auto eth1 10.240.0.5"), host())) == ["10.240.0.5"]
    fallen_back = request(private_host="auto 127.0.0.1", private_missing="loopback")
    assert bound(make_plan(fallen_back, host(lo="127.0.0.1"))) == ["127.0.0.1"]


@pytest.mark.parametrize("private_host", ["eth1 10.240.0.9", "auto eth7", "127.0.0.1 eth1 10.240.0.9"])
def test_all_that_is_named_must_be_there(private_host: str) -> None:
    this = host(lo="127.0.0.1", eth1="10.240.0.5")
    with pytest.raises(PrivateAddressMissing):
        make_plan(request(private_host=private_host), this)
    waiting = make_plan(request(private_host=private_host, private_missing="later"), this)
    assert waiting.private is None and waiting.later
    assert all(f"--private-host {name}" in waiting.notes[0] for name in private_host.split() if name != "auto")


def test_each_private_address_keeps_the_rules() -> None:
    for asked, reason in (
        ({"private_host": "auto 172.17.0.2"}, r"--private-host 172\.17\.0\.2: .* is in no private network"),
        ({"private_host": "auto 0.0.0.0"}, "every interface"),
        ({"private_host": "auto 127.0.0.1", "port": 9240}, r"public 0\.0\.0\.0:9240, private 127\.0\.0\.1:9240"),
        ({"private_host": "auto 172.17.0.2", "host": "172.17.0.2", "port": 9240}, "have the same address"),
    ):
        with pytest.raises(LaunchError, match=reason):
            make_plan(request(**asked), host())


def test_one_socket_serves_all_private_addresses_or_none() -> None:
    this = host(eth0="172.17.0.2 2001:db8::2", eth1="10.240.0.5 fdaa::5")
    asked: dict[str, Any] = {"private_network": BOTH_BLOCKS, "port": 9240}
    assert make_plan(request(**asked, host="::"), this).shared
    with pytest.raises(LaunchError, match=r"both sides on 10\.240\.0\.5:9240, and another .* \[fdaa::5\]:9240"):
        make_plan(request(**asked), this)


# --- What an interface brings along ---

IN_A_TAILNET = host(eth0="172.17.0.2", tailscale0="100.101.102.103 fd7a:115c:a1e0::1 fe80::1")


def test_tailscale_s_interface_alone_is_enough() -> None:
    """Its addresses have no network, and its routes lead to the peers of this moment."""
    this = routed(IN_A_TAILNET, tailscale0="0.0.0.0/0 100.101.102.104/32 192.168.7.0/24 fd7a:115c:a1e0::/48")
    plan = make_plan(request(private_host="tailscale0"), this)
    assert bound(plan) == ["100.101.102.103", "fd7a:115c:a1e0::1"]
    tailnet = ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48")
    assert plan.admission.allowed == (*tailnet, *LOOPBACK)
    assert plan.admission.private("100.99.98.97") is Verdict.PRIVATE, "a peer that has come since"
    assert plan.admission.public("172.17.0.2", "100.99.98.97") is Verdict.SIDE_DOOR
    assert plan.admission.private("192.168.7.7") is Verdict.REFUSED


def test_another_address_on_that_interface_has_the_routes_of_the_interface() -> None:
    """A control server of one's own gives other addresses out."""
    this = routed(host(tailscale0="10.4.0.5"), tailscale0="10.4.0.1/32 10.4.0.2/32")
    plan = make_plan(request(private_host="tailscale0"), this)
    assert plan.admission.allowed == (*map(ip_network, ("10.4.0.1/32", "10.4.0.2/32", "10.4.0.5/32")), *LOOPBACK)


def test_an_interface_s_networks_are_those_that_it_leads_to_as_far_as_they_are_private() -> None:
    routes = "0.0.0.0/0 0.0.0.0/1 128.0.0.0/1 10.0.0.0/7 203.0.113.0/24 169.254.0.0/16 10.8.0.0/24 fd08::/64 fe80::/64"
    this = routed(host(wg0="10.8.0.2 fd08::2"), wg0=routes)
    plan = make_plan(request(private_host="wg0"), this)
    assert bound(plan) == ["10.8.0.2", "fd08::2"]
    assert {str(network) for network in plan.admission.allowed if network not in LOOPBACK} == {
        *("10.8.0.0/24", "fd08::/64")
    }


@pytest.mark.parametrize(
    ("address", "routes"),
    [
        ("10.8.0.2", "0.0.0.0/0"),  # a VPN to the world
        ("10.8.0.2", ""),
        ("10.8.0.2", "fd08::/64"),  # no neighbour has an address of its IP version
        ("203.0.113.5", "203.0.113.0/24 10.0.0.0/8"),  # an address of the internet
        ("fe80::5", "fe80::/64"),  # a network on every link
    ],
)
def test_an_interface_without_private_neighbours_is_refused(address: str, routes: str) -> None:
    with pytest.raises(LaunchError, match=rf"--private-host wg0: {address} is in no private network"):
        make_plan(request(private_host="wg0"), routed(host(eth0="172.17.0.2", wg0=address), wg0=routes))


def test_an_address_of_the_internet_on_a_private_interface_is_left_out_and_it_is_said() -> None:
    this = routed(host(eth0="172.17.0.2", eth1="10.9.0.5 2001:db8::5"), eth1="10.9.0.0/16 2001:db8::/64")
    plan = make_plan(request(private_host="eth1"), this)
    assert bound(plan) == ["10.9.0.5"]
    assert plan.notes == ("--private-host eth1: not listening on 2001:db8::5, which is in no private network",)


def test_what_the_user_calls_private_is_all_that_is() -> None:
    this = routed(IN_A_TAILNET, tailscale0="100.101.102.104/32")
    asked = request(private_host="tailscale0", private_network=(ip_network("100.64.0.0/10"),), networks_asked=True)
    plan = make_plan(asked, this)
    assert bound(plan) == ["100.101.102.103"]
    assert plan.admission.allowed == (ip_network("100.64.0.0/10"), *LOOPBACK)


def test_an_interface_in_a_private_network_has_that_network_s_neighbours() -> None:
    this = routed(host(eth1="10.240.0.5"), eth1="10.240.0.0/24 192.168.0.0/16")
    assert make_plan(request(private_host="eth1"), this).admission.allowed == (BLOCK, *LOOPBACK)


def test_the_network_of_a_platform_s_routers_is_never_private() -> None:
    place = Place(platform=SCALINGO, process_type="web", port=5000, in_private_network=True)
    this = routed(host(eth0="172.17.0.2", eth1="10.240.0.5"), eth0="172.17.0.0/16 172.16.0.0/12 10.0.0.0/8")
    with pytest.raises(LaunchError, match="is in no private network"):
        make_plan(request(place, private_host="eth0"), this)


def test_the_peers_that_a_user_names_are_enough_for_any_interface() -> None:
    peers = (ip_network("203.0.113.9/32"),)
    plan = make_plan(request(private_host="eth0", private_allow=peers), host(eth0="203.0.113.5 2001:db8::5"))
    assert bound(plan) == ["203.0.113.5", "2001:db8::5"]
    assert plan.admission.allowed == peers


# --- Several public addresses ---


def test_the_public_side_may_have_several_addresses() -> None:
    plan = make_plan(request(host=["0.0.0.0", "::1"]), host())
    assert str(plan.public) == "0.0.0.0:5000, [::1]:5000"


@pytest.mark.parametrize(
    ("hosts", "port"),
    [
        (["0.0.0.0", "127.0.0.1"], 5000),
        (["127.0.0.1", "0.0.0.0"], 0),
        (["::", "0.0.0.0"], 5000),
        (["10.240.0.5", "10.240.0.5"], 5000),
        (["127.0.0.1", "localhost"], 5000),
        (["", "10.240.0.5"], 5000),
    ],
)
def test_public_addresses_that_overlap_are_refused(hosts: list[str], port: int) -> None:
    this = host()._replace(resolve=lambda name: host(lo="127.0.0.1 ::1").addresses)
    with pytest.raises(UsageError, match=rf"--host {hosts[0]} and --host {hosts[1]} overlap \("):
        make_plan(request(host=hosts, port=port), this)

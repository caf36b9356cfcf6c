from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from duallisten import LaunchError
from duallisten.config.option import private_hosts
from duallisten.config.options import Options
from duallisten.config.platforms import Place
from duallisten.config.platforms.scalingo import SCALINGO
from duallisten.errors import PrivateAddressMissing
from duallisten.listeners.address_watch import await_plan
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan, Request, make_plan, make_pools
from duallisten.net import LOOPBACK, Host, InheritedSocket, Interface, IPAddress, TCPAddress, UnixAddress

BLOCK = ip_network("10.240.0.0/22")


def host(resolve: Callable[[str], tuple[IPAddress, ...]] = lambda name: (), **interfaces: str) -> Host:
    """A host with an outer and a private interface, unless `interfaces` says otherwise."""
    interfaces = interfaces or {"lo": "127.0.0.1 ::1", "eth0": "172.17.0.2", "eth1": "10.240.0.5"}
    made = (Interface(name, tuple(map(ip_address, texts.split()))) for name, texts in interfaces.items())
    return Host(tuple(made), resolve)


def request(place: Place | None = None, **changes: Any) -> Request:
    own = {name: changes.pop(name) for name in list(changes) if name in Options._fields}
    if "private_host" in own:
        own["private_host"] = private_hosts(own["private_host"])
    asked: dict[str, Any] = {"host": "0.0.0.0", "port": 5000} | changes
    decided = {"private_missing": "fail", "private_network": (BLOCK,)}
    return Request(options=Options(**decided | own), place=place or Place(), **asked)


def scalingo(process_type: str | None, port: int | None = None) -> Place:
    return Place(platform=SCALINGO, process_type=process_type, port=port, in_private_network=True)


def test_the_private_address_is_found_by_its_block() -> None:
    plan = make_plan(request(), host())
    assert plan.public is not None and plan.public.addresses == (TCPAddress("0.0.0.0", 5000),)
    assert plan.private is not None and plan.private.addresses == (TCPAddress("10.240.0.5", 9240),)
    assert plan.admission.allowed == (BLOCK, *LOOPBACK)
    assert not plan.shared


def test_the_private_listener_comes_first() -> None:
    assert [listener.side for listener in make_plan(request(), host()).listeners] == ["private", "public"]


def test_only_the_network_of_the_bound_address_is_admitted() -> None:
    networks = (BLOCK, ip_network("fdaa::/16"))
    plan = make_plan(request(private_network=networks), host(eth1="fdaa::5"))
    assert plan.admission.allowed == (networks[1], *LOOPBACK)
    assert str(plan.private) == "[fdaa::5]:9240"


def test_a_user_can_name_the_peers() -> None:
    allowed = (ip_network("10.240.0.6/32"),)
    assert make_plan(request(private_allow=allowed), host()).admission.allowed == allowed


@pytest.mark.parametrize(
    ("process_type", "port", "sides"),
    [
        ("web", 5000, {"public", "private"}),
        ("tcp", 5000, {"public", "private"}),
        ("api", None, {"private"}),
        ("one-off", None, {"private"}),
        (None, 5000, {"public", "private"}),
        (None, None, {"private"}),
    ],
)
def test_scalingo_s_process_type_decides_which_listeners_there_are(
    process_type: str | None, port: int | None, sides: set[str]
) -> None:
    plan = make_plan(request(scalingo(process_type, port)), host())
    assert {listener.side for listener in plan.listeners} == sides


def test_a_process_that_must_end_is_refused() -> None:
    with pytest.raises(LaunchError, match="postdeploy"):
        make_plan(request(scalingo("postdeploy")), host())


def test_a_web_process_without_a_port_is_refused() -> None:
    with pytest.raises(LaunchError, match="PORT is not set"):
        make_plan(request(scalingo("web"), port_asked=False), host())
    assert make_plan(request(scalingo("web")), host()).public is not None
    assert make_plan(request(scalingo("web"), port_asked=False, listeners="private"), host()).public is None


def test_a_user_can_open_one_side_alone() -> None:
    assert make_plan(request(listeners="public"), host(lo="127.0.0.1")).private is None
    assert make_plan(request(listeners="private"), host()).public is None


def test_without_a_private_listener_the_side_door_is_still_known() -> None:
    plan = make_plan(request(listeners="public", side_door="refuse"), host())
    assert plan.admission.private_networks == (BLOCK,)
    assert plan.admission.side_door == "refuse"


def test_the_platform_s_own_block_stays_private_whatever_a_user_calls_so() -> None:
    asked = request(scalingo("web", 5000), private_network=(ip_network("fdaa::/16"),))
    assert BLOCK in make_plan(asked, host(eth1="10.240.0.5 fdaa::5")).admission.private_networks


def test_a_missing_private_address_tells_what_was_found() -> None:
    with pytest.raises(PrivateAddressMissing, match=r"no address in 10\.240\.0\.0/22; found eth0 172\.17\.0\.2;"):
        make_plan(request(), host(eth0="172.17.0.2"))


def test_an_application_in_no_private_network_is_told_so() -> None:
    place = scalingo("web", 5000)._replace(in_private_network=False)
    with pytest.raises(LaunchError, match=r"\$SCALINGO_PRIVATE_NETWORK_ID is not set"):
        make_plan(request(place), host(eth0="172.17.0.2"))


def test_a_missing_private_address_may_fall_back_to_loopback_and_says_so() -> None:
    plan = make_plan(request(private_missing="loopback"), host(eth0="172.17.0.2"))
    assert str(plan.private) == "127.0.0.1:9240"
    assert plan.admission.allowed == LOOPBACK
    assert "127.0.0.1:9240" in plan.notes[0]


def test_two_private_addresses_need_a_word_from_the_user_or_the_platform() -> None:
    two = "10.240.0.5 10.240.0.9"
    with pytest.raises(LaunchError, match=r"10\.240\.0\.5, 10\.240\.0\.9; choose one with --private-host"):
        make_plan(request(), host(eth1=two))
    assert str(make_plan(request(private_host="10.240.0.9"), host(eth1=two)).private) == "10.240.0.9:9240"
    place = scalingo("web", 5000)._replace(private_hostname="1.web.internal")
    named = host(lambda name: (ip_address("10.240.0.9"),) if name == "1.web.internal" else (), eth1=two)
    assert str(make_plan(request(place), named).private) == "10.240.0.9:9240"


def test_the_resolver_s_answer_is_believed_only_if_this_host_owns_it() -> None:
    elsewhere = host(lambda name: (ip_address("10.240.0.77"),))
    with pytest.raises(LaunchError, match=r"resolves to 10\.240\.0\.77, which is not an address of this host"):
        make_plan(request(private_host="peer.internal"), elsewhere)


@pytest.mark.parametrize("name", ["10.240.0.5", "eth1", "me.internal"])
def test_the_private_host_is_an_address_an_interface_or_a_name(name: str) -> None:
    known = host(lambda name: (ip_address("10.240.0.5"),) if name == "me.internal" else ())
    assert str(make_plan(request(private_host=name), known).private) == "10.240.0.5:9240"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("0.0.0.0", "every interface"),
        ("::", "every interface"),
        ("10.240.0.6", "not an address of this host"),
        ("eth7", "not an IP address, an interface or a host name"),
        ("172.17.0.2", "is in no private network"),
        ("empty0", "has no IP address"),
    ],
)
def test_a_private_host_that_cannot_be_had_is_refused_with_the_reason(name: str, reason: str) -> None:
    this = host(eth0="172.17.0.2", eth1="10.240.0.5", empty0="")
    with pytest.raises(LaunchError, match=reason) as caught:
        make_plan(request(private_host=name), this)
    assert f"--private-host {name}" in str(caught.value)


def test_a_private_host_outside_the_private_networks_needs_named_peers() -> None:
    asked = request(private_host="172.17.0.2", private_allow=(ip_network("172.17.0.9/32"),))
    assert str(make_plan(asked, host()).private) == "172.17.0.2:9240"


@pytest.mark.parametrize("public", ["0.0.0.0", "::", ""])
def test_one_port_for_both_sides_is_one_wildcard_socket(public: str) -> None:
    assert make_plan(request(host=public, port=9240), host()).shared


@pytest.mark.parametrize(("public", "private"), [("0.0.0.0", "fdaa::5"), ("127.0.0.1", "10.240.0.5")])
def test_one_port_on_addresses_that_do_not_meet_is_two_sockets(public: str, private: str) -> None:
    asked = request(host=public, port=9240, private_network=(BLOCK, ip_network("fdaa::/16")))
    assert not make_plan(asked, host(eth1=private)).shared


@pytest.mark.parametrize("public", ["10.240.0.5", "me.internal"])
def test_both_listeners_on_one_specific_address_are_refused(public: str) -> None:
    known = host(lambda name: (ip_address("10.240.0.5"),))
    with pytest.raises(LaunchError, match=r"both listeners have the same address: public 10\.240\.0\.5:9240"):
        make_plan(request(host=public, port=9240), known)


def test_a_loopback_private_side_never_shares_the_public_port() -> None:
    """A reverse proxy on this host would come in from loopback, and be taken for a neighbour."""
    with pytest.raises(LaunchError, match="the same address"):
        make_plan(request(port=9240, private_missing="loopback"), host(lo="127.0.0.1"))


def test_a_free_port_is_never_the_same_port() -> None:
    assert not make_plan(request(port=0, private_port=0), host()).shared


def test_the_public_side_may_be_a_path_or_a_descriptor() -> None:
    assert make_plan(request(uds="/run/app.sock"), host()).public.addresses == (UnixAddress("/run/app.sock"),)  # type: ignore[union-attr]
    assert make_plan(request(fd=3), host()).public.addresses == (InheritedSocket(3),)  # type: ignore[union-attr]


def test_a_public_name_is_bound_on_each_of_its_addresses() -> None:
    known = host(lambda name: (ip_address("127.0.0.1"), ip_address("::1")))
    plan = make_plan(request(host="localhost"), known)
    assert str(plan.public) == "127.0.0.1:5000, [::1]:5000"
    with pytest.raises(LaunchError, match="--host nowhere"):
        make_plan(request(host="nowhere"), host())


def test_the_private_address_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "uvicorn.error")
    looks = iter([host(eth0="172.17.0.2"), host(eth0="172.17.0.2"), host()])
    times: list[float] = []
    plan = await_plan(request(private_wait=10.0), lambda: next(looks), clock=lambda: 0.0, sleep=times.append)
    assert str(plan.private) == "10.240.0.5:9240"
    assert len(times) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Waiting up to 10 s for a private address in 10.240.0.0/22"
    ]


def test_the_wait_ends_and_what_was_found_by_then_is_told() -> None:
    clock = iter([0.0, 5.0, 10.0])
    with pytest.raises(PrivateAddressMissing, match=r"found eth0 172\.17\.0\.2"):
        await_plan(
            request(private_wait=10.0),
            lambda: host(eth0="172.17.0.2"),
            clock=lambda: next(clock),
            sleep=lambda seconds: None,
        )


def test_the_wait_comes_before_the_fall_back() -> None:
    clock = iter([0.0, 0.5, 1.0])
    plan = await_plan(
        request(private_wait=1.0, private_missing="loopback"),
        lambda: host(lo="127.0.0.1"),
        clock=lambda: next(clock),
        sleep=lambda seconds: None,
    )
    assert str(plan.private) == "127.0.0.1:9240"


# --- Which workers serve which listeners ---

PUBLIC = Listener("public", (TCPAddress("0.0.0.0", 5000),))
PRIVATE = Listener("private", (TCPAddress("10.240.0.5", 9240),))
BOTH = Plan(PUBLIC, PRIVATE, Admission(()))


def test_without_private_workers_all_serve_both_sides() -> None:
    (pool,) = make_pools(BOTH, workers=4, private_workers=0)
    assert (pool.size, pool.plan) == (4, BOTH)
    assert set(pool.sides) == {"public", "private"}


def test_private_workers_serve_the_private_side_and_the_others_the_public_one() -> None:
    public, private = make_pools(BOTH, workers=4, private_workers=2)
    assert (public.sides, public.size) == (("public",), 4)
    assert (private.sides, private.size) == (("private",), 2)
    assert public.plan.whole == private.plan.whole == BOTH, "each knows what the others serve"


def test_where_one_side_is_open_it_has_all_workers() -> None:
    (public,) = make_pools(BOTH._replace(private=None), workers=4, private_workers=2)
    assert (public.sides, public.size) == (("public",), 4)
    (private,) = make_pools(BOTH._replace(public=None), workers=4, private_workers=2)
    assert (private.sides, private.size) == (("private",), 2)
    (private,) = make_pools(BOTH._replace(public=None), workers=4, private_workers=0)
    assert private.size == 4


def test_one_socket_for_both_sides_cannot_be_divided() -> None:
    with pytest.raises(LaunchError, match="--private-workers needs a private port of its own"):
        make_pools(BOTH._replace(shared=True), workers=1, private_workers=1)

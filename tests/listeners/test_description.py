"""What is served where, as everybody is told of it."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from duallisten import Config
from duallisten.listeners.admission import Admission
from duallisten.listeners.description import ServedListener, log_listeners, served_listeners
from duallisten.listeners.plan import Listener, Plan, make_pools
from duallisten.listeners.sockets import BoundSocket
from duallisten.net import Address, TCPAddress, UnixAddress
from tests.support.applications import Observed

ADMISSION = Admission((ip_network("10.0.0.0/8"),), (ip_address("10.0.0.5"),), (ip_network("10.0.0.0/8"),))


def plan(public: Address, private: Address, **changes: Any) -> Plan:
    return Plan(Listener("public", (public,)), Listener("private", (private,)), ADMISSION)._replace(**changes)


def described(plan: Plan, *bound: BoundSocket, **options: Any) -> dict[str, ServedListener]:
    config = Config(Observed(), platform="none", log_config=None, **options)
    return {one.side: one for one in served_listeners(config, plan, bound)}


def test_the_port_that_the_kernel_chose_is_told_and_before_that_that_it_will() -> None:
    planned = plan(TCPAddress("::", 0), TCPAddress("10.0.0.5", 9240))
    assert described(planned)["public"].urls == ("a free port of ::",)
    with socket.socket() as sock:
        told = described(planned, BoundSocket("public", sock, ("::", 4711)), private_ssl_keyfile="key.pem")
    assert told["public"].urls == ("http://[::]:4711",)
    assert (told["private"].urls, told["private"].bound) == (("https://10.0.0.5:9240",), ())


def test_one_socket_for_both_sides_is_told_as_two_listeners(caplog: pytest.LogCaptureFixture) -> None:
    shared = plan(TCPAddress("0.0.0.0", 8000), TCPAddress("10.0.0.5", 8000), shared=True)
    with socket.socket() as sock:
        bound = BoundSocket("public", sock, ("0.0.0.0", 8000))
        told = described(shared, bound)
        with caplog.at_level("INFO"):
            log_listeners(Config(Observed(), log_config=None), shared, [bound], lambda side: f"{side} one")
    assert {side: one.bound for side, one in told.items()} == {
        "private": (("10.0.0.5", 8000),),
        "public": (("0.0.0.0", 8000),),
    }
    assert [record.getMessage() for record in caplog.records if "Serving" in record.getMessage()] == [
        "Serving the private side on http://10.0.0.5:8000 (private one, admits 10.0.0.0/8; fence: address; "
        "press CTRL+C to quit)",
        "Serving the public side on http://0.0.0.0:8000 (public one; press CTRL+C to quit)",
    ]


def test_what_other_workers_serve_is_told_as_it_was_planned(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    pools = make_pools(plan(UnixAddress(path), TCPAddress("10.0.0.5", 9240)), workers=1, private_workers=1)
    with socket.socket() as sock:
        public = described(pools[0].plan, BoundSocket("public", sock, (path, 0)))
        private = described(pools[1].plan, BoundSocket("private", sock, ("10.0.0.5", 9240)))
    assert list(public) == list(private) == ["private", "public"]
    assert (public["public"].urls, private["public"].urls) == ((f"unix socket {path}",), (f"unix:{path}",))
    assert public["private"].urls == private["private"].urls == ("http://10.0.0.5:9240",)


def test_who_is_admitted_is_told_in_words() -> None:
    planned = plan(TCPAddress("0.0.0.0", 5000), TCPAddress("10.0.0.5", 9240))
    assert {side: one.admits for side, one in described(planned).items()} == {"private": "10.0.0.0/8", "public": "all"}
    shut = planned._replace(admission=ADMISSION._replace(side_door="refuse"))
    assert described(shut)["public"].admits == "all, except on an address in 10.0.0.0/8"

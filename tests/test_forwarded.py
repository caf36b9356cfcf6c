"""Whose forwarded headers are believed, asked of uvicorn's own middleware and over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from duallisten import Config
from duallisten.forwarded import Trust, believe, read_trust
from duallisten.platforms import SCALINGO
from tests.applications import Observed
from tests.running import serving

ROUTERS = Trust(routers=SCALINGO.routers)


def client_seen(trust: Trust, peer: str, *forwarded_for: str) -> tuple[str, int]:
    """The client that an application sees for a request from `peer`."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"])

    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded_for]
    scope: Any = {"type": "http", "client": (peer, 1234), "scheme": "http", "headers": headers}
    middleware: Any = ProxyHeadersMiddleware(app, trusted_hosts=list(trust.hosts))
    believe(middleware, trust)
    asyncio.run(middleware(scope, None, None))
    host, port = seen[0]
    return str(host), int(port)


@pytest.mark.parametrize("peer", ["172.17.0.1", "203.0.113.200", "::ffff:172.17.0.1", "2001:db8::1"])
def test_a_platform_s_router_is_believed_whatever_its_address(peer: str) -> None:
    assert client_seen(ROUTERS, peer, "198.51.100.7") == ("198.51.100.7", 0)


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        (["6.6.6.6, 198.51.100.7"], ("198.51.100.7", 0)),
        (["6.6.6.6", "198.51.100.7"], ("198.51.100.7", 0)),
        (["6.6.6.6, 198.51.100.7:4711, 172.17.0.1"], ("198.51.100.7", 4711)),
        (["6.6.6.6, 198.51.100.7, ::ffff:172.17.0.1, 127.0.0.1"], ("198.51.100.7", 0)),
        (["6.6.6.6, [2001:db8::7]:80"], ("2001:db8::7", 80)),
        (["172.17.0.9, 172.17.0.1"], ("172.17.0.1", 0)),
        (["6.6.6.6, unknown"], ("unknown", 0)),
    ],
)
def test_the_right_most_entry_that_is_no_router_is_the_client(
    forwarded_for: list[str], client: tuple[str, int]
) -> None:
    assert client_seen(ROUTERS, "172.17.0.1", *forwarded_for) == client


def test_elsewhere_uvicorn_s_own_rule_stands() -> None:
    trust = read_trust("127.0.0.1,::1")
    assert client_seen(trust, "127.0.0.1", "6.6.6.6, 198.51.100.7") == ("198.51.100.7", 0)
    assert client_seen(trust, "127.0.0.1", "6.6.6.6, 198.51.100.7, 127.0.0.1") == ("198.51.100.7", 0)
    assert client_seen(trust, "10.240.0.6", "198.51.100.7") == ("10.240.0.6", 1234)
    assert client_seen(read_trust("*"), "10.240.0.6", "6.6.6.6, 198.51.100.7") == ("6.6.6.6", 0)
    assert client_seen(read_trust(["10.0.0.0/8"]), "10.1.1.1", "6.6.6.6, 10.2.2.2") == ("6.6.6.6", 0)


def test_a_trusted_peer_is_recognised_in_its_ipv4_mapped_form() -> None:
    assert client_seen(read_trust("127.0.0.1"), "::ffff:127.0.0.1", "198.51.100.7") == ("198.51.100.7", 0)
    assert client_seen(Trust(), "127.0.0.1", "198.51.100.7") == ("127.0.0.1", 1234)


def test_scalingo_s_public_side_believes_its_routers_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"platform": "scalingo", "port": 0, "log_config": None}
    assert Config(Observed(), **options).trust("public") == ROUTERS
    assert Config(Observed(), **options).trust("private") == Trust()
    assert Config(Observed(), forwarded_allow_ips="10.0.0.1", **options).trust("public").hosts == ("10.0.0.1",)
    assert Config(Observed(), proxy_headers=False, **options).trust("public") == Trust()
    private = Config(Observed(), private_proxy_headers=True, **options).trust("private")
    assert private.hosts[0] == "127.0.0.1"
    assert private.routers == ()
    for container, believed in (("web-1", True), ("tcp-1", False), ("api-1", False)):
        monkeypatch.setenv("CONTAINER", container)
        assert bool(Config(Observed(), **options).trust("public").routers) is believed
    monkeypatch.delenv("CONTAINER")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.2")
    assert Config(Observed(), **options).trust("public").hosts == ("10.0.0.2",)


FORGED = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_the_private_side_believes_nobody_unless_asked(http: str) -> None:
    app = Observed()
    with serving(app, http=http) as server:
        httpx.get(server.url("public"), headers=FORGED)
        httpx.get(server.url("private"), headers=FORGED)
    with serving(app, http=http, private_proxy_headers=True, private_forwarded_allow_ips="*") as server:
        httpx.get(server.url("private"), headers=FORGED)
    assert [scope["client"][0] for scope in app.scopes] == ["198.51.100.7", "127.0.0.1", "198.51.100.7"]
    assert [scope["scheme"] for scope in app.scopes] == ["https", "http", "https"]


def test_a_peer_at_the_side_door_is_not_believed_although_its_address_is_trusted() -> None:
    app = Observed()
    network = {"private_network": ["127.0.0.0/8"], "private_host": "127.0.0.2"}
    with serving(app, forwarded_allow_ips="*", **network) as server:
        assert httpx.get(server.url("public"), headers=FORGED).text == "public"
    assert app.scopes[0]["client"][0] == "127.0.0.1"
    assert app.scopes[0]["scheme"] == "http"


def test_trust_is_told_in_words() -> None:
    assert str(Trust()) == "none"
    assert str(read_trust("127.0.0.1, ::1")) == "127.0.0.1, ::1"
    assert "172.17.0.0/16" in str(ROUTERS)

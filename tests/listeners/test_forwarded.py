"""Whose forwarded headers are believed, asked of uvicorn's own middleware and over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from duallisten import Config
from duallisten.config.platforms.scalingo import SCALINGO
from duallisten.listeners import forwarded
from duallisten.listeners.forwarded import MOST_PROXIES, Trust, TrustedPeers, believing, read_trust, rewriting, trust_of
from tests.support.applications import Observed
from tests.support.running import serving

ROUTERS = Trust(routers=SCALINGO.routers)


def request_from(peer: str | None, *headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    """The scope of a request, as it is before forwarded headers are read."""
    scheme = "ws" if kind == "websocket" else "http"
    return {"type": kind, "client": peer and (peer, 1234), "scheme": scheme, "headers": list(headers)}


def lines(*forwarded_for: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", text.encode("latin-1")) for text in forwarded_for]


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that does nothing."""


def seen_through(middleware: Any, scope: dict[str, Any]) -> dict[str, Any]:
    """The scope that an application gets behind a middleware."""
    asyncio.run(middleware(scope, None, None))
    return scope


def rewritten(trust: Trust, scope: dict[str, Any]) -> dict[str, Any]:
    """The scope that an application gets from the engine."""
    client = scope["client"]
    rewrite = believing(trust)(client[0] if client else None)
    if rewrite is not None:
        rewrite(scope)
    return scope


def noted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Have what the function `name` of the module is called with noted in a list."""
    read: list[str] = []
    function = getattr(forwarded, name)

    def noting(text: str) -> Any:
        read.append(text)
        return function(text)

    monkeypatch.setattr(forwarded, name, noting)
    return read


def client_seen(trust: Trust, peer: str, *forwarded_for: str) -> tuple[str, int]:
    """The client that an application sees for a request from `peer`: of the engine, and in front of it."""
    behind = seen_through(rewriting(nothing, believing(trust)), request_from(peer, *lines(*forwarded_for)))
    scope = rewritten(trust, request_from(peer, *lines(*forwarded_for)))
    assert behind == scope
    host, port = scope["client"]
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


@pytest.mark.parametrize(
    ("trusted", "peer", "believed"),
    [
        ("127.0.0.1,::1", "127.0.0.1", True),
        ("127.0.0.1,::1", "::1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("127.0.0.1,::1", "127.0.0.2", False),
        ("127.0.0.1", None, False),
        ("127.0.0.1", "", False),
        ("127.0.0.0/8", "::ffff:127.0.0.9", True),
        ("10.0.0.0/8, fd00::/8", "fd00::7", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:0:0/96", "::ffff:10.0.0.1", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::1%eth1", False),
        ("10.0.0.1/8", "10.0.0.1", False),
        ("proxy", "proxy", True),
        ("", "", False),
        ("*", "203.0.113.9", True),
        ("*", None, True),
        ("*,10.0.0.1", "203.0.113.9", False),
    ],
)
def test_who_is_believed_is_decided_by_the_peer_alone(trusted: str, peer: str | None, believed: bool) -> None:
    assert (believing(read_trust(trusted))(peer) is not None) is believed
    assert (peer in TrustedPeers(read_trust(trusted))) is believed


def test_a_platform_s_router_does_not_come_in_at_a_unix_domain_socket() -> None:
    assert believing(ROUTERS)(None) is None


def test_a_peer_is_judged_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = believing(read_trust("10.0.0.1"))
    read = noted(monkeypatch, "ip_address")
    assert judge("10.0.0.1") is judge("10.0.0.1") is not None
    assert judge("10.0.0.2") is judge("10.0.0.2") is None
    assert read == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        ("198.51.100.7", ("198.51.100.7", 0)),
        (" \t198.51.100.7 ", ("198.51.100.7", 0)),
        ("198.51.100.7:80", ("198.51.100.7", 80)),
        ("198.51.100.7:", ("198.51.100.7:", 0)),
        ("198.51.100.7:http", ("198.51.100.7:http", 0)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:80", ("2001:db8::7", 80)),
        ("[2001:db8::7]:http", ("2001:db8::7", 0)),
        ("[2001:db8::7]80", ("[2001:db8::7]80", 0)),
        ("[2001:db8::7", ("[2001:db8::7", 0)),
        ("unknown", ("unknown", 0)),
        ("_hidden:80", ("_hidden", 80)),
        ("\xe9", ("\xe9", 0)),
    ],
)
@pytest.mark.parametrize("trusted", ["*", "10.0.0.1"])
def test_an_entry_names_a_host_and_a_port(trusted: str, entry: str, client: tuple[str, int]) -> None:
    assert client_seen(read_trust(trusted), "10.0.0.1", entry) == client


@pytest.mark.parametrize("trust", [read_trust("*"), read_trust("10.0.0.1"), ROUTERS], ids=str)
@pytest.mark.parametrize("forwarded_for", [[""], [" "], ["", ""], [","]])
def test_an_empty_header_leaves_the_peer_as_the_client(trust: Trust, forwarded_for: list[str]) -> None:
    assert client_seen(trust, "10.0.0.1", *forwarded_for) == ("10.0.0.1", 1234)


@pytest.mark.parametrize(
    ("kind", "said", "scheme"),
    [
        ("http", ["https"], "https"),
        ("http", [" https "], "https"),
        ("http", ["https", "http"], "http"),
        ("http", ["wss"], "wss"),
        ("http", ["HTTPS"], "http"),
        ("http", ["https, http"], "http"),
        ("http", [""], "http"),
        ("websocket", ["https"], "wss"),
        ("websocket", ["http"], "ws"),
        ("websocket", ["wss"], "wss"),
        ("websocket", ["gopher"], "ws"),
    ],
)
def test_the_scheme_is_what_the_last_line_says_if_it_is_one(kind: str, said: list[str], scheme: str) -> None:
    headers = [(b"x-forwarded-proto", text.encode()) for text in said]
    for trust in (read_trust("*"), read_trust("10.0.0.1"), ROUTERS):
        assert rewritten(trust, request_from("10.0.0.1", *headers, kind=kind))["scheme"] == scheme
        assert rewritten(Trust(), request_from("10.0.0.1", *headers, kind=kind))["scheme"] == kind.replace(
            "websocket", "ws"
        )


# --- As uvicorn ---

ADDRESSES = ["10.0.0.1", "10.1.2.3", "198.51.100.7", "2001:db8::7", "fd00::1", "proxy", "unknown", ""]
ENTRIES = st.sampled_from(ADDRESSES) | st.text("0123456789abcdef.:[] ,\t\xa0\xe9", max_size=12)
DRESSED = st.tuples(st.sampled_from(["{}", " {} ", "{}:80", "[{}]", "[{}]:8080", "[{}]:x", "[{}"]), ENTRIES).map(
    lambda both: both[0].format(both[1])
)
LINES = st.lists(DRESSED, max_size=5).map(",".join)
SAID = st.sampled_from(["https", "http", "wss", "ws", " https", "HTTPS", "", "https,http"])
HEADERS = st.lists(
    LINES.map(lambda text: (b"x-forwarded-for", text.encode("latin-1")))
    | SAID.map(lambda text: (b"x-forwarded-proto", text.encode()))
    | st.just((b"host", b"x")),
    max_size=5,
)
TRUSTED = st.just(["*"]) | st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.0/8", "fd00::/8", "2001:db8::7", "proxy", "*", "10.0.0.1/8", ""]), max_size=4
)


@settings(deadline=None, derandomize=True, max_examples=1000)
@given(TRUSTED, st.sampled_from([*ADDRESSES, None]), HEADERS, st.sampled_from(["http", "websocket"]))
def test_a_list_and_a_star_mean_what_they_mean_to_uvicorn(
    trusted: list[str], peer: str | None, headers: list[tuple[bytes, bytes]], kind: str
) -> None:
    trust = read_trust(trusted)
    middleware = ProxyHeadersMiddleware(nothing, trusted_hosts=list(trust.hosts))
    expected = seen_through(middleware, request_from(peer, *headers, kind=kind))
    assert rewritten(trust, request_from(peer, *headers, kind=kind)) == expected


# --- What it costs ---

THOUSANDS = 12_000


@pytest.mark.parametrize(
    ("trust", "entry", "most", "client"),
    [
        (read_trust("*"), "6.6.6.6", 1, "198.51.100.1"),
        (read_trust("10.0.0.0/8"), "6.6.6.6", 2, "6.6.6.6"),
        (read_trust("10.0.0.0/8"), "10.0.0.9", MOST_PROXIES, "10.0.0.9"),
        (ROUTERS, "6.6.6.6", 2, "6.6.6.6"),
        (ROUTERS, "172.17.0.1", MOST_PROXIES, "10.0.0.2"),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_one_line", [True, False])
def test_a_header_of_thousands_of_entries_is_read_only_as_far_as_needed(
    trust: Trust, entry: str, most: int, client: str, is_one_line: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = noted(monkeypatch, "read_entry")
    near = "172.17.0.2" if trust.routers else "10.0.0.2"
    entries = ["198.51.100.1", *[entry] * THOUSANDS, near]
    scope = request_from("10.0.0.1", *lines(", ".join(entries)) if is_one_line else lines(*entries))
    rewrite = believing(trust)("10.0.0.1")
    assert rewrite is not None
    rewrite(scope)
    assert len(read) == most
    assert scope["client"] == ("172.17.0.2" if client == "10.0.0.2" else client, 0)


def test_what_a_client_writes_does_not_fill_the_memory() -> None:
    peers = TrustedPeers(read_trust("10.0.0.1"))
    for number in range(10):
        assert peers.client_of([b"%d" % number * 1000])[1] == 0
    assert peers._find_address.cache_info().currsize == 0


# --- On which side ---


def test_scalingo_s_public_side_believes_its_routers_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"platform": "scalingo", "port": 0, "log_config": None}
    assert trust_of(Config(Observed(), **options), "public") == ROUTERS
    assert trust_of(Config(Observed(), **options), "private") == Trust()
    assert trust_of(Config(Observed(), forwarded_allow_ips="10.0.0.1", **options), "public").hosts == ("10.0.0.1",)
    assert trust_of(Config(Observed(), proxy_headers=False, **options), "public") == Trust()
    private = trust_of(Config(Observed(), private_proxy_headers=True, **options), "private")
    assert private.hosts[0] == "127.0.0.1"
    assert private.routers is None
    for container, believed in (("web-1", True), ("tcp-1", False), ("api-1", False)):
        monkeypatch.setenv("CONTAINER", container)
        assert bool(trust_of(Config(Observed(), **options), "public").routers) is believed
    monkeypatch.delenv("CONTAINER")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.2")
    assert trust_of(Config(Observed(), **options | {"platform": "none"}), "public").hosts == ("10.0.0.2",)


def test_a_variable_that_the_platform_exports_is_not_the_user_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    options: dict[str, Any] = {"platform": "scalingo", "port": 0, "log_config": None}
    made = Config(Observed(), **options)
    assert trust_of(made, "public") == ROUTERS
    assert made.notes == (
        "$FORWARDED_ALLOW_IPS is set aside, for scalingo itself sets it; --forwarded-allow-ips says otherwise",
    )
    asked = {"forwarded_allow_ips": "*", **options}
    read = Config.from_sources(Observed(), asked, {"forwarded_allow_ips": "$FORWARDED_ALLOW_IPS"})
    assert trust_of(read, "public") == ROUTERS
    for origin in ("--forwarded-allow-ips", "$UVICORN_FORWARDED_ALLOW_IPS", "duallisten.toml, forwarded-allow-ips"):
        own = Config.from_sources(Observed(), asked, {"forwarded_allow_ips": origin})
        assert (trust_of(own, "public").hosts, own.notes) == (("*",), ())
    monkeypatch.setenv("CONTAINER", "tcp-1")  # there it would let each client choose its address
    assert trust_of(Config(Observed(), **options), "public").hosts == ("127.0.0.1",)


def test_the_platform_says_in_which_header_its_routers_name_the_client() -> None:
    options: dict[str, Any] = {"port": 0, "log_config": None}
    fly = Config(Observed(), platform="fly", **options)
    assert trust_of(fly, "public") == Trust(routers=(), client_header="Fly-Client-IP")
    assert str(trust_of(fly, "public")) == "any peer"
    edge = Config(Observed(), platform="railway", forwarded_allow_ips="100.64.0.2", **options)
    assert trust_of(edge, "public") == Trust(hosts=("100.64.0.2",), client_header="X-Real-IP")
    neighbours = Config(Observed(), platform="railway", private_proxy_headers=True, **options)
    assert trust_of(neighbours, "private").client_header == "X-Forwarded-For"


def test_routers_whose_networks_are_not_told_are_believed_from_the_right() -> None:
    peers = TrustedPeers(Trust(routers=()))
    assert "192.0.2.1" in peers and None not in peers
    assert peers.client_of([b"6.6.6.6, 203.0.113.7"]) == ("203.0.113.7", 0)
    assert str(Trust(routers=())) == "any peer; in X-Forwarded-For the right-most address"


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

"""The header that says who the client is: `Forwarded` (RFC 7239), and those that have one address."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten import Config, UsageError
from duallisten.config.platforms.scalingo import SCALINGO
from duallisten.listeners.forwarded import MOST_PROXIES, Trust, believing, read_trust, trust_of
from duallisten.listeners.forwarded_field import LONGEST_ELEMENT, elements_from_the_right, read_element
from tests.support.applications import Observed
from tests.support.running import serving

PEER = ("10.0.0.1", 1234)


def seen(trust: Trust, *headers: tuple[str, str], kind: str = "http") -> tuple[Any, str]:
    """The client and the scheme of a request from `PEER`, as an application sees them."""
    scheme = "ws" if kind == "websocket" else "http"
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {"type": kind, "client": PEER, "scheme": scheme, "headers": fields}
    rewrite = believing(trust)(PEER[0])
    assert rewrite is not None
    rewrite(scope)
    return scope["client"], scope["scheme"]


def trusting(hosts: str, header: str) -> Trust:
    return read_trust(hosts)._replace(client_header=header)


# --- Forwarded ---


@pytest.mark.parametrize(
    ("element", "client", "proto"),
    [
        ("for=192.0.2.43", ("192.0.2.43", 0), ""),
        ('for="192.0.2.43:47011"', ("192.0.2.43", 47011), ""),
        ('For="[2001:db8:cafe::17]:4711";proto=https', ("2001:db8:cafe::17", 4711), "https"),
        ('for="[2001:db8::17]";by=203.0.113.43;host="a,b;c";Proto="HTTPS"', ("2001:db8::17", 0), "https"),
        ("for=unknown;proto=http", ("unknown", 0), "http"),
        ("for=_gazonk", ("_gazonk", 0), ""),
        ('for="192.0.2.43:_x"', ("192.0.2.43", 0), ""),
        (r'for="\1\92.0.2.43"', ("192.0.2.43", 0), ""),
        (" ; for=192.0.2.43 ; proto=wss;", ("192.0.2.43", 0), "wss"),
        ("proto=https", None, "https"),
    ],
)
def test_an_element_says_who_sent_a_request_and_by_which_scheme(element: str, client: Any, proto: str) -> None:
    assert read_element(element.encode()) == (client, proto)


@pytest.mark.parametrize(
    "element",
    [
        "192.0.2.43",
        "for=",
        "for=192.0.2.43 x",
        "for = 192.0.2.43",
        "for=192.0.2.43;for=192.0.2.44",
        "for=192.0.2.043",
        "for=192.0.2.43:80",
        'for="192.0.2.43:"',
        'for="192.0.2.43:65536"',
        'for="192.0.2.43:²"',
        "for=2001:db8::1",
        'for="2001:db8::1"',
        'for="[2001:db8::1"',
        'for="[2001:db8::1]80"',
        'for="[fe80::1%eth0]"',
        "for=example.com",
        "for=_",
        'for="192.0.2.43',
        'for="_a"b',
        "for=_" + "x" * LONGEST_ELEMENT,
    ],
)
def test_a_malformed_element_says_nothing(element: str) -> None:
    assert read_element(element.encode()) is None


BYTES = st.text('for=10._";,\\ a:[]', max_size=30)
QUOTED = st.text("ab,;= ", max_size=6).map(lambda text: f'"{text}"') | st.sampled_from([r'"\""', r'"\\"', r'"a\\\""'])


@settings(deadline=None, derandomize=True, max_examples=500)
@given(BYTES, st.lists(st.tuples(st.sampled_from(["for", "by", "host"]), QUOTED | st.just("x")), max_size=3))
def test_what_a_client_writes_changes_nothing_in_the_element_of_its_proxy(
    written: str, said: list[tuple[str, str]]
) -> None:
    element = ";".join(f"{name}={value}" for name, value in [*said, ("ext", "y")]).encode()
    forged = written.encode()
    for lines in ([forged + b", " + element], [forged, element], [forged + b"," + element + b" "]):
        assert next(elements_from_the_right(lines)) == element


@pytest.mark.parametrize(
    ("fields", "client", "scheme"),
    [
        (["for=6.6.6.6, for=198.51.100.7;proto=https"], ("198.51.100.7", 0), "https"),
        (["for=6.6.6.6;proto=https", "for=198.51.100.7"], ("198.51.100.7", 0), "http"),
        (['for="6.6.6.6, for=198.51.100.7;proto=https'], ("198.51.100.7", 0), "https"),
        (["for=6.6.6.6, for=198.51.100.7;proto=https, for=10.0.0.2;proto=http"], ("198.51.100.7", 0), "https"),
        (["for=6.6.6.6, for=_hidden, for=10.0.0.2"], ("_hidden", 0), "http"),
        (["for=6.6.6.6, junk, for=10.0.0.2;proto=https"], ("10.0.0.2", 0), "https"),
        (["for=6.6.6.6, proto=https, for=10.0.0.2"], ("10.0.0.2", 0), "http"),
        (["for=6.6.6.6, junk"], PEER, "http"),
        (["for=6.6.6.6, proto=https"], PEER, "https"),
        (["for=6.6.6.6, for=198.51.100.7;proto=gopher, ,"], ("198.51.100.7", 0), "http"),
        (["for=10.0.0.3;proto=https, for=10.0.0.2"], ("10.0.0.3", 0), "https"),
        ([""], PEER, "http"),
    ],
)
def test_the_right_most_element_that_is_no_proxy_s_names_the_client(
    fields: list[str], client: Any, scheme: str
) -> None:
    trust = trusting("10.0.0.0/8", "Forwarded")
    assert seen(trust, *(("Forwarded", field) for field in fields)) == (client, scheme)
    sockets = {"http": "ws", "https": "wss"}[scheme]
    assert seen(trust, *(("Forwarded", field) for field in fields), kind="websocket") == (client, sockets)


def test_behind_a_platform_s_routers_the_elements_of_its_own_proxies_are_skipped() -> None:
    trust = Trust(routers=SCALINGO.routers, client_header="Forwarded")
    assert seen(trust, ("Forwarded", "for=6.6.6.6, for=198.51.100.7, for=172.17.0.1"))[0] == ("198.51.100.7", 0)
    assert seen(trust, ("Forwarded", "for=172.17.0.9, for=172.17.0.1"))[0] == ("172.17.0.1", 0)


def test_a_star_believes_the_left_most_element() -> None:
    trust = trusting("*", "forwarded")
    assert seen(trust, ("Forwarded", 'for="_a,b";proto=https, for=6.6.6.6')) == (PEER, "http")
    assert seen(trust, ("Forwarded", "for=_ab;proto=https, for=6.6.6.6")) == (("_ab", 0), "https")


@pytest.mark.parametrize(
    ("element", "client"),
    [("for=10.0.0.9", ("10.0.0.9", 0)), ('for=10.0.0.9;x="' + r"\"" * 200 + '"', ("10.0.0.9", 0)), ("", PEER)],
)
def test_a_field_of_many_elements_is_read_only_as_far_as_needed(element: str, client: Any) -> None:
    field = ", ".join(["for=6.6.6.6", *[element] * MOST_PROXIES])
    assert seen(trusting("10.0.0.0/8", "Forwarded"), ("Forwarded", field))[0] == client


# --- A header of one address ---


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["198.51.100.7"], ("198.51.100.7", 0)),
        ([" 2001:db8::7 "], ("2001:db8::7", 0)),
        (["[2001:db8::7]:80"], ("2001:db8::7", 80)),
        (["198.51.100.7:4711"], ("198.51.100.7", 4711)),
        (["6.6.6.6", "198.51.100.7"], PEER),
        (["198.51.100.7", "198.51.100.7"], PEER),
        (["6.6.6.6, 198.51.100.7"], PEER),
        (["198.51.100.7:99999"], PEER),
        (["198.51.100.7:-1"], PEER),
        (["unknown"], PEER),
        ([""], PEER),
        ([], PEER),
    ],
)
@pytest.mark.parametrize("trust", [read_trust("*"), read_trust("10.0.0.1"), Trust(routers=SCALINGO.routers)], ids=str)
def test_a_header_of_one_address_is_taken_whole_or_not_at_all(trust: Trust, values: list[str], client: Any) -> None:
    trust = trust._replace(client_header="X-Real-IP")
    said = [("X-Real-IP", value) for value in values]
    assert seen(trust, *said, ("X-Forwarded-Proto", "https")) == (client, "https")


FORGED = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("Forwarded", "for=6.6.6.6"),
    ("X-Real-IP", "6.6.6.6"),
    ("X_Real_IP", "6.6.6.6"),
]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Fly-Client-IP"])
def test_no_other_header_is_read(header: str) -> None:
    others = [said for said in FORGED if said[0] != header]
    assert seen(trusting("10.0.0.1", header), *others) == (PEER, "http")


# --- As an option ---


def test_each_listener_may_have_its_own_header_and_a_platform_has_one() -> None:
    options: dict[str, Any] = {"log_config": None, "private_proxy_headers": True}
    config = Config(Observed(), client_ip_header="Forwarded", private_client_ip_header="X-Real-IP", **options)
    assert [trust_of(config, side).client_header for side in ("public", "private")] == ["Forwarded", "X-Real-IP"]
    assert trust_of(Config(Observed(), **options), "public").client_header == "X-Forwarded-For"
    with pytest.raises(UsageError, match="must be the name of a header"):
        Config(Observed(), client_ip_header="a b", **options)
    config = Config(Observed(), platform="scalingo", **options)
    config.place = config.place._replace(platform=SCALINGO._replace(client_header="Fly-Client-IP"))
    assert trust_of(config, "public") == Trust(routers=SCALINGO.routers, client_header="Fly-Client-IP")
    assert trust_of(config, "private").client_header == "X-Forwarded-For"


def test_the_client_is_told_by_the_header_that_was_named() -> None:
    app = Observed()
    with serving(
        app, client_ip_header="forwarded", private_client_ip_header="X-Real-IP", private_proxy_headers=True
    ) as s:
        headers = {
            "Forwarded": "for=198.51.100.7;proto=https",
            "X-Real-IP": "198.51.100.8",
            "X-Forwarded-For": "6.6.6.6",
        }
        httpx.get(s.url("public"), headers=headers)
        httpx.get(s.url("private"), headers=headers)
    assert [(scope["client"], scope["scheme"]) for scope in app.scopes] == [
        (("198.51.100.7", 0), "https"),
        (("198.51.100.8", 0), "http"),
    ]

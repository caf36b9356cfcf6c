"""A browser inside the private network, and what a site that somebody looks at there may do with it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket

from duallisten import UsageError
from duallisten.admin.hostnames import Hostnames, hostnames_of
from tests.faults.serving import faulty
from tests.support.applications import Observed
from tests.support.running import FREE, ObservedServer, ask, connect, eventually, launched, local_config, serving

PAGES = ("/-/livez", "/-/readyz", "/-/startupz", "/-/status", "/-/status.json", "/-/status/events", "/metrics")
"""All that duallisten answers itself on the private side."""

OWN_PAGES: dict[str, Any] = {"private_health": "/-", "private_metrics": "/metrics"}

NAMES = Hostnames(("Shop.example.org.", "web"), ("private-network.internal",))

EVIL = (
    b"evil.example",
    b"evil.example:9240",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"notlocalhost",
    b"localhost.localdomain",
    b"shop.localhost.evil.example",
    b"web.evil.example",
    b"shop.example.org.evil.example",
    b"evil-private-network.internal",
    b"private-network.internal.evil.example",
    b"1.2.3",
    b"2130706433",
    b"0x7f000001",
    b"[::1].evil.example",
    b"[evil]",
    b"[127.0.0.1]",
    b"[::1",
    b"user@localhost",
    b"localhost:80:90",
    b"localhost:80.evil.example",
    b"localhost,evil.example",
    b"\xff",
)

KNOWN = (
    b"",
    b"localhost",
    b"LocalHost.:9240",
    b"shop.localhost:9240",
    b"Feed.Shop.LOCALHOST.",
    b"127.0.0.1",
    b"10.240.0.5:9240",
    b"10.240.0.5.",
    b"[::1]",
    b"[::1]:9240",
    b"[fe80::1%25eth0]:9240",
    b"[::ffff:10.240.0.5]",
    b"shop.example.org",
    b"SHOP.EXAMPLE.ORG.:80",
    b"web:9240",
    b"web:",
    b"1.web.ap-1.pn-1.private-network.internal",
)


@pytest.mark.parametrize("host", EVIL)
def test_a_name_that_a_site_may_have_rebound_is_unknown(host: bytes) -> None:
    assert not NAMES.knows(host)


@pytest.mark.parametrize("host", KNOWN)
def test_an_address_and_an_own_name_are_known_however_they_are_written(host: bytes) -> None:
    assert NAMES.knows(host)


@given(st.from_regex(r"\A([a-z0-9]{1,9}\.)+(example|com)(:[0-9]{0,5})?\Z"))
def test_no_name_that_somebody_can_register_is_known(host: str) -> None:
    assert NAMES.knows(host.encode()) == (host.partition(":")[0] == "shop.example.org")


def test_the_host_knows_its_own_names_and_those_of_its_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duallisten.admin.hostnames.gethostname", lambda: "Box.example.net")
    names = {
        "SCALINGO_APPLICATION_ID": "1",
        "SCALINGO_PRIVATE_HOSTNAME": "1.web.ap-1.pn-1.private-network.internal.",
        "APP": "shop",
        "CONTAINER": "web-1",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    known = hostnames_of(local_config(Observed(), private_host="inner.example.net", private_hostnames=["given"])).knows
    own = ("box", "box.example.net", "inner.example.net", "given", "shop-web")
    for host in (*own, "web.ap-1.pn-1.private-network.internal", "1.web.ap-1.pn-1.private-network.internal"):
        assert known(host.encode()), host
    assert not known(b"example.net")
    assert not known(b"auto")


@pytest.fixture(scope="module")
def server() -> Iterator[ObservedServer]:
    with serving(Observed(), **OWN_PAGES) as server:
        assert eventually(lambda: httpx.get(server.url("private") + "/-/readyz").status_code == 200)
        yield server


def get(url: str, *lines: str, version: str = "1.1") -> tuple[int, bytes]:
    """The status and the body of an answer; ended by us, for events never end."""
    server, _, path = url.partition("://")[2].partition("/")
    request = "\r\n".join([f"GET /{path} HTTP/{version}", *lines, "Connection: close", "", ""])
    answer = ask(f"http://{server}", request.encode())
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("path", PAGES)
def test_a_site_that_rebinds_its_name_reads_none_of_our_pages(server: ObservedServer, path: str) -> None:
    url = server.url("private") + path
    for method in ("GET", "HEAD", "POST"):
        assert httpx.request(method, url, headers={"host": "evil.example"}).status_code == 421
    status, body = get(url, "Host: evil.example:9240")
    assert (status, b"--private-hostname" in body) == (421, True)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_another_site_cannot_ask_for_ours(server: ObservedServer, path: str) -> None:
    url = server.url("private") + path
    assert httpx.get(url, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    for site in ("same-origin", "same-site", "none"):
        assert httpx.head(url, headers={"sec-fetch-site": site}).status_code == 200


def test_what_is_not_ours_is_the_applications_to_judge(server: ObservedServer) -> None:
    for headers in ({"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert httpx.get(server.url("private") + "/", headers=headers).text == "private"
        assert httpx.get(server.url("public") + "/-/livez", headers=headers).text == "public"


def test_probes_by_address_and_without_a_name_go_on_working(server: ObservedServer) -> None:
    url = server.url("private") + "/-/livez"
    port = url.rpartition(":")[2].partition("/")[0]
    for host in ("10.240.0.5", f"10.240.0.5:{port}", f"[fd00::5]:{port}", f"localhost:{port}", socket.gethostname()):
        assert get(url, f"Host: {host}")[0] == 200
    assert get(url, version="1.0")[0] == 200, "as HAProxy's checks are"
    assert get(url, "Host:")[0] == 200


def test_the_host_of_an_absolute_target_counts(server: ObservedServer) -> None:
    port = server.addresses["private"][1]
    for target, host, status in (("evil.example", "localhost", 421), ("127.0.0.1", "evil.example", 200)):
        request = f"GET http://{target}:{port}/-/livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert int(ask(server.url("private"), request.encode()).split()[1]) == status


def test_the_log_says_which_option_lets_a_name_in(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "uvicorn.error"), serving(Observed(), **OWN_PAGES) as server:
        for _ in range(3):
            httpx.get(server.url("private") + "/-/livez", headers={"host": "shop.svc:9240"})
    (line,) = [record.getMessage() for record in caplog.records if "421" in record.getMessage()]
    assert "'shop.svc:9240'" in line
    assert "--private-hostname" in line


def test_a_blocked_process_refuses_alike(tmp_path: Path) -> None:
    with faulty("--private-health", "/-", cwd=tmp_path) as server:
        url = server.url("private")
        assert eventually(lambda: httpx.get(url + "/-/readyz").status_code == 200)
        with connect(server.url("public")) as blocking:
            blocking.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually((tmp_path / "blocked").exists)
            try:
                assert get(url + "/-/startupz", "Host: localhost")[0] == 200
                assert get(url + "/-/startupz", version="1.0")[0] == 200
                assert get(url + "/-/startupz", "Host: evil.example")[0] == 421
                assert get(url + "/-/startupz", "Host: localhost", "Sec-Fetch-Site: cross-site")[0] == 403
                target = b"GET http://evil.example/-/startupz HTTP/1.1\r\nHost: localhost\r\n\r\n"
                assert int(ask(url, target).split()[1]) == 421
            finally:
                (tmp_path / "released").touch()


@pytest.mark.parametrize("http", ["httptools", "h11", "uvicorn.protocols.http.h11_impl:H11Protocol"])
def test_with_a_private_hostname_all_of_the_private_side_refuses_other_names(http: str) -> None:
    names = ["shop.svc.cluster.local", "shop"]
    with serving(Observed(), private_hostnames=names, http=http) as server:
        private = server.url("private")
        for host in ("shop", "shop:9240", "SHOP.svc.cluster.local.", "localhost", "127.0.0.1", "[::1]"):
            assert httpx.get(private, headers={"host": host}).text == "private"
        for host in ("evil.example", "shop.evil.example"):
            answer = httpx.post(private, headers={"host": host}, content=b"x")
            assert (answer.status_code, answer.text) == (421, "Misdirected Request")
            assert httpx.get(server.url("public"), headers={"host": host}).text == "public"


def test_a_websocket_handshake_for_another_name_is_refused_too() -> None:
    app = Observed()
    with serving(app, private_hostnames=["shop"]) as server:
        private = server.url("private")
        with websocket("ws://shop", sock=connect(private)) as known:
            assert known.recv() == "private"
        with pytest.raises(InvalidStatus) as refused, websocket("ws://evil.example", sock=connect(private)):
            pass
        assert refused.value.response.status_code == 421
    assert len(app.scopes) == 1


@pytest.mark.parametrize("name", ["http://shop", "shop:80", "", "a b", "-a", "a..b", "é"])
def test_a_private_hostname_is_a_name_and_nothing_else(name: str) -> None:
    with pytest.raises(UsageError, match="must be a host name"):
        local_config(Observed(), private_hostnames=[name])


def test_the_command_line_takes_several() -> None:
    with launched(
        "duallisten.demo:app", *FREE, "--private-hostname", "a.internal", "--private-hostname", "b"
    ) as server:
        url = server.url("private")
        assert [httpx.get(url, headers={"host": name}).status_code for name in ("a.internal", "b", "c")] == [
            200,
            200,
            421,
        ]

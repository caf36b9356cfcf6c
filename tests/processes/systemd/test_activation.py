"""Sockets that systemd has bound become the listeners."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from duallisten import LaunchError, UsageError
from duallisten.listeners.plan import Plan, make_plan
from duallisten.listeners.socket_activation import Named, read_names, take_passed
from duallisten.net import LOOPBACK, InheritedSocket, Passed, TCPAddress, UnixAddress
from tests.listeners.test_plan import BLOCK, host, request
from tests.processes.systemd.manager import activated, listening, url
from tests.support.running import ask, connect, launched, processes, run

APP = """
import os
from duallisten import side

async def app(scope, receive, send):
    if scope["type"] == "http":
        left = sorted(name for name in os.environ if name.startswith("LISTEN_"))
        inherited = [number for number in (3, 4) if is_inherited(number)]
        body = f"{side(scope)} {left} {inherited}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

def is_inherited(descriptor):
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False
"""


def test_the_named_sockets_are_the_two_sides_and_no_child_hears_of_them(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with (
        listening() as public,
        listening() as private,
        activated([private, public], "private:public", "shop:app", cwd=tmp_path) as server,
    ):
        assert server.url("public") == url(public)
        assert server.url("private") == url(private)
        assert httpx.get(url(public)).text == "public [] []"
        assert httpx.get(url(private)).text == "private [] []"


@pytest.mark.parametrize("options", [["--workers", "2"], ["--workers", "1", "--private-workers", "1"], ["--reload"]])
def test_the_sockets_are_served_by_several_processes(options: list[str], tmp_path: Path) -> None:
    with listening() as public, listening() as private:
        arguments = ["duallisten.demo:app", *options]
        with activated([public, private], "public:private", *arguments, cwd=tmp_path) as server:
            server.url("public")
            assert httpx.get(url(public)).json()["side"] == "public"
            assert httpx.get(url(private)).json()["side"] == "private"
            assert server.process.pid not in processes(url(public), times=4)
            assert server.end() == 0


def test_what_comes_in_between_two_services_is_answered_by_the_second() -> None:
    with listening() as public:
        arguments = ("duallisten.demo:app", "--private-port", "0", "--no-access-log")
        with activated([public], "shop.socket", *arguments) as server:
            assert httpx.get(url(public)).json()["side"] == "public"
            assert httpx.get(server.url("private")).json()["side"] == "private"
        with connect(url(public)) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with activated([public], "shop.socket", *arguments):
                assert b"200 OK" in waiting.recv(65536)


def test_sockets_of_another_process_are_left_alone_and_it_is_said() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    with launched("duallisten.demo:app", "--port", "0", "--private-port", "0", environ=environ) as server:
        assert b"public" in ask(server.url("public"))
        assert "Ignoring the sockets of LISTEN_FDS: LISTEN_PID is 1" in server.output


def test_a_check_tells_where_a_listener_comes_from() -> None:
    with listening() as public, listening() as private:
        with activated([public, private], "public:private", "duallisten.demo:app", "--check", "--json") as server:
            server.process.wait()
            server._reader.join()
        rows = {row["side"]: row for row in json.loads(server.output)["listeners"]}
        assert [rows[side]["origin"] for side in ("public", "private")] == ["LISTEN_FDS", "LISTEN_FDS"]
        assert rows["private"]["peers_admitted"] == "127.0.0.0/8, ::1"


def refused(sockets: list[socket.socket], names: str, *arguments: str) -> tuple[int, list[str]]:
    with activated(sockets, names, "duallisten.demo:app", *arguments) as server:
        code = server.process.wait()
        server._reader.join()
        return code, server.lines


def test_a_private_socket_on_every_interface_stops_the_launch() -> None:
    with listening() as public, listening("0.0.0.0") as private:
        code, lines = refused([public, private], "public:private")
        assert code == 3
        assert lines[0].startswith("duallisten: the private socket 0.0.0.0:")
        assert "listens on every interface" in lines[0] and len(lines) == 1


def test_names_that_are_no_sides_stop_the_launch() -> None:
    with listening() as one, listening() as other:
        assert refused([one, other], "public:shop.socket") == (
            2,
            [
                "duallisten: LISTEN_FDNAMES=public:shop.socket: shop.socket is not a side; name each socket public or "
                "private (FileDescriptorName= of its .socket unit)"
            ],
        )


def test_an_option_that_names_a_socket_too_stops_the_launch() -> None:
    with listening() as public:
        code, lines = refused([public], "public", "--uds", "/nowhere/app.sock")
        assert (code, len(lines)) == (3, 1)
        assert "LISTEN_FDS passes a public socket, and --uds names another" in lines[0]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"LISTEN_FDS": "two"}, "LISTEN_FDS=two: must be the number"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS=-1: must be the number"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "public"}, "has 1 names, but LISTEN_FDS=2"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}, "has 0 names, but LISTEN_FDS=1"),
        ({"LISTEN_FDS": "2"}, "unknown is not a side"),
    ],
)
def test_variables_that_contradict_each_other_are_refused(said: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_names(said | {"LISTEN_PID": "7"}, 7)


def test_one_socket_alone_needs_no_name() -> None:
    assert read_names({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7) == (Named(3, "unknown"),)
    assert read_names({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a.socket"}, 7) == (
        Named(3, "a.socket"),
    )
    assert read_names({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, 7) == ()


def taken(sock: socket.socket | int, monkeypatch: pytest.MonkeyPatch, name: str = "public", count: int = 1) -> Passed:
    """Take a descriptor of this process as if it were passed to it."""
    number = sock if isinstance(sock, int) else sock.fileno()
    monkeypatch.setattr("duallisten.listeners.socket_activation.FIRST", number)
    names = ":".join([name] * count)
    return take_passed({"LISTEN_PID": "7", "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}, 7)


def test_a_socket_is_found_where_it_is_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with listening() as sock:
        where = TCPAddress("127.0.0.1", sock.getsockname()[1])
        assert taken(sock, monkeypatch, "private") == Passed(private=(InheritedSocket(sock.fileno(), where),))
    for path, shown in ((str(tmp_path / "a.sock"), str(tmp_path / "a.sock")), (f"\0{tmp_path}", f"@{tmp_path}")):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            assert taken(sock, monkeypatch).public == (InheritedSocket(sock.fileno(), UnixAddress(shown)),)


def test_a_descriptor_that_cannot_be_served_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        datagrams = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        listener = stack.enter_context(listening())
        connection = stack.enter_context(connect(url(listener)))
        file = stack.enter_context(Path(os.devnull).open())
        for what, reason in (
            (datagrams, "is not a TCP or UNIX stream socket"),
            (connection, "is a connection, not a listener"),
            (file.fileno(), "is not a socket"),
            (999, "cannot be used: Bad file descriptor"),
        ):
            with pytest.raises(LaunchError, match=reason):
                taken(what, monkeypatch)


def test_there_may_be_several_private_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    first = 900  # where nothing else is
    with listening() as one:
        passed = [os.dup2(one.fileno(), number) for number in (first, first + 1)]
        try:
            assert [sock.descriptor for sock in taken(first, monkeypatch, "private", count=2).private] == passed
        finally:
            for number in passed:
                os.close(number)


def passed(private: str | None = None, public: str | None = None) -> Passed:
    return Passed(
        *(() if text is None else (InheritedSocket(3, TCPAddress(text, 9240)),) for text in (public, private))
    )


def test_a_private_socket_admits_the_network_that_it_is_bound_in() -> None:
    plan = make_plan(request(passed=passed("10.240.0.9"), private_missing="later"), host(eth0="172.17.0.2"))
    assert str(plan.private) == "10.240.0.9:9240 (fd:3)"
    assert list(map(str, plan.admission.private_addresses)) == ["10.240.0.9"]
    assert plan.admission.allowed == (BLOCK, *LOOPBACK)
    assert not plan.later


def test_each_of_several_private_sockets_keeps_the_rules() -> None:
    def plan_of(*addresses: str) -> Plan:
        sockets = tuple(sock for address in addresses for sock in passed(address).private)
        return make_plan(request(passed=Passed(private=sockets)), host())

    plan = plan_of("10.240.0.5", "127.0.0.1")
    assert str(plan.private) == "10.240.0.5:9240 (fd:3), 127.0.0.1:9240 (fd:3)"
    assert list(map(str, plan.admission.private_addresses)) == ["10.240.0.5", "127.0.0.1"]
    with pytest.raises(LaunchError, match=r"172\.17\.0\.2 is in no private network"):
        plan_of("10.240.0.5", "172.17.0.2")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"passed": passed("::")}, "listens on every interface"),
        ({"passed": passed("::ffff:0.0.0.0")}, "listens on every interface"),
        ({"passed": passed("172.17.0.2")}, "172.17.0.2 is in no private network"),
        ({"passed": Passed(private=(InheritedSocket(3, UnixAddress("/a")),))}, "has no IP address"),
        ({"passed": passed("10.240.0.5"), "private_host": "eth1"}, "and --private-host names another"),
        ({"passed": passed("10.240.0.5"), "listeners": "public"}, "only the public side is opened"),
        ({"passed": passed(public="1.2.3.4"), "listeners": "private"}, "only the private side is opened"),
        ({"passed": passed(public="1.2.3.4"), "fd": 5}, "and --fd names another"),
        ({"passed": passed(public="0.0.0.0")}, "both listeners have the same address"),
        ({"passed": passed("10.240.0.5"), "port": 9240}, "both listeners have the same address"),
    ],
)
def test_a_passed_socket_keeps_the_rules_of_its_side(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(LaunchError, match=reason):
        make_plan(request(**given), host())


def test_the_descriptor_that_was_passed_may_be_named_too_as_for_uvicorn() -> None:
    plan = make_plan(request(passed=passed(public="1.2.3.4"), fd=3), host())
    assert str(plan.public) == "1.2.3.4:9240 (fd:3)"


def test_a_user_can_name_the_peers_of_a_private_socket() -> None:
    plan = make_plan(request(passed=passed("172.17.0.2"), private_allow=(BLOCK,)), host())
    assert plan.admission.allowed == (BLOCK,)


def test_without_passed_sockets_nothing_of_it_is_imported() -> None:
    script = (
        "import sys, duallisten.processes.launch as launch; from duallisten import Config\n"
        "launch.check(Config('duallisten.demo:app', private_port=0, port=0), as_json=True)\n"
        "sys.exit(any(name.startswith('duallisten.systemd') for name in sys.modules))"
    )
    assert run("-c", script, command=(sys.executable,)).returncode == 0

"""An HTTP client for a service of many instances."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest
import trustme

from duallisten.errors import UsageError
from duallisten.registry import Instance, Registry, Write
from duallisten.registry import http as resolving
from duallisten.registry.backend import make_backend
from duallisten.registry.entry import to_json
from duallisten.registry.http import Address, DNSSource, RegistrySource, client, httpx, to_use
from duallisten.sides import Receive, Scope, Send
from tests.registry.conftest import NETWORKS
from tests.registry.databases import Database, free_port
from tests.support.running import DEADLINE, ObservedServer, serving

At = Callable[..., httpx.AsyncClient]


class Fixed:
    """A source that knows what it is told."""

    def __init__(self, *ports: int) -> None:
        self.known = tuple(Address("http", "127.0.0.1", port, "billing") for port in ports)

    async def addresses(self) -> tuple[Address, ...]:
        return self.known

    async def aclose(self) -> None:
        self.known = ()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the port that was asked, the Host header and what was sent."""
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    host = dict(scope["headers"])[b"host"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d %b %b" % (scope["server"][1], host, body)})


@pytest.fixture(scope="module")
def servers() -> Any:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(echo, listeners="private", lifespan="off")) for _ in range(3)]


def port_of(server: ObservedServer) -> int:
    return server.addresses["private"][1]


@pytest.fixture
def ports(servers: list[ObservedServer]) -> list[int]:
    return [port_of(server) for server in servers]


@pytest.fixture
async def closing() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that reads a request and closes the connection; what it has read."""
    requests: list[bytes] = []

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], requests
    server.close()
    await server.wait_closed()


@pytest.fixture
def at(over: Any) -> At:
    """A client for a service at these ports."""
    return lambda *ports: over.httpx.AsyncClient(transport=over.Transport(Fixed(*ports)), base_url="http://billing")


async def test_requests_are_spread_over_all(at: At, ports: list[int]) -> None:
    async with at(*ports) as http:
        answers = [(await http.get("/")).text for _ in range(30)]
    assert Counter(int(answer.split()[0]) for answer in answers) == dict.fromkeys(ports, 10)
    assert {answer.split()[1] for answer in answers} == {"billing"}, "the host is the one of the URL"


@pytest.mark.parametrize("streams", [False, True])
async def test_where_a_connection_is_refused_another_is_asked(at: At, ports: list[int], streams: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"seven"
        yield b" eleven"

    gone = [free_port() for _ in range(2)]
    async with at(*gone, ports[0]) as http:
        for _ in range(6):
            content: Any = pieces() if streams else b"seven eleven"
            assert (await http.post("/", content=content)).text.endswith("billing seven eleven")


async def test_where_all_refuse_the_error_is_httpxs(at: At, over: Any) -> None:
    async with at(free_port(), free_port()) as http:
        with pytest.raises(over.httpx.ConnectError):
            await http.get("/")
    async with at() as http:
        with pytest.raises(over.httpx.ConnectError, match="no instance of billing is registered"):
            await http.get("/")


async def test_a_lost_request_is_sent_again_where_that_does_no_harm(
    at: At, closing: tuple[int, list[bytes]], ports: list[int]
) -> None:
    port, requests = closing
    async with at(port, ports[0]) as http:
        answers = [await http.get("/") for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    assert len(requests) == 1, "one that has failed is left out for a while"


async def test_a_lost_request_that_may_have_been_carried_out_is_not_sent_again(
    at: At,
    over: Any,
    closing: tuple[int, list[bytes]],
) -> None:
    port, requests = closing
    async with at(port, port) as http:
        with pytest.raises(over.httpx.RemoteProtocolError):
            await http.post("/", content=b"7")
        assert len(requests) == 1
    async with at(port, port) as http:
        with pytest.raises(over.httpx.RemoteProtocolError):
            await http.get("/")
    assert len(requests) == 3, "twice at most"


async def test_what_is_asked_for_with_tls_does_not_go_without(at: At, over: Any, ports: list[int]) -> None:
    async with at(*ports) as http:
        with pytest.raises(over.httpx.ConnectError, match="an instance of billing does not serve TLS"):
            await http.get("https://billing/")


async def test_other_hosts_are_asked_themselves(over: Any, ports: list[int], redis: Database) -> None:
    async with over.client("billing", redis.url) as http:
        answer = await http.get(f"http://127.0.0.1:{ports[0]}/")
    assert answer.text.split()[1] == f"127.0.0.1:{ports[0]}"


async def test_the_name_of_a_service_is_checked(redis: Database) -> None:
    with pytest.raises(UsageError, match="is not a valid service name"):
        client("billing:1", redis.url)


async def test_with_tls_the_instance_has_the_certificate_of_its_name(over: Any) -> None:
    authority = trustme.CA()
    name = "1.web.private-network.internal"
    certificate = authority.issue_cert(name)
    with certificate.private_key_and_cert_chain_pem.tempfile() as pem:
        tls = {"private_ssl_certfile": pem, "private_ssl_keyfile": pem}
        with serving(echo, listeners="private", lifespan="off", **tls) as server:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            source = Fixed()
            source.known = (Address("https", "127.0.0.1", port_of(server), name),)
            async with over.httpx.AsyncClient(transport=over.Transport(source, verify=context)) as http:
                assert (await http.get("http://billing/")).text.split()[1] == "billing"
            source.known = (Address("https", "127.0.0.1", port_of(server), "2.web.private-network.internal"),)
            async with over.httpx.AsyncClient(transport=over.Transport(source, verify=context)) as http:
                with pytest.raises(over.httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await http.get("http://billing/")


def test_instances_that_are_ready_are_used_and_else_those_that_drain() -> None:
    ready, draining, starting = (
        Instance("billing", state, f"10.240.0.{number}", 9240, state=state)  # type: ignore[arg-type]
        for number, state in enumerate(("ready", "draining", "starting"), 1)
    )
    public = Instance("billing", "public", "10.240.0.4", None, 5000)
    assert to_use((draining, public, ready, starting)) == (Address("http", "10.240.0.1", 9240, "10.240.0.1"),)
    assert to_use((draining, public, starting)) == (Address("http", "10.240.0.2", 9240, "10.240.0.2"),)
    assert to_use((starting, public)) == ()


class Told(Registry):
    """A registry that tells what a test wants."""

    def __init__(self) -> None:
        self.sets: asyncio.Queue[tuple[Instance, ...]] = asyncio.Queue()

    async def watch(self, service: str | None = None) -> Any:
        while True:
            yield await self.sets.get()
            self.sets.task_done()


async def test_a_set_that_is_suddenly_empty_is_not_believed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Told()
    source = RegistrySource(registry, "billing")
    one = Instance("billing", "a", "10.240.0.5", 9240)

    async def tell(*instances: Instance) -> tuple[Address, ...]:
        registry.sets.put_nowait(instances)
        found = source.addresses()
        registry.sets.put_nowait(instances)  # taken up when the one before has been acted upon
        await found
        await registry.sets.join()
        return await source.addresses()

    known = await tell(one)
    assert [address.host for address in known] == ["10.240.0.5"]
    assert await tell() == known
    assert await tell(one._replace(state="draining")) == known
    assert await tell() == (), "who has drained is gone"
    await tell(one)
    monkeypatch.setattr(resolving, "HOLD", 0.0)
    assert await tell() == ()
    await source.aclose()


async def test_the_client_follows_a_registry(over: Any, database: Database, ports: list[int]) -> None:
    backend = make_backend(database.url)

    async def put(number: int, state: str, count: int, body: str | None = None) -> None:
        one = Instance("billing", str(number), "127.0.0.1", ports[number], state=state)  # type: ignore[arg-type]
        assert await backend.write(Write("billing", one.id, one.id, 0, count, 60.0, to_json(one)))

    await put(0, "ready", 1)
    await put(1, "ready", 1)
    async with (
        over.client("billing", database.url, networks=NETWORKS, timeout=DEADLINE) as http,
        asyncio.timeout(DEADLINE),
    ):

        async def asked() -> set[int]:
            return {int((await http.get("/")).text.split()[0]) for _ in range(6)}

        assert await asked() == {ports[0], ports[1]}
        await put(0, "draining", 2)
        await put(2, "ready", 1)
        while await asked() != {ports[1], ports[2]}:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(database.stop)
        assert await asked() == {ports[1], ports[2]}, "a registry that is away changes nothing"
        await asyncio.to_thread(database.start)
    await backend.aclose()


async def test_a_registry_that_never_answers_is_a_failed_connection(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over, "FIRST_ANSWER", 0.05)
    async with over.client("billing", f"redis://:hunter2@127.0.0.1:{free_port()}") as http:
        with pytest.raises(
            over.httpx.ConnectError, match=r"did not answer within .* no instance of billing is known"
        ) as raised:
            await http.get("/")
    assert "hunter2" not in repr(raised.value)


class Names:
    """Stands in for the resolver of an event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: list[str] = []
        self.asked = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo, raising=False)

    async def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        if host.endswith("internal"):
            self.asked += 1
            if not self.records:
                raise OSError("no such name")
            return [(0, 0, 0, "", (record, port)) for record in self.records]
        return [(2, 1, 6, "", (host, port))]


NAME = "web.ap-1.pn-1.private-network.internal"


async def test_dns_alone_leads_to_all_addresses_in_turn(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    names.records = ["127.0.0.2", "127.0.0.3"]
    port = free_port(*names.records)
    with ExitStack() as stack:
        for host in names.records:
            stack.enter_context(
                serving(echo, listeners="private", lifespan="off", private_host=host, private_port=port)
            )
        served = Counter[str]()
        hooks = {"response": [lambda response: count(served, response)]}
        async with over.client(NAME, port=port, networks="127.0.0.0/8", event_hooks=hooks) as http:
            for _ in range(10):
                assert (await http.get("/")).text.split()[1] == NAME
        assert served == {"127.0.0.2": 5, "127.0.0.3": 5}
    assert names.asked == 1


async def count(served: Counter[str], response: httpx.Response) -> None:
    served[response.extensions["network_stream"].get_extra_info("server_addr")[0]] += 1


async def test_an_answer_of_dns_is_used_for_its_time_and_stands_while_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    names.records = ["10.240.0.5"]
    source = DNSSource(NAME)
    (first,) = await source.addresses()
    assert first == Address("http", "10.240.0.5", 9240, NAME)
    names.records = []
    source._good_until = 0.0
    assert await source.addresses() == (first,)
    async with asyncio.timeout(DEADLINE):
        while names.asked < 2:
            await asyncio.sleep(0)
        assert await source.addresses() == (first,)
        names.records, source._good_until = ["10.240.0.6"], 0.0
        while (await source.addresses())[0] == first:
            await asyncio.sleep(0)
    await source.aclose()


@pytest.mark.parametrize(
    "record", ["169.254.169.254", "127.0.0.1", "203.0.113.7", "::1", "fe80::1%eth0", "fd00:ec2::254"]
)
async def test_a_name_that_leads_out_of_the_private_networks_is_not_followed(
    record: str, over: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch).records = [record]
    async with over.client(NAME) as http:
        with pytest.raises(over.httpx.ConnectError, match=r"no address in DNS in the allowed networks \(10.0.0.0/8, "):
            await http.get("/")


async def test_of_the_addresses_of_a_name_those_in_private_networks_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Names(monkeypatch).records = ["169.254.169.254", "10.240.0.5", "127.0.0.1"]
    source = DNSSource(NAME)
    assert [address.host for address in await source.addresses()] == ["10.240.0.5"]
    await source.aclose()


async def test_the_networks_of_a_registry_are_its_own() -> None:
    async with Registry("redis://127.0.0.1") as registry:
        with pytest.raises(UsageError, match="pass them to the Registry"):
            client("billing", registry, networks=["127.0.0.0/8"])
    with pytest.raises(UsageError, match="networks: everywhere is not a network"):
        client("billing", "redis://127.0.0.1", networks="everywhere")


async def test_a_name_without_an_address_is_a_failed_connection(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch)
    async with over.client(NAME) as http:
        with pytest.raises(over.httpx.ConnectError, match="has no address in DNS"):
            await http.get("/")


def test_without_either_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx2", "httpx"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "duallisten.registry.http")
    with pytest.raises(ImportError, match=r"install 'duallisten\[http\]"):
        import_module("duallisten.registry.http")

"""The network of a container, in network namespaces: a world of its own for one test. On Scalingo:

    router ---- 172.17.0.0/16 ---- eth0 container eth1 ---- 10.240.0.0/22 ---- neighbour

Other kinds of network are in `kinds`.

The router stands for the platform's, and for any other host of the outer network; the neighbour for a container of
another application in the same private network. Nothing here leaves the namespaces, and their names are drawn by lot,
so that any number of tests run side by side.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from tests.support.running import DUALLISTEN, Launched, run

ROUTER, PUBLIC = "172.17.0.1", "172.17.0.2"
NEIGHBOUR, PRIVATE = "10.240.0.6", "10.240.0.5"
ROUTER6, PUBLIC6 = "fd17::1", "fd17::2"
NEIGHBOUR6, PRIVATE6 = "fdaa::6", "fdaa::5"
GATEWAY, POD, OTHER_POD = "10.42.0.1", "10.42.0.5", "10.42.0.6"

LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (linux/net/tcp_states.h)."""


@dataclass(frozen=True)
class Namespace:
    """A network namespace, by its name."""

    name: str

    def ip(self, *commands: str) -> None:
        """Run commands of iproute2 inside, in one process; the first that fails raises."""
        _ip("-netns", self.name, "-batch", "-", text="\n".join(commands) + "\n")

    def inside(self, *command: str) -> list[str]:
        """Give the command that runs `command` inside, under the same process id."""
        return ["ip", "netns", "exec", self.name, *command]

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        return Path("/run/netns", self.name).exists()

    @property
    def processes(self) -> set[int]:
        """The ids of the processes inside, none of which anyone but the test has started."""
        return {int(line) for line in _ip("netns", "pids", self.name).split()}


@dataclass(frozen=True)
class Network:
    """A network that the container is on, and who else is: addresses of each, with the length of their prefix.

    device: the interface's name, in the container and at the other end
    """

    device: str
    container: tuple[str, ...]
    router: tuple[str, ...] = ()
    neighbour: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of network that platforms have.

    late: the interface whose addresses come when `Topology.arrive` is called
    has_sidecar: the neighbour is in the container's own namespace, and comes from loopback
    """

    networks: tuple[Network, ...]
    late: str = ""
    has_sidecar: bool = False


TWO_IPV4 = Kind(
    (
        Network("eth0", (f"{PUBLIC}/16",), router=(f"{ROUTER}/16",)),
        Network("eth1", (f"{PRIVATE}/22",), neighbour=(f"{NEIGHBOUR}/22",)),
    )
)
"""Public and private traffic come to two IPv4 addresses, as on Scalingo."""

BOTH_FAMILIES = Kind(
    (
        Network("eth0", (f"{PUBLIC}/16", f"{PUBLIC6}/64"), router=(f"{ROUTER}/16", f"{ROUTER6}/64")),
        Network("eth1", (f"{PRIVATE}/22", f"{PRIVATE6}/64"), neighbour=(f"{NEIGHBOUR}/22", f"{NEIGHBOUR6}/64")),
    )
)
"""The same with IPv6 beside it on both networks."""


@dataclass
class Topology:
    """Three namespaces, wired, and those of more containers; made by `topology`.

    folder: an empty directory, which the servers run in
    """

    container: Namespace
    router: Namespace
    neighbour: Namespace
    folder: Path
    kind: Kind = TWO_IPV4
    _started: ExitStack = field(default_factory=ExitStack)
    _more: list[Namespace] = field(default_factory=list)

    def launch(
        self, *arguments: str, environ: Mapping[str, str], where: Namespace | None = None, lingers: bool = False
    ) -> Launched:
        """Start `duallisten`; it is ended with the topology.

        environ: all of its environment that could mean something to it
        where: the namespace, the container's unless it is given
        lingers: whether its sides go on accepting after the stop signal for as long as they would on the platform
        """
        if not lingers:  # nobody here has a cached address
            environ = {"DUALLISTEN_PRIVATE_LINGER": "0", "DUALLISTEN_PUBLIC_LINGER": "0"} | dict(environ)
        command = (where or self.container).inside(*DUALLISTEN, *arguments)
        return self._started.enter_context(Launched(command, cwd=self.folder, environ=environ))

    def serve(
        self,
        *arguments: str,
        app: str = "duallisten.demo:app",
        container: str = "web-1",
        sides: Iterable[str] = ("private", "public"),
        where: Namespace | None = None,
        **variables: str,
    ) -> Launched:
        """Start `duallisten` as Scalingo would, and wait until its log says that each of `sides` is served.

        container: the container's name, `<process type>-<index>`
        """
        launched = self.launch(app, *arguments, environ=scalingo(container) | variables, where=where)
        for side in sides:
            launched.wait_for(f"Serving the {side} side on ")
        return launched

    def arrive(self) -> None:
        """Give the container the addresses that come late."""
        for network in self.kind.networks:
            if network.device == self.kind.late:
                self.container.ip(*_addresses(network.device, network.container))

    def add(self, networks: Iterable[Network]) -> Namespace:
        """Add one more container, with the addresses that `networks` say, on the networks that there are already."""
        added = Namespace(self.container.name.replace("-container", f"-twin{len(self._more)}"))
        self._more.append(added)
        _ip("netns", "add", added.name)
        added.ip("link set lo up")
        for network in networks:
            _join(self, added, network, f"{network.device}t{len(self._more)}")
        return added

    def run(self, *arguments: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run `duallisten` in the container to its end."""
        return run(*arguments, command=self.container.inside(*DUALLISTEN), cwd=self.folder, environ=environ)


def scalingo(container: str = "web-1") -> dict[str, str]:
    """Give the environment that Scalingo sets for a container, named `<process type>-<index>`."""
    process_type, _, index = container.rpartition("-")
    environment = {
        "APP": "myapp",
        "CONTAINER": container,
        "CONTAINER_VERSION": "abc",
        "CONTAINER_SIZE": "M",
        "CONTAINER_MEMORY": "536870912",
        "SCALINGO_APPLICATION_ID": "ap-1234",
        "SCALINGO_PRIVATE_NETWORK_ID": "pn-1234",
        "SCALINGO_PRIVATE_HOSTNAME": f"{index}.{process_type}.ap-1234.pn-1234.private-network.internal.",
    }
    return environment | ({"PORT": "5000"} if process_type in ("web", "tcp") else {})


@contextmanager
def topology(folder: Path, kind: Kind = TWO_IPV4) -> Iterator[Topology]:
    """Build the network, and take it down with all that runs in it, whatever happens."""
    lot = secrets.token_hex(4)
    container, router, neighbour = (
        Namespace(f"duallisten-{lot}-{role}") for role in ("container", "router", "neighbour")
    )
    with ExitStack() as cleanup:
        for namespace in (container, router) if kind.has_sidecar else (container, router, neighbour):
            cleanup.callback(_remove, namespace)
            _ip("netns", "add", namespace.name)
            namespace.ip("link set lo up")
        built = Topology(container, router, container if kind.has_sidecar else neighbour, folder, kind)
        cleanup.callback(_remove_all, built._more)
        cleanup.callback(built._started.close)  # before the namespaces go
        for network in kind.networks:
            _wire(built, network)
        yield built


def _wire(built: Topology, network: Network) -> None:
    """Wire the ends of a network: two to each other, three to a bridge that the router has."""
    device, router, neighbour = network.device, built.router, built.neighbour
    own = () if device == built.kind.late else network.container
    if network.router and network.neighbour:
        router.ip(f"link add {device} type bridge", f"link set {device} up", *_addresses(device, network.router))
        for end, addresses in ((built.container, own), (neighbour, network.neighbour)):
            port = end.name.rpartition("-")[2]
            end.ip(f"link add {device} type veth peer name {port} netns {router.name}", f"link set {device} up")
            router.ip(f"link set {port} master {device}", f"link set {port} up")
            end.ip(*_addresses(device, addresses))
            end.ip(*(f"route add default via {_bare(address)}" for address in network.router[:1]))
    else:
        other, addresses = (router, network.router) if network.router else (neighbour, network.neighbour)
        built.container.ip(f"link add {device} type veth peer name {device} netns {other.name}")
        other.ip(f"link set {device} up", *_addresses(device, addresses))
        built.container.ip(f"link set {device} up", *_addresses(device, own))


def _join(built: Topology, added: Namespace, network: Network, port: str) -> None:
    """Wire one more container to a network: to the bridge, or to who is at the other end by a wire of its own.

    port: the name of the other end
    """
    device = network.device
    has_bridge = bool(network.router and network.neighbour)
    other = built.router if network.router else built.neighbour
    added.ip(f"link add {device} type veth peer name {port} netns {other.name}", f"link set {device} up")
    added.ip(*_addresses(device, network.container))
    other.ip(f"link set {port} up", *([f"link set {port} master {device}"] if has_bridge else []))
    for theirs, ours in () if has_bridge else zip(network.container, network.router or network.neighbour, strict=True):
        whole = 128 if ":" in ours else 32  # IPv6 answers on a wire for the addresses of that wire alone
        other.ip(*_addresses(port, (f"{_bare(ours)}/{whole}",)))
        other.ip(f"route add {_bare(theirs)} dev {port} src {_bare(ours)}")


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _addresses(device: str, addresses: tuple[str, ...]) -> list[str]:
    """Write the commands that give an interface its addresses; IPv6 is usable at once, without looking for others."""
    return [f"addr add {address} dev {device}{' nodad' if ':' in address else ''}" for address in addresses]


def listening(process: int) -> set[tuple[str, int]]:
    """What is listened on over TCP in the namespace of `process`: (address, port) each."""
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{process}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            _, local, _, state, *_ = line.split()
            if state == LISTENING:
                host, _, port = local.partition(":")
                found.add((_read_address(host), int(port, 16)))
    return found


@cache
def unfit() -> str | None:
    """Tell why this machine cannot run these tests; None if it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    trial = Namespace(f"duallisten-{secrets.token_hex(4)}-trial")
    try:
        _ip("netns", "add", trial.name)
        trial.ip("link add eth0 type veth peer name eth1")
        subprocess.run(trial.inside("true"), check=True, capture_output=True)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"network namespaces do not work here: {error}"
    finally:
        _remove(trial)
    return None


def _remove(namespace: Namespace) -> None:
    """Remove a namespace, its interfaces and what still runs in it; nothing where it was never made."""
    if not namespace.exists:
        return
    for process in namespace.processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    _ip("netns", "del", namespace.name)


def _remove_all(namespaces: list[Namespace]) -> None:
    for namespace in namespaces:
        _remove(namespace)


def _ip(*arguments: str, text: str | None = None) -> str:
    done = run(*arguments, command=("ip",), text=text)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}\n{text or ''}".rstrip())
    return done.stdout


def _read_address(digits: str) -> str:
    """Read an address of /proc/net/tcp: words of 32 bits, each in this machine's byte order."""
    words = (int(digits[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8))
    packed = b"".join(words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))

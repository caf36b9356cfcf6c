"""The network of a container on Scalingo, in network namespaces: a world of its own for one test.

    router ---- 172.17.0.0/16 ---- eth0 container eth1 ---- 10.240.0.0/22 ---- neighbour

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


@dataclass
class Topology:
    """Three namespaces, wired; made by `topology`.

    folder: an empty directory, which the servers run in
    """

    container: Namespace
    router: Namespace
    neighbour: Namespace
    folder: Path
    _started: ExitStack = field(default_factory=ExitStack)

    def launch(self, *arguments: str, environ: Mapping[str, str], where: Namespace | None = None) -> Launched:
        """Start `duallisten`; it is ended with the topology.

        environ: all of its environment that could mean something to it
        where: the namespace, the container's unless it is given
        """
        environ = {"DUALLISTEN_PRIVATE_LINGER": "0"} | dict(environ)  # nobody here has a cached address
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
def topology(folder: Path, *, ipv6: bool = False, has_one: bool = False) -> Iterator[Topology]:
    """Build the network, and take it down with all that runs in it, whatever happens.

    ipv6: give each interface an IPv6 address, too
    has_one: give the container one interface, as on a node of Kubernetes (`_wire_pods`)
    """
    lot = secrets.token_hex(4)
    container, router, neighbour = (
        Namespace(f"duallisten-{lot}-{role}") for role in ("container", "router", "neighbour")
    )
    with ExitStack() as cleanup:
        for namespace in (container, router, neighbour):
            cleanup.callback(_remove, namespace)
            _ip("netns", "add", namespace.name)
        built = Topology(container, router, neighbour, folder)
        cleanup.callback(built._started.close)  # before the namespaces go
        if has_one:
            _wire_pods(built)
        else:
            _wire(built, ipv6=ipv6)
        yield built


def _wire_pods(built: Topology) -> None:
    """Wire the container and its neighbour to a bridge, which the router has: public traffic comes in over it, too."""
    built.router.ip("link set lo up", "link add br0 type bridge", f"addr add {GATEWAY}/24 dev br0", "link set br0 up")
    for pod, address in ((built.container, POD), (built.neighbour, OTHER_POD)):
        end = pod.name.rpartition("-")[2]
        pod.ip(f"link add eth0 type veth peer name {end} netns {built.router.name}", "link set lo up")
        pod.ip(f"addr add {address}/24 dev eth0", "link set eth0 up", f"route add default via {GATEWAY}")
        built.router.ip(f"link set {end} master br0", f"link set {end} up")


def _wire(built: Topology, *, ipv6: bool) -> None:
    container, router, neighbour = built.container, built.router, built.neighbour
    container.ip(
        f"link add eth0 type veth peer name eth0 netns {router.name}",
        f"link add eth1 type veth peer name eth1 netns {neighbour.name}",
    )
    for end, device, *addresses in (
        (container, "eth0", f"{PUBLIC}/16", f"{PUBLIC6}/64"),
        (router, "eth0", f"{ROUTER}/16", f"{ROUTER6}/64"),
        (container, "eth1", f"{PRIVATE}/22", f"{PRIVATE6}/64"),
        (neighbour, "eth1", f"{NEIGHBOUR}/22", f"{NEIGHBOUR6}/64"),
    ):
        end.ip("link set lo up", f"addr add {addresses[0]} dev {device}")
        if ipv6:
            end.ip(f"addr add {addresses[1]} dev {device} nodad")  # usable at once, without the search for duplicates
        end.ip(f"link set {device} up")


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

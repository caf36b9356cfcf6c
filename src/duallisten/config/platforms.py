"""The places duallisten runs in, as data: how each is recognised and what it promises.

A new platform is one more `Platform` in `PLATFORMS`; nothing else in the code names one. The facts about Scalingo are
from its documentation (environment, networking, process types, routing): `$PORT` is set for the process types `web`
and `tcp` only; `$CONTAINER` is `<process type>-<index>`; a container has an interface in 172.17.0.0/16, where the
routers come in, and, in a private network, one in 10.240.0.0/22, which always is that block. The A records of the
private network live 5 s. SIGTERM is followed by SIGKILL after 30 s. A router keeps its connections for up to a minute
of silence, and quarantines a container that closes one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any, NamedTuple

from duallisten.errors import UsageError
from duallisten.net import LOOPBACK, IPNetwork


class Platform(NamedTuple):
    """What one platform promises.

    name: the value of `--platform`
    markers: sets of variables; the platform is recognised where all of one set are present
    application_variable: holds the application's name
    container_variable: holds `<process type>-<index>`
    version_variable: holds what tells one deployment of the application from the next
    public_process_types: the process types that get traffic from the world, and `$PORT`
    barred_process_types: the process types in which a server makes no sense
    hostname_variable: holds this container's name on the private network
    private_domain: names below it stand for containers of its private networks, and nobody else can have one
    network_variable: present only in a container that is in a private network
    private_wait: seconds that the private address may take to appear
    private_required: a missing private address stops the launch
    private_networks: what is private here, whatever else the user calls so
    routed_process_types: the process types whose public traffic all comes from the platform's routers
    routers: networks of proxies, skipped from the right in X-Forwarded-For
    private_dns_ttl: seconds that neighbours may go on using a private address that they have resolved
    grace: seconds from SIGTERM to SIGKILL; 0 where nobody says
    defaults: uvicorn's options whose default is another one here, by name
    """

    name: str
    markers: tuple[tuple[str, ...], ...] = ()
    application_variable: str = ""
    container_variable: str = ""
    version_variable: str = ""
    public_process_types: tuple[str, ...] = ()
    barred_process_types: tuple[str, ...] = ()
    hostname_variable: str = ""
    private_domain: str = ""
    network_variable: str = ""
    private_wait: float = 0.0
    private_required: bool = False
    private_networks: tuple[IPNetwork, ...] = ()
    routed_process_types: tuple[str, ...] = ()
    routers: tuple[IPNetwork, ...] = ()
    private_dns_ttl: float = 0.0
    grace: float = 0.0
    defaults: tuple[tuple[str, Any], ...] = ()


NONE = Platform(name="none")

SCALINGO = Platform(
    name="scalingo",
    markers=(("SCALINGO_APPLICATION_ID",), ("APP", "CONTAINER", "CONTAINER_VERSION", "CONTAINER_MEMORY")),
    application_variable="APP",
    container_variable="CONTAINER",
    version_variable="CONTAINER_VERSION",
    public_process_types=("web", "tcp"),
    barred_process_types=("postdeploy",),
    hostname_variable="SCALINGO_PRIVATE_HOSTNAME",
    private_domain="private-network.internal",
    network_variable="SCALINGO_PRIVATE_NETWORK_ID",
    private_wait=10.0,
    private_required=True,
    private_networks=(IPv4Network("10.240.0.0/22"),),
    routed_process_types=("web",),  # the TCP gateway of `tcp` passes on what the client itself wrote
    routers=(IPv4Network("172.17.0.0/16"), *LOOPBACK),
    private_dns_ttl=5.0,
    grace=30.0,
    defaults=(("timeout_keep_alive", 75), ("timeout_graceful_shutdown", 20)),
)

PLATFORMS: tuple[Platform, ...] = (SCALINGO, NONE)


class Place(NamedTuple):
    """Where this process runs: the platform, and what its variables say of this container.

    port: the value of `$PORT`, None where it is not set
    process_type: the type in the Procfile, None where the platform has none or does not say
    private_hostname: this container's name on the private network
    in_private_network: whether the platform says that there is one; None where it does not say
    application, container, version: what the platform calls the application, this container and the deployment
    """

    platform: Platform = NONE
    port: int | None = None
    process_type: str | None = None
    private_hostname: str | None = None
    in_private_network: bool | None = None
    application: str | None = None
    container: str | None = None
    version: str | None = None

    @property
    def is_routed(self) -> bool:
        """Whether what comes in from outside comes from the platform's routers, which write the forwarded headers."""
        types = self.platform.routed_process_types
        return self.process_type in types or (self.process_type is None and bool(types))


def locate(choice: str, environ: Mapping[str, str]) -> Place:
    """Tell from the environment where this process runs.

    choice: `auto`, or the name of a platform, which is then taken at its word
    Raises UsageError where `$PORT` is no port.
    """
    platform = next((known for known in PLATFORMS if known.name == choice), None) or _recognise(environ)
    application, container, version = (
        environ.get(variable, "") if variable else ""
        for variable in (platform.application_variable, platform.container_variable, platform.version_variable)
    )
    return Place(
        platform=platform,
        port=_port(environ.get("PORT", "")),
        process_type=container.rpartition("-")[0] or container or None,
        private_hostname=environ.get(platform.hostname_variable, "").rstrip(".") or None,
        in_private_network=(platform.network_variable in environ) if platform.network_variable else None,
        application=application or None,
        container=container or None,
        version=version or None,
    )


def _recognise(environ: Mapping[str, str]) -> Platform:
    for platform in PLATFORMS:
        if any(all(name in environ for name in names) for names in platform.markers):
            return platform
    return NONE


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"$PORT is {text!r}: it must be a port, a number from 0 to 65535")
    return int(text)

"""What a platform is, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from duallisten.net import IPNetwork


class Platform(NamedTuple):
    """What one platform promises.

    A text is empty, a number 0 and a tuple empty where the platform says nothing of it.

    Attributes:
        name: The value of `--platform`.
        title: What its makers call it.
        sources: The pages that the facts come from.
        inferred: The attributes whose values are inferred, not documented. They are chosen to fail closed.
        notes: What a user should know, a sentence each, for the table of platforms.

        application_variable: Holds the application's name.
        container_variable: Holds `<process type><container_separator><index>`.
        container_separator: What divides the two.
        process_type_variable: Holds the process type, where no `container_variable` does.
        instance_variable: Holds what tells this container from the others, where no `container_variable` does.
        version_variable: Holds what tells one deployment of the application from the next.
        public_process_types: The process types that get traffic from the world, and `$PORT`.
        barred_process_types: The process types in which a server makes no sense.

        port: Where the public traffic goes if `$PORT` is not set.
        has_private: Whether containers can reach each other; where not, the public side is served alone.
        fence: What tells the sides apart: the local `address` or the `port`. auto: what the host's addresses say.
        private_networks: What is private here, whatever else the user calls so; the default of `--private-network`.
        private_variables: Hold private addresses of this container, with commas or spaces between several.
        private_interfaces: Interfaces of the private network.
        hostname_variable: Holds this container's name on the private network.
        private_domain: Names below it stand for containers of its private networks, and nobody else can have one.
        network_variable: Present only in a container that is in a private network.
        private_wait: Seconds that the private address may take to appear.
        private_required: Whether a missing private address stops the launch.
        barred_ports: Ports that the platform keeps for itself; no private listener may have one.

        is_routed: Whether all that reaches the public listener from outside comes through the platform's routers, which
            write the forwarded headers.
        routed_process_types: The process types for which that holds; empty for all.
        routers: Networks of proxies, skipped from the right in X-Forwarded-For.
        client_header: The request header in which the routers say who the client is, and which no client can write.
        exports_trust: Whether the platform itself sets FORWARDED_ALLOW_IPS, which is then not the user's word.
        request_id_header: The header in which the routers give a request its id.
        is_request_id_own: Whether the routers overwrite what a client sends in it.

        private_dns_ttl: Seconds after the stop signal that neighbours may go on using a private address that they have
            resolved.
        public_linger: Seconds after the stop signal that its balancer may still send new connections.
        grace: Seconds from the stop signal to SIGKILL, if the user has not set others.
        grace_variable: Holds them, where the user has set others.
        grace_setting: Where a user sets them; empty where nobody can.
        stop_signal: The signal that ends a container.
        keep_alive: Seconds that an idle connection of a router is kept open there.
        probes: How the platform looks whether a container is ready: `http` or `tcp`, on the public port.
        sets_concurrency: Whether it sets WEB_CONCURRENCY to a number of processes for this container's size.
        defaults: uvicorn's options whose default is another one here, by name.
    """

    name: str
    title: str = ""
    sources: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    application_variable: str = ""
    container_variable: str = ""
    container_separator: str = "-"
    process_type_variable: str = ""
    instance_variable: str = ""
    version_variable: str = ""
    public_process_types: tuple[str, ...] = ()
    barred_process_types: tuple[str, ...] = ()

    port: int = 0
    has_private: bool = True
    fence: Literal["auto", "address", "port"] = "auto"
    private_networks: tuple[IPNetwork, ...] = ()
    private_variables: tuple[str, ...] = ()
    private_interfaces: tuple[str, ...] = ()
    hostname_variable: str = ""
    private_domain: str = ""
    network_variable: str = ""
    private_wait: float = 0.0
    private_required: bool = False
    barred_ports: tuple[int, ...] = ()

    is_routed: bool = False
    routed_process_types: tuple[str, ...] = ()
    routers: tuple[IPNetwork, ...] = ()
    client_header: str = ""
    exports_trust: bool = False
    request_id_header: str = ""
    is_request_id_own: bool = False

    private_dns_ttl: float = 0.0
    public_linger: float = 0.0
    grace: float = 0.0
    grace_variable: str = ""
    grace_setting: str = ""
    stop_signal: Literal["SIGTERM", "SIGINT"] = "SIGTERM"
    keep_alive: float = 0.0
    probes: Literal["", "http", "tcp"] = ""
    sets_concurrency: bool = False
    defaults: tuple[tuple[str, Any], ...] = ()


NONE = Platform(name="none")

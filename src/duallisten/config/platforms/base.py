"""The type of a platform's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from duallisten.net import IPNetwork


class Platform(NamedTuple):
    """The facts about one platform.

    A string or tuple is empty and a number 0 where the platform says nothing about it.

    Attributes:
        name: The value of `--platform`.
        title: The platform's own name.
        sources: The pages that the facts come from.
        inferred: The attributes whose values are inferred, not documented. They are chosen to fail closed.
        notes: Notes for the user in the table of platforms, one sentence each.

        application_variable: Holds the application's name.
        container_variable: Holds `<process type><container_separator><index>`.
        container_separator: Separates the two.
        process_type_variable: Holds the process type, where there is no `container_variable`.
        instance_variable: Holds this container's id, where there is no `container_variable`.
        version_variable: Holds the id of the application's deployment.
        public_process_types: The process types that get public traffic, and `$PORT`.
        barred_process_types: The process types in which no server may run.

        port: The port of public traffic if `$PORT` is not set.
        has_private: Whether containers can reach each other; where not, only the public side is served.
        fence: What tells the sides apart: the local `address` or the `port`. auto: the host's addresses decide.
        private_networks: Networks that are always private here; the default of `--private-network`.
        private_variables: Hold private addresses of this container, separated by commas or spaces.
        private_interfaces: Interfaces of the private network.
        hostname_variable: Holds this container's name on the private network.
        private_domain: The domain of names on its private networks; only its containers can have such names.
        network_variable: Present only in a container that is in a private network.
        private_wait: Seconds that the private address may take to appear.
        private_required: Whether a missing private address stops the launch.
        barred_ports: Ports that the platform keeps for itself; no private listener may have one.

        is_routed: Whether all outside connections to the public listener come through the platform's routers, which
            write the forwarded headers.
        routed_process_types: The process types for which that is true; empty for all.
        routers: Networks of proxies, skipped from the right in X-Forwarded-For.
        client_header: The request header in which the routers name the client, and which clients cannot write.
        exports_trust: Whether the platform itself sets FORWARDED_ALLOW_IPS, so that the variable is not the user's.
        request_id_header: The header in which the routers give a request its id.
        is_request_id_own: Whether the routers overwrite a client's value of that header.

        private_dns_ttl: Seconds after the stop signal in which neighbours may still use a private address that they
            have resolved.
        public_linger: Seconds after the stop signal in which the load balancer may still send new connections.
        grace: Seconds from the stop signal to SIGKILL, by default.
        grace_variable: Holds these seconds, where the user has changed them.
        grace_setting: The setting for these seconds; empty where they cannot be changed.
        stop_signal: The signal that ends a container.
        keep_alive: Seconds that a router keeps an idle connection open.
        probes: How the platform checks readiness: `http` or `tcp`, on the public port.
        sets_concurrency: Whether it sets WEB_CONCURRENCY to a number of processes for this container's size.
        defaults: uvicorn's options that have another default here, by name.
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

"""Fly.io, from its documentation (github.com/superfly/docs).

- Fly Proxy connects over IPv4, to 0.0.0.0 and the service's `internal_port`, 8080 by default. Machines of the same
  organisation connect over IPv6, to `$FLY_PRIVATE_IP`, which is in fdaa::/16.
- Fly Proxy sets `Fly-Client-IP` to the address of its own peer.
- A machine gets `kill_signal`, SIGINT by default, and SIGKILL `kill_timeout` later, 5 s by default. (The page on
  long-running tasks says SIGTERM; we follow the reference.)
"""

from ipaddress import IPv6Network

from duallisten.config.platforms.base import Platform

FLY = Platform(
    name="fly",
    title="Fly.io",
    sources=(
        "https://fly.io/docs/machines/runtime-environment/",
        "https://fly.io/docs/networking/app-services/",
        "https://fly.io/docs/networking/request-headers/",
        "https://fly.io/docs/reference/configuration/",
    ),
    inferred=("is_routed",),
    notes=(
        "Flycast is private for its users, but it comes through Fly Proxy to the public listener, and reaches what "
        "that does: call `<app>.internal` for the private side.",
    ),
    application_variable="FLY_APP_NAME",
    process_type_variable="FLY_PROCESS_GROUP",
    instance_variable="FLY_MACHINE_ID",
    version_variable="FLY_MACHINE_VERSION",
    port=8080,
    fence="address",
    private_networks=(IPv6Network("fdaa::/16"),),
    private_variables=("FLY_PRIVATE_IP",),
    private_domain="internal",
    private_required=True,
    is_routed=True,  # according to the documentation only Fly Proxy connects over IPv4
    client_header="Fly-Client-IP",
    grace=5.0,
    grace_setting="`kill_timeout` in fly.toml, at most 300 s",
    stop_signal="SIGINT",
)

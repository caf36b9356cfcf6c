"""Scalingo, from its documentation (environment, networking, process types, routing).

- `$PORT` is set for the process types `web` and `tcp` only; `$CONTAINER` is `<process type>-<index>`.
- A container has an interface in 172.17.0.0/16, where the routers connect. In a private network it also has one in
  10.240.0.0/22, which is always the block. The A records of the private network have a TTL of 5 s.
- SIGTERM is followed by SIGKILL after 30 s.
- A router keeps idle connections for up to a minute, and quarantines a container that closes one of them.
- A container is ready when it accepts the first connection on `$PORT`.
- A router sets X-Request-ID only where the client has not. The Python buildpack exports `FORWARDED_ALLOW_IPS='*'` in
  every container (vendor/python.gunicorn.sh), and WEB_CONCURRENCY by the container's size.
"""

from ipaddress import IPv4Network

from duallisten.config.platforms.base import Platform
from duallisten.net import LOOPBACK

SCALINGO = Platform(
    name="scalingo",
    title="Scalingo",
    sources=(
        "https://doc.scalingo.com/platform/app/environment",
        "https://doc.scalingo.com/platform/networking/private/overview",
        "https://doc.scalingo.com/platform/networking/public/routing",
        "https://github.com/Scalingo/python-buildpack/blob/master/vendor/python.gunicorn.sh",
    ),
    application_variable="APP",
    container_variable="CONTAINER",
    version_variable="CONTAINER_VERSION",
    public_process_types=("web", "tcp"),
    barred_process_types=("postdeploy",),
    fence="address",
    private_networks=(IPv4Network("10.240.0.0/22"),),
    hostname_variable="SCALINGO_PRIVATE_HOSTNAME",
    private_domain="private-network.internal",
    network_variable="SCALINGO_PRIVATE_NETWORK_ID",
    private_wait=10.0,
    private_required=True,
    is_routed=True,
    routed_process_types=("web",),  # the TCP gateway of `tcp` forwards the client's own headers
    routers=(IPv4Network("172.17.0.0/16"), *LOOPBACK),
    exports_trust=True,
    request_id_header="X-Request-ID",
    private_dns_ttl=5.0,
    grace=30.0,
    keep_alive=60.0,
    probes="tcp",
    sets_concurrency=True,
)

"""Railway, from its documentation (github.com/railwayapp/docs).

- The edge connects to `$PORT`. Services of the same environment connect over a WireGuard mesh: over IPv6 in fd12::/16,
  and in environments made after 16 October 2025 also over IPv4, in a block that is not documented. 100.64.0.0/10 is not
  private here: in the example of a flow log it is on the internet's side.
- The edge names the client in `X-Real-IP`; X-Forwarded-For is not among its headers. It closes connections that were
  idle for 60 s, and checks the health path on `$PORT` over HTTP.
- SIGKILL follows SIGTERM at once, unless RAILWAY_DEPLOYMENT_DRAINING_SECONDS is set.
"""

from ipaddress import IPv6Network

from duallisten.config.platforms.base import Platform

RAILWAY = Platform(
    name="railway",
    title="Railway",
    sources=(
        "https://docs.railway.com/variables/reference",
        "https://docs.railway.com/networking/private-networking/how-it-works",
        "https://docs.railway.com/networking/public-networking/specs-and-limits",
        "https://docs.railway.com/deployments/deployment-teardown",
    ),
    inferred=("private_networks", "is_routed"),
    notes=(
        "Give `--forwarded-allow-ips` the edge's addresses: they are not told, but your log shows them (a flow log "
        "in the documentation has 100.64.0.2).",
        "The private IPv4 address of newer environments lies in no known network: the private side is on IPv6, and "
        "what comes in over private IPv4 meets the public side.",
        "Set RAILWAY_DEPLOYMENT_DRAINING_SECONDS to 30: without it requests are cut.",
    ),
    application_variable="RAILWAY_PROJECT_NAME",
    process_type_variable="RAILWAY_SERVICE_NAME",
    instance_variable="RAILWAY_REPLICA_ID",
    version_variable="RAILWAY_DEPLOYMENT_ID",
    fence="address",
    private_networks=(IPv6Network("fd12::/16"),),
    private_domain="railway.internal",
    client_header="X-Real-IP",
    request_id_header="X-Railway-Request-Id",
    grace_variable="RAILWAY_DEPLOYMENT_DRAINING_SECONDS",
    grace_setting="`RAILWAY_DEPLOYMENT_DRAINING_SECONDS`",
    keep_alive=60.0,
    probes="http",
)

"""DigitalOcean's App Platform, from its documentation (docs.digitalocean.com). No variable identifies it.

- Public traffic goes to `http_port`, which `$PORT` has. Components of the same app connect to the `internal_ports`.
- New requests stop 15 s (drain_seconds) before SIGTERM; SIGKILL follows 120 s later.
"""

from duallisten.config.platforms.base import Platform

DIGITALOCEAN = Platform(
    name="digitalocean",
    title="DigitalOcean App Platform",
    sources=(
        "https://docs.digitalocean.com/products/app-platform/how-to/manage-internal-routing/",
        "https://docs.digitalocean.com/products/app-platform/how-to/configure-termination/",
        "https://docs.digitalocean.com/products/app-platform/reference/app-spec/",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "Add the private port to `internal_ports` of the component.",
        "Give `--forwarded-allow-ips` the balancers' addresses: they are not told, but your log shows them.",
    ),
    port=8080,
    fence="port",
    grace=120.0,
    grace_setting="`termination.grace_period_seconds` in the app spec, at most 600 s",
)

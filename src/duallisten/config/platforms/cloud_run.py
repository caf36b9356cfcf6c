"""Google Cloud Run, from its documentation (cloud.google.com/run/docs/container-contract).

- Only the ingress container gets requests, on 0.0.0.0:`$PORT`, 8080 by default. Instances cannot reach each other;
  sidecars share the instance's loopback.
- SIGTERM is followed by SIGKILL after 10 s.
- Google's front end appends the client to X-Forwarded-For, and connects from a link-local address.
"""

from ipaddress import IPv4Network

from duallisten.config.platforms.base import Platform

CLOUD_RUN = Platform(
    name="cloud-run",
    title="Google Cloud Run",
    sources=("https://cloud.google.com/run/docs/container-contract",),
    inferred=("is_routed", "routers", "has_private"),
    notes=(
        "Behind an external load balancer the right-most address is the balancer's: give `--forwarded-allow-ips`.",
        "For sidecars ask for a private side on loopback: `--private-host 127.0.0.1`.",
    ),
    application_variable="K_SERVICE",
    version_variable="K_REVISION",
    port=8080,
    has_private=False,
    is_routed=True,
    routers=(IPv4Network("169.254.0.0/16"),),
    grace=10.0,
    probes="tcp",
)

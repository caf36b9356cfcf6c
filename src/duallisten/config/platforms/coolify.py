"""Coolify, from its documentation (github.com/coollabsio/coolify-docs).

- The proxy connects over the destination's Docker network, as all other resources there do, to `$PORT`, the first of
  "Ports Exposes".
"""

from duallisten.config.platforms.base import Platform

COOLIFY = Platform(
    name="coolify",
    title="Coolify",
    sources=(
        "https://coolify.io/docs/knowledge-base/environment-variables",
        "https://coolify.io/docs/builds/packs/docker-compose",
    ),
    inferred=("fence", "is_routed", "grace"),
    notes=(
        "Give `--forwarded-allow-ips` the proxy's address. Every resource of the destination reaches `$PORT`, too.",
    ),
    instance_variable="COOLIFY_CONTAINER_NAME",
    version_variable="SOURCE_COMMIT",
    fence="port",
    grace=10.0,  # Docker's default
)

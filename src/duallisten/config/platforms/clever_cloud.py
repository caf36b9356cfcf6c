"""Clever Cloud, from its documentation (github.com/CleverCloud/documentation).

- The load balancers connect to 0.0.0.0:8080, and `$PORT` has that port. A Network Group is a WireGuard network with its
  own /16 block, assigned at its creation; no variable has it.
- For a custom command (CC_RUN_COMMAND) the Python runtime has a proxy on 8080, and the command listens on 9000.
- The first entry of X-Forwarded-For is the client. The balancers' addresses are not documented.
"""

from duallisten.config.platforms.base import Platform

CLEVER_CLOUD = Platform(
    name="clever-cloud",
    title="Clever Cloud",
    sources=(
        "https://www.clever.cloud/developers/doc/develop/env-variables/",
        "https://www.clever.cloud/developers/doc/develop/network-groups/",
        "https://www.clever.cloud/developers/doc/applications/python/",
        "https://www.clever.cloud/developers/doc/find-help/faq/",
    ),
    inferred=("is_routed",),
    notes=(
        "Name the Network Group's block with `--private-network`.",
        "With CC_RUN_COMMAND in the Python runtime give `--port 9000`; with uv 8080 is right.",
        "Give `--forwarded-allow-ips` the balancers' addresses: they are not told, but your log shows them.",
    ),
    application_variable="APP_ID",
    instance_variable="INSTANCE_ID",
    version_variable="COMMIT_ID",
    port=8080,
    fence="address",
    private_wait=10.0,
    probes="tcp",
)

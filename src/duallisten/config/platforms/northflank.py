"""Northflank, from its documentation (northflank.com/docs).

- The user declares the ports: public ones over HTTP, and any number of private ones. Both kinds of traffic reach the
  same address, in a pod.
"""

from duallisten.config.platforms.base import Platform

NORTHFLANK = Platform(
    name="northflank",
    title="Northflank",
    sources=(
        "https://northflank.com/docs/v1/application/secure/inject-secrets",
        "https://northflank.com/docs/v1/application/network/configure-ports",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "`$PORT` is not set: the public side is on port 8000, and `--port` names another. Declare it, and the private "
        "one.",
        "Give `--forwarded-allow-ips` the balancers' addresses: they are not told, but your log shows them.",
    ),
    application_variable="NF_PROJECT_ID",
    process_type_variable="NF_OBJECT_ID",
    instance_variable="HOSTNAME",
    version_variable="NF_DEPLOYMENT_SHA",
    port=8000,
    fence="port",
)

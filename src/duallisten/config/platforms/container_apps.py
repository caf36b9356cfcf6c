"""Azure Container Apps, from its documentation (learn.microsoft.com/azure/container-apps).

- The ingress connects to the target port. Additional TCP ports, at most 5, may be internal. Both kinds of traffic reach
  the same address, through the environment's proxy.
- SIGTERM is followed by SIGKILL after 30 s (terminationGracePeriodSeconds).
"""

from duallisten.config.platforms.base import Platform

CONTAINER_APPS = Platform(
    name="container-apps",
    title="Azure Container Apps",
    sources=(
        "https://learn.microsoft.com/azure/container-apps/environment-variables",
        "https://learn.microsoft.com/azure/container-apps/ingress-overview",
        "https://learn.microsoft.com/python/api/azure-mgmt-appcontainers/azure.mgmt.appcontainers.types.template",
    ),
    inferred=("fence", "is_routed", "instance_variable"),
    notes=(
        "`$PORT` is not set: the public side is on port 8000, and `--port` names the target port. Declare the private "
        "one as an additional, internal port.",
        "Neighbours come through the environment's proxy, as the world does: give `--forwarded-allow-ips` its "
        "addresses, which your log shows, only where all of them are yours.",
    ),
    application_variable="CONTAINER_APP_NAME",
    instance_variable="CONTAINER_APP_REPLICA_NAME",
    version_variable="CONTAINER_APP_REVISION",
    port=8000,
    fence="port",
    grace=30.0,
    grace_setting="`terminationGracePeriodSeconds` of the template",
)

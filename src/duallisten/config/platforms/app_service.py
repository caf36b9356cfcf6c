"""Azure App Service on Linux, from its documentation (learn.microsoft.com/azure/app-service).

- A container gets requests on one port, only through the front ends; a virtual network is for outgoing connections.
- The stop signal is followed by SIGKILL after 5 s, or after the application setting WEBSITES_CONTAINER_STOP_TIME_LIMIT,
  at most 120 s. Application settings become variables.
"""

from duallisten.config.platforms.base import Platform

APP_SERVICE = Platform(
    name="app-service",
    title="Azure App Service",
    sources=(
        "https://learn.microsoft.com/azure/app-service/reference-app-settings",
        "https://learn.microsoft.com/azure/app-service/configure-custom-container",
    ),
    inferred=("has_private", "is_routed"),
    notes=("A container of one's own gets requests on port 80 if `WEBSITES_PORT` says no other: give `--port`.",),
    application_variable="WEBSITE_SITE_NAME",
    instance_variable="WEBSITE_INSTANCE_ID",
    has_private=False,
    is_routed=True,
    grace=5.0,
    grace_variable="WEBSITES_CONTAINER_STOP_TIME_LIMIT",
    grace_setting="`WEBSITES_CONTAINER_STOP_TIME_LIMIT`",
    probes="http",
)

"""Render, from its documentation (render.com/docs, github.com/render-oss/skills).

- The router connects to `$PORT`, 10000 by default. All other open ports are private, except for four that Render keeps
  for itself. Public and private traffic reach the same address.
- `$RENDER_SERVICE_TYPE` is `web` for a service with public traffic, `pserv` for a private one; a `worker` has no name.
- SIGTERM is followed by SIGKILL after 30 s. WEB_CONCURRENCY is set by the instance's size.
- The router's headers and addresses are not documented.
"""

from duallisten.config.platforms.base import Platform

RENDER = Platform(
    name="render",
    title="Render",
    sources=(
        "https://render.com/docs/environment-variables",
        "https://github.com/render-oss/skills (render-networking, render-env-vars, render-web-services)",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "Give `--forwarded-allow-ips` the router's addresses: they are not told, but your log shows them.",
        "Free web services receive no private traffic.",
    ),
    application_variable="RENDER_SERVICE_NAME",
    process_type_variable="RENDER_SERVICE_TYPE",
    instance_variable="RENDER_INSTANCE_ID",
    version_variable="RENDER_GIT_COMMIT",
    public_process_types=("web",),
    port=10000,
    fence="port",
    barred_ports=(10000, 18012, 18013, 19099),
    grace=30.0,
    grace_setting="`maxShutdownDelaySeconds` in render.yaml, at most 300 s",
    probes="http",
    sets_concurrency=True,
)

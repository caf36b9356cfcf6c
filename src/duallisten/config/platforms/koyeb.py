"""Koyeb, from its documentation (koyeb.com/docs).

- `$PORT` is always set, to the lowest exposed port. A port may be exposed to the service mesh only. Public and mesh
  traffic reach the same address.
- A service's name in the mesh is `<service>.<app>.internal`. The name and the variables' names are from programs that
  run there, and from Koyeb's own SDK.
"""

from duallisten.config.platforms.base import Platform

KOYEB = Platform(
    name="koyeb",
    title="Koyeb",
    sources=(
        "https://www.koyeb.com/docs/build-and-deploy/environment-variables",
        "https://www.koyeb.com/docs/build-and-deploy/exposing-your-service",
    ),
    inferred=("fence", "is_routed", "instance_variable", "version_variable", "private_domain"),
    notes=(
        "The lowest exposed port becomes `$PORT`: the private port must be above the public one, or PORT be set.",
        "Give `--forwarded-allow-ips` the edge's addresses: they are not told, but your log shows them.",
    ),
    application_variable="KOYEB_APP_NAME",
    process_type_variable="KOYEB_SERVICE_NAME",
    instance_variable="KOYEB_INSTANCE_ID",
    version_variable="KOYEB_REGIONAL_DEPLOYMENT_ID",
    fence="port",
    private_domain="internal",
)

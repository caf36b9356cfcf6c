"""Cloud Foundry, from its documentation (github.com/cloudfoundry/docs-dev-guide, docs-cloudfoundry-concepts).

- Gorouter connects to `$PORT`, through an Envoy in the container. Containers connect to each other's
  `$CF_INSTANCE_INTERNAL_IP` where a network policy allows it, per port.
- Envoy listens on 61443, for TLS between containers.
- Gorouter appends to X-Forwarded-For. SIGTERM is followed by SIGKILL after 10 s; a health check opens the port over
  TCP.
"""

from duallisten.config.platforms.base import Platform

CLOUD_FOUNDRY = Platform(
    name="cloud-foundry",
    title="Cloud Foundry",
    sources=(
        "https://docs.cloudfoundry.org/devguide/deploy-apps/environment-variable.html",
        "https://docs.cloudfoundry.org/devguide/deploy-apps/cf-networking.html",
        "https://docs.cloudfoundry.org/devguide/deploy-apps/app-lifecycle.html",
        "https://docs.cloudfoundry.org/concepts/http-routing.html",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "Give `--forwarded-allow-ips` what your log shows as Gorouter's addresses: they are the operator's choice.",
        "Neighbours need a network policy for the private port: `cf add-network-policy … --port 9240`.",
        "Only the first process gets SIGTERM: start the command with `exec`.",
    ),
    instance_variable="CF_INSTANCE_GUID",
    fence="port",
    private_variables=("CF_INSTANCE_INTERNAL_IP",),
    private_domain="apps.internal",
    barred_ports=(61443,),
    grace=10.0,
    probes="tcp",
)

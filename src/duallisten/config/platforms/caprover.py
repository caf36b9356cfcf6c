"""CapRover, from its documentation (github.com/caprover/caprover-website). No variable identifies it.

- nginx connects over one overlay network, to the "Container HTTP Port", 80 by default. Every other application is on
  that network, too, and connects to `http://<app>:<any port>`.
"""

from duallisten.config.platforms.base import Platform

CAPROVER = Platform(
    name="caprover",
    title="CapRover",
    sources=(
        "https://caprover.com/docs/app-configuration.html",
        "https://caprover.com/docs/complete-webapp-tutorial.html",
    ),
    inferred=("fence", "is_routed", "port", "grace"),
    notes=("Give `--forwarded-allow-ips` nginx's address. Every other application reaches the public port, too.",),
    port=80,
    fence="port",
    grace=10.0,  # Swarm's default
)

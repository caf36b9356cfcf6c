"""Docker Compose and Swarm, from Docker's documentation (github.com/docker/docs). No variable identifies them.

- A container with two networks has two addresses: one network for the proxy in front or the published port, one for the
  neighbours. With one network, only the port tells the sides apart. The order of the interfaces is not documented.
- The user defines the networks; no variable has their addresses.
- SIGTERM is followed by SIGKILL after 10 s.
"""

from duallisten.config.platforms.base import Platform

DOCKER = Platform(
    name="docker",
    title="Docker Compose, Swarm",
    sources=("https://docs.docker.com/reference/compose-file/services/",),
    notes=(
        "`$PORT` is not set: with `--platform docker` the public side is on port 8000 of all addresses, and `--port` "
        "names another; without it give `--host 0.0.0.0`.",
        "With two networks give the private one a fixed subnet (`ipam`) and name it with `--private-network`.",
        "Give `--forwarded-allow-ips` the proxy's address or network.",
    ),
    port=8000,
    grace=10.0,
    grace_setting="`stop_grace_period` in the Compose file",
)

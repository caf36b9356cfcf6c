"""Nomad, from its documentation (github.com/hashicorp/nomad).

- An allocation in bridge mode has one address for all ports of the job. The user chooses the ports' labels:
  `$NOMAD_PORT_<label>` is the port to listen on.
- SIGKILL follows `kill_timeout` after the signal, 5 s by default, and at most 30 s unless the agent allows more. The
  signal is SIGTERM with the Docker driver, SIGINT with others.
- Services are deregistered right before the signal (`shutdown_delay` is 0 by default), and clients of Consul learn of
  it later.
- A Connect sidecar connects from loopback, inside the allocation, to 127.0.0.1 (`local_service_address`).
"""

from duallisten.config.platforms.base import Platform

NOMAD = Platform(
    name="nomad",
    title="Nomad",
    sources=(
        "https://developer.hashicorp.com/nomad/docs/runtime/environment",
        "https://developer.hashicorp.com/nomad/docs/job-specification/task",
        "https://developer.hashicorp.com/nomad/docs/job-specification/proxy",
        "https://developer.hashicorp.com/nomad/commands/alloc/stop",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "Give both ports by their labels: `--port $NOMAD_PORT_http --private-port $NOMAD_PORT_private`.",
        "A Connect sidecar asks at 127.0.0.1: give `--private-host 127.0.0.1`. The private side admits it, the public "
        "side believes it if `--forwarded-allow-ips` does not name others.",
        "Set the group's `shutdown_delay` to some seconds: else who still has its address is refused after the signal.",
    ),
    application_variable="NOMAD_JOB_NAME",
    process_type_variable="NOMAD_TASK_NAME",
    instance_variable="NOMAD_ALLOC_ID",
    port=8000,
    fence="port",
    grace=5.0,
    grace_setting="`kill_timeout` of the task",
)

"""Nomad, from its documentation (github.com/hashicorp/nomad).

- An allocation in bridge mode has one address, and each port of the job comes there. Ports have the user's own labels:
  `$NOMAD_PORT_<label>` is the one to listen on.
- SIGKILL follows `kill_timeout` later, 5 s by default, 30 s at most if the agent allows no more. The signal is SIGTERM
  with the Docker driver, SIGINT with others.
- A Connect sidecar comes from loopback, inside the allocation.
"""

from duallisten.config.platforms.base import Platform

NOMAD = Platform(
    name="nomad",
    title="Nomad",
    sources=(
        "https://developer.hashicorp.com/nomad/docs/runtime/environment",
        "https://developer.hashicorp.com/nomad/docs/job-specification/task",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "Give both ports by their labels: `--port $NOMAD_PORT_http --private-port $NOMAD_PORT_private`.",
        "All that a Connect sidecar hands on comes from loopback: the private side admits it, the public side "
        "believes it.",
    ),
    application_variable="NOMAD_JOB_NAME",
    process_type_variable="NOMAD_TASK_NAME",
    instance_variable="NOMAD_ALLOC_ID",
    port=8000,
    fence="port",
    grace=5.0,
    grace_setting="`kill_timeout` of the task",
)

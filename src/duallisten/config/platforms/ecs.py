"""AWS ECS and Fargate with the network mode awsvpc, from its documentation (docs.aws.amazon.com/AmazonECS).

- A task has one address in the VPC. The load balancer and all peers that the security group admits connect to it, so
  only the port tells the sides apart. There is also a link-local address, for the metadata.
- A load balancer (ALB) appends to X-Forwarded-For, and keeps idle connections for 60 s.
- SIGTERM is followed by SIGKILL after 30 s (stopTimeout).
"""

from duallisten.config.platforms.base import Platform

ECS = Platform(
    name="ecs",
    title="AWS ECS, Fargate",
    sources=(
        "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html",
        "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html",
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html",
    ),
    inferred=("fence", "is_routed"),
    notes=(
        "`$PORT` is not set: the public side is on port 8000, as uvicorn's; `--port` names another.",
        "Give `--forwarded-allow-ips` the load balancer's subnets, and let its security group alone reach the public "
        "port.",
        "Open the private port in the security group for neighbours only.",
    ),
    port=8000,
    fence="port",
    grace=30.0,
    grace_setting="`stopTimeout` of the container, at most 120 s on Fargate",
    keep_alive=60.0,
)

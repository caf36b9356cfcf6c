"""AWS Elastic Beanstalk, from its documentation (docs.aws.amazon.com/elasticbeanstalk). No variable identifies it.

- nginx on the same host forwards requests to the application's port, 8000 on the Python platform; the security group
  blocks everything else.
"""

from duallisten.config.platforms.base import Platform

BEANSTALK = Platform(
    name="beanstalk",
    title="AWS Elastic Beanstalk",
    sources=("https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/platforms-linux-extend.html",),
    inferred=("has_private", "port"),
    notes=(
        "nginx comes from this host and is believed, but the last entry of X-Forwarded-For is the load balancer's: "
        "give `--forwarded-allow-ips 127.0.0.1,<its subnets>`.",
    ),
    port=8000,
    has_private=False,
)

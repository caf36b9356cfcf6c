"""AWS App Runner, from its documentation (docs.aws.amazon.com/apprunner). No variable identifies it.

- A service has one port, 8080 by default, for HTTP/1 through the service's own balancer. Private access goes through a
  VPC endpoint in front of it. Instances cannot reach each other.
"""

from ipaddress import IPv4Network

from duallisten.config.platforms.base import Platform

APP_RUNNER = Platform(
    name="app-runner",
    title="AWS App Runner",
    sources=("https://docs.aws.amazon.com/apprunner/latest/dg/develop.html",),
    inferred=("is_routed", "routers"),
    port=8080,
    has_private=False,
    is_routed=True,
    routers=(IPv4Network("169.254.0.0/16"),),
)

"""OpenShift: Kubernetes with its own router (HAProxy). It sets no variable that Kubernetes does not.

- The router appends to X-Forwarded-For unless a `forwardedHeaderPolicy` says otherwise (openshift/router#134). So the
  client itself may have written the left-most entry.
"""

from duallisten.config.platforms.kubernetes import KUBERNETES

OPENSHIFT = KUBERNETES._replace(
    name="openshift",
    title="OpenShift",
    sources=("https://github.com/openshift/router/pull/134",),
    notes=(
        "Taken for Kubernetes where it is not named, which is as good.",
        "Never give `--forwarded-allow-ips '*'`: the router appends to X-Forwarded-For, and `*` believes its first "
        "entry.",
        "What is said of `kubernetes` holds here, too.",
    ),
)

"""OpenShift: Kubernetes with a router of its own (HAProxy). It sets no variable that Kubernetes does not.

- The router appends to X-Forwarded-For if no `forwardedHeaderPolicy` says otherwise (openshift/router#134): the
  left-most entry is the client's own word.
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

"""Kubernetes, from its documentation (kubernetes.io).

- A pod has one address. The ingress comes in there, as every other pod does: the port alone tells the sides apart.
  `$POD_IP` and `$POD_IPS` are there where the manifest has them from the downward API (status.podIP, status.podIPs).
- The pod's removal from the endpoints and SIGTERM happen at the same time: new connections come for some seconds after
  it (kubernetes/kubernetes#20473). 5 s is the usual sleep of a preStop hook for that; with two thirds of the 30 s of
  grace for requests it leaves time for the application's own shutdown.
- A headless service leads to the pod for as long, too, and a peer keeps what it has resolved: CoreDNS gives its records
  5 s if nobody configures another time (coredns/coredns#4885). So the private side lingers for both, 10 s, which is
  half of the time for requests. With the `ttl 30` of kubeadm's Corefile there is no time in 30 s of grace.
- Services have names under `svc.cluster.local`, if the cluster has no domain of its own choice.
- SIGTERM is followed by SIGKILL after 30 s (terminationGracePeriodSeconds).
- ingress-nginx keeps idle connections for 60 s (upstream-keepalive-timeout).
"""

from duallisten.config.platforms.base import Platform

KUBERNETES = Platform(
    name="kubernetes",
    title="Kubernetes",
    sources=(
        "https://kubernetes.io/docs/tasks/inject-data-application/environment-variable-expose-pod-information/",
        "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination",
        "https://kubernetes.io/docs/concepts/cluster-administration/networking/",
        "https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/",
        "https://coredns.io/plugins/kubernetes/",
        "https://kubernetes.io/docs/tasks/administer-cluster/dns-custom-nameservers/",
        "https://istio.io/blog/2021/upcoming-networking-changes/",
    ),
    inferred=("public_linger", "private_dns_ttl", "private_domain", "keep_alive", "is_routed"),
    notes=(
        "`$PORT` is not set: the public side is on port 8000, as uvicorn's; `--port` names another.",
        "Every pod reaches the public port: give `--forwarded-allow-ips` the ingress controller's addresses.",
        "Set `POD_IP` from `status.podIP` in the manifest where a pod has several addresses.",
        "A kubelet's probe comes from the node, whose address need not be a private one: let it ask the public port, "
        "or give `--private-allow` the nodes' network.",
        "Where CoreDNS gives its records more than 5 s (`ttl 30` in kubeadm's Corefile), neighbours of a headless "
        "service come longer: set that to 5, or raise `--private-linger`, `--timeout-graceful-shutdown` and the grace.",
        "With Istio all peers come from 127.0.0.6, so each of them is admitted to the private side; do not use its "
        "ports, 15000 to 15090. Linkerd's is 4143.",
    ),
    instance_variable="HOSTNAME",
    port=8000,
    fence="port",
    private_variables=("POD_IP", "POD_IPS"),
    private_domain="svc.cluster.local",
    private_dns_ttl=10.0,
    public_linger=5.0,
    grace=30.0,
    grace_setting="`terminationGracePeriodSeconds` of the pod",
    keep_alive=60.0,
)

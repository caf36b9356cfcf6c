"""A host with Tailscale, from its source (github.com/tailscale/tailscale). No variable tells of it.

- Its addresses lie in 100.64.0.0/10 and fd7a:115c:a1e0::/48 (net/tsaddr). The first block is carrier-grade NAT, which
  others use, too, so it counts on Tailscale's interface alone. tailscaled drops it on every other interface.
- MagicDNS gives its records 5 s. Names under ts.net are other tailnets', too, so none is taken for one's own.
"""

from ipaddress import IPv4Network, IPv6Network

from duallisten.config.platforms.base import Platform

TAILSCALE = Platform(
    name="tailscale",
    title="Host with Tailscale",
    sources=(
        "https://github.com/tailscale/tailscale (net/tsaddr/tsaddr.go, net/dns/resolver/tsdns.go)",
        "https://tailscale.com/kb/1033/ip-and-dns-addresses",
    ),
    notes=(
        "Give `--forwarded-allow-ips` the proxy in front, if it is on another host.",
        "`tailscale serve` comes from this host: do not let it hand on to the private port.",
    ),
    fence="address",
    private_networks=(IPv4Network("100.64.0.0/10"), IPv6Network("fd7a:115c:a1e0::/48")),
    private_interfaces=("tailscale0",),
    private_wait=10.0,
    private_required=True,
    private_dns_ttl=5.0,
)

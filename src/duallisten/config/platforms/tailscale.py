"""A host with Tailscale, from its source (github.com/tailscale/tailscale). No variable identifies it.

- Its addresses are in 100.64.0.0/10 and fd7a:115c:a1e0::/48 (net/tsaddr). The first block is for carrier-grade NAT,
  which others use, too. So it is private only on Tailscale's interface; tailscaled drops it on every other interface.
- MagicDNS records have a TTL of 5 s. Other tailnets also have names under ts.net, so no name counts as private.
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

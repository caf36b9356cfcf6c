"""Tailscale, from its documentation: an overlay network, which a machine may be in wherever it runs.

Its interface on Linux has one address of each IP version, without a network (/32 and /128), and routes to single peers
only, which come and go. So the ranges that it takes all addresses from say who a neighbour is. The IPv4 range is the
shared one of RFC 6598, which others use, too: it is Tailscale's on its own interface alone.
"""

from ipaddress import IPv4Network, IPv6Network

from duallisten.config.platforms.base import Platform

TAILSCALE = Platform(
    name="tailscale",
    title="Tailscale",
    sources=("https://tailscale.com/kb/1610/reserved-ip-addresses",),
    private_interfaces=("tailscale0",),
    private_networks=(IPv4Network("100.64.0.0/10"), IPv6Network("fd7a:115c:a1e0::/48")),
)

"""A host with WireGuard. No variable identifies it, and the user chooses its addresses.

- The interface is `wg0`, the name in wg-quick's manual page (wg-quick(8)), unless the user has chosen another.
"""

from duallisten.config.platforms.base import Platform

WIREGUARD = Platform(
    name="wireguard",
    title="Host with WireGuard",
    sources=("https://man7.org/linux/man-pages/man8/wg-quick.8.html",),
    inferred=("private_interfaces",),
    notes=(
        "For another interface than `wg0` give `--private-host` its name.",
        "Give `--forwarded-allow-ips` the proxy in front, if it is on another host.",
    ),
    fence="address",
    private_interfaces=("wg0",),
    private_wait=10.0,
    private_required=True,
)

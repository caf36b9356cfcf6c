"""Heroku's Private Spaces: as the Common Runtime (`heroku`), but dynos of a space reach each other.

- A dyno listens on any ports for other dynos, at `$HEROKU_PRIVATE_IP`. The router connects to that address, too. The
  dyno's name is `<index>.<type>.<app>.app.localspace` (devcenter.heroku.com/articles/dyno-dns-service-discovery).
- Changes in the topology of a space are known within 10 s.
"""

from duallisten.config.platforms.heroku import HEROKU

HEROKU_PRIVATE = HEROKU._replace(
    name="heroku-private",
    title="Heroku (Private Spaces)",
    sources=(*HEROKU.sources, "https://devcenter.heroku.com/articles/dyno-dns-service-discovery"),
    inferred=("fence", "is_routed", "private_dns_ttl", *HEROKU.inferred),
    notes=(
        "Give `--forwarded-allow-ips` the router's addresses: they are not told, but your log shows them. Other "
        "dynos reach `$PORT`, too.",
        "Spaces of the Fir generation have no names for dynos.",
    ),
    has_private=True,
    fence="port",
    private_variables=("HEROKU_PRIVATE_IP",),
    hostname_variable="HEROKU_DNS_DYNO_NAME",
    private_domain="app.localspace",
    private_dns_ttl=10.0,
    is_routed=False,
)

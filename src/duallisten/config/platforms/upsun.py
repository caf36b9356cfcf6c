"""Upsun and Platform.sh, from their documentation (github.com/platformsh/platformsh-docs).

- nginx in the container forwards requests to localhost:`$PORT`, or to the socket `$SOCKET`. Applications of an
  environment reach each other through it, by their relationships; no other port was found.
- The router overwrites X-Client-IP. Neighbours do not come through the router, so that header is not believed.
- SIGTERM is followed by SIGKILL after 15 s; the documentation says so for workers.
"""

from duallisten.config.platforms.base import Platform

UPSUN = Platform(
    name="upsun",
    title="Upsun, Platform.sh",
    sources=(
        "https://docs.upsun.com/development/variables/use-variables.html",
        "https://docs.upsun.com/development/headers.html",
        "https://docs.upsun.com/create-apps/workers.html",
    ),
    inferred=("has_private", "grace"),
    notes=("With `socket_family: unix` give `--uds $SOCKET`.",),
    application_variable="PLATFORM_APPLICATION_NAME",
    version_variable="PLATFORM_TREE_ID",
    has_private=False,
    grace=15.0,
)

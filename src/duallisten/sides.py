"""The two sides of a launch, and the side and the id of a request.

The side of a request is that of the listener that accepted its connection. The side and the request's id are in
`scope["extensions"]["duallisten"]`, which only a server can write: see `endpoints.endpoint_set`.

The names here are for applications, so the module imports nothing of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, Protocol

Side = Literal["public", "private"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class HasScope(Protocol):
    """A request or connection object of a framework: anything that carries its ASGI scope."""

    @property
    def scope(self) -> Any: ...  # noqa: D102


def side(scope_or_request: Scope | HasScope) -> Side:
    """Return the side of a request.

    Args:
        scope_or_request: An ASGI scope, or any object with one as its `scope` (a Starlette, FastAPI, Litestar, Quart
            or Django ASGI request, a WebSocket).

    Returns:
        `"private"` where duallisten's private listener accepted the connection, and `"public"` in every other case
        (another server, a test client, a scope without the stamp).
    """
    return "private" if _stamp(scope_or_request, "side") == "private" else "public"


def request_id(scope_or_request: Scope | HasScope) -> str | None:
    """Return the id of a request: from a trusted peer, or made by duallisten.

    Args:
        scope_or_request: As for `side`.

    Returns:
        The id. None without `--request-id-header` and `--log-format json`, and under another server.
    """
    found = _stamp(scope_or_request, "request_id")
    return found if isinstance(found, str) else None


def _stamp(scope_or_request: Any, name: str) -> Any:
    scope = getattr(scope_or_request, "scope", scope_or_request)
    try:
        return scope["extensions"]["duallisten"][name]
    except (KeyError, TypeError):
        return None

"""The ASGI scope of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duallisten.http.head import Field, RequestLine

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.context import Scope


def connection_scope(connection: Connection) -> dict[str, Any]:
    """Build what the scopes of a connection have in common; it is copied for each request, and never handed out."""
    return {
        "type": "http",
        "asgi": None,
        "http_version": "1.1",
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme,
        "method": "GET",
        "root_path": connection.context.root_path,
        "path": None,
        "raw_path": None,
        "query_string": None,
        "headers": None,
        "state": None,
        "extensions": None,
    }


def make_scope(connection: Connection, line: RequestLine, fields: list[Field]) -> Scope:
    """Build the scope of a request; every dict in it is new, but for the empty ones of extensions."""
    context = connection.context
    scope: Scope = connection.scope.copy()  # a copy costs less than a dict of so many keys
    scope["method"] = line.method
    scope["http_version"] = line.version
    scope["path"] = context.root_path + line.path
    scope["raw_path"] = context.raw_root_path + line.raw_path
    scope["query_string"] = line.query
    scope["headers"] = fields
    scope["asgi"] = {"version": context.asgi_version, "spec_version": "2.3"}
    scope["state"] = context.app_state.copy()
    scope["extensions"] = connection.extensions.copy()
    return scope


def peer_address(name: Any) -> tuple[str, int] | None:
    """Return the other end's address as in a scope; None where it has none, as at a UNIX domain socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple | list) and len(name) >= 2 else None


def own_address(name: Any) -> tuple[str, int | None] | None:
    """Return our own address as in a scope: host and port, or a path and None."""
    if isinstance(name, str) and name:
        return name, None
    return peer_address(name)

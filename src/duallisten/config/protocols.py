"""Chooses the protocol classes that serve connections: the engine's instead of uvicorn's, or the user's own."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast, get_args

from duallisten.config.uvicorn_contract import (
    HTTP_PROTOCOLS,
    WS_PROTOCOLS,
    ImportFromStringError,
    import_from_string,
)
from duallisten.errors import ImportFailed, LaunchError
from duallisten.http.settings import ParserName
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.config.config import Config


def choose_protocols(config: Config) -> None:
    """Replace uvicorn's own protocols by the engine's."""
    if not config.is_engine:
        return
    from duallisten.http import Connection
    from duallisten.http.parsers import parser_class

    config.parser = cast("ParserName", config.http)
    try:
        parser_class(config.parser)
    except ImportError as error:
        raise ImportFailed(f"--http {config.http} cannot be used: {error}") from None
    if any(config.side(side).http2 for side in get_args(Side)) and find_spec("hpack") is None:
        raise ImportFailed("--http2 needs a package that is not installed: pip install 'duallisten[http2]'")
    config.http, config.http2 = Connection, False  # uvicorn's HTTP/2 is zttp's
    config.has_websockets = config.is_websocket_engine
    if config.has_websockets:
        config.ws = "none"


def import_protocols(config: Config) -> None:
    """Raise LaunchError where a protocol class other than the engine's cannot be imported."""
    for option, asked, known in (("--http", config.http, HTTP_PROTOCOLS), ("--ws", config.ws, WS_PROTOCOLS)):
        name = known.get(asked, asked) if isinstance(asked, str) else None
        try:
            import_from_string(name)
        except ImportFromStringError as error:
            names = ", ".join(known)
            raise LaunchError(
                f"{option} {asked} cannot be imported: {str(error).rstrip('.')}; or give one of {names}"
            ) from None
        except ImportError as error:
            raise LaunchError(f"{option} {asked} cannot be used: {error}; is its package installed?") from None

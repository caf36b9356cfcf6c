"""The configuration: a `uvicorn.Config` with duallisten's options and the private listener's own values.

A `Config` has the checked options and the platform's defaults. It opens nothing. It is the source of the `Request` that
a plan is made from, and of one `uvicorn.Config` for each listener (`listener_config`).

Importing the application is the only step before serving that runs the user's code. Where the import fails, uvicorn
prints and exits; an exception of the module itself becomes a traceback. Here both become a `LaunchError` of one line
(`user_code`): what was imported, what happened, and where. The traceback is logged before.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from duallisten.config import uvicorn_contract
from duallisten.config.checks import check, rules_of
from duallisten.config.options import split_keywords, with_positional
from duallisten.config.platforms import locate
from duallisten.config.protocols import choose_protocols, import_protocols
from duallisten.config.side_config import SideConfig, side_config
from duallisten.config.signatures import takes_options
from duallisten.config.trust import own_trust
from duallisten.config.user_code import (
    call_factory,
    check_callable,
    check_import_string,
    describe_failure,
    describe_missing,
)
from duallisten.config.uvicorn_contract import (
    LOOP_FACTORIES,
    AccessFormatter,
    ASGI2Middleware,
    ImportFromStringError,
    MessageLoggerMiddleware,
    ProxyHeadersMiddleware,
    UvicornConfig,
    WSGIMiddleware,
    import_from_string,
)
from duallisten.config.uvicorn_options import CONFIG_VARIABLES, LATER
from duallisten.endpoints.frameworks import prepare
from duallisten.errors import DuallistenError, ImportFailed, LaunchError, UsageError
from duallisten.http.settings import ParserName
from duallisten.logs import mark_private_lines, with_json
from duallisten.net import Passed
from duallisten.sides import Side

if TYPE_CHECKING:
    from typing import Unpack

    from duallisten.config.keywords import Keywords
    from duallisten.endpoints.routes import AppRoutes

logger = logging.getLogger("uvicorn.error")

PARSERS = ("auto", "httptools", "h11")
WEBSOCKETS = ("auto", "websockets", "websockets-sansio")
"""The values of `--http` and `--ws` that mean the engine."""

GRACEFUL_SECONDS = 30.0
"""The default of --timeout-graceful-shutdown in seconds. Without it, a client that does not read its response or does
not send its body could block the shutdown for ever."""


class Config(UvicornConfig):
    """What to serve, where, and to whom.

    A `Config` made in code does not read the configuration file, `DUALLISTEN_*` and `UVICORN_*`. It reads `$PORT` and
    the platform's variables, and uvicorn's own `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS`.

    Args:
        app: The application, or `"module:attribute"`.
        positional: uvicorn's options in its order: host, port, and so on.
        options: uvicorn's options, duallisten's, and `private_<x>`, the private listener's own value of an option
            `<x>`. The reference of options has their keywords. Times are in seconds, sizes in bytes.

    Raises:
        UsageError: A value cannot be read, or two options contradict each other.
        TypeError: There is no option of this name.
        LaunchError: The logging configuration cannot be used.

    Attributes:
        origins: Where each option's value came from, by option name, for messages and for `--check`.
        has_own_trust: Whether the user has said whose forwarded headers are believed.
        notes: Notes for the user, one line each, for `--check`.
    """

    http2: bool
    origins: dict[str, str] = {}  # noqa: RUF012  # each instance has its own

    @takes_options(like=UvicornConfig.__init__)
    def __init__(self, app: Any, *positional: Any, **options: Unpack[Keywords]) -> None:
        asked, self.private, given = split_keywords(with_positional(positional, options))
        self.origins = origins = dict(self.origins)
        if given.get("env_file"):
            from dotenv import load_dotenv

            load_dotenv(given["env_file"])  # before anything is read from the environment; uvicorn does it later
        self.networks_asked = asked.private_network is not None
        self.loopback_asked = asked.private_missing == "loopback"
        self.port_asked = any(given.get(name) is not None for name in ("port", "uds", "fd"))
        self.place = locate(asked.platform, os.environ)
        self.options = self.place.complete(asked, origins)
        warning = self.place.complete_uvicorn(given, origins)
        self.has_own_trust, self.notes = own_trust(self.place, given, origins)
        check(self.options, given)
        if given.get("workers") is None and os.environ.get(CONFIG_VARIABLES["workers"]) == "":
            given["workers"] = 1  # an empty variable counts as unset, but uvicorn would read it
        self.passed = Passed()  # a launch takes passed sockets from the environment
        self.rules = rules_of(self.options)
        self._interface = given.get("interface", "auto")  # `load` replaces "auto" by the detected interface
        self.parser: ParserName = "auto"
        self.has_websockets = False
        later = {name: given.pop(name, default) for name, default in LATER.items()}
        super().__init__(app, **given)
        self.workers = max(1, self.workers)  # 0 is one process under uvicorn, which it reads from the variable as it is
        for name, value in later.items():
            setattr(self, name, value)
        if warning:
            logger.warning(warning)  # not before uvicorn has configured logging

    @classmethod
    def from_sources(cls, app: Any, options: Mapping[str, Any], origins: Mapping[str, str]) -> Config:
        """Build a configuration whose options have known origins."""
        made = cls.__new__(cls)
        made.origins = dict(origins)
        made.__init__(app, **options)  # type: ignore[misc]
        return made

    def configure_logging(self) -> None:
        """Configure logging as uvicorn does, keeping the access log if either side wants it."""
        asked = self.access_log, self.log_config, self.use_colors
        self.access_log = self.access_log or bool(self.private.get("access_log"))
        if self.options.log_format == "json" and isinstance(self.log_config, dict):
            self.log_config, self.use_colors = with_json(self.log_config), None
        try:
            super().configure_logging()
        except (OSError, ValueError, LookupError, TypeError, ImportError, RuntimeError) as error:
            raise LaunchError(f"--log-config {self.log_config}: {' '.join(str(error).split())}") from None
        finally:
            self.access_log, self.log_config, self.use_colors = asked
        mark_private_lines(AccessFormatter)

    def load_app(self) -> Any:
        """Import the application for uvicorn's `load`; raises LaunchError where that fails."""
        return self._import(self.app)

    def import_apps(self) -> None:
        """Import the applications of both sides before `load`; raises LaunchError."""
        self._import(self.app)
        if self.options.private_app is not None:
            self._import(self.options.private_app)

    def _import(self, app: Any) -> Any:
        """Import `app` if it is a `"module:attribute"`; for a factory, return a function that calls it, for uvicorn."""
        name = repr(app) if isinstance(app, str) else "the application"
        check_import_string(app)
        try:
            found = import_from_string(app)
        except ImportFromStringError as error:
            raise ImportFailed(f"{name} cannot be imported: {describe_missing(str(error), app)}") from None
        except Exception as error:
            kind = ImportFailed if isinstance(error, ImportError) else LaunchError
            raise kind(f"{name} cannot be imported: {describe_failure(error)}") from None
        check_callable(found, name)
        return partial(call_factory, found, name) if self.factory else found

    def load(self) -> None:
        """Load the application and the protocols, once; raises LaunchError where uvicorn would exit."""
        uvicorn_contract.check()
        for one in (self.side("public"), self.side("private")):
            if one.uvicorn["ssl_keyfile"] and not one.uvicorn["ssl_certfile"]:
                raise LaunchError(f"TLS of the {one.side} listener: {one.tls_files} needs its certificate file, too")
        asked = self.http, self.ws, self.http2
        choose_protocols(self)
        import_protocols(self)
        try:
            super().load()
        except DuallistenError:
            raise
        except SystemExit:
            raise LaunchError("uvicorn could not load what was asked for: see the error above") from None
        except ImportFromStringError as error:
            raise ImportFailed(f"--http, --ws or --loop names what cannot be imported: {error}") from None
        except OSError as error:
            raise LaunchError(f"TLS of the public listener: {error}; look at {self.side('public').tls_files}") from None
        except ValueError as error:
            raise UsageError(str(error)) from None
        except RuntimeError as error:
            raise LaunchError(str(error)) from None
        except Exception as error:
            raise LaunchError(f"{self.app_name} cannot be loaded: {describe_failure(error)}") from None
        finally:
            self.http, self.ws, self.http2 = asked
        check_callable(_innermost(self.loaded_app), self.app_name)  # uvicorn calls an object that may be a factory
        prepare(bare(self.loaded_app))
        self.source("private")  # load the private application now, so that its errors do not appear later
        self._check_routes()

    def _check_routes(self) -> None:
        """Raise UsageError or LaunchError for violations of `--strict-routes`, and for routes at our own paths."""
        if self.options.strict_routes:
            from duallisten.endpoints.routes import strict_errors, unused_rules

            sections = self.sections()
            if text := unused_rules(sections):
                raise UsageError(f"--strict-routes: {text}")
            if text := strict_errors(sections):
                raise LaunchError(text)
        if self.has_pages:
            from duallisten.config.admin_paths import check_clash

            check_clash(self.options, self.sections())

    @cached_property
    def private_source(self) -> Config:
        """The configuration of the private side's application: this one, or a copy with `--private-app`."""
        own = self.options.private_app
        if own is None or own is self.app or (isinstance(own, str) and own == self.app):
            return self
        source = copy.copy(self)
        source.options = self.options._replace(private_app=None, strict_routes=False, public_health=None)
        source.app, source.interface, source.loaded = own, self._interface, False
        source.load()
        return source if _innermost(source.loaded_app) is not _innermost(self.loaded_app) else self

    def source(self, side: Side) -> Config:
        """Return the configuration of `side`'s application; this configuration must be loaded."""
        return self.private_source if side == "private" else self

    def sections(self) -> list[AppRoutes]:
        """Read the routes of each application; this configuration must be loaded."""
        from duallisten.endpoints.routes import read_section

        sources: dict[Config, list[Side]] = {}
        for side in ("public", "private"):
            sources.setdefault(self.source(side), []).append(side)
        root_path = self.side("public").root_path
        return [
            read_section(one.app_name, bare(one.loaded_app), self.rules, tuple(sides), root_path)
            for one, sides in sources.items()
        ]

    @property
    def unused_rules(self) -> str:
        """The path rules that match no route, in words; empty where there are none or routes cannot be read.

        The configuration must be loaded.
        """
        from duallisten.endpoints.routes import unused_rules

        return unused_rules([self.public_section]) if self.rules.hide_something else ""

    @property
    def public_section(self) -> AppRoutes:
        """The routes of the public side's application; the configuration must be loaded."""
        from duallisten.endpoints.routes import AppRoutes

        try:
            return self.sections()[0]
        except Exception:  # the application's routes cannot be read; it is served anyway
            return AppRoutes(self.app_name, ("public",), self.rules, None)

    def side(self, side: Side) -> SideConfig:
        """Return the current settings of `side`'s listener."""
        return side_config(self, side)

    def has_own(self, *names: str) -> bool:
        """Whether the private listener has its own value of one of these options."""
        return any(self.private.get(name) is not None for name in names)

    @property
    def has_pages(self) -> bool:
        """Whether any of duallisten's own pages is asked for."""
        asked = self.options
        return any(path is not None for path in (asked.private_health, asked.public_health, asked.private_metrics))

    @property
    def is_observed(self) -> bool:
        """Whether the processes are observed: for duallisten's own pages, or for the control socket."""
        return self.has_pages or self.options.control is not None

    def check_pages(self, *, has_private: bool) -> None:
        """Raise LaunchError where the launch cannot serve duallisten's own endpoints that were asked for.

        Args:
            has_private: Whether there is a private side, now or later.
        """
        if self.has_pages:
            from duallisten.config.admin_paths import check_served

            check_served(self.options, has_private=has_private)

    @property
    def request_id_header(self) -> str | None:
        """The request header with the request id; None where requests get no ids."""
        asked, platform = self.options.request_id_header, self.place.platform
        if asked is not None or self.options.log_format != "json":
            return asked
        return platform.request_id_header if platform.is_request_id_own else "X-Request-ID"

    @property
    def app_name(self) -> str:
        """The application's name in messages: its import string, or its class."""
        return self.app if isinstance(self.app, str) else type(self.app).__name__

    @property
    def is_engine(self) -> bool:
        """Whether the engine serves connections, not a user's own protocol class."""
        if self.loaded:  # a program may have set another class since
            from duallisten.http import Connection

            return self.http_protocol_class is Connection
        return self.http in PARSERS

    @property
    def is_websocket_engine(self) -> bool:
        """Whether `--ws` asks for the engine's WebSockets."""
        return self.ws in WEBSOCKETS

    @property
    def graceful_seconds(self) -> float:
        """Seconds that connections have to end during shutdown; infinite for no limit."""
        asked = self.timeout_graceful_shutdown
        return GRACEFUL_SECONDS if asked is None else asked or float("inf")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user, one line each."""
        from duallisten.config.warnings import warnings_of

        return tuple(warnings_of(self))

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return uvicorn's factory of the event loop; raises LaunchError where uvicorn would exit."""
        known = LOOP_FACTORIES.get(self.loop, self.loop)
        try:
            found = import_from_string(known)
        except ImportFromStringError as error:
            names = ", ".join(LOOP_FACTORIES)
            raise ImportFailed(f"--loop {self.loop} cannot be used: {error} Or give one of {names}") from None
        except ImportError as error:
            raise ImportFailed(f"--loop {self.loop} cannot be used: {error}; is its package installed?") from None
        if known is not None and not callable(found):
            raise LaunchError(f"--loop {self.loop} is not a factory of an event loop")
        return super().get_loop_factory()


def bare(app: Any) -> Any:
    """Return the application without uvicorn's middleware, which each listener adds for itself."""
    while isinstance(app, ProxyHeadersMiddleware | MessageLoggerMiddleware):
        app = app.app
    return app


def _innermost(app: Any) -> Any:
    """Return the application as it was imported, also without uvicorn's adapters for ASGI 2 and WSGI."""
    app = bare(app)
    return app.app if isinstance(app, ASGI2Middleware | WSGIMiddleware) else app

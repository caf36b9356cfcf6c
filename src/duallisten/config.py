"""The configuration: uvicorn's own `Config`, with duallisten's options and the private listener's twins beside it.

A `Config` is what was asked for, checked, with what the platform adds; it opens nothing. From it come the `Request`
that a plan is made from, and one `uvicorn.Config` for each listener (`listener_config`).
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from duallisten import uvicorn_contract
from duallisten.accesslog import mark_private_lines
from duallisten.addresses import Passed
from duallisten.admission import Side
from duallisten.application import import_application
from duallisten.errors import DuallistenError, LaunchError
from duallisten.forwarded import Trust, read_trust
from duallisten.frameworks import prepare
from duallisten.http import Connection
from duallisten.http.parsers import parser_class
from duallisten.http.settings import ParserName
from duallisten.keywords import (
    check_logging,
    check_workers,
    read_own,
    read_rules,
    sort,
    take_platform_values,
    uvicorn_defaults,
    with_platform,
)
from duallisten.plan import Plan, Request
from duallisten.platforms import locate
from duallisten.uvicorn_contract import (
    ASGI2Middleware,
    ImportFromStringError,
    MessageLoggerMiddleware,
    ProxyHeadersMiddleware,
    WSGIMiddleware,
)
from duallisten.uvicorn_options import CONFIG_VARIABLES, PRIVATE_OFF, is_inherited

if TYPE_CHECKING:
    from duallisten.route_report import Section

logger = logging.getLogger("uvicorn.error")

PARSERS = ("auto", "httptools", "h11")
WEBSOCKETS = ("auto", "websockets", "websockets-sansio")
"""The values of `--http` and `--ws` that mean the engine."""


class Config(uvicorn.Config):
    """What to serve, where, and to whom.

    app: the application, or `"module:attribute"`
    origins: where each option came from, by its name, for messages and for `--check`
    options: uvicorn's options; duallisten's (`duallisten.options.Options`); and `private_<x>`, the private listener's
        own value of a uvicorn option `<x>`

    Raises UsageError for a value that cannot be read, TypeError for an option that does not exist. From code,
    neither the configuration file nor `DUALLISTEN_*` and `UVICORN_*` are read; `$PORT` and the platform's variables
    are, and so are uvicorn's own `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS`.
    """

    def __init__(self, app: Any, *, origins: Mapping[str, str] | None = None, **options: Any) -> None:
        own, self.private, given = sort(options)
        self.origins = dict(origins or {})
        if given.get("env_file"):
            from dotenv import load_dotenv

            load_dotenv(given["env_file"])  # before anything is read from the environment; uvicorn does it late
        asked = read_own(own, self.private)
        self.place = locate(asked.platform, os.environ)
        self.options = with_platform(asked, self.place)
        given_trust = given.get("forwarded_allow_ips") is not None
        self._forwarded_asked = given_trust or CONFIG_VARIABLES["forwarded_allow_ips"] in os.environ
        self.port_asked = any(given.get(name) is not None for name in ("port", "uds", "fd"))
        self._take_port(given)
        warning = take_platform_values(given, self.origins, self.place)
        check_workers(given)
        check_logging(given, self.options)
        self.passed = Passed()  # a launch takes them from the environment
        self.rules = read_rules(self.options)
        self._interface = given.get("interface", "auto")  # `load` replaces it by what it finds
        self.parser: ParserName = "auto"
        self.has_websockets = False
        super().__init__(app, **given)
        if warning:
            logger.warning(warning)  # not before uvicorn has configured logging

    def _take_port(self, given: dict[str, Any]) -> None:
        """Take the public address from `$PORT` as far as it was not asked for."""
        if self.place.port is None:
            return
        for name, value in (("host", "0.0.0.0"), ("port", self.place.port)):  # noqa: S104
            if given.get(name) is None:
                given[name] = value
                self.origins.setdefault(name, "$PORT")

    @property
    def request(self) -> Request:
        """What a plan is made from."""
        return Request(
            options=self.options,
            place=self.place,
            host=self.host,
            port=self.port,
            port_asked=self.port_asked,
            uds=self.uds,
            fd=self.fd,
            passed=self.passed,
        )

    def configure_logging(self) -> None:
        """Configure logging as uvicorn does, keeping the access log if either side wants it."""
        asked = self.access_log, self.log_config, self.use_colors
        self.access_log = self.access_log or bool(self.value("access_log", "private"))
        if self.options.log_format == "json" and isinstance(self.log_config, dict):
            from duallisten.jsonlog import with_json

            self.log_config, self.use_colors = with_json(self.log_config), None
        try:
            super().configure_logging()
        except (OSError, ValueError, LookupError, TypeError, ImportError, RuntimeError) as error:
            raise LaunchError(f"--log-config {self.log_config}: {' '.join(str(error).split())}") from None
        finally:
            self.access_log, self.log_config, self.use_colors = asked
        mark_private_lines()

    def load_app(self) -> Any:
        """Import the application; raises LaunchError, in one line, where that fails."""
        return import_application(self.app, factory=self.factory, verbose=self.is_verbose)

    @cached_property
    def private_source(self) -> Config:
        """The configuration of the private side's application: this one, or with `--private-app` a copy."""
        own = self.options.private_app
        if own is None or own is self.app or (isinstance(own, str) and own == self.app):
            return self
        source = copy.copy(self)
        source.options = self.options._replace(private_app=None, strict_routes=False)
        source.app, source.interface, source.loaded = own, self._interface, False
        source.load()
        return source if _innermost(source.loaded_app) is not _innermost(self.loaded_app) else self

    def source(self, side: Side) -> Config:
        """Give the configuration of the application that `side` reaches; this one must be loaded."""
        return self.private_source if side == "private" else self

    def sections(self) -> list[Section]:
        """Read the routes of what is served, an application after the other; this one must be loaded."""
        if self.source("private") is self:
            return [self._section("public", "private")]
        return [self._section("public"), self.source("private")._section("private")]

    def _require_decided(self) -> None:
        from duallisten.route_report import complaint

        if text := complaint(self.sections()):
            raise LaunchError(text)

    def _refuse_clash(self) -> None:
        from duallisten.pages import clash, own_paths

        if text := clash(own_paths(self.options), self.sections()):
            raise LaunchError(text)

    def check_pages(self, plan: Plan) -> None:
        """Raise LaunchError where pages of duallisten's own are asked for that a launch of `plan` cannot serve."""
        if self.has_pages:
            from duallisten.pages import lacking

            if text := lacking(self.options, has_private=plan.private is not None or plan.later):
                raise LaunchError(text)

    @property
    def has_pages(self) -> bool:
        """Whether it asks for pages of duallisten's own, and so for what they tell of."""
        return self.options.private_health is not None or self.options.private_metrics is not None

    @property
    def request_id_header(self) -> str | None:
        """The request header that holds an id; None where requests get no ids."""
        asked = self.options.request_id_header
        return asked or ("X-Request-ID" if self.options.log_format == "json" else None)

    def _section(self, *sides: Side) -> Section:
        from duallisten.route_report import read_section

        return read_section(self.app_name, bare(self.loaded_app), self.rules, sides)

    @property
    def app_name(self) -> str:
        """What the application is called in messages: its import string, or its class."""
        return self.app if isinstance(self.app, str) else type(self.app).__name__

    @property
    def is_verbose(self) -> bool:
        """Whether a developer is watching: a failed import then shows its traceback, too."""
        return self.should_reload or self.log_level in ("debug", "trace", 10, 5)

    def load(self) -> None:
        """Load the application, once, and the protocols; raises LaunchError where uvicorn would exit."""
        uvicorn_contract.check()
        self._check_tls("public")
        self._check_tls("private")
        asked = self.http, self.ws
        self._choose_protocols()
        try:
            super().load()
        except DuallistenError:
            raise
        except SystemExit:
            raise LaunchError("uvicorn could not load what was asked for: its reason stands above") from None
        except ImportFromStringError as error:
            raise LaunchError(f"--http, --ws or --loop names what cannot be imported: {error}") from None
        except OSError as error:
            raise LaunchError(f"TLS of the public listener: {error}; look at {self.tls_files('public')}") from None
        except (ValueError, RuntimeError) as error:
            raise LaunchError(str(error)) from None
        finally:
            self.http, self.ws = asked
        prepare(bare(self.loaded_app))
        self.source("private")  # loaded with this one, so that neither is found broken later
        if self.options.strict_routes:
            self._require_decided()
        if self.has_pages:
            self._refuse_clash()

    def _choose_protocols(self) -> None:
        """Have uvicorn load the engine where it would load protocols of its own, for which it stands."""
        if self.http not in PARSERS or getattr(self, "http2", False):
            return
        self.parser = cast("ParserName", self.http)
        try:
            parser_class(self.parser)
        except ImportError as error:
            raise LaunchError(f"--http {self.http} cannot be used: {error}") from None
        self.http = Connection
        self.has_websockets = self.ws in WEBSOCKETS
        if self.has_websockets:
            self.ws = "none"

    @property
    def is_engine(self) -> bool:
        """Whether the engine serves connections, and not a protocol class that the user brings; it must be loaded."""
        return self.http_protocol_class is Connection

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should know who uses protocol classes that are not the engine's."""
        found = []
        is_engine = self.is_engine if self.loaded else self.http in PARSERS and not getattr(self, "http2", False)
        if not is_engine:
            found.append("--http2" if getattr(self, "http2", False) else f"--http {_name_of(self.http)}")
        if self.ws not in (*WEBSOCKETS, "none"):
            found.append(f"--ws {_name_of(self.ws)}")
        return tuple(
            f"{option} serves connections with a protocol class of its own: duallisten's limits, time-outs, refusals, "
            "request ids, JSON access lines and request metrics do not hold for them"
            for option in found
        )

    def has_own(self, *names: str) -> bool:
        """Whether the private listener has a value of its own for one of these options."""
        return any(self.private.get(name) is not None for name in names)

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Give uvicorn's factory of the event loop; raises LaunchError where uvicorn would exit."""
        try:
            return super().get_loop_factory()
        except (SystemExit, ImportError) as error:
            raise LaunchError(f"--loop {self.loop} cannot be used: uvicorn cannot import it ({error})") from None

    def _check_tls(self, side: Side) -> None:
        if self.value("ssl_keyfile", side) and not self.value("ssl_certfile", side):
            raise LaunchError(f"TLS of the {side} listener: {self.tls_files(side)} needs its certificate file, too")

    def value(self, name: str, side: Side) -> Any:
        """Give the value for one side of an option of uvicorn's or of ours: the twin's, or by the rule of its kind."""
        if side == "private":
            own = self.private.get(name)
            if own is not None:
                return own
            if not is_inherited(name):
                return False if name in PRIVATE_OFF else uvicorn_defaults()[name]
        return getattr(self.options if name in self.options._fields else self, name)

    def trust(self, side: Side) -> Trust:
        """Tell whose forwarded headers `side` believes."""
        if not self.value("proxy_headers", side):
            return Trust()
        if side == "public" and self.place.is_routed and not self._forwarded_asked:
            return Trust(routers=self.place.platform.routers)
        return read_trust(self.value("forwarded_allow_ips", side))

    def tls_files(self, side: Side) -> str:
        """Name the TLS files of a side with the options that named them, for a message."""
        prefix = "--private-ssl" if side == "private" else "--ssl"
        names = ("keyfile", "certfile", "ca_certs")
        given = ((name, self.value(f"ssl_{name}", side)) for name in names)
        return ", ".join(f"{prefix}-{name.replace('_', '-')} {value}" for name, value in given if value)


def _name_of(protocol: Any) -> str:
    return protocol if isinstance(protocol, str) else f"{protocol.__module__}:{protocol.__qualname__}"


def bare(app: Any) -> Any:
    """Give the application without the middleware that uvicorn wraps each listener's own around."""
    while isinstance(app, ProxyHeadersMiddleware | MessageLoggerMiddleware):
        app = app.app
    return app


def _innermost(app: Any) -> Any:
    """Give the application as it was imported, without what uvicorn makes it an ASGI 3 one with."""
    app = bare(app)
    return app.app if isinstance(app, ASGI2Middleware | WSGIMiddleware) else app

"""duallisten's own pages: what it answers itself, on the private side, in front of the application.

A page is asked for by its exact path and no other spelling of it, so that nothing of the application is shadowed by
accident; where the application's routes can be read, a clash stops the launch (`clash`). The pages stand in front of
the application, its middleware and its tracing, which never hear of them; neither does the access log, nor what counts
requests (`services.OwnPages`).

An answer is a plain function of what was asked, quick, and safe to call in any thread: while the event loop is blocked,
another thread gives it (`standby`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import NamedTuple

from duallisten.endpoints import Application, Receive, Scope, Send
from duallisten.health import QUESTIONS
from duallisten.options import Options
from duallisten.route_report import Section
from duallisten.routes import is_general, matches


class Page(NamedTuple):
    """What is answered.

    headers: beside those that every page has
    """

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Asked(NamedTuple):
    """What was asked, beside the path.

    headers: names in lower case
    """

    method: str = "GET"
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def header(self, name: bytes) -> str:
        """Give the value of a header; empty where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


Answer = Callable[[Asked], Page]

READING = ("GET", "HEAD")
"""The methods that a page has."""

METHOD_NOT_ALLOWED = Page(405, "text/plain; charset=utf-8", b"Method Not Allowed")


def own_paths(options: Options) -> dict[str, str]:
    """Give the paths that are duallisten's own, each with the option that makes it so."""
    paths: dict[str, str] = {}
    if options.private_health is not None:
        prefix = options.private_health.rstrip("/")
        for name in (*QUESTIONS, "status", "status/events"):
            paths[f"{prefix}/{name}"] = f"--private-health {options.private_health}"
    if options.private_metrics is not None:
        paths[options.private_metrics] = f"--private-metrics {options.private_metrics}"
    return paths


class Pages:
    """The pages of a process.

    answers: by raw path
    applications: those that take their time, by raw path; they are called to be read alone
    end: has those come to their end, for the server ends
    """

    def __init__(
        self,
        answers: Mapping[bytes, Answer],
        applications: Mapping[bytes, Application],
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.answers = answers
        self.applications = applications
        self.paths = frozenset(answers) | frozenset(applications)
        self.end = end

    def in_front_of(self, app: Application) -> Application:
        """Make the application that answers these pages itself, and leaves all else to `app`."""
        paths, serve = self.paths, self.serve

        def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if scope.get("raw_path") in paths and scope["type"] == "http":
                return serve(scope, receive, send)
            return app(scope, receive, send)

        return ask

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for one of them."""
        raw, asked = scope["raw_path"], asked_of(scope)
        if raw in self.applications and asked.method in READING:
            await self.applications[raw](scope, receive, send)
        else:
            await send_page(self.answer(raw, asked), scope, send)

    def answer(self, raw_path: bytes, asked: Asked) -> Page:
        """Give the page at a path, which must be one of `answers` where it is read."""
        if asked.method not in READING:
            return METHOD_NOT_ALLOWED
        return self.answers[raw_path](asked)


def asked_of(scope: Scope) -> Asked:
    """Take what was asked from a request's scope."""
    return Asked(scope["method"], scope.get("query_string", b""), tuple(scope["headers"]))


async def send_page(page: Page, scope: Scope, send: Send) -> None:
    """Answer a request with a page."""
    await send({"type": "http.response.start", "status": page.status, "headers": head_of(page)})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.body})


def head_of(page: Page) -> list[tuple[bytes, bytes]]:
    """Give the headers of a page's answer."""
    headers = [
        (b"content-type", page.content_type.encode()),
        (b"content-length", b"%d" % len(page.body)),
        (b"cache-control", b"no-store"),
        *page.headers,
    ]
    return [*headers, (b"allow", b"GET, HEAD")] if page is METHOD_NOT_ALLOWED else headers


def lacking(options: Options, *, has_private: bool) -> str:
    """Say why the pages that are asked for cannot be served; nothing where they can.

    has_private: whether there is a private side, now or later
    """
    asked = {"--private-health": options.private_health, "--private-metrics": options.private_metrics}
    given = [f"{flag} {path}" for flag, path in asked.items() if path is not None]
    if given and not has_private:
        verb = "is" if len(given) == 1 else "are"
        return f"{' and '.join(given)} {verb} for the private side, and this launch has none: see --listeners"
    if options.private_metrics is None:
        return ""
    if options.private_metrics in own_paths(options._replace(private_metrics=None)):
        return f"{given[1]}: that is a path of {given[0]}; choose another"
    if find_spec("prometheus_client") is None:
        return f"{given[-1]} needs prometheus-client: pip install 'duallisten[metrics]'"
    return ""


def clash(paths: Mapping[str, str], sections: Iterable[Section]) -> str:
    """Say which of our own paths an application has a route for; nothing where there is none.

    A route that takes whatever no other does, such as a single-page application's, gives way.

    paths: our own, each with the option that makes it so
    """
    for section in sections:
        for reached in section.routes or () if "private" in section.sides else ():
            for path, option in paths.items():
                if matches(reached.route, path) and not is_general(reached.route):
                    return (
                        f"{option}: {section.application} has a route for {path}, too ({reached.route.path}); "
                        "choose another path"
                    )
    return ""

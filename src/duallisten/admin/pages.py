"""duallisten's own pages: what it answers itself, on the private side, in front of the application.

A page is asked for by its exact path and no other spelling of it, so that nothing of the application is shadowed by
accident; where the application's routes can be read, a clash stops the launch (`config.admin_paths`). The pages stand
in front of the application, its middleware and its tracing, which never hear of them; neither does the access log, nor
what counts requests (`server.services`).

An answer is a plain function of what was asked, quick, and safe to call in any thread: while the event loop is blocked,
another thread gives it (`fallback_responder`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from duallisten.sides import Application, Receive, Scope, Send


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
        """Return the value of a header; empty where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


Answer = Callable[[Asked], Page]

READING = ("GET", "HEAD")
"""The methods that a page has."""

METHOD_NOT_ALLOWED = Page(405, "text/plain; charset=utf-8", b"Method Not Allowed")


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
        """Build the application that answers these pages itself, and leaves all else to `app`."""
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
        """Return the page at a path, which must be one of `answers` where it is read."""
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
    """Return the headers of a page's answer."""
    headers = [
        (b"content-type", page.content_type.encode()),
        (b"content-length", b"%d" % len(page.body)),
        (b"cache-control", b"no-store"),
        *page.headers,
    ]
    return [*headers, (b"allow", b"GET, HEAD")] if page is METHOD_NOT_ALLOWED else headers

"""duallisten's own pages: the answers it gives itself on the private side, in front of the application.

A page has one exact path and no other spelling of it, so that nothing of the application is shadowed by accident. Where
the application's routes can be read, a clash stops the launch (`config.admin_paths`).

An answer is a plain function of the request. It is quick, and safe to call in any thread: while the event loop is
blocked, another thread calls it (`server.fallback_responder`).

Invariants:
- The application, its middleware and its tracing never see a request for a page.
- Such a request is in no access log and no metric (`server.services`).
- A page answers a browser only where its address was meant (`admin.hostnames`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from duallisten.http.answers import STATUS_LINES, encode_fields
from duallisten.sides import Application, Receive, Scope, Send

if TYPE_CHECKING:
    from duallisten.admin.hostnames import Hostnames


class Page(NamedTuple):
    """An answer.

    headers: beside those that every page has
    """

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """All headers of the answer."""
        return [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            *self.headers,
        ]

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer an ASGI request."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})

    def encode(self, default_fields: bytes, *, with_body: bool) -> bytes:
        """Return the answer as it goes out on a connection that ends with it.

        default_fields: those that every answer of the side has, encoded
        """
        head = STATUS_LINES[self.status] + default_fields + encode_fields(self.fields) + b"connection: close\r\n\r\n"
        return head + self.body if with_body else head


class Request(NamedTuple):
    """A request for a page; its path is known.

    headers: names in lower case
    """

    method: str
    headers: Iterable[tuple[bytes, bytes]] = ()

    def header(self, name: bytes) -> str:
        """Return the value of a header; empty where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


Answer = Callable[[Request], Page]

METHODS = ("GET", "HEAD")
METHOD_NOT_ALLOWED = Page(
    405, "text/plain; charset=utf-8", b"Method Not Allowed", ((b"allow", ", ".join(METHODS).encode()),)
)
MISDIRECTED = Page(
    421,
    "text/plain; charset=utf-8",
    b"This host does not know that name: use its IP address, or start it with --private-hostname.\n",
)
CROSS_SITE = Page(403, "text/plain; charset=utf-8", b"Another site asked for this: type the address instead.\n")


class Pages:
    """The pages of a process.

    answers: by raw path
    applications: answers that take time, by raw path; they are called for `METHODS` alone
    end: called when the server begins to end
    record: called once a second, by the event loop
    hostnames: the names that requests may be for
    """

    def __init__(
        self,
        answers: Mapping[bytes, Answer],
        applications: Mapping[bytes, Application],
        end: Callable[[], None],
        record: Callable[[], None],
        hostnames: Hostnames,
    ) -> None:
        self.answers = answers
        self.applications = applications
        self._hostnames = hostnames
        self.paths = frozenset(answers) | frozenset(applications)
        self.end = end
        self.record = record

    def in_front_of(self, app: Application) -> Application:
        """Build the application that answers these pages itself, and leaves all else to `app`."""
        paths, serve = self.paths, self.serve

        def pages_or_app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if scope.get("raw_path") in paths and scope["type"] == "http":
                return serve(scope, receive, send)
            return app(scope, receive, send)

        return pages_or_app

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a page."""
        raw_path, request = scope["raw_path"], Request(scope["method"], scope["headers"])
        page = self._refuse(request)
        if page is None and raw_path in self.applications:
            await self.applications[raw_path](scope, receive, send)
        else:
            await (page or self.answers[raw_path](request)).send(scope, send)

    def answer(self, raw_path: bytes, request: Request) -> Page:
        """Return the page at a path of `answers`."""
        return self._refuse(request) or self.answers[raw_path](request)

    def _refuse(self, request: Request) -> Page | None:
        """Return the answer to a request that gets no page."""
        if not self._hostnames.admit(request.headers):
            return MISDIRECTED
        if request.header(b"sec-fetch-site").lower() == "cross-site":
            return CROSS_SITE
        return None if request.method in METHODS else METHOD_NOT_ALLOWED

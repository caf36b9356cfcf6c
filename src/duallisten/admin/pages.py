"""duallisten's own pages, answered in front of the application.

A page has exactly one path, in one spelling, so that it does not hide a path of the application by accident. If the
application's routes can be read, a clash stops the launch (`config.admin_paths`).

A `PageFunction` is a plain function of the request. It is quick, and safe to call in any thread: while the event loop
is blocked, another thread calls it (`server.fallback_responder`).

Invariants:
- The application, its middleware and its tracing never see a request for a page.
- Such a request appears in no access log and no metric (`server.services`).
- A page of the private side refuses cross-site requests and unknown host names (`admin.hostnames`). The page of the
  public side reveals nothing confidential.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from duallisten.http.answers import Answer
from duallisten.sides import Application, Receive, Scope, Send

if TYPE_CHECKING:
    from duallisten.admin.hostnames import Hostnames


class Request(NamedTuple):
    """A request for a page, without its path.

    headers: names in lower case
    """

    method: str
    headers: Iterable[tuple[bytes, bytes]] = ()

    def header(self, name: bytes) -> str:
        """Return the value of a header; empty if there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


PageFunction = Callable[[Request], Answer]


def page(status: int, content_type: str, body: bytes, *fields: tuple[bytes, bytes]) -> Answer:
    """Build an answer that must not be cached."""
    return Answer(status, body, ((b"content-type", content_type.encode()), (b"cache-control", b"no-store"), *fields))


TEXT = "text/plain; charset=utf-8"
METHODS = ("GET", "HEAD")
METHOD_NOT_ALLOWED = page(405, TEXT, b"Method Not Allowed", (b"allow", ", ".join(METHODS).encode()))
MISDIRECTED = page(
    421, TEXT, b"This host does not know that name: use its IP address, or start it with --private-hostname.\n"
)
CROSS_SITE = page(403, TEXT, b"Another site asked for this: type the address instead.\n")


def _nothing() -> None:
    """Do nothing."""


class Pages:
    """The pages of one side in a process.

    answers: page functions, by raw path
    applications: ASGI applications for pages that take time, by raw path; called only for `METHODS`
    end: called when the server begins to shut down
    record: called once a second, in the event loop
    hostnames: the host names that requests may have; None to allow any name, and cross-site requests
    """

    def __init__(
        self,
        answers: Mapping[bytes, PageFunction],
        applications: Mapping[bytes, Application],
        end: Callable[[], None] = _nothing,
        record: Callable[[], None] = _nothing,
        hostnames: Hostnames | None = None,
    ) -> None:
        self.answers = answers
        self.applications = applications
        self._hostnames = hostnames
        self.paths = frozenset(answers) | frozenset(applications)
        self.end = end
        self.record = record

    def in_front_of(self, app: Application) -> Application:
        """Build an application that answers these pages itself, and passes other requests to `app`."""
        paths, serve = self.paths, self.serve

        def pages_or_app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if scope.get("raw_path") in paths and scope["type"] == "http":
                return serve(scope, receive, send)
            return app(scope, receive, send)

        return pages_or_app

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a page."""
        raw_path, request = scope["raw_path"], Request(scope["method"], scope["headers"])
        refused = self._refuse(request)
        if refused is None and raw_path in self.applications:
            await self.applications[raw_path](scope, receive, send)
        else:
            await (refused or self.answers[raw_path](request)).send(scope, send)

    def answer(self, raw_path: bytes, request: Request) -> Answer:
        """Call the page function at a path of `answers`."""
        return self._refuse(request) or self.answers[raw_path](request)

    def _refuse(self, request: Request) -> Answer | None:
        """Return the error for a request that is refused; None if it is not."""
        if self._hostnames is not None:
            if not self._hostnames.admit(request.headers):
                return MISDIRECTED
            if request.header(b"sec-fetch-site").lower() == "cross-site":
                return CROSS_SITE
        return None if request.method in METHODS else METHOD_NOT_ALLOWED

"""Sets the attribute `duallisten.side` on the span of each request.

Instrumentation creates the span of a request (`SpanKind.SERVER`), but sees neither connection nor listener. So the side
is put into a context variable, in the task that serves the request, and a span processor of the global provider writes
it to the span when the span begins. The semantic conventions have no attribute for it: `server.address` comes from the
client, and the name of an interface does not say who is admitted.

OpenTelemetry is used only if it is already imported, and nothing is configured: as usual, `OTEL_...` variables or the
application define what is exported, and where to. So there is no dependency, and no extra.

Only the global provider is supported. duallisten's own pages are answered in front of the application and its
instrumentation, and create no spans; nor do requests that a rule hides.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from duallisten.sides import Application, Receive, Scope, Send, Side

ATTRIBUTE = "duallisten.side"

SIDE: ContextVar[Side | None] = ContextVar("duallisten.side", default=None)
"""The side of the request that a task serves."""

_told: WeakSet[Any] = WeakSet()  # the providers that have our processor


class SideProcessor(SpanProcessor):
    """Writes the side to the span of each request."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Write the side to a span that begins, if it is the span of a request."""
        if span.kind is trace.SpanKind.SERVER and (side := SIDE.get()) is not None:
            span.set_attribute(ATTRIBUTE, side)


def make_spans() -> bool:
    """Add our processor to the global provider, once; return False if that provider makes no spans."""
    provider = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        return False
    if provider not in _told:
        _told.add(provider)
        provider.add_span_processor(SideProcessor())
    return True


def with_side(app: Application, side: Side) -> Application:
    """Build an application that sets `SIDE` to its side and calls `app`."""

    def call(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        SIDE.set(side)
        return app(scope, receive, send)

    return call

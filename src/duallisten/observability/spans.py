"""The side of a request on its span, as `duallisten.side`.

Instrumentation makes the span of a request (`SpanKind.SERVER`), and sees neither connection nor listener. So the side
is put into a context variable, in the task of its own that each request runs in, and a span processor of the
global provider writes it to the span when that begins. The semantic conventions have no attribute for it:
`server.address` is what the client says, and an interface's name does not tell who is admitted.

Nothing of OpenTelemetry is imported where it is not there already, and nothing is set up: what is exported, and where
to, is said as everywhere, by `OTEL_...` or by the application. So there is no dependency, and no extra.

A provider that is not the global one is not known here. The pages of duallisten's own stand in front of the
application and its instrumentation, and make no spans; neither do requests that a rule hides.
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

_told: WeakSet[Any] = WeakSet()  # the providers that have a processor of ours


class SideProcessor(SpanProcessor):
    """Writes the side to the span of each request."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Write it to a span that begins, if it is a request's."""
        if span.kind is trace.SpanKind.SERVER and (side := SIDE.get()) is not None:
            span.set_attribute(ATTRIBUTE, side)


def make_spans() -> bool:
    """Whether the global provider makes spans; if it does, it writes the side of each request to them from now on."""
    provider = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        return False
    if provider not in _told:
        _told.add(provider)
        provider.add_span_processor(SideProcessor())
    return True


def with_side(app: Application, side: Side) -> Application:
    """Return the application, called with its side in `SIDE`."""

    def call(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        SIDE.set(side)
        return app(scope, receive, send)

    return call

"""Spans carry the side; without OpenTelemetry nothing is imported, and nothing stands in the way of a request."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.running import run


def python(script: str, cwd: Path) -> None:
    """Run a script in a process of its own, for there is one global provider in each."""
    ended = run("-c", script, command=(sys.executable,), cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr


PROVIDER = """
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from duallisten.testing import serve

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))

def found():
    spans = exporter.get_finished_spans()
    return sorted((span.kind.name, span.name, span.attributes.get("duallisten.side")) for span in spans)
"""


def test_the_span_of_a_request_has_it_and_those_within_it_have_not(tmp_path: Path) -> None:
    script = """
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("test")

async def app(scope, receive, send):
    if scope["type"] == "http":
        with tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER):
            with tracer.start_as_current_span("query", kind=trace.SpanKind.CLIENT):
                pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

for _ in range(2):  # two servers on one provider
    with serve(app) as served, httpx.Client() as client:
        client.get(served.private)
        client.get(served.public)
with tracer.start_as_current_span("elsewhere", kind=trace.SpanKind.SERVER):
    pass
requests = [("SERVER", "request", "private")] * 2 + [("SERVER", "request", "public")] * 2
assert found() == [("CLIENT", "query", None)] * 4 + [("SERVER", "elsewhere", None)] + requests, found()
assert len(provider._active_span_processor._span_processors) == 2
"""
    python(PROVIDER + script, tmp_path)


def test_a_provider_that_the_lifespan_sets_up_is_in_time(tmp_path: Path) -> None:
    script = """
from contextlib import asynccontextmanager
from fastapi import FastAPI, WebSocket
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

@asynccontextmanager
async def lifespan(app):
    trace.set_tracer_provider(provider)
    yield

app = FastAPI(lifespan=lifespan)
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])

@app.websocket("/talk")
async def talk(websocket: WebSocket):
    await websocket.accept()
    await websocket.close()

with serve(app) as served:
    httpx.get(served.private + "/talk")
    from websockets.sync.client import connect
    with connect(served.public.replace("http", "ws") + "/talk") as connection:
        try:
            connection.recv()
        except Exception:
            pass
assert [(kind, side) for kind, name, side in found()] == [("SERVER", "private"), ("SERVER", "public")], found()
"""
    python(PROVIDER + script, tmp_path)


def test_without_the_sdk_nothing_is_imported_and_nothing_stands_in_front(tmp_path: Path) -> None:
    script = """
import sys
from duallisten.demo import app
from duallisten.testing import serve
from duallisten.listeners.admission import Verdict

with serve(app, log_config=None) as served:
    loaded = served.server.listeners.services[Verdict.PRIVATE].config.loaded_app
    assert loaded.__module__ == "duallisten.endpoints.endpoint_set", loaded
assert not [name for name in sys.modules if "opentelemetry" in name]
"""
    python(script, tmp_path)

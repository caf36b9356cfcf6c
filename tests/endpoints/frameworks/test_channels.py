"""Routes of Django channels, and of applications behind middleware, as `--routes` and its gates see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import FREE, run

SITE = """
import django
from django.conf import settings

settings.configure(DEBUG=False, ROOT_URLCONF="site_urls", SECRET_KEY="a test", ALLOWED_HOSTS=["*"])
django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path, re_path


async def consumer(scope, receive, send): ...


class Middleware:
    def __init__(self, around): self.%s = around

    async def __call__(self, scope, receive, send): await self.%s(scope, receive, send)


chat = URLRouter([path("rooms/<int:room>/", consumer)])
websockets = AllowedHostsOriginValidator(URLRouter([path("feed/", consumer), path("chat/", chat)]))
router = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": websockets})
app = Middleware(router)
poll = URLRouter([path("poll/", consumer), re_path("", get_asgi_application())])
polled = ProtocolTypeRouter({"http": poll})
unread = ProtocolTypeRouter({"http": consumer, "websocket": consumer})
"""
URLS = """
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("admin/", HttpResponse), path("-/livez", HttpResponse)]
"""
ROUTES = [
    ("/admin/", "http"),
    ("/-/livez", "http"),
    ("/feed/", "websocket"),
    ("/chat/rooms/<int:room>/", "websocket"),
]


def site(folder: Path, attribute: str = "app") -> Path:
    (folder / "site_app.py").write_text(SITE.replace("%s", attribute))
    (folder / "site_urls.py").write_text(URLS)
    return folder


def routes(folder: Path, name: str, *arguments: str) -> list[dict[str, Any]]:
    (section,) = json.loads(run(f"site_app:{name}", "--routes", "--json", *arguments, cwd=folder).stdout)
    found: list[dict[str, Any]] = section["routes"]
    return found


@pytest.mark.parametrize("attribute", ["app", "application", "inner", "asgi_app", "other_asgi_app"])
def test_the_routes_of_both_protocols_are_seen_through_the_middleware_around_them(
    attribute: str, tmp_path: Path
) -> None:
    shown = routes(site(tmp_path, attribute), "app", "--private-path", "/chat")
    assert [(route["path"], route["kind"]) for route in shown] == ROUTES
    assert [route["public"] for route in shown] == [True, True, True, False]


def test_strict_routes_hold_for_websockets_of_channels(tmp_path: Path) -> None:
    rules = ("--private-path", "/admin", "--private-path", "/-")
    refused = run("site_app:app", "--routes", "--strict-routes", *rules, cwd=site(tmp_path))
    assert refused.returncode == 1
    assert "these routes have no side: /feed/, /chat/rooms/<int:room>/;" in refused.stderr
    decided = (*rules, "--public-path", "/feed", "--private-path", "/chat")
    assert run("site_app:app", "--check", "--strict-routes", *decided, *FREE, cwd=tmp_path).returncode == 0


def test_a_route_of_django_behind_channels_is_not_shadowed_by_a_page_of_ours(tmp_path: Path) -> None:
    refused = run("site_app:app", "--check", "--private-health", "/-", *FREE, cwd=site(tmp_path))
    assert refused.returncode == 3
    assert "site_app:app has a route for /-/livez, too" in refused.stderr


def test_django_may_stand_behind_a_url_router(tmp_path: Path) -> None:
    assert [route["path"] for route in routes(site(tmp_path), "polled")] == ["/poll/", "/admin/", "/-/livez"]


def test_a_protocol_that_cannot_be_read_is_undecided(tmp_path: Path) -> None:
    shown = routes(site(tmp_path), "unread")
    assert [(route["path"], route["kind"], route["decided"]) for route in shown] == [("/", "mount", False)] * 2

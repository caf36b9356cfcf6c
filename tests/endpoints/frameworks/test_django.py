"""Path rules before a real Django project with its admin, which has no marks of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.running import FREE, PYTHON, Launched, ask, launched, run

FILES = {
    "mysite_settings.py": """
import os
from pathlib import Path

SECRET_KEY = "a test"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = os.environ.get("MYSITE_URLS", "mysite_urls")
FORCE_SCRIPT_NAME = os.environ.get("MYSITE_SCRIPT_NAME")
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}
INSTALLED_APPS = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages")]
MIDDLEWARE = [
    "django.middleware.locale.LocaleMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
""",
    "mysite_urls.py": """
from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path
from django.views import View

from duallisten import side


class Basket(View):
    def get(self, request):
        return JsonResponse({"basket": []})

    def post(self, request):
        return JsonResponse({"basket": ["apple"]})


def home(request):
    return JsonResponse({"side": side(request)})


def item(request, pk):
    return JsonResponse({"item": pk, "side": side(request)})


def stock(request, name):
    return JsonResponse({"name": name, "side": side(request)})


items = [path("", home), path("<int:pk>/", item)]
urlpatterns = [
    path("admin/", admin.site.urls),
    path("", home),
    path("basket/", Basket.as_view()),
    path("items/", include(items)),
    path("internal/<str:name>", stock),
]
""",
    "formats_urls.py": """
from django.urls import re_path
from mysite_urls import stock

urlpatterns = [re_path(r"^(?i:stocklist)(\\.(?P<name>[a-z0-9]+))/?$", stock)]
""",
    "i18n_urls.py": """
from django.conf.urls.i18n import i18n_patterns
from django.urls import path
from mysite_urls import home, stock

pages = [path("adm/<str:name>", stock), path("shop/<str:name>", stock)]
urlpatterns = [*i18n_patterns(*pages, prefix_default_language=False), path("de-info/adm/", home)]
""",
    "mysite.py": """
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite_settings"
from django.core.asgi import get_asgi_application

app = get_asgi_application()
""",
    "prepare.py": """
import mysite
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_superuser("root", password="a password")
""",
}
HIDE_ADMIN = ("--private-path", "/admin", "--private-path", "/internal")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a migrated database; Django's settings are a process's, so it lives in processes of its own."""
    folder = tmp_path_factory.mktemp("mysite")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    prepared = run("prepare.py", command=PYTHON, cwd=folder)
    assert prepared.returncode == 0, prepared.stderr
    return folder


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Launched]:
    with launched("mysite:app", *HIDE_ADMIN, *FREE, cwd=project) as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as made:
        yield made


def routes(project: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Ask for the routes, by their path."""
    shown = run("mysite:app", "--routes", "--json", *arguments, cwd=project)
    assert (shown.returncode, shown.stderr) == (0, "")
    (section,) = json.loads(shown.stdout)
    return {route["path"]: route for route in section["routes"]}


ADMIN_PATHS = ["/admin", "/admin/", "/admin/login/", "/admin/auth/user/add/", "/Admin/", "/%61dmin/", "//admin/login/"]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
def test_the_admin_is_not_there_for_the_world(server: Launched, method: str, client: httpx.Client) -> None:
    answers = [client.request(method, server.url("public") + path) for path in ADMIN_PATHS]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.text for answer in answers} == {"" if method == "HEAD" else "Not Found"}
    assert {tuple(answer.headers) for answer in answers} == {("date", "server", "content-type", "content-length")}


def test_a_missing_slash_is_added_in_public_but_not_for_the_admin(server: Launched, client: httpx.Client) -> None:
    assert client.get(server.url("public") + "/basket").headers["location"] == "/basket/"
    hidden = client.get(server.url("public") + "/admin")
    assert (hidden.status_code, hidden.text) == (404, "Not Found")
    assert "location" not in hidden.headers
    assert client.get(server.url("private") + "/admin").headers["location"] == "/admin/"


def test_a_neighbour_logs_in_to_the_admin(server: Launched) -> None:
    with httpx.Client(base_url=server.url("private"), follow_redirects=True) as neighbour:
        form = neighbour.get("/admin/")
        assert form.url.path == "/admin/login/"
        assert 'name="password"' in form.text
        filled_in = {
            "username": "root",
            "password": "a password",
            "csrfmiddlewaretoken": neighbour.cookies["csrftoken"],
            "next": "/admin/",
        }
        index = neighbour.post("/admin/login/", data=filled_in)
        assert (index.status_code, index.url.path) == (200, "/admin/")
        assert "Site administration" in index.text
        assert neighbour.get(server.url("public") + "/admin/").text == "Not Found"


def test_public_views_are_there_on_both_sides(server: Launched, client: httpx.Client) -> None:
    for side in ("public", "private"):
        url = server.url(side)
        for path in ("/", "/items/"):
            assert client.get(url + path).json() == {"side": side}
        assert client.get(url + "/items/7/").json() == {"item": 7, "side": side}
        assert client.get(url + "/basket/").json() == {"basket": []}


def test_internal_views_are_there_for_neighbours_alone(server: Launched, client: httpx.Client) -> None:
    assert client.get(server.url("private") + "/internal/apples").json() == {"name": "apples", "side": "private"}
    for path in (
        "/internal/apples",
        "/internal/",
        "/INTERNAL/apples",
        "/items/../internal/apples",
        "/internal%2fapples",
    ):
        target = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert ask(server.url("public"), target.encode()).endswith(b"\r\n\r\nNot Found"), path


def test_the_routes_show_the_admin_as_hidden(project: Path) -> None:
    shown = routes(project, "--private-path", "/admin")
    admin = {path for path in shown if path.startswith("/admin/")}
    assert {"/admin/", "/admin/login/", "/admin/auth/user/<path:object_id>/change/"} <= admin
    assert {path for path, route in shown.items() if not route["public"]} == admin
    assert {shown[path]["why"] for path in admin} == {"--private-path /admin"}
    assert all(route["private"] for route in shown.values())


def test_the_routes_show_what_is_included_and_the_methods_of_views_that_have_them(project: Path) -> None:
    shown = routes(project)
    assert set(shown) >= {"/", "/basket/", "/items/", "/items/<int:pk>/", "/internal/<str:name>"}
    assert shown["/basket/"]["methods"] == ["GET", "OPTIONS", "POST"]
    assert shown["/"]["methods"] == []
    assert not any(route["decided"] for route in shown.values())


def test_the_table_of_routes_can_be_read_by_a_person(project: Path) -> None:
    shown = run("mysite:app", "--routes", *HIDE_ADMIN, cwd=project)
    assert shown.returncode == 0
    assert "mysite:app on the public and the private side" in shown.stdout
    assert "--private-path /admin" in shown.stdout
    assert "The public side serves: not /admin, /internal" in shown.stdout


def test_routes_of_which_nobody_said_anything_are_named(project: Path) -> None:
    asked = run("mysite:app", "--routes", "--strict-routes", *HIDE_ADMIN, cwd=project)
    assert asked.returncode == 1
    assert "these routes have no side: /, /basket/, /items/, /items/<int:pk>/; declare" in asked.stderr
    started = run("mysite:app", "--strict-routes", *HIDE_ADMIN, *FREE, cwd=project)
    assert started.returncode == 3
    assert started.stderr.splitlines()[-1] == asked.stderr.strip()


def test_an_allow_list_decides_all_routes(project: Path, client: httpx.Client) -> None:
    allowed = ("--public-path", "/items", "--public-path", "/basket")
    assert run("mysite:app", "--routes", "--strict-routes", *allowed, cwd=project).returncode == 0
    shown = routes(project, *allowed)
    assert {path for path, route in shown.items() if route["public"]} == {"/basket/", "/items/", "/items/<int:pk>/"}
    with launched("mysite:app", "--strict-routes", *allowed, *FREE, cwd=project) as server:
        assert client.get(server.url("public") + "/items/7/").json()["item"] == 7
        for path in ("/", "/admin/", "/internal/apples", "/ITEMS/7/"):
            assert client.get(server.url("public") + path).text == "Not Found"


def test_the_prefix_that_django_takes_off_hides_nothing_from_the_rules(project: Path, client: httpx.Client) -> None:
    environ = {"MYSITE_SCRIPT_NAME": "/shop"}
    with launched("mysite:app", *HIDE_ADMIN, *FREE, cwd=project, environ=environ) as server:
        for path in ("/internal/apples", "/shop/internal/apples"):
            assert client.get(server.url("private") + path).json()["name"] == "apples"
            assert client.get(server.url("public") + path).text == "Not Found"
        for path in (
            "/shop/admin/",
            "/shop/admin",
            "/SHOP/admin/",
            "/shop//admin/",
            "/shopadmin/",
            "/shop/shop/admin/",
        ):
            hidden = client.get(server.url("public") + path)
            assert (hidden.status_code, hidden.text) == (404, "Not Found"), path
        assert client.get(server.url("public") + "/shop/items/7/").json()["item"] == 7


def test_a_format_or_another_case_of_a_private_path_is_hidden(project: Path, client: httpx.Client) -> None:
    """The pattern is as Django REST framework makes one with `format_suffix_patterns`."""
    arguments = ("mysite:app", "--private-path", "/stocklist", *FREE)
    with launched(*arguments, cwd=project, environ={"MYSITE_URLS": "formats_urls"}) as server:
        for path in ("/stocklist.json", "/STOCKLIST.api/", "/%c5%bftocklist.json", "/stoc%e2%84%aal%c4%b1st.json"):
            assert client.get(server.url("private") + path).json()["name"] in ("json", "api"), path
            assert client.get(server.url("public") + path).text == "Not Found", path


def test_a_private_path_is_hidden_in_every_language(project: Path, client: httpx.Client) -> None:
    """Django serves views of `i18n_patterns` with and without a language in front of their path."""
    arguments = ("mysite:app", "--private-path", "/adm", *FREE)
    environ = {"MYSITE_URLS": "i18n_urls"}
    with launched(*arguments, cwd=project, environ=environ) as server:
        for path in ("/adm/x", "/de/adm/x", "/pt-br/adm/x", "/d%65/%61dm/x", "/de//adm/x", "/fr/shop/../adm/x"):
            assert client.get(server.url("public") + path).text == "Not Found", path
        assert client.get(server.url("private") + "/de/adm/x").json() == {"name": "x", "side": "private"}
        for path in ("/de/shop/x", "/shop/adm"):
            assert client.get(server.url("public") + path).json()["side"] == "public", path
        assert client.get(server.url("public") + "/de-info/adm/").json() == {"side": "public"}
        assert "covers no route" not in server.output
    shown = run("mysite:app", "--routes", "--json", "--private-path", "/adm", cwd=project, environ=environ)
    hidden = {route["path"]: route["why"] for route in json.loads(shown.stdout)[0]["routes"] if not route["public"]}
    assert hidden == {"/<language>/adm/<str:name>": "--private-path /adm", "/adm/<str:name>": "--private-path /adm"}


def test_a_public_path_names_the_languages_that_are_public(project: Path, client: httpx.Client) -> None:
    arguments = ("mysite:app", "--public-path", "/de", "--private-path", "/app/adm", *FREE)
    environ = {"MYSITE_URLS": "i18n_urls", "MYSITE_SCRIPT_NAME": "/app"}
    with launched(*arguments, cwd=project, environ=environ) as server:
        assert client.get(server.url("public") + "/de/shop/x").json()["side"] == "public"
        for path in ("/fr/shop/x", "/shop/x", "/de/adm/x"):
            assert client.get(server.url("public") + path).text == "Not Found", path


def test_a_rule_may_have_the_prefix_that_django_takes_off(project: Path, client: httpx.Client) -> None:
    arguments = ("mysite:app", "--private-path", "/shop/internal", *FREE)
    with launched(*arguments, cwd=project, environ={"MYSITE_SCRIPT_NAME": "/shop"}) as server:
        for path in ("/internal/apples", "/shop/internal/apples", "/Shop/INTERNAL/apples"):
            assert client.get(server.url("public") + path).text == "Not Found"
        assert client.get(server.url("private") + "/shop/internal/apples").json()["name"] == "apples"
        assert client.get(server.url("public") + "/shop/items/7/").json()["item"] == 7


WRAPPED = """
from mysite import app as site

async def app(scope, receive, send):
    await site(scope, receive, send)
"""


def test_the_prefix_that_django_takes_off_is_known_behind_any_wrapper(project: Path, client: httpx.Client) -> None:
    (project / "wrapped.py").write_text(WRAPPED)
    environ = {"MYSITE_SCRIPT_NAME": "/shop"}
    arguments = ("wrapped:app", "--private-path", "/internal", *FREE)
    with launched(*arguments, cwd=project, environ=environ) as server:
        private = client.get(server.url("private") + "/shop/internal/apples")
        assert (private.status_code, "apples" in private.text) == (200, True)
        assert client.get(server.url("public") + "/shop/internal/apples").text == "Not Found"

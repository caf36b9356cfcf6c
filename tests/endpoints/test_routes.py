"""What is said of routes: on which sides they are reached, and decided by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from duallisten.endpoints.path_rules import Rules
from duallisten.endpoints.routes import (
    AppRoutes,
    Route,
    as_json,
    describe_public,
    reach,
    read_section,
    strict_errors,
    unused_rules,
)
from duallisten.sides import Side
from tests.support.running import FREE, launched, run

BOTH: tuple[Side, ...] = ("public", "private")


@pytest.mark.parametrize(
    ("route", "rules", "public", "why", "decided"),
    [
        (Route("/a"), Rules(), True, "default", False),
        (Route("/a", mark="public"), Rules(), True, "marked public", True),
        (Route("/a", mark="private"), Rules(), False, "marked private", True),
        (Route("/openapi.json", per_side=True), Rules(), True, "shows each side its own", True),
        (Route("/a/b"), Rules(private=("/x", "/a")), False, "--private-path /a", True),
        (Route("/a/b", mark="public"), Rules(private=("/a",)), False, "--private-path /a", True),
        (Route("/a/b"), Rules(public=("/x", "/a")), True, "--public-path /a", True),
        (Route("/b"), Rules(public=("/a",)), False, "in no --public-path", True),
        (Route("/b", mark="public"), Rules(public=("/a",)), False, "in no --public-path", True),
        (Route("/a/b", mark="private"), Rules(public=("/a",)), False, "marked private", True),
        (Route("/a/{name}"), Rules(private=("/a",)), False, "--private-path /a", True),
        (Route("/A"), Rules(private=("/a",)), False, "--private-path /a", True),
        (Route("/A"), Rules(public=("/a",)), False, "in no --public-path", True),
    ],
)
def test_a_route_is_reached_as_marks_and_rules_say(
    route: Route, rules: Rules, public: bool, why: str, decided: bool
) -> None:
    reached = reach(route, rules, BOTH)
    assert (reached.public, reached.private, reached.why, reached.decided) == (public, True, why, decided)


def test_a_rule_with_the_root_path_holds_for_routes_below_it() -> None:
    rules = Rules(private=("/api/admin",))
    reached = reach(Route("/Admin/users"), rules, BOTH, ("", "/api"))
    assert (reached.public, reached.why) == (False, "--private-path /api/admin")
    assert reach(Route("/admin/users"), rules, BOTH).public
    assert reach(Route("/{name}"), rules, BOTH, ("/api",)).exceptions == ("/api/admin",)
    assert reach(Route("/{name}"), rules, BOTH).exceptions == ()


def test_with_a_private_application_each_has_one_side() -> None:
    assert reach(Route("/a"), Rules(), ("public",))[1:4] == (True, False, "default")
    assert reach(Route("/a"), Rules(), ("private",))[1:4] == (False, True, "of the private application")


@pytest.mark.parametrize(
    ("path", "kind", "prefix", "excepted"),
    [
        ("/{tenant}/x", "http", "/internal", True),
        ("/{tenant}/x", "http", "/internal/x", True),
        ("/{tenant}/x", "http", "/internal/y", False),
        ("/{tenant}/x", "http", "/internal/x/y", False),
        ("/files/{rest:path}", "http", "/files/secret/deep", True),
        ("/files/<path:rest>", "http", "/files/secret", True),
        ("/files/(?P<rest>.*)", "http", "/files/secret", True),
        ("/<int:pk>/", "http", "/internal", True),
        ("/files", "mount", "/files/secret", True),
        ("/files", "mount", "/other", False),
        ("/", "mount", "/internal", True),
        ("/Files/{name}", "http", "/files/secret", True),
        ("/a/b", "http", "/a/b/c", False),
        ("/", "http", "/internal", False),
    ],
)
def test_a_rule_that_hides_some_of_a_route_s_paths_is_its_exception(
    path: str, kind: str, prefix: str, excepted: bool
) -> None:
    reached = reach(Route(path, kind=kind), Rules(private=(prefix,)), BOTH)  # type: ignore[arg-type]
    assert reached.public
    assert reached.exceptions == ((prefix,) if excepted else ())


def test_what_cannot_be_read_is_complained_of_unless_all_that_is_public_is_listed() -> None:
    unreadable = read_section("shop:app", object(), Rules(), BOTH)
    assert unreadable.routes is None
    assert "the routes of shop:app cannot be read" in strict_errors([unreadable])
    assert strict_errors([read_section("shop:app", object(), Rules(public=("/a",)), BOTH)]) == ""
    assert strict_errors([read_section("shop:app", object(), Rules(), ("private",))]) == ""
    assert json.loads(as_json([unreadable]))[0]["routes"] is None


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (Rules(private=("/amdin",)), "--private-path /amdin covers no route of shop:app (nearest: /Admin/users)"),
        (Rules(public=("/flies/x",)), "--public-path /flies/x covers no route of shop:app (nearest: /files/{name})"),
        (Rules(private=("/admin/user",)), "--private-path /admin/user covers no route"),
        (Rules(private=("/tenants/internal/z",)), "--private-path /tenants/internal/z covers no route"),
        (Rules(public=("/admin",)), "--public-path /admin covers no route"),
        (Rules(private=("/admin", "/fil")), "--private-path /fil covers no route"),
        (Rules(private=("/ADMIN", "/files/secret", "/tenants/internal", "/static/x/y", "/v1/files", "/")), ""),
        (Rules(public=("/Admin", "/files", "/static/css")), ""),
        (Rules(public=("/v1/files",)), "--public-path /v1/files covers no route"),
    ],
)
def test_a_rule_that_covers_no_route_is_told_with_the_nearest(rules: Rules, told: str) -> None:
    routes = [Route("/Admin/users"), Route("/files/{name}"), Route("/tenants/{name}/x"), Route("/static", kind="mount")]
    exposures = tuple(reach(route, rules, BOTH) for route in routes)
    assert unused_rules([AppRoutes("shop:app", BOTH, rules, exposures, ("/v1",))]).startswith(told)
    assert bool(unused_rules([AppRoutes("shop:app", BOTH, rules, exposures, ("/v1",))])) == bool(told)
    assert unused_rules([AppRoutes("shop:app", ("private",), rules, exposures)]) == ""
    assert unused_rules([AppRoutes("shop:app", BOTH, rules, None)]) == ""


def test_what_the_public_side_serves_is_counted_and_named_by_rule_and_by_mark() -> None:
    def described(rules: Rules, *routes: Route) -> str:
        exposures = tuple(reach(route, rules, BOTH) for route in routes)
        return describe_public(AppRoutes("shop:app", BOTH, rules, exposures))

    routes = [Route("/a"), Route("/b/x", mark="private"), Route("/b/y"), Route("/c", host="inner")]
    assert described(Rules()) == "all"
    assert described(Rules(), routes[0]) == "all"
    assert described(Rules(), *routes) == "all but 1 of 4 routes: 1 marked private (/b/x)"
    assert described(Rules(private=("/b", "/c")), *routes) == (
        "not /b, /c; hides 3 of 4 routes: 1 marked private (/b/x); 1 --private-path /b (/b/y); "
        "1 --private-path /c (inner/c)"
    )
    assert described(Rules(public=("/a",)), *routes[2:], routes[0]) == (
        "only /a; hides 2 of 3 routes: 2 in no --public-path (/b/y, inner/c)"
    )
    many = [Route(f"/{number}", mark="private") for number in range(8)]
    assert described(Rules(), *many) == "all but 8 of 8 routes: 8 marked private (/0, /1, /2, /3, /4 and 3 more)"
    assert describe_public(AppRoutes("shop:app", BOTH, Rules(private=("/a",)), None)) == "not /a"


SHOP = """
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount
from duallisten.fastapi import PrivateRouter, public

app, internal = FastAPI(), PrivateRouter(prefix="/internal")

@app.get("/")
@public
def home(): ...

@app.post("/orders/{name}")
def order(name): ...

@internal.get("/stock")
def stock(): ...

@internal.websocket("/feed")
async def feed(websocket): ...

app.include_router(internal)
app.mount("/files", PlainTextResponse("x"))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_every_route_is_printed_with_what_each_side_gets(shop: Path) -> None:
    shown = run("shop:app", "--routes", "--private-path", "/files/secret", cwd=shop)
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.stdout.splitlines() if "│" in line]
    assert ["/", "GET", "yes", "yes", "marked public"] in rows
    assert ["/orders/{name}", "POST", "yes", "yes", "default"] in rows
    assert ["/internal/stock", "GET", "-", "yes", "marked private"] in rows
    assert ["/internal/feed", "WebSocket", "-", "yes", "marked private"] in rows
    assert ["/files", "all below", "except /files/secret", "yes", "default"] in rows
    assert "shop:app on the public and the private side" in shown.stdout
    assert "The public side serves: not /files/secret" in shown.stdout


def test_the_public_side_has_a_column_where_it_has_no_route(shop: Path) -> None:
    listed = run("shop:app", "--routes", "--private-path", "/", cwd=shop).stdout
    assert re.search(r"path .* methods .* public .* private", listed)


def test_routes_end_with_the_framework_s_own_and_say_how_many_nobody_decided(shop: Path) -> None:
    listed = run("shop:app", "--routes", cwd=shop).stdout
    assert listed.index("/orders/{name}") < listed.index("/files") < listed.index("/openapi.json")
    assert "2 routes are public by default, without a mark or a rule; --strict-routes makes that an" in listed
    assert "1 route is public" in run("shop:app", "--routes", "--private-path", "/orders", cwd=shop).stdout
    assert "without a mark or a rule" not in run("shop:app", "--routes", "--public-path", "/", cwd=shop).stdout


def test_a_long_route_is_not_cut_in_the_log_of_a_ci(tmp_path: Path) -> None:
    path = "/" + "/".join(f"a-rather-long-segment-{number}" for number in range(12))
    (tmp_path / "shop.py").write_text(
        SHOP.replace('"/orders/{name}"', f'"{path}"').replace("def order(name)", "def order()")
    )
    assert f"│ {path} │ POST " in run("shop:app", "--routes", cwd=tmp_path, environ={"COLUMNS": "80"}).stdout


def test_routes_are_printed_for_machines(shop: Path) -> None:
    shown = run("shop:app", "--routes", "--json", "--private-app", "duallisten.demo:app", cwd=shop)
    outer, inner = json.loads(shown.stdout)
    assert (outer["application"], outer["sides"]) == ("shop:app", ["public"])
    assert (inner["application"], inner["sides"], inner["routes"]) == ("duallisten.demo:app", ["private"], None)
    routes = {route["path"]: route for route in outer["routes"]}
    assert routes["/orders/{name}"] == {
        "path": "/orders/{name}",
        "methods": ["POST"],
        "kind": "http",
        "host": "",
        "public": True,
        "private": False,
        "why": "default",
        "except": [],
        "decided": False,
    }


def test_routes_are_shown_below_the_root_path(shop: Path) -> None:
    rooted = ("--root-path", "/api", "--private-path", "/api/files", "--private-path", "/v1/orders")
    shown = run("shop:app", "--routes", *rooted, cwd=shop)
    assert re.search(r"/files +│ all below +│ - +│ yes +│ --private-path /api/files", shown.stdout)
    assert re.search(r"/orders/{name} +│ POST +│ yes +│ yes +│ default", shown.stdout)


def test_no_address_is_needed_to_see_the_routes(shop: Path) -> None:
    shown = run("shop:app", "--routes", cwd=shop, environ={"SCALINGO_APPLICATION_ID": "ap-1", "CONTAINER": "web-1"})
    assert shown.returncode == 0


def test_strict_routes_are_a_gate_and_refuse_a_launch(shop: Path) -> None:
    listed = run("shop:app", "--routes", "--strict-routes", cwd=shop)
    launch = run("shop:app", "--strict-routes", *FREE, cwd=shop)
    checked = run("shop:app", "--check", *FREE, cwd=shop, environ={"DUALLISTEN_STRICT_ROUTES": "true"})
    assert (listed.returncode, launch.returncode, checked.returncode) == (1, 3, 3)
    assert "/internal/stock" in listed.stdout
    for ended in (listed, launch, checked):
        told = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
        assert len(told) == 1
        assert "these routes have no side: /orders/{name}, /files;" in told[0]


@pytest.mark.parametrize(
    "rules",
    [
        ("--private-path", "/orders", "--private-path", "/files"),
        ("--public-path", "/orders"),
        ("--public-path", "/"),
    ],
)
def test_rules_decide_for_what_the_code_says_nothing_of(rules: tuple[str, ...], shop: Path) -> None:
    assert run("shop:app", "--routes", "--strict-routes", *rules, cwd=shop).returncode == 0
    assert run("shop:app", "--check", "--strict-routes", *rules, *FREE, cwd=shop).returncode == 0


MISSPELT = ("--private-path", "/ordres", "--private-path", "/files", "--public-path", "/")


@pytest.mark.parametrize("launch", [(), ("--workers", "2"), ("--workers", "2", "--no-preload")], ids=" ".join)
def test_a_rule_that_covers_no_route_is_warned_of_once(launch: tuple[str, ...], shop: Path) -> None:
    told = "--private-path /ordres covers no route of shop:app (nearest: /orders/{name})"
    with launched("shop:app", *MISSPELT, *FREE, *launch, cwd=shop) as server:
        server.wait_for(re.escape(told))
        server.url("public")
    assert server.output.count(told) == 1
    refused = run("shop:app", "--strict-routes", *MISSPELT, *FREE, *launch, cwd=shop)
    assert refused.returncode == 2
    assert f"duallisten: --strict-routes: {told}\n" in refused.stderr


def test_a_plan_says_what_marks_and_rules_hide(shop: Path) -> None:
    planned = run("shop:app", "--check", "--json", *FREE, "--private-path", "/files", cwd=shop)
    public = next(each for each in json.loads(planned.stdout)["listeners"] if each["side"] == "public")
    assert public["endpoint_set"] == (
        "not /files; hides 3 of 9 routes: 2 marked private (/internal/stock, /internal/feed); "
        "1 --private-path /files (/files)"
    )


def test_a_rule_that_covers_no_route_is_shown_before_a_launch(shop: Path) -> None:
    told = "--private-path /ordres covers no route of shop:app (nearest: /orders/{name})"
    for shown in (("--routes",), ("--check", *FREE)):
        listed = run("shop:app", *shown, *MISSPELT, cwd=shop)
        assert (listed.returncode, told in " ".join(listed.stdout.split())) == (0, True)
        assert run("shop:app", *shown, "--strict-routes", *MISSPELT, cwd=shop).returncode == 2
    assert told in json.loads(run("shop:app", "--check", "--json", *FREE, *MISSPELT, cwd=shop).stdout)["notes"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_strict_launch_of_what_cannot_be_read_is_refused(workers: str) -> None:
    ended = run("duallisten.demo:app", "--strict-routes", "--workers", workers, *FREE)
    assert ended.returncode == 3
    assert "cannot be read" in ended.stderr
    assert run("duallisten.demo:app", "--routes", "--strict-routes").returncode == 1
    shown = run("duallisten.demo:app", "--routes", "--private-path", "/x")
    assert "Its routes cannot be read" in shown.stdout
    assert "The public side serves: not /x" in shown.stdout

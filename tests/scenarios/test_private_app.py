"""`--private-app`: an application of its own for the private side, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import duallisten
from duallisten import LaunchError
from duallisten.sides import Receive, Scope, Send, Side
from duallisten.testing import as_side, serve
from tests.support.applications import Observed, answer, fails_to_start, wsgi_app
from tests.support.running import FREE, launched, run


class Named(Observed):
    """Answers with its name and what its lifespan has left in the state; notes its lifespan in a shared diary."""

    def __init__(self, name: str, diary: list[str]) -> None:
        super().__init__()
        self.name = name
        self.diary = diary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.diary.append(f"{self.name} starts")
            await self._live(scope, receive, send)
            self.diary.append(f"{self.name} stopped")
            return
        assert scope["state"]["token"] is self
        await answer(send, self.name.encode())


def two() -> tuple[Named, Named, list[str]]:
    diary: list[str] = []
    return Named("outer", diary), Named("inner", diary), diary


def test_each_side_has_its_own_application_and_each_lives_once() -> None:
    outer, inner, diary = two()
    with serve(outer, private_app=inner) as served:
        assert httpx.get(served.public).text == "outer"
        assert httpx.get(served.private).text == "inner"
    assert diary == ["outer starts", "inner starts", "inner stopped", "outer stopped"]


@pytest.mark.parametrize(("only", "text"), [("public", "outer"), ("private", "inner")])
def test_both_live_when_one_listener_is_open(only: Side, text: str) -> None:
    outer, inner, diary = two()
    with serve(outer, private_app=inner, listeners=only) as served:
        assert httpx.get(served.server.url(only)).text == text
    assert diary == ["outer starts", "inner starts", "inner stopped", "outer stopped"]


def test_the_same_application_for_both_lives_once() -> None:
    outer, _, diary = two()
    with serve(outer, private_app=outer) as served:
        assert httpx.get(served.public).text == httpx.get(served.private).text == "outer"
    assert diary == ["outer starts", "outer stopped"]


def test_one_application_under_two_names_lives_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "twice.py").write_text(
        "from duallisten.demo import app as demo\nstarted = []\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n        started.append(1)\n"
        "    await demo(scope, receive, send)\n"
        "other = app\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with serve("twice:app", private_app="twice:other") as served:
        assert httpx.get(served.private).json()["side"] == "private"
    import twice  # type: ignore[import-not-found]

    assert twice.started == [1]


def test_a_private_application_that_fails_to_start_stops_the_launch_in_order() -> None:
    outer, _, diary = two()
    with (
        pytest.raises(LaunchError, match=r"the private application function failed to start"),
        serve(outer, private_app=fails_to_start),
    ):
        pass
    assert diary == ["outer starts", "outer stopped"]


def test_when_the_public_application_fails_the_private_one_is_not_started() -> None:
    _, inner, diary = two()
    with pytest.raises(LaunchError, match="the application failed to start"), serve(fails_to_start, private_app=inner):
        pass
    assert diary == []


def test_rules_hold_for_the_public_application_alone() -> None:
    outer, inner, _ = two()
    with serve(outer, private_app=inner, private_paths=["/internal"]) as served:
        assert httpx.get(served.public + "/internal/x").status_code == 404
        assert httpx.get(served.private + "/internal/x").text == "inner"


def test_the_two_may_be_of_different_interfaces() -> None:
    _, inner, diary = two()
    with serve(wsgi_app, private_app=wsgi_app, interface="wsgi") as served:
        assert httpx.get(served.private).text == "wsgi"

    def asgi2(scope: Scope) -> Any:
        async def instance(receive: Receive, send: Send) -> None:
            await answer(send, b"asgi2")

        return instance

    with serve(asgi2, private_app=inner) as served:
        assert (httpx.get(served.public).text, httpx.get(served.private).text) == ("asgi2", "inner")
    assert diary == ["inner starts", "inner stopped"]


def test_a_factory_makes_each_of_them() -> None:
    outer, inner, _ = two()
    with serve(lambda: outer, private_app=lambda: inner, factory=True) as served:
        assert (httpx.get(served.public).text, httpx.get(served.private).text) == ("outer", "inner")


def test_a_test_client_speaks_to_the_application_of_its_side() -> None:
    outer, inner, diary = two()
    for name, own in (("public", "outer"), ("private", "inner")):
        with TestClient(as_side(outer, name, private_app=inner)) as client:  # type: ignore[arg-type]
            assert client.get("/").text == own
        assert diary == [f"{own} starts", f"{own} stopped"]
        diary.clear()


MODULE = """
from duallisten.demo import app

async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"inner"})

async def fails(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_is_said_on_the_command_line_in_the_environment_or_the_file(workers: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    ways: tuple[tuple[tuple[str, ...], dict[str, str], str], ...] = (
        (("--private-app", "shop:inner"), {}, ""),
        ((), {"DUALLISTEN_PRIVATE_APP": "shop:inner"}, ""),
        ((), {}, 'private-app = "shop:inner"\n'),
    )
    for more, environ, text in ways:
        (tmp_path / "duallisten.toml").write_text(text)
        arguments = ("shop:app", "--workers", workers, *FREE, *more)
        with launched(*arguments, cwd=tmp_path, environ=environ) as server:
            assert httpx.get(server.url("public")).json()["side"] == "public"
            assert httpx.get(server.url("private")).text == "inner"
            assert server.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("private", "told"),
    [
        ("shop:nothing", "'shop:nothing' cannot be imported"),
        ("nowhere:app", "'nowhere:app' cannot be imported"),
        ("shop:fails", "the private application shop:fails failed to start"),
    ],
)
def test_a_broken_private_application_is_told_in_one_line(
    private: str, told: str, workers: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    ended = run("shop:app", "--private-app", private, "--workers", workers, *FREE, cwd=tmp_path)
    told_lines = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
    assert ended.returncode == 3
    assert len(told_lines) == 1
    assert told in told_lines[0]
    assert "Serving" not in ended.stderr


def test_the_plan_names_the_private_application() -> None:
    shown = run("duallisten.demo:app", "--private-app", "duallisten.demo:answer", *FREE, "--check")
    assert shown.returncode == 3
    assert "'duallisten.demo:answer' cannot be imported" in shown.stderr
    shown = run("duallisten.demo:app", "--private-app", "duallisten.demo:_live", *FREE, "--check")
    assert "all of duallisten.demo:_live" in shown.stdout


def test_workers_need_its_name() -> None:
    with pytest.raises(LaunchError, match="need the application as an import string"):
        duallisten.run("duallisten.demo:app", private_app=Observed(), workers=2)

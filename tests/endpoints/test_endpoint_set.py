from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

import duallisten
from duallisten.endpoints.endpoint_set import endpoint_set
from duallisten.sides import Side, side


async def seen_by(name: Side, scope: dict[str, Any]) -> dict[str, Any]:
    """Give the scope that an application sees on a side."""
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def nothing(*message: Any) -> None:
        raise AssertionError("nothing is sent or received here")

    await endpoint_set(app, name)(scope, nothing, nothing)
    return seen[0]


@pytest.mark.parametrize("name", ["public", "private"])
async def test_the_application_is_told_its_side(name: Side) -> None:
    assert side(await seen_by(name, {"type": "http"})) == name


async def test_what_stood_in_the_stamp_s_place_is_replaced() -> None:
    forged = {"type": "http", "extensions": {"duallisten": {"side": "private"}, "tls": {}}}
    seen = await seen_by("public", forged)
    assert side(seen) == "public"
    assert seen["extensions"]["tls"] == {}


async def test_a_request_cannot_change_the_stamp_of_the_next() -> None:
    first = await seen_by("public", {"type": "http"})
    first["extensions"]["duallisten"]["side"] = "private"
    assert side(await seen_by("public", {"type": "http"})) == "public"


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"extensions": {}},
        {"extensions": None},
        {"extensions": {"duallisten": None}},
        {"extensions": {"duallisten": {}}},
        {"extensions": {"duallisten": {"side": "PRIVATE"}}},
        {"extensions": {"duallisten": {"side": None}}},
        {"extensions": {"duallisten": "private"}},
        None,
        SimpleNamespace(),
    ],
)
def test_without_a_stamp_it_is_public(scope: Any) -> None:
    assert side(scope) == "public"


def test_a_request_object_of_a_framework_will_do() -> None:
    scope = {"type": "http", "extensions": {"duallisten": {"side": "private"}}}
    assert duallisten.side(Request(scope)) == "private"
    assert duallisten.side(SimpleNamespace(scope=scope)) == "private"
    assert duallisten.side(Request({"type": "http"})) == "public"

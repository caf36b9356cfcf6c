"""URL patterns of Django as `--routes` shows them; they need no project."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import include, path, re_path
from django.urls.resolvers import LocalePrefixPattern, URLResolver

from duallisten.endpoints.frameworks.django import walk
from duallisten.endpoints.path_rules import Rules
from duallisten.endpoints.routes import reach


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        (path("stock/<int:pk>/", len), ["/stock/<int:pk>/"]),
        (re_path(r"^stock/$", len), ["/stock/"]),
        (re_path(r"^stock/(?P<name>\w+)/\Z", len), ["/stock/((?P<name>\\w+)/)"]),
        (re_path(r"^stock/?$", len), ["/stock(/?)"]),
        (re_path(r"^stocks*", len), ["/stock(s*)"]),
        (re_path(r"^stock/secret", len), ["/stock/secret(.*)"]),
        (re_path(r"^stock/", len), ["/stock/(.*)"]),
        (re_path(r"^stock", include([path("s/", len), re_path(r"^/x", len)])), ["/stocks/", "/stock/x(.*)"]),
        (re_path(r"stock/", len), ["/(stock/)"]),
        (re_path(r"^stock/|^open/", len), ["/(^stock/|^open/)"]),
        (path("shop/", include([path("", len), re_path(r"^x\.y", len)])), ["/shop/", "/shop/x(\\.y)"]),
    ],
)
def test_a_path_is_shown_as_far_as_its_pattern_spells_it_out(pattern: Any, paths: list[str]) -> None:
    assert [route.path for route in walk([pattern], "/")] == paths


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        (re_path(r"stock/", len), "/stock"),
        (re_path(r"^stock/|^open/", len), "/stock"),
        (re_path(r"^stock/?x", len), "/stock"),
        (re_path(r"^stock.*", len), "/stock"),
        (re_path(r"^stock", len), "/stock"),
        (re_path(r"^stock/secret", len), "/stock/secret"),
    ],
)
def test_a_rule_is_not_said_to_cover_what_a_pattern_may_match_beside_it(pattern: Any, rule: str) -> None:
    (route,) = walk([pattern], "/")
    reached = reach(route, Rules(private=(rule,)), ("public", "private"))
    assert (reached.public, reached.decided) == (True, False)


@pytest.mark.parametrize(("prefixed", "paths"), [(True, ["/<language>/x/"]), (False, ["/<language>/x/", "/x/"])])
def test_a_language_in_the_path_may_be_any(prefixed: bool, paths: list[str]) -> None:
    resolver = URLResolver(LocalePrefixPattern(prefix_default_language=prefixed), [path("x/", len)])
    assert [route.path for route in walk([resolver], "/")] == paths
    shown = [reach(route, Rules(private=("/en",)), ("public", "private")) for route in walk([resolver], "/")]
    assert shown[0].exceptions == ("/en",)

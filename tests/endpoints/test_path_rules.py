"""Path rules: what they cover, what they refuse to be, and that no disguise of a path gets past them."""

from __future__ import annotations

import asyncio
import re
import string
import sys
from collections.abc import Callable
from random import Random
from re import _casefix  # type: ignore[attr-defined]  # which letters are one to a regular expression
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.routing import Mount, Router

from duallisten.endpoints.path_rules import (
    LONGEST_READ,
    LONGEST_REMEMBERED,
    NO_RULES,
    REMEMBERED,
    PathMatcher,
    Prefixes,
    Rules,
    contradiction,
    read_prefix,
)
from duallisten.endpoints.path_variants import MOST_WORK, as_characters, readings
from duallisten.sides import Receive, Scope, Send

reproducible = settings(deadline=None, derandomize=True, max_examples=200)

INTERNAL = Rules(private=("/internal",))
ONLY_PUBLIC = Rules(public=("/public",))


def is_hidden(target: str, rules: Rules = INTERNAL, *, root: str = "", roots: tuple[str, ...] = ()) -> bool:
    """Tell whether a request for `target` is hidden, from the scope that uvicorn makes of it."""
    raw = target.partition("?")[0]
    return PathMatcher(rules, roots).hides(root + unquote(raw), root.encode() + raw.encode(), root)


# --- Prefixes ---


@pytest.mark.parametrize("path", ["/internal", "/internal/", "/internal/x", "/internal/x/y", "/a/b", "/a/b/c"])
def test_a_prefix_covers_itself_and_what_lies_below(path: str) -> None:
    assert Prefixes(["/internal", "/a/b"]).cover(path)


@pytest.mark.parametrize(
    "path", ["/", "", "/internals", "/interna", "/Internal", "/x/internal", "internal", "/a", "/a/bc"]
)
def test_a_prefix_covers_whole_segments_only(path: str) -> None:
    assert not Prefixes(["/internal", "/a/b"]).cover(path)


@pytest.mark.parametrize("path", ["", "/", "/a", "/a/b", "//"])
def test_the_root_covers_every_path(path: str) -> None:
    assert Prefixes(["/"]).cover(path)
    assert Prefixes(["/a/b", "/"]).cover(path)


def test_a_slash_at_the_end_of_a_prefix_means_nothing() -> None:
    assert Prefixes(["/internal/"]).cover("/internal")


def test_no_prefixes_cover_nothing() -> None:
    assert not Prefixes([]).cover("/")


# --- Rules ---


def test_the_path_of_a_route_is_hidden_by_the_same_rules() -> None:
    assert INTERNAL.hide("/internal/{name}")
    assert INTERNAL.hide("/Internal")
    assert not INTERNAL.hide("/internals")
    assert ONLY_PUBLIC.hide("/")
    assert ONLY_PUBLIC.hide("/Public/{name}")
    assert not ONLY_PUBLIC.hide("/public/{name}")
    assert Rules(private=("/public/admin",), public=("/public",)).hide("/public/Admin")
    assert not NO_RULES.hide("/anything")


def test_rules_say_whether_they_hide_something_and_what() -> None:
    assert INTERNAL.hide_something and ONLY_PUBLIC.hide_something and not NO_RULES.hide_something
    assert str(NO_RULES) == "all"
    assert str(Rules(private=("/b", "/c"), public=("/a",))) == "only /a, not /b, /c"


def test_a_public_path_inside_a_private_one_is_a_contradiction() -> None:
    assert contradiction(Rules(private=("/x", "/internal"), public=("/internal/docs",))) == (
        "/internal/docs",
        "/internal",
    )
    assert contradiction(Rules(private=("/internal",), public=("/Internal",))) == ("/Internal", "/internal")
    assert contradiction(Rules(private=("/",), public=("/public",))) == ("/public", "/")
    assert contradiction(Rules(private=("/public/admin",), public=("/public",))) is None
    assert contradiction(Rules(private=("/internal",), public=("/internals",))) is None
    assert contradiction(NO_RULES) is None


# --- Reading a rule ---


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("/internal", "/internal"),
        ("/internal/", "/internal"),
        ("/internal/v1.2/a_b-c", "/internal/v1.2/a_b-c"),
        ("/", "/"),
        ("/café", "/café"),
        ("/日本", "/日本"),
        ("/INTERNAL", "/INTERNAL"),
        ("/.well-known", "/.well-known"),
        ("/~user/@me", "/~user/@me"),
    ],
)
def test_a_path_is_a_rule(text: str, prefix: str) -> None:
    assert read_prefix(text) == prefix
    assert read_prefix(prefix) == prefix


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a path, such as /internal"),
        (None, "must be a path"),
        (7, "must be a path"),
        (b"/internal", "must be a path"),
        (["/internal"], "must be a path"),
        ("internal", "must begin with a slash: /internal"),
        ("http://host/internal", "must begin with a slash"),
        ("\\internal", "must begin with a slash"),
        ("/internal?a=b", "contain '\\?': the query"),
        ("/internal#top", "contain '#': a client never"),
        ("/%69nternal", "contain '%': write the path decoded"),
        ("/internal/*", "contain '\\*': a rule is a prefix, not a pattern"),
        ("/internal/{name}", "contain '{': a rule is a prefix, not a pattern"),
        ("/internal;x", "contain ';': parameters"),
        ("/internal,/admin", "is several paths: give each separately"),
        ("/internal, /admin", "is several paths: give each separately"),
        ("/internal\\x", r"contain '\\\\': write /"),
        ("//", "in normal form: no //"),
        ("//internal", "in normal form: no //"),
        ("/internal//x", "in normal form: no //"),
        ("/internal//", "in normal form: no //"),
        ("/internal///", "in normal form: no //"),
        ("/internal/..", "no . or .."),
        ("/../internal", "no . or .."),
        ("/internal/.", "no . or .."),
        ("/./internal", "no . or .."),
        ("/internal.", "in normal form"),
        ("/int ernal", "no spaces"),
        ("/internal ", "no spaces"),
        ("/internal\n", "in normal form"),
        ("/internal\0", "in normal form"),
        ("/int\u200bernal", "in normal form"),
        ("/a+b", "in normal form"),
        ("/cafe\u0301", "in normal form"),
        ("/a\ufffdb", "in normal form"),
    ],
)
def test_what_is_no_path_is_no_rule(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_prefix(text)


# --- Judging requests ---


@pytest.mark.parametrize(
    "target",
    [
        "/internal",
        "/internal/",
        "/internal/secret",
        "/internal?x=1",
        "/INTERNAL/Secret",
        "/%69nternal",
        "/%2569nternal",
        "//internal",
        "/public/../internal",
        "/public/..%2finternal",
        "/public/%c0%ae%c0%ae/internal",
        "/public/%e0%80%ae./internal",
        "/public/%e0%40%ae%c0%2e/internal",
        "/public/..%c1%1cinternal",
        "/public/..%c1%9cinternal",
        "/public/%f0%80%80%ae%c0%ae%c0%afinternal",
        "/internal;x=1",
        "/\\internal",
        "/internal+/x",
        "/internal./x",
        "/internal%3fx",
        "/internal%00.css",
        "/%c4%b0nternal",
        "/%c4%b1nternal",
        "/%C4%B1NTERNAL/x",
        "/%25c4%25b1nternal",
        "/\N{LATIN SMALL LETTER DOTLESS I}nternal",
        "http://host/internal",
    ],
)
def test_a_private_path_is_hidden_however_it_is_written(target: str) -> None:
    assert is_hidden(target)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/internals",
        "/interna",
        "/public",
        "/public/internal",
        "/public?next=/internal",
        "/public/a%20b",
        "/public/100%25",
        "/.well-known/internal",
        "/caf%C3%A9",
        "/a/../b",
    ],
)
def test_what_only_looks_private_is_served(target: str) -> None:
    assert not is_hidden(target)


@pytest.mark.parametrize(
    "target",
    [
        "/internal.json",
        "/INTERNAL.XML",
        "/internal.json/",
        "/internal.api//",
        "/internal%2ejson",
        "/internal%252Ejson",
        "/internal%c0%aejson",
        "/internal.%6ason",
        "/internal.json;x=1",
        "/internal.json%00",
        "/x/../internal.csv?page=1",
        "//internal.yaml",
        "/api/internal.json",
    ],
)
def test_a_format_of_a_private_path_is_hidden(target: str) -> None:
    for root in ("", "/v1"):
        assert is_hidden(target, Rules(private=("/internal", "/api/internal")), root=root)


def test_a_format_is_no_other_path() -> None:
    deep = Rules(private=("/internal/report",))
    assert is_hidden("/internal/report.pdf", deep)
    for target in ("/internal.json/report", "/internals.json", "/internal/reports.pdf", "/x/internal.json"):
        assert not is_hidden(target, deep)
    assert Rules(private=("/openapi",)).hide("/openapi.json")
    for target in ("/internal.json/report", "/internal.org/x", "/.internal", "/x.internal", "/internals.json"):
        assert not is_hidden(target)
    assert not is_hidden("/shop.html", Rules(public=("/shop.html",)))
    assert not is_hidden("/shop/a.b.css", Rules(public=("/shop",)))
    assert is_hidden("/shop.html", Rules(public=("/shop",)))


@pytest.mark.parametrize(
    "target", ["internal/secret", "internal", "http:/internal/secret", "http:internal", "x:internal"]
)
def test_a_path_without_a_slash_does_not_get_past_a_rule(target: str) -> None:
    assert is_hidden(target)


@pytest.mark.parametrize("target", ["/", "/a", "*", "a/b", "host:80", "http://host", "/%2e%2e"])
def test_a_private_root_hides_everything(target: str) -> None:
    assert is_hidden(target, Rules(private=("/",)))


@pytest.mark.parametrize(
    "target", ["/public", "/public/", "/public/a/b", "/public/a%20b", "/public/a/../b", "/public/a;b"]
)
def test_what_lies_in_an_allow_list_is_served(target: str) -> None:
    assert not is_hidden(target, ONLY_PUBLIC)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "/publics",
        "/internal",
        "/PUBLIC",
        "/Public/a",
        "//public",
        "/public;a",
        "/./public",
        "/%2fpublic",
        "/x/../public",
        "/public/../internal",
        "/public/..%2finternal",
        "/public/%252e%252e/internal",
        "/public/%c0%ae%c0%ae/internal",
        "/public/%25c0%25ae%e0%80%ae/internal",
        "/public;/../internal",
        "/public%00/../internal",
        "http://host/public",
        "public",
    ],
)
def test_an_allow_list_is_exact_and_must_hold_for_every_reading(target: str) -> None:
    assert is_hidden(target, ONLY_PUBLIC)


def test_a_private_path_beats_a_public_one() -> None:
    rules = Rules(private=("/public/admin",), public=("/public",))
    assert not is_hidden("/public/shop", rules)
    assert is_hidden("/public/admin", rules)
    assert is_hidden("/public/ADMIN/x", rules)
    assert is_hidden("/public/%61dmin", rules)
    assert is_hidden("/public", Rules(private=("/public",), public=("/public",)))


def test_rules_in_other_scripts_hold_for_their_encoded_paths() -> None:
    cafe = Rules(private=("/café",))
    for target in ("/caf%C3%A9", "/caf%c3%a9/x", "/CAF%C3%89", "/cafe%CC%81", "/%63af%25C3%25A9"):
        assert is_hidden(target, cafe)
    assert not is_hidden("/caf", cafe)
    assert is_hidden("/STRASSE", Rules(private=("/straße",)))


def test_a_public_path_in_another_script_is_served() -> None:
    rules = Rules(public=("/café",))
    assert not is_hidden("/caf%C3%A9", rules)
    assert not is_hidden("/caf%C3%A9/x", rules)
    for target in ("/caf%C3%89/x", "/caf", "/cafe", "/caf%65"):
        assert is_hidden(target, rules)
    assert PathMatcher(rules).hides("/cafe", None, None)


def test_a_private_path_in_upper_case_hides_any_case() -> None:
    for target in ("/INTERNAL", "/internal", "/Internal/x"):
        assert is_hidden(target, Rules(private=("/INTERNAL",)))


@pytest.mark.parametrize("letter", sorted({chr(code) for code in _casefix._EXTRA_CASES} | {"ß", "ẞ", "Σ"}))
def test_what_ignoring_case_takes_for_one_letter_is_one(letter: str) -> None:
    others = [other for other in ALIKE if re.fullmatch(letter, other, re.IGNORECASE)]
    for other in (letter, letter.lower(), letter.upper(), letter.casefold(), *others):
        assert is_hidden(as_sent(f"/a{other}b"), Rules(private=(f"/a{letter}b",))), (letter, other)
        assert is_hidden(as_sent(f"/a{letter}b"), Rules(private=(f"/a{other}b",))), (other, letter)
        assert Rules(private=(f"/a{other}b",)).hide(f"/a{letter}b/{{name}}")


ALIKE = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).swapcase() != chr(code)]
"""Characters that have a case."""


def test_without_rules_nothing_is_hidden_that_can_be_read() -> None:
    assert not is_hidden("/%252e%252e//\\internal", NO_RULES)


TOO_LONG = "/a%20b" + "c" * MOST_WORK
TOO_ODD = "/public/" + "a.;x/%252e%252e//b\\c+d/" * 20


@pytest.mark.parametrize("target", [TOO_LONG, TOO_ODD], ids=["too long", "too many readings"])
@pytest.mark.parametrize("rules", [INTERNAL, ONLY_PUBLIC, Rules(public=("/",))], ids=str)
def test_what_cannot_be_read_within_bounds_is_hidden(target: str, rules: Rules) -> None:
    assert readings([target]) is None
    assert is_hidden(target, rules)


def test_a_path_that_is_long_and_not_plain_is_hidden() -> None:
    longest = "/public" + "%e4%b8%80" * ((LONGEST_READ - 8) // 9)
    assert not is_hidden(longest)
    assert is_hidden(longest + "%e4%b8%80")


def test_a_long_plain_path_is_served() -> None:
    assert not is_hidden("/public/" + "a/" * MOST_WORK, INTERNAL)
    assert not is_hidden("/public/" + "a/" * MOST_WORK, ONLY_PUBLIC)


def test_a_server_that_does_not_tell_the_raw_path_is_judged_by_the_path() -> None:
    assert PathMatcher(INTERNAL).hides("/internal/secret", None, None)
    assert PathMatcher(INTERNAL).hides("/%69nternal/secret", None, None)
    assert not PathMatcher(INTERNAL).hides("/public", None, None)
    assert PathMatcher(ONLY_PUBLIC).hides("/internal", None, None)
    assert not PathMatcher(ONLY_PUBLIC).hides("/public", None, None)


def test_a_query_string_in_the_raw_path_is_no_part_of_it() -> None:
    for rules in (INTERNAL, ONLY_PUBLIC):
        assert not PathMatcher(rules).hides("/public", b"/public?next=/internal", "")
        assert not PathMatcher(rules).hides("/public", b"/public?", "")
    assert PathMatcher(INTERNAL).hides("/internal", b"/internal?next=/public", "")


def test_what_was_received_counts_as_much_as_what_is_seen() -> None:
    assert PathMatcher(INTERNAL).hides("/public", b"/internal", "")
    assert PathMatcher(INTERNAL).hides("/internal", b"/public", "")
    assert PathMatcher(ONLY_PUBLIC).hides("/public", b"/internal", "")
    assert PathMatcher(ONLY_PUBLIC).hides("/internal", b"/public", "")


# --- Root paths ---


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_rules_are_applied_below_the_server_s_root_path(root: str) -> None:
    for target in ("/internal", "/Internal/x", "/%69nternal", "//internal", "/x/../internal"):
        assert is_hidden(target, root=root)
    for target in ("/", "/public", "/internals"):
        assert not is_hidden(target, root=root)
    assert not is_hidden("/public/x", ONLY_PUBLIC, root=root)
    assert is_hidden("/internal", ONLY_PUBLIC, root=root)


@pytest.mark.parametrize(
    "target",
    [
        "/internal",
        "/api/internal",
        "/api/Internal",
        "/API/internal",
        "/api//internal",
        "/apiinternal",
        "/api%2finternal",
        "/%61pi/internal",
        "/api/x/../internal",
        "/x/../api/internal",
    ],
)
def test_rules_hold_with_and_without_the_application_s_root_path(target: str) -> None:
    assert is_hidden(target, roots=("/api",))
    assert is_hidden(target, roots=("/api/",))


BELOW = Rules(private=("/api/Admin",))


@pytest.mark.parametrize(
    "target", ["/admin", "/admin/x", "/ADMIN", "//admin", "/x/../admin", "/%61dmin", "/admin.json"]
)
def test_a_private_path_may_be_written_as_the_world_sees_it(target: str) -> None:
    for root in ("/api", "/API", "/api/"):
        assert is_hidden(target, BELOW, roots=(root,))
        assert is_hidden(f"/api{target}", BELOW, roots=(root,))
        assert is_hidden(f"/v1{target}", BELOW, roots=(root, "/v1"))
    for root in ("/api", "/API"):
        assert is_hidden(target, BELOW, root=root)
        assert is_hidden(target, Rules(private=("/api/v1/admin",)), root=root, roots=("/v1",))
    assert not is_hidden(target, BELOW)
    assert not is_hidden(target, BELOW, root="/apis")


@pytest.mark.parametrize("target", ["/", "/x", "/admin"])
def test_a_private_path_around_the_root_path_hides_everything(target: str) -> None:
    for rules in (Rules(private=("/api",)), Rules(private=("/api/v1",))):
        assert is_hidden(target, rules, root="/api/v1")
        assert is_hidden(target, rules, roots=("/api/v1",))
    assert not is_hidden(target, Rules(private=("/ap",)), root="/api/v1")
    assert not is_hidden(target, Rules(private=("/api/v1/x/y",)), root="/api/v1")


def test_an_allow_list_is_not_written_with_the_root_path() -> None:
    for target in ("/shop", "/api/shop", "/x"):
        assert is_hidden(target, Rules(public=("/api/shop",)), root="/v1") == (target != "/api/shop")
        assert is_hidden(target, Rules(public=("/api/shop",)), roots=("/api",))


def test_the_application_s_root_path_is_taken_off_what_is_public() -> None:
    for target in ("/public", "/api/public", "/api/public/x"):
        assert not is_hidden(target, ONLY_PUBLIC, roots=("/api",))
    for target in ("/api", "/api/internal", "/apis/public"):
        assert is_hidden(target, ONLY_PUBLIC, roots=("/api",))


@pytest.mark.parametrize("root", [None, "", "/"])
def test_without_a_root_path_nothing_is_taken_off(root: str | None) -> None:
    assert PathMatcher(INTERNAL, ("", "/")).hides("/internal", b"/internal", root)
    assert not PathMatcher(INTERNAL, ("", "/")).hides("/api/internal", b"/api/internal", root)


# --- What is remembered ---


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve everything with nothing."""


async def nothing() -> Any:
    """Receive nothing."""


async def ignore(message: Any) -> None:
    """Send nothing."""


def test_a_client_cannot_fill_the_memory_with_paths() -> None:
    judge = PathMatcher(INTERNAL)

    def remembered_after(path: str, raw: str | None) -> int:
        judge.decide(path, None if raw is None else raw.encode(), "")
        return len(judge.verdicts)

    longest = "/" + "a" * (LONGEST_REMEMBERED - 1)
    assert remembered_after(longest, longest) == 1
    assert remembered_after(longest, longest) == 1
    assert remembered_after(longest + "a", longest + "a") == 1
    assert remembered_after("/" + "a" * 100, "/" + "%61" * 100) == 1
    assert remembered_after("/a", None) == 1
    for number in range(REMEMBERED + 10):
        assert remembered_after(f"/{number}", f"/{number}") <= REMEMBERED


# --- No disguise of a private path gets past ---

Disguise = Callable[[str, Random], str]
UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
TO_FULLWIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in string.ascii_letters}


def inserted(path: str, places: list[int], text: str, random: Random) -> str:
    """Put `text` at one of `places`."""
    at = random.choice(places)
    return path[:at] + text + path[at:]


def with_segments(path: str, random: Random) -> str:
    """Put what resolves to nothing after a slash."""
    text = random.choice(["./", "x/../", "x/y/../../", "/", "//"])
    return inserted(path, [match.end() for match in re.finditer("/", path)], text, random)


def with_parameters(path: str, random: Random) -> str:
    """Put parameters at the end of a segment."""
    return inserted(path, [match.start() for match in re.finditer("/|$", path)], random.choice([";", ";x=1;y"]), random)


def with_a_control(path: str, random: Random) -> str:
    return inserted(path, [*range(len(path) + 1)], chr(random.randrange(32)), random)


def with_something_unseen(path: str, random: Random) -> str:
    return inserted(path, [*range(len(path) + 1)], random.choice(UNSEEN), random)


def in_another_case(path: str, random: Random) -> str:
    return "".join(random.choice([each, each.swapcase()]) for each in path)


def letters_in_fullwidth(path: str, random: Random) -> str:
    return "".join(random.choice([each, each.translate(TO_FULLWIDTH)]) for each in path)


DISGUISES: list[Disguise] = [
    with_segments,
    with_parameters,
    with_a_control,
    with_something_unseen,
    in_another_case,
    letters_in_fullwidth,
]


def percent_encoded(text: str, random: Random) -> str:
    return "".join(random.choice([f"%{byte:02x}", f"%{byte:02X}"]) for byte in text.encode())


def encoded_twice(character: str, random: Random) -> str:
    """Encode a character, and of that the percent signs and some of the rest."""
    once = percent_encoded(character, random)
    return "".join(percent_encoded(each, random) if each == "%" or random.random() < 0.5 else each for each in once)


def backslashed(character: str, random: Random) -> str:
    return percent_encoded("\\", random) if character == "/" else character


def unchanged(character: str, random: Random) -> str:
    return character


ENCODINGS: list[Disguise] = [unchanged, percent_encoded, encoded_twice, backslashed]
"""What may be done to a character, after all else; one of them is chosen for each."""


def as_sent(path: str) -> str:
    """Write a path in the ASCII that a request target is made of; what is encoded stays as it is."""
    return quote(path, safe=string.punctuation)


def disguised(path: str, disguises: list[Disguise], encodings: list[Disguise], random: Random) -> str:
    """Disguise a path in several ways, one on top of the other, and encode its characters."""
    for disguise in disguises:
        path = disguise(path, random)
    return as_sent("".join(random.choice(encodings)(character, random) for character in path))


@st.composite
def disguises_of(draw: st.DrawFn, paths: list[str]) -> str:
    """Give one of `paths` in a disguise."""
    disguises = draw(st.lists(st.sampled_from(DISGUISES), max_size=5))
    encodings = draw(st.lists(st.sampled_from(ENCODINGS), min_size=1, max_size=3))
    random = draw(st.randoms(use_true_random=False))
    return disguised(draw(st.sampled_from(paths)), disguises, encodings, random)


PRIVATE_PATHS = ["/internal", "/internal/", "/internal/secret", "/internal/a/b.c"]
HOSTS = ["", "", "http://host", "HTTPS://user:pw@host:80", "//host"]


SINGLE: list[tuple[list[Disguise], list[Disguise]]] = [([disguise], [unchanged]) for disguise in DISGUISES]
SINGLE += [([], [encoding]) for encoding in ENCODINGS]


@pytest.mark.parametrize(("disguises", "encodings"), SINGLE)
def test_a_single_disguise_is_seen_through_and_not_only_found_too_odd(
    disguises: list[Disguise], encodings: list[Disguise]
) -> None:
    for seed in range(20):
        target = disguised("/internal/secret", disguises, encodings, Random(seed))
        found = readings([unquote(target), target])
        assert found is not None
        assert "/internal/secret" in {read.casefold() for read in found}


@reproducible
@given(disguises_of(PRIVATE_PATHS), st.sampled_from(HOSTS), st.sampled_from(["", "/api"]))
def test_no_disguise_gets_past_a_private_path(target: str, host: str, root: str) -> None:
    assert is_hidden(host + target, root=root)


@reproducible
@given(disguises_of(PRIVATE_PATHS + [f"/api{path}" for path in PRIVATE_PATHS]))
def test_no_disguise_gets_past_a_private_path_below_the_application_s_root_path(target: str) -> None:
    assert is_hidden(target, roots=("/api",))


@reproducible
@given(
    disguises_of(PRIVATE_PATHS), st.sampled_from(["", "/public/..", "/public/x/../..", "/public/%2e%2e", "/public\\.."])
)
def test_no_disguise_gets_past_an_allow_list(target: str, before: str) -> None:
    assert is_hidden(before + target, ONLY_PUBLIC)


# --- What is plain is judged by its segments ---

WORDS = st.sampled_from(["a", "b", "A", "ab", "internal", "Internal", "internals", "public", "x.y", "a:b", "@me", "~"])
ODD_WORDS = st.text(string.ascii_letters + string.digits + "_~@:,=!$&()*'-", min_size=1, max_size=6)
PLAIN_SEGMENTS = st.lists(WORDS | ODD_WORDS, max_size=4)
PREFIXES = st.lists(st.lists(WORDS, max_size=3).map(lambda segments: "/" + "/".join(segments)), max_size=4)
ALL_RULES = st.builds(Rules, PREFIXES.map(tuple), PREFIXES.map(tuple), st.just(404))


def lies_below(segments: list[str], prefix: str) -> bool:
    """Tell whether a path of these segments is `prefix` or lies below it."""
    above = [segment for segment in prefix.split("/") if segment]
    return segments[: len(above)] == above


def hidden_by_segments(segments: list[str], rules: Rules) -> bool:
    """Say by the segments alone what rules hide."""
    folded = [segment.casefold() for segment in segments]
    if any(lies_below(folded, prefix.casefold()) for prefix in rules.private):
        return True
    return bool(rules.public) and not any(lies_below(segments, prefix) for prefix in rules.public)


@settings(reproducible, max_examples=300)
@given(PLAIN_SEGMENTS, st.sampled_from(["", "/"]), ALL_RULES)
@example(["internal"], "", INTERNAL)
@example(["Internal", "x"], "/", INTERNAL)
@example(["public", "x"], "", Rules(private=("/public/y",), public=("/public",)))
def test_a_plain_path_is_judged_by_its_segments(segments: list[str], end: str, rules: Rules) -> None:
    path = "/" + "/".join(segments) + (end if segments else "")
    expected = hidden_by_segments(segments, rules)
    assert is_hidden(path, rules) == expected
    assert is_hidden(path, rules, root="/root/path") == expected
    assert is_hidden(f"/root/path{path}", rules, roots=("/root/path",)) == expected
    assert rules.hide(path) == expected


# --- The definition, written out ---


class Request(NamedTuple):
    """A request as its scope tells it, and what its application takes off paths."""

    path: str
    raw: bytes | None
    root: str | None = None
    roots: tuple[str, ...] = ()

    def is_hidden(self, rules: Rules) -> bool:
        return PathMatcher(rules, self.roots).hides(self.path, self.raw, self.root)


def covered(path: str, prefixes: list[str]) -> bool:
    """Tell whether one of `prefixes` covers the path: the path itself, or what is below it."""
    return any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def without_case(path: str) -> str:
    """Give the path to which all are equal that differ in case alone, whoever decides what a case is."""
    return path.upper().casefold().replace("i\u0307", "i")


def without_suffix(path: str) -> str:
    return re.sub(r"\.[^/.]*/*\Z", "", path)


def hidden_by_definition(request: Request, rules: Rules) -> bool:
    """Say what rules hide as their documentation does: by all readings, and with an allow-list by the path seen."""
    roots = [root for root in (*request.roots, request.root) if root]

    def without_root(path: str) -> str:
        root = next((root for root in roots if f"{path}/".startswith(f"{root}/")), "")
        return path.removeprefix(root) or "/" if root else path

    seen = without_root(request.path)
    raw = request.path if request.raw is None else request.raw.split(b"?")[0].decode("latin-1")
    found = readings([seen, as_characters(without_root(raw))], roots)
    if found is None:
        return True
    private = list(map(without_case, rules.private))
    for root in roots * len(roots):  # they may follow each other
        private += ["/" for prefix in private if covered(root, [prefix])]
        private += [prefix.removeprefix(root) for prefix in private if covered(prefix, [root])]
    if any(
        covered(without_case(read), private) or covered(without_suffix(without_case(read)), private) for read in found
    ):
        return True
    if not rules.public:
        return False
    public = [read for prefix in rules.public for read in readings([prefix]) or ()]
    return not covered(seen, list(rules.public)) or not all(covered(read, public) for read in found)


PLAIN_PIECES = ["/", "/internal", "/public", "internal", "a", "A", "/api", "*", ":"]
ODD_PIECES = [
    "//",
    "/..",
    "/.",
    "..",
    ";x",
    "\\",
    "%2f",
    "%69",
    "%252e",
    "?",
    "#",
    "%00",
    "+",
    " ",
    "http:",
    "http://host",
]
UNICODE_PIECES = ["é", "ß", "\uff49", "\u200b"]
PIECES = st.sampled_from([*PLAIN_PIECES, *ODD_PIECES, *UNICODE_PIECES])
TARGETS = st.lists(PIECES, max_size=7).map("".join) | st.text(max_size=20) | st.text(max_size=20).map("/{}".format)


@st.composite
def any_request(draw: st.DrawFn) -> Request:
    """Give any request, below a root path or not, from a server that tells the raw path or not."""
    target = draw(TARGETS)
    root = draw(st.sampled_from([None, "", "/api"]))
    raw = draw(st.sampled_from([None, as_sent(target).encode(), target.encode()]))
    path = (root or "") + draw(st.sampled_from([target, unquote(target)]))
    received = None if raw is None else (root or "").encode() + raw
    return Request(path, received, root, draw(st.sampled_from([(), ("/api",), ("/b", "/a")])))


@settings(reproducible, max_examples=400)
@given(any_request(), ALL_RULES)
@example(Request("internal", b"internal"), INTERNAL)
@example(Request("http:/internal", b"http:/internal"), INTERNAL)
@example(Request("*", b"*"), Rules(private=("/",)))
@example(Request("/internal", b"/internal"), INTERNAL)
@example(Request("", b""), Rules(public=("/",)))
def test_what_is_hidden_is_what_the_definition_says(request: Request, rules: Rules) -> None:
    assert request.is_hidden(rules) == hidden_by_definition(request, rules)


@reproducible
@given(any_request(), ALL_RULES, PREFIXES)
def test_another_private_path_shows_nothing_that_was_hidden(request: Request, rules: Rules, more: list[str]) -> None:
    stricter = rules._replace(private=(*rules.private, *more))
    assert request.is_hidden(stricter) or not request.is_hidden(rules)


@reproducible
@given(any_request(), ALL_RULES)
def test_an_allow_list_shows_nothing_that_was_hidden(request: Request, rules: Rules) -> None:
    assert request.is_hidden(rules) or not request.is_hidden(rules._replace(public=()))


@reproducible
@given(any_request(), ALL_RULES)
def test_a_verdict_that_is_remembered_is_the_verdict(request: Request, rules: Rules) -> None:
    judge = PathMatcher(rules, request.roots)
    verdict = judge.decide(*request[:3])
    assert verdict == request.is_hidden(rules)
    assert judge.verdicts.get(request.raw, verdict) == verdict


# --- Where a framework finds a private handler, the rules do ---


async def is_reached(path: str, root: str) -> bool:
    """Tell whether Starlette's router comes to what is mounted at /internal."""
    is_reached = False

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal is_reached
        is_reached = True

    router = Router([Mount("/internal", handler), Mount("/", nobody)])
    scope = {"type": "http", "method": "GET", "path": path, "root_path": root, "headers": [], "query_string": b""}
    await router(scope, nothing, ignore)
    return is_reached


ROUTED = st.lists(
    st.sampled_from(["/internal", "/internal", "/%69nternal", "%2finternal", "internal", "INTERNAL", "/api", "/x"])
    | st.sampled_from(["/", "//", "/..", ";x", "\\", "%2f", "%00", "%0a", "%5c", "é", "?"]),
    max_size=5,
).map("".join)


@settings(reproducible, max_examples=300)
@given(ROUTED, st.sampled_from(["", "/api"]))
@example("/internal", "")
@example("/%69nternal/secret", "")
@example("/internal%2fsecret", "/api")
def test_what_starlette_routes_to_a_private_handler_is_hidden(target: str, root: str) -> None:
    target = as_sent(target.partition("?")[0])
    if asyncio.run(is_reached(root + unquote(target), root)):
        assert is_hidden(target, root=root)


def test_starlette_s_router_does_reach_that_handler() -> None:
    for path in ("/internal/", "/internal/a/b"):
        assert asyncio.run(is_reached(path, ""))
        assert asyncio.run(is_reached(f"/api{path}", "/api"))
    assert not asyncio.run(is_reached("/x", ""))


# --- What a root path must not do ---


@pytest.mark.parametrize(
    ("public", "root", "path"),
    [
        ("/public", "/p", "/p/public"),
        ("/public", "/p", "/p/public/x"),
        ("/api", "/api", "/api/api/x"),
        ("/public", "/api/", "/api//public"),
        ("/public", "/", "//public"),
    ],
)
def test_a_root_path_hides_nothing_of_an_allow_list(public: str, root: str, path: str) -> None:
    assert not PathMatcher(Rules(public=(public,))).hides(path, path.encode(), root)
    assert PathMatcher(Rules(public=(public,))).hides(path + "s", (path + "s").encode(), root) == (
        not path.endswith("/x")
    )
    assert PathMatcher(Rules(private=(public,))).hides(path, path.encode(), root)


def test_an_application_s_root_path_may_begin_like_a_public_path() -> None:
    assert not PathMatcher(Rules(public=("/apis",)), ["/api"]).hides("/apis/x", b"/apis/x", "")
    assert not PathMatcher(Rules(public=("/apis",)), ["/api"]).hides("/api/apis/x", b"/api/apis/x", "")
    assert PathMatcher(Rules(public=("/apis",)), ["/api"]).hides("/api/x", b"/api/x", "")


@pytest.mark.parametrize(
    "text", ["/ﬁ", "/ⓐ", "/a\N{FULLWIDTH SOLIDUS}b", "/caf\udce9", "/a\x7f", "/a\N{ZERO WIDTH SPACE}"]
)
def test_a_rule_of_look_alikes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be in normal form"):
        read_prefix(text)


def test_a_rule_that_no_path_could_match_is_refused() -> None:
    with pytest.raises(ValueError, match="is too long"):
        read_prefix("/" + "a" * 20_000)


def test_a_public_path_that_a_private_one_hides_in_another_reading_is_a_contradiction() -> None:
    assert contradiction(Rules(private=("/cafe",), public=("/café",))) == ("/café", "/cafe")
    assert contradiction(Rules(private=("/café",), public=("/cafe",))) is None

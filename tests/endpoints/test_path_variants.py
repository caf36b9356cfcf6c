"""The readings of a path: each step by itself, all of them together, and their bounds."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten.endpoints import path_variants as steps
from duallisten.endpoints.path_variants import A_READING, MOST_WORK, STEPS, Step, as_characters, readings, weight

reproducible = settings(deadline=None, derandomize=True, max_examples=300)

PLAIN_PATHS = ["/", "/a", "/a/", "/internal/secret", "/Internal", "/a.b/c.json", "/~user/@me/a:b,c=d", "/.well-known/x"]

EXAMPLES: list[tuple[Step, str, str]] = [
    (steps.shortened, "/a%c0%ae%C0%AF%c1%a9b", "/a./ib"),
    (steps.shortened, "/%e0%80%ae%E0%81%A9%f0%80%80%ae%F8%80%80%80%AF%fc%80%80%80%80%ae", "/.i./."),
    (steps.shortened, "/%c0%2e%c1%1c%e0%40%ae%F0%00%C0%6fb", "/.\\./b"),
    (steps.shortened, "/%c3%a9%e0%82%80%c2%ae%c0", "/%c3%a9%e0%82%80%c2%ae%c0"),
    (steps.decoded, "/%69nternal", "/internal"),
    (steps.decoded, "/a%2Fb%2fc", "/a/b/c"),
    (steps.decoded, "/%2569nternal", "/%69nternal"),
    (steps.decoded, "/%u0069nternal%U002fa", "/internal/a"),
    (steps.decoded, "/caf%C3%A9", "/café"),
    (steps.decoded, "/a%c0%afb", "/a\ufffd\ufffdb"),
    (steps.decoded, "/100%/%zz/%2/%u00", "/100%/%zz/%2/%u00"),
    (steps.separated, "\\a\\b", "/a/b"),
    (steps.separated, "/a\u2044b\u2215c\u29f8d", "/a/b/c/d"),
    (steps.separated, "/a\ufffdb", "/a/b"),
    (steps.without_parameters, "/a;x=1;y/b;/c", "/a/b/c"),
    (steps.without_parameters, ";x/a", "/a"),
    (steps.ended, "/a?b", "/a"),
    (steps.ended, "/a#b", "/a"),
    (steps.ended, "/a\0.css", "/a"),
    (steps.ended, "/a\nb", "/a"),
    (steps.ended, "/a\r\nX-A: b", "/a"),
    (steps.cleaned, "/in\u200bter\tnal \u00ad\ufeff\x7f", "/internal"),
    (steps.cleaned, "/a+b", "/ab"),
    (steps.trimmed, "/a./b../c", "/a/b/c"),
    (steps.trimmed, "/a/b.", "/a/b"),
    (steps.trimmed, "/./../.../.a/b.c", "/./../.../.a/b.c"),
    (steps.compatible, "/\uff49nternal", "/internal"),
    (steps.compatible, "/a\uff0fb", "/a/b"),
    (steps.compatible, "/cafe\u0301", "/café"),
    (steps.unaccented, "/café", "/cafe"),
    (steps.unaccented, "/\u0130nternal", "/Internal"),
    (steps.resolved, "/a/../b", "/b"),
    (steps.resolved, "/a/./b", "/a/b"),
    (steps.resolved, "/../../a", "/a"),
    (steps.resolved, "/a/b/..", "/a/"),
    (steps.resolved, "/a/.", "/a/"),
    (steps.resolved, "/a//../b", "/a/b"),
    (steps.resolved, "/.../a.b", "/.../a.b"),
    (steps.collapsed, "//a///b//", "/a/b/"),
    (steps.with_host, "////host/a", "//host/a"),
    (steps.with_host, "//../host/./a", "//host/a"),
    (steps.with_host, "//", "//"),
    (steps.with_host, "/a//b", "/a//b"),
    (steps.without_authority, "http://host/a", "/a"),
    (steps.without_authority, "HTTPS://user:pw@host:80/a//b", "/a//b"),
    (steps.without_authority, "//host/a", "/a"),
    (steps.without_authority, "http:///a", "/a"),
    (steps.without_authority, "/a//b", "/a//b"),
    (steps.without_scheme, "http:/a", "/a"),
    (steps.without_scheme, "http:a", "a"),
    (steps.without_scheme, "/a:b", "/a:b"),
    (steps.rooted, "a", "/a"),
    (steps.rooted, "", "/"),
    (steps.rooted, "/a", "/a"),
]


@pytest.mark.parametrize(("step", "path", "read"), EXAMPLES)
def test_a_step_reads_a_path(step: Step, path: str, read: str) -> None:
    assert step(path) == read


def test_every_step_has_an_example() -> None:
    assert {step for step, _, _ in EXAMPLES} == set(STEPS)


@pytest.mark.parametrize("path", PLAIN_PATHS)
def test_a_plain_path_is_its_only_reading(path: str) -> None:
    assert readings([path]) == frozenset({path})


@pytest.mark.parametrize(
    "path",
    [
        "/%252569nternal/secret",
        "/internal%252fsecret",
        "/%u0069nternal%5csecret",
        "/public/..%2finternal/secret",
        "/public/%252e%252e;x=1/internal//secret",
        "/public\\..\\internal\\secret",
        "http://host\\internal%00/secret",
        "/./internal;x/./secret",
        "internal/secret",
        "http:internal/secret",
        "//host/internal/secret",
        "/internal./secret..",
        "/%ef%bd%89nternal%ef%bc%8fsecret",
        "/in%e2%80%8bternal%09/secret",
        "/%2%66internal/secret",
        "/internal%c0%afsecret",
        "/public/%c0%ae%c0%ae/internal/secret",
        "/public/%e0%80%ae%f0%80%80%ae/internal/secret",
        "/public/%25c0%25ae%252e/internal/secret",
        "/%c1%a9nternal/secret",
        "/internal/secret?/x",
        "/internal/secret%0ax",
        "///host/internal/secret",
        "//%2e%2e/host/internal/secret",
        "/;x/../host/internal/secret",
    ],
)
def test_the_steps_are_taken_in_any_order_and_number(path: str) -> None:
    found = readings([path])
    assert found is not None
    assert {path, "/internal/secret"} <= found


def test_a_path_is_read_as_it_was_received_and_as_the_application_sees_it() -> None:
    assert readings(["/a;b", "/c\\d"]) == frozenset({"/a;b", "/a", "/c\\d", "/c/d"})


def test_nothing_has_no_readings() -> None:
    assert readings([]) == frozenset()


@pytest.mark.parametrize(
    "path", ["/api/internal", "/API/internal", "/apiinternal", "/api/api/internal", "/api//internal"]
)
def test_what_an_application_takes_off_is_read_without_it(path: str) -> None:
    assert "/internal" in (readings([path], ["/api"]) or ())
    assert "/internal" not in (readings([path]) or ())


def test_a_root_path_in_the_middle_is_none() -> None:
    assert readings(["/a/api/b"], ["/api"]) == frozenset({"/a/api/b"})


def test_a_path_as_long_as_the_bound_is_read_and_a_longer_one_is_not() -> None:
    longest = "/" + "a" * (MOST_WORK - A_READING - 1)
    assert readings([longest]) == frozenset({longest})
    assert readings([longest + "a"]) is None


def test_a_path_that_can_be_read_in_too_many_ways_has_no_readings() -> None:
    odd = "/a.;x/%252e%252e//b\\c+d/"
    assert weight(odd) < MOST_WORK / 16
    assert readings([odd]) is None


WORST = [
    "/a//+/..//.h%2e:///%25#%3b.//.",
    "/...//hi%00?/%2f?/%2fpe:;2/%u002f/%//?h..E%2e%2fa./u0%252a..",
    "/.%;/%://%u0f%%u%2/./%00%%%%#%",
    "/...%%%%%.%%%%%u/%%0%%%u00%%%%%%u005c@%;%9%u002f%20%5c;%//",
    "/%2E;xe352e%2aa..52%2Ee%2aa..+/..//./2%25#%23;x?%u/.%2.%20b/%2E%ef%bd%8%2E9;x%2f%%258%2E%ef%bd%899;x",
    "/e.ef%%%u00.f%bd%8%u002ff%ef%b7%ba%25.ba%25...%ef%b7%ba//h%ef%b7%bab7%ba%2%cc%81%%ba%ef%b7%ba+%2E%a%",
    "/%ef%b7%ba%25%cc%81%ef%bd%89%2ehttp:%ehttp:%252e?%3%2%c4%b%ef%b7%ba0/%b%ef%b7%ba0/%/hh%b%ef%b7%ba0/%/hhttp://%/",
    "/.../2/%25u.u....u..........:..2/.:/.u./../a.........@........2....+........52.%252a%2E....2@/./////",
    "/%25%20;" * 20,
    "/" + "%ef%b7%ba.%20" * 30,
    "/" + ";%252e" * 1000,
    "/ht%2552etp:%2ea+%u0069%%2ea%3f.///%u0069",
    "/" + "/%ef%bc%8f" * 100,
    "/" + "%ef%b7%ba" * 300,
    "/" + "%e3%8c%80" * 400,
    "/a" + "%cc%81%cc%a3" * 300,
]
"""The worst that a search has found: paths whose readings took the most time, under this bound and the one before."""


@pytest.mark.parametrize("path", WORST)
def test_the_work_of_reading_a_path_is_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def counted(step: Step) -> Step:
        def taking(path: str) -> str:
            taken.append(path)
            return step(path)

        return taking

    monkeypatch.setattr(steps, "STEPS", tuple(counted(step) for step in STEPS))
    readings([steps.decoded(path), as_characters(path)])
    assert len(taken) <= len(STEPS) * MOST_WORK / A_READING
    read = dict.fromkeys(taken)
    longest = max(map(weight, read), default=0)
    assert sum(map(weight, read)) <= MOST_WORK + longest


@pytest.mark.parametrize(
    "path",
    [
        "/поиск/" + "добрый-день" * 6,
        "/w/日本語の文章がここにあります。とても長いです。日本語の文章がここにあります。とても長いです。",
        "/kr/안녕하세요 세계 이것은 긴 문장입니다 그리고 더 길어집니다",
        "/v/Tiếng Việt có dấu phức tạp lắm đấy nhé, và còn dài hơn nữa",
        "/hindi/नमस्ते दुनिया यह एक लंबा वाक्य है और भी लंबा",
        "/e/👩‍👩‍👧‍👦 famille/été",
        "/files/My Document (1) + Anhang.pdf",
        "/a;jsessionid=0123456789ABCDEF/b;v=1.1/c.html",
        "/img/300x200/https://example.org/straße/été.jpg?a=b&c=d",
        "/web/20260101000000/http://example.org/a/b;c=d?e=f#g",
        "/odata/Products(1)/Name eq 'x'",
        "/" + "a b" * 100,
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_realistic_path_is_read_when_it_is_encoded_once_or_twice(path: str, times: int) -> None:
    for safe in ("/", "/:;+=&,", "/;,?:@&=+$!*'()#"):  # as Python's quote, a browser and encodeURI do
        target = quote(path, safe=safe)
        if times == 2:
            target = "/r/" + quote(target, safe="")
        assert readings([unquote(target), as_characters(target)]) is not None, target


@pytest.mark.parametrize(
    "path",
    [
        "/приказы/\N{NUMERO SIGN}45 от 12.03.2026 «Закон» на й\N{VULGAR FRACTION ONE HALF}.pdf",
        "/статьи/Как выбрать хороший ноутбук для работы и учёбы\N{HORIZONTAL ELLIPSIS}",
        "/समाचार/भारत में चुनाव के परिणाम और नई सरकार का गठन\N{HORIZONTAL ELLIPSIS}",
        "/news/新型スマートフォンが発売\N{FULLWIDTH EXCLAMATION MARK}気になる価格は\N{FULLWIDTH QUESTION MARK}" * 3,
        "/p/" + "テスト\N{FULLWIDTH LEFT PARENTHESIS}株\N{FULLWIDTH RIGHT PARENTHESIS}\N{IDEOGRAPHIC SPACE}" * 10,
    ],
)
def test_a_title_with_compatibility_characters_in_it_is_read(path: str) -> None:
    """An ellipsis, a sign for number or a fullwidth mark: few take long to normalise, and most are in real titles."""
    assert readings([path, as_characters(quote(path))]) is not None


@pytest.mark.parametrize("character", [chr(code) for code in range(0x20, 0x7F)])
def test_what_means_nothing_to_a_step_is_not_read_twice(character: str) -> None:
    path, encoded = f"/a{character}b/c", f"/a%{ord(character):02X}b/c"
    means_something = character.isalnum() or character in "%+-./;:\\?#"
    assert as_characters(encoded) == (encoded if means_something else path)
    if not means_something:
        assert {step(path) for step in STEPS} <= {path, path.replace(" ", "")}


def test_what_takes_long_to_normalise_is_not_read_in_quantity() -> None:
    """A ligature of eighteen characters, a square of five, marks that have to be sorted, letters that become them."""
    for characters in ("\ufdfa", "\u3300", "\u0301\u0323", "\u0344\u0316", "\u0f73\u0f75\u0f81"):
        assert readings(["/a" + characters]) is not None
        assert readings(["/a" + characters * 200]) is None
    assert readings(["/a" + "\u0301\u0323" * 20]) is not None


PIECES = st.sampled_from([*"/.%;\\?:a2fFé", "..", "%2e", "\uff49", "\u200b"])
TEXTS = st.text(max_size=12) | st.lists(PIECES, max_size=12).map("".join)


@reproducible
@given(TEXTS)
def test_a_path_is_among_its_readings_and_so_is_every_reading_of_those(path: str) -> None:
    found = readings([path])
    if found is None:
        return
    assert path in found
    assert found == readings(found)
    assert found == {step(read) for step in STEPS for read in found} | found


@reproducible
@given(TEXTS, st.permutations(STEPS))
def test_no_order_of_the_steps_comes_to_something_else(path: str, order: list[Step]) -> None:
    found = readings([path])
    if found is None:
        return
    for step in order:
        path = step(path)
        assert path in found

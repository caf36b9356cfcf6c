"""Path rules: which requests a public listener hides, decided from the request's path alone.

A *private* prefix hides the paths that it covers. *Public* prefixes are an allow-list: all other paths are hidden. A
private prefix beats a public one. A prefix covers whole segments: `/internal` covers `/internal` and `/internal/x`,
not `/internals`.

A path is hidden if a private prefix covers any of its readings (`endpoints.path_variants`). Case is ignored, and so is
a format suffix: `/internal.json` is a format of `/internal` (`format_suffix_patterns` of Django REST framework). With
an allow-list, a path is served only if a public prefix covers the application's own reading and all other readings.

Some frameworks serve a path as another one (`aliases`). The other path then counts as one of its readings.

A private prefix may be written with or without the root path that a proxy or the application strips: with the root
path `/api`, the prefix `/api/internal` hides `/internal` as well.

Most paths have one reading. They are *plain*, and one look-up decides. The verdicts on other paths are computed once
and remembered. The cost of a request does not depend on the number or the content of the rules.

Invariants:

- When in doubt, a path is hidden, for example if it cannot be read within bounds.
- Only the path is looked at.
- Pure: nothing here knows a server or an event loop.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, NamedTuple

REMEMBERED = 4096
"""The most paths whose verdicts are kept, in each process."""

LONGEST_REMEMBERED = 256
"""Bytes of the longest raw path whose verdict is kept: clients can fill at most 1.5 MiB of memory."""

LONGEST_READ = 2048
"""Bytes of the longest raw path that is read. A longer path is hidden, unless it is plain."""

_PLAIN = string.ascii_letters + string.digits + "_~@:,=!$&()*'-./"
_PLAIN_AS_LETTERS = bytes(ord("a" if chr(code) in _PLAIN else "!") for code in range(256))
"""Translates plain characters into a letter. Percent signs are not plain, nor is any character that some software
replaces or drops. The translated path is plain if it `isalpha()`: 75 ns, where a regular expression takes 300."""

_DOTS_AT_AN_END = re.compile(r"/\.|\.(?:/|$)")

_NOT_A_PATTERN = "a rule is a prefix, not a pattern; it covers all paths below"
NOT_IN_A_PREFIX = {
    "?": "the query is not part of the path",
    "#": "a client never sends the fragment",
    "%": "write the path decoded, not percent-encoded",
    "*": _NOT_A_PATTERN,
    "{": _NOT_A_PATTERN,
    ";": "parameters of a segment are not part of a rule",
    "\\": "write /",
}


class Rules(NamedTuple):
    """What a public listener hides.

    private: hidden prefixes; `/` covers every path
    public: the allow-list of prefixes; empty for no allow-list
    hidden_status: the HTTP status for hidden requests, 404 or 403
    """

    private: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    hidden_status: int = 404

    @property
    def hide_something(self) -> bool:
        """Whether there is any rule."""
        return bool(self.private or self.public)

    def below(self, roots: Iterable[str]) -> Rules:
        """Return the rules for an application that strips `roots` from paths, one of them or several in a row."""
        tops = [f"/{name}" for root in roots if (name := folded(root).strip("/"))]
        private = list(map(folded, self.private))
        for prefix in private:  # also visits the prefixes appended below
            rests = ["/"] if any(map(Prefixes([prefix]).cover, tops)) else [prefix.removeprefix(top) for top in tops]
            private += [rest for rest in rests if rest.startswith("/") and rest not in private]
        return self._replace(private=tuple(private))

    def in_languages(self, languages: Iterable[str]) -> Rules:
        """Return the rules for an application that serves a path in several languages, as Django's `i18n_patterns` do.

        A private prefix then covers `/de/adm` as well as `/adm`. The language may follow the path of a mount or a root
        path, so it may stand in front of any segment.

        Args:
            languages: The segments that name a language.
        """
        languages = tuple(languages)
        private = list(self.private)
        for prefix in self.private if languages else ():
            _, *segments = prefix.rstrip("/").split("/")
            for at in range(len(segments)):
                before, after = segments[:at], segments[at:]
                private += ["/".join(("", *before, language, *after)) for language in languages]
        return self._replace(private=tuple(private))

    def hide(self, path: str) -> bool:
        """Whether `path` is hidden: a single reading of a request's path, or the declared path of a route."""
        if Prefixes(map(folded, self.private)).cover_formats(folded(path)):
            return True
        return bool(self.public) and not Prefixes(self.public).cover(path)

    def __str__(self) -> str:
        parts = [f"only {', '.join(self.public)}"] if self.public else []
        parts += [f"not {', '.join(self.private)}"] if self.private else []
        return ", ".join(parts) or "all"


NO_RULES = Rules()


class Prefixes:
    """Path prefixes as a tree of segments: the time of a look-up does not depend on their number."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._tree: dict[str, Any] = {}
        self._depth = 0
        self._prefixes = frozenset(prefix.rstrip("/") for prefix in prefixes)
        for prefix in sorted(self._prefixes, key=len, reverse=True):  # a shorter prefix replaces the longer ones below
            *around, last = prefix.split("/")
            self._depth = max(self._depth, len(around) + 1)
            node = self._tree
            for segment in around:
                node = node.setdefault(segment, {})
            node[last] = None

    def cover(self, path: str) -> bool:
        """Whether `path` is one of the prefixes or lies below one, segment by segment."""
        node: Any = self._tree
        for segment in path.split("/", self._depth):  # no prefix has more
            if segment not in node:
                return False
            if (node := node[segment]) is None:
                return True
        return False

    def cover_formats(self, path: str) -> bool:
        """Whether the prefixes cover `path`, or `path` is a format of a prefix, as `/x.json` is a format of `/x`."""
        if "." in path:
            stem, _, suffix = path.rstrip("/").rpartition(".")
            if stem in self._prefixes and "/" not in suffix:
                return True
        return self.cover(path)


def folded(path: str) -> str:
    """Return a path with all differences of case removed, under any definition of case.

    It equates lower and upper case, the letters that Unicode's case folding equates, and those that Python's
    `re.IGNORECASE` equates: a dotless `i`, a long `s` and the Kelvin sign match the plain letter, so also in Django's
    `(?i:…)`.
    """
    return path.lower() if path.isascii() else path.upper().casefold().replace("i\u0307", "i")


class PathMatcher:
    """Decides which requests of a public listener `rules` hide.

    roots: path prefixes that the application itself strips, besides the server's `root_path`
    aliases: functions that return the path as which the application serves a path, or the path itself
    """

    def __init__(self, rules: Rules, roots: Iterable[str] = (), aliases: Iterable[Callable[[str], str]] = ()) -> None:
        self._roots = tuple(root for root in roots if root)
        self._aliases = tuple(aliases)
        self.rules = rules.below(self._roots)
        """The rules for an application that strips `roots`."""
        self._private = Prefixes(self.rules.private)
        self._private_below = cache(lambda roots: Prefixes(rules.below(roots).private))
        self._public = Prefixes(rules.public)
        self._public_readings = cache(partial(_readings_of, rules.public))
        self._has_allow_list = bool(rules.public)
        self.verdicts: dict[bytes | None, bool] = {}
        """Whether a raw path is hidden, as decided before. Valid only if the raw path alone determines the path, that
        is, if all requests have the same root path. A dict, not `lru_cache`: a look-up takes 50 ns instead of 130."""

    def decide(self, path: str, raw: bytes | None, root: str | None) -> bool:
        """Return the result of `hides`, and remember it in `verdicts`."""
        hidden = self.hides(path, raw, root)
        if raw is not None and len(raw) <= LONGEST_REMEMBERED:
            if len(self.verdicts) >= REMEMBERED:
                self.verdicts.clear()
            self.verdicts[raw] = hidden
        return hidden

    def hides(self, path: str, raw: bytes | None, root: str | None) -> bool:
        """Whether a request is hidden, by its ASGI scope.

        path, raw, root: the scope's `path` (with the root path, decoded), `raw_path` (as received; None if the server
            does not set it), and `root_path`
        """
        roots = (*self._roots, root) if root else self._roots
        private = self._private_below(roots) if root else self._private
        if not (roots or self._aliases) and _is_plain(path, raw):
            return self._hides_plain(path, private)
        own = _without_root(path, roots)
        others = {other for alias in self._aliases for seen in (path, own) if (other := alias(seen)) != seen}
        received = own if raw is None else _without_root(raw.partition(b"?")[0].decode("latin-1"), roots)
        is_plain = _is_plain(own, received.encode("utf-8", "replace"))
        if is_plain and not others and not _begins_with_one(own, roots):
            return self._hides_plain(own, private)
        if len(received) > LONGEST_READ:
            return True
        # Imported here: most launches have no rules, and most paths have one reading.
        from duallisten.endpoints.path_variants import as_characters, readings

        alike = readings((own, as_characters(received), *others), roots)
        if alike is None or any(private.cover_formats(folded(reading)) for reading in alike):
            return True
        if not self._has_allow_list:
            return False
        return not self._public.cover(own) or not all(map(self._public_readings(roots).cover, alike))

    def _hides_plain(self, path: str, private: Prefixes) -> bool:
        return private.cover_formats(path.lower()) or (self._has_allow_list and not self._public.cover(path))


def _readings_of(prefixes: Iterable[str], roots: tuple[str, ...] = ()) -> Prefixes:
    """Return all readings of `prefixes`, the prefixes included."""
    from duallisten.endpoints.path_variants import readings

    return Prefixes(alike for prefix in prefixes for alike in readings([prefix], roots) or ())


def _is_plain(path: str, raw: bytes | None) -> bool:
    """Whether a path has only one reading, the path as received."""
    if raw is None or raw[:1] != b"/" or not raw.translate(_PLAIN_AS_LETTERS).isalpha():
        return False
    if "//" in path or raw != path.encode():
        return False
    return "." not in path or not _DOTS_AT_AN_END.search(path)


def _begins_with_one(path: str, roots: tuple[str, ...]) -> bool:
    names = [root.rstrip("/").casefold() for root in roots]
    return any(name and path.casefold().startswith(name) for name in names)


def _without_root(path: str, roots: tuple[str, ...]) -> str:
    """Strip the first of `roots` that ends at a segment boundary, as frameworks do; the result begins with a slash."""
    for root in roots:
        rest = path.removeprefix(root)
        if rest != path and (rest[:1] in ("", "/") or root.endswith("/")):
            return rest if rest.startswith("/") else f"/{rest}"
    return path


def read_prefix(text: object) -> str:
    """Return a rule's path prefix without a trailing slash.

    Raises:
        ValueError: `text` is not a path prefix; the message says why.
    """
    if not isinstance(text, str) or not text:
        raise ValueError("must be a path, such as /internal")
    if not text.startswith("/"):
        raise ValueError(f"must begin with a slash: /{text}")
    for character, reason in NOT_IN_A_PREFIX.items():
        if character in text:
            raise ValueError(f"must not contain {character!r}: {reason}")
    if re.search(r",\s*/", text):
        raise ValueError("is several paths: give each separately")
    from duallisten.endpoints.path_variants import compatible, readings, unaccented

    prefix = text.removesuffix("/") or "/"
    alike = readings([prefix])
    if alike is None:
        raise ValueError("is too long")
    is_normal = text.isprintable() and prefix == compatible(prefix) and prefix.endswith("/") == (prefix == text == "/")
    if not is_normal or alike - {prefix, unaccented(prefix)}:
        raise ValueError("must be in normal form: no //, no . or .. segment, no spaces, no look-alike characters")
    return prefix


def contradiction(rules: Rules) -> tuple[str, str] | None:
    """Return a public prefix that can never match, and the private prefix that covers it; None if there is none."""
    for private in rules.private:
        hides = PathMatcher(Rules((private,))).hides
        for public in rules.public:
            if hides(public, None, None):
                return public, private
    return None

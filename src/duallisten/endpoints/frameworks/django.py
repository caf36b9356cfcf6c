"""Django: its URL patterns, read for `--routes`.

Django has one tree of patterns for the process (`ROOT_URLCONF`), for all application objects. Methods are known only
for class-based views. Django is not changed: path rules decide what a side reaches.

A route is shown with the literal path of its patterns. The rest (a regular expression from its first special character
on, the language of `i18n_patterns`) is shown as a parameter, so that no rule is reported to cover paths that it may not
cover.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from duallisten.endpoints.frameworks.i18n import LANGUAGE, is_language
from duallisten.endpoints.routes import Route

_LITERAL = re.compile(r"\^([\w/-]*)")


def read_routes(app: Any) -> Iterator[Route]:
    """Read every URL pattern, with the prefixes of the patterns that include it."""
    from django.urls import get_resolver

    return walk(get_resolver().url_patterns, "/")


def walk(patterns: Iterable[Any], prefix: str) -> Iterator[Route]:
    """Read URL patterns below a prefix, and the patterns that they include."""
    for pattern in patterns:
        includes = hasattr(pattern, "url_patterns")
        for path in _paths(pattern.pattern, may_go_on=not includes):
            if includes:
                yield from walk(pattern.url_patterns, prefix + path)
            else:
                yield Route(prefix + path, _methods(pattern.callback))


def _paths(pattern: Any, *, may_go_on: bool) -> tuple[str, ...]:
    """Return the texts that a pattern may add to the path, usually one.

    may_go_on: whether an expression without an end matches longer paths too: it is the last pattern of the path
    """
    if is_language(pattern):
        return (f"{LANGUAGE}/",) if pattern.prefix_default_language else (f"{LANGUAGE}/", "")
    text = str(pattern)
    return (_spelt_out(text, may_go_on),) if type(pattern).__name__ == "RegexPattern" else (text,)


def _spelt_out(expression: str, may_go_on: bool) -> str:
    """Return the literal beginning of a regular expression, followed by the rest in parentheses."""
    found = _LITERAL.match(expression)
    if found is None or "|" in expression:
        return f"({expression})"
    literal, rest = found[1], expression[found.end() :].removesuffix("$").removesuffix(r"\Z")
    if rest[:1] in ("?", "*", "{"):  # the last literal character may be missing
        literal, rest = literal[:-1], literal[-1:] + rest
    if may_go_on and not rest and not expression.endswith(("$", r"\Z")):
        rest = ".*"
    return literal + (f"({rest})" if rest else "")


def _methods(view: Any) -> tuple[str, ...]:
    """Return the methods that a class-based view answers; empty for other views."""
    cls = getattr(view, "view_class", None)
    if cls is None:
        return ()
    return tuple(sorted(name.upper() for name in cls.http_method_names if hasattr(cls, name)))

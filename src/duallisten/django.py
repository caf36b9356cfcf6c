"""The URL patterns of Django, read for `--routes`.

Django's patterns are one tree for the process (`ROOT_URLCONF`), whatever application object serves it. Methods are
known of class-based views alone. Nothing of Django's is changed: what a side reaches is a matter of path rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from duallisten.routes import Route


def read_routes(app: Any) -> Iterator[Route]:
    """Read every URL pattern, with the prefixes of those that include it."""
    from django.urls import get_resolver

    return _walk(get_resolver().url_patterns, "/")


def root_paths(app: Any) -> tuple[str, ...]:
    """Give what Django takes off paths by itself: `FORCE_SCRIPT_NAME`."""
    from django.conf import settings

    return (settings.FORCE_SCRIPT_NAME,) if settings.FORCE_SCRIPT_NAME else ()


def _walk(patterns: Iterable[Any], prefix: str) -> Iterator[Route]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if hasattr(pattern, "url_patterns"):
            yield from _walk(pattern.url_patterns, path)
        else:
            yield Route(path, _methods(pattern.callback))


def _methods(view: Any) -> tuple[str, ...]:
    """Give the methods that a class-based view answers; none where it is not known."""
    cls = getattr(view, "view_class", None)
    if cls is None:
        return ()
    return tuple(sorted(name.upper() for name in cls.http_method_names if hasattr(cls, name)))

"""The languages that Django's `i18n_patterns` put in front of a path.

Django serves a view of `i18n_patterns` at `/de/adm` and, for the default language, may serve it at `/adm`. A rule for
`/adm` is meant for both. The settings and the URLs belong to the process, whatever wraps the application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

LANGUAGE = "<language>"
"""Shown in a route for any of these languages."""


def languages() -> Iterator[str]:
    """Return the path segments that may name a language; none without `i18n_patterns`."""
    settings = django_settings()
    if settings is None or not settings.USE_I18N:
        return
    from django.urls import get_resolver

    with suppress(Exception):  # the URLs cannot be imported: hide too much, and let Django report the error
        if not _has_languages(get_resolver()):
            return
    yield LANGUAGE
    yield from dict.fromkeys((*(code for code, _ in settings.LANGUAGES), settings.LANGUAGE_CODE))


def django_settings() -> Any | None:
    """Return Django's settings of this process; None if there are none, or Django is not used."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    return settings if settings is not None and settings.configured else None


def is_language(pattern: Any) -> bool:
    """Whether a URL pattern is the language of `i18n_patterns`."""
    return type(pattern).__name__ == "LocalePrefixPattern"


@cache  # Django keeps one resolver for the process
def _has_languages(resolver: Any) -> bool:
    return any(is_language(one.pattern) for one in resolver.url_patterns)

"""The languages that Django's `i18n_patterns` put in front of a path.

Django serves a view of `i18n_patterns` at `/de/adm` and, for the default language, may serve it at `/adm`. A rule for
`/adm` is meant for both. The settings and the URLs belong to the process, whatever wraps the application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

LANGUAGE = "<language>"
"""Shown in a route for any of these languages."""


def languages() -> Iterator[str]:
    """Return the path segments that may name a language; none without `i18n_patterns`."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured or not settings.USE_I18N:
        return
    from django.urls import get_resolver

    with suppress(Exception):  # the URLs cannot be imported: hide too much, and let Django report the error
        if not any(type(one.pattern).__name__ == "LocalePrefixPattern" for one in get_resolver().url_patterns):
            return
    yield LANGUAGE
    yield from dict.fromkeys((*(code for code, _ in settings.LANGUAGES), settings.LANGUAGE_CODE))

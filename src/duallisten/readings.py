r"""The readings of a path: everything that somebody between the wire and a handler could take it for.

A rule that hides a path is worth as much as its agreement with whoever routes the request. Frameworks, proxies and
file systems decode percent-encodings (some twice), take `\` for `/`, drop what follows a `;`, resolve `..`, collapse
`//`, fold compatibility characters, and do so in different orders. So no one normal form is compared with the rules.
The *readings* of a path are the path and all that the steps below make of it, in any order and any number; a rule that
hides looks for one reading that it covers, a rule that shows demands all of them (`duallisten.rules`).

The steps only ever read: nothing here changes what the application is given. They rest on RFC 3986 (2.1
percent-encoding, 3.3 paths, 5.2.4 dot segments), RFC 9112 (3.2 forms of a request target), RFC 3629 (what is no UTF-8
decodes to U+FFFD here) and Unicode's compatibility forms (UAX 15).

Pure, and bounded: a path that is too long, or that can be read in too many ways, has no readings (None), and whoever
asks must take the safe side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from urllib.parse import unquote

MOST_READINGS = 100
"""How many readings a path may have; of those that were used against such rules in the wild none has over 20."""

MOST_CHARACTERS = 16 * 1024
"""How much text all of them may have together. Both bounds keep the work of one path to a few milliseconds. A plain
path is not read at all (`duallisten.rules`), so they bound only odd ones: 16 readings of 1 KiB."""

Step = Callable[[str], str]

_OUTSIDE_ASCII = re.compile("(?:%[89A-Fa-f][0-9A-Fa-f])+")
_UNICODE_ESCAPE = re.compile("%[uU]([0-9a-fA-F]{4})")
_SEPARATORS = str.maketrans(dict.fromkeys("\\\u2044\u2215\u29f8\ufffd", "/"))
_PARAMETERS = re.compile(";[^/]*")
_END = re.compile("[?#\0]")
_UNSEEN = re.compile(
    "[\0-\x20+\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, spaces, `+`, U+FFFD, and Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt)."""
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""Unicode's blocks of combining marks for letters."""
_TRAILING_DOTS = re.compile(r"(?<=[^/.])\.+(?=/|$)")
_SLASHES = re.compile("/{2,}")
_AUTHORITY = re.compile("^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_SCHEME = re.compile("^[A-Za-z][A-Za-z0-9+.-]*:")


def readings(paths: Iterable[str], roots: Iterable[str] = ()) -> frozenset[str] | None:
    """Give all readings of `paths`, themselves included; None where there are too many or they are too long.

    paths: a path as it was received, and as the application will see it
    roots: path prefixes that the application takes off by itself, such as FastAPI's `root_path`
    """
    steps = (*STEPS, *(_without(root.rstrip("/")) for root in roots if root.rstrip("/")))
    found = set(paths)
    characters = sum(map(len, found))
    unread = list(found)
    while unread and characters <= MOST_CHARACTERS and len(found) <= MOST_READINGS:
        path = unread.pop()
        for read in {step(path) for step in steps} - found:
            found.add(read)
            unread.append(read)
            characters += len(read) + 1
    if characters > MOST_CHARACTERS or len(found) > MOST_READINGS:
        return None
    return frozenset(found)


def as_characters(path: str) -> str:
    """Give the percent-encodings outside ASCII as the characters that they are, and can only be (RFC 3987, 3.2)."""
    return _OUTSIDE_ASCII.sub(lambda found: unquote(found[0]), path)


def decoded(path: str) -> str:
    """Decode percent-encodings once, IIS's `%u0069` too."""
    if "%" not in path:
        return path
    return unquote(_UNICODE_ESCAPE.sub(lambda found: chr(int(found[1], 16)), path))


def separated(path: str) -> str:
    """Take for a slash what is one to somebody: a backslash, its look-alikes, and what could not be decoded."""
    return path.translate(_SEPARATORS) if "\\" in path or not path.isascii() else path


def without_parameters(path: str) -> str:
    """Drop the parameters of each segment, from its `;` on."""
    return _PARAMETERS.sub("", path) if ";" in path else path


def ended(path: str) -> str:
    """End the path where a query, a fragment or, in C, a string would."""
    found = _END.search(path)
    return path[: found.start()] if found else path


def cleaned(path: str) -> str:
    """Drop what is not seen: control and format characters, spaces (a `+` in forms), what could not be decoded."""
    return _UNSEEN.sub("", path)


def trimmed(path: str) -> str:
    """Drop the dots at the end of segments, as Windows does."""
    return _TRAILING_DOTS.sub("", path) if "." in path else path


def compatible(path: str) -> str:
    """Replace compatibility characters: a fullwidth letter or slash becomes a plain one."""
    return path if path.isascii() else unicodedata.normalize("NFKC", path)


def unaccented(path: str) -> str:
    """Drop the marks of letters, also those that folding the case of a letter would leave."""
    return path if path.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", path))


def resolved(path: str) -> str:
    """Resolve the dot segments."""
    if "." not in path:
        return path
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment != "..":
            kept += [segment] if segment != "." else []
        elif len(kept) > 1:  # the first is what stands before the root
            kept.pop()
    return "/".join([*kept, ""] if segments[-1] in (".", "..") else kept)


def collapsed(path: str) -> str:
    """Make one slash of several."""
    return _SLASHES.sub("/", path) if "//" in path else path


def without_authority(path: str) -> str:
    """Drop the scheme and host of a target in absolute form, or the host after two slashes."""
    return _AUTHORITY.sub("", path) if "//" in path else path


def without_scheme(path: str) -> str:
    """Drop a scheme that no host follows."""
    return _SCHEME.sub("", path) if ":" in path else path


def rooted(path: str) -> str:
    """Begin with a slash."""
    return path if path.startswith("/") else f"/{path}"


def _without(root: str) -> Step:
    """Make the step that takes `root` off, whatever its case and whether a segment ends there or not."""
    folded = root.casefold()

    def without_root(path: str) -> str:
        return path[len(root) :] if path.casefold().startswith(folded) else path

    return without_root


STEPS: tuple[Step, ...] = (
    decoded,
    separated,
    without_parameters,
    ended,
    cleaned,
    trimmed,
    compatible,
    unaccented,
    resolved,
    collapsed,
    without_authority,
    without_scheme,
    rooted,
)
"""Every step, none of which may depend on another having been taken before."""

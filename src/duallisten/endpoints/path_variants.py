r"""The readings of a path: everything that somebody between the wire and a handler could take it for.

A rule that hides a path must agree with whoever routes the request. Frameworks, proxies and file systems decode
percent-encodings (some twice), take `\` for `/`, drop what follows a `;`, resolve `..`, collapse `//`, fold
compatibility characters, and do so in different orders. So no single normal form is compared with the rules. The
*readings* of a path are the path and all that the steps below make of it, in any order and any number.

The steps rest on RFC 3986 (2.1 percent-encoding, 3.3 paths, 5.2.4 dot segments), RFC 9112 (3.2 forms of a request
target), RFC 3629 (what is no UTF-8 decodes to U+FFFD here) and Unicode's compatibility forms (UAX 15).

Invariants:

- Nothing here changes what the application is given.
- No step depends on another having been taken before.
- The work is bounded: a path that is too long, or can be read in too many ways, has no readings (None), and the caller
  must take the safe side.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterable

MOST_WORK = 10_800
"""The most work of reading one path, in units of `weight`; a path that takes more has no readings.

The worst paths that a search has found take a quarter of a millisecond, of any length that is read
(`path_rules.LONGEST_READ`). There is room for 49 readings of 20 characters of ASCII, or 5 of 2,000. Of the targets used
against such rules in the wild none has over 20 readings, and a plain path is not read at all."""

A_READING = 200
"""What taking all steps from a path weighs beside its characters; outside ASCII it is twice as much."""

A_SIGN = 14
"""What a percent sign or a dot weighs beside being a character: each has to be looked at by itself."""

OUTSIDE_ASCII = 4
"""What a character weighs in a path that is not all ASCII: its compatibility forms are looked up."""

NOT_NORMAL = 2
"""What each character weighs beside that where compatibility forms replace some: they are looked for one by one."""

A_FORM = 2
"""What a character of a form weighs, as Unicode's database writes it (`<wide> 0041`): one character may become 18."""

A_MARK = 70
"""What a mark of letters weighs there: marks are sorted, in a time that grows with the square of their number."""

_BECOMES_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""What is no mark, and is replaced by marks alone."""

Step = Callable[[str], str]

_OUTSIDE_ASCII = "(?:%[89A-Fa-f][0-9A-Fa-f])+"
_INERT = "%(?:2[0124678Aa9Cc]|3[C-Ec-e]|40|5[BD-Fbd-f]|60|7[B-Eb-e])"
"""Space and ``!"$&'()*,<=>@[]^_`{|}~``."""
_CHARACTERS = re.compile(f"{_OUTSIDE_ASCII}|{_INERT}")
_ESCAPES = re.compile("%[uU][0-9A-Fa-f]{4}|(?:%[0-9A-Fa-f]{2})+")
_ESCAPED = {f"%{high}{low}": chr(int(high + low, 16)) for high in "01234567" for low in string.hexdigits}
"""The character of ASCII that an escape stands for."""
_OVERLONG = re.compile(
    "%(?=[CcEeFf])(?:[Cc]|(?:[Ee]0|[Ff]0%[048Cc]0|[Ff]8(?:%[048Cc]0){2}|[Ff][Cc](?:%[048Cc]0){3})%[048Cc])([01])"
    "%([0-9A-Fa-f]{2})"
)
"""A character of ASCII in two to six bytes of UTF-8, which RFC 3629 (3) forbids and lenient decoders read; the most
lenient take six bits of each byte after the first, whatever the other two are."""
_SEPARATORS = "\\\u2044\u2215\u29f8\ufffd"
_PARAMETERS = re.compile(";[^/]*")
_UNSEEN = re.compile(
    "[\0-\x20+\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, spaces, `+`, U+FFFD, and Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt)."""
_UNSEEN_IN_ASCII = bytes(range(0x21)) + b"+\x7f"
"""Those of them that are ASCII; deleting them from bytes takes a tenth of the expression's time."""
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""Unicode's blocks of combining marks for letters."""
_TRAILING_DOTS = re.compile(r"\.(?<=[^/.]\.)\.*+(?=/|\Z)")
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|\Z)")
_AUTHORITY = re.compile("(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:(?!//)")


def readings(paths: Iterable[str], roots: Iterable[str] = ()) -> frozenset[str] | None:
    """Return all readings of `paths`, themselves included; None where there are too many or they are too long.

    paths: a path as it was received, and as the application will see it
    roots: path prefixes that the application takes off by itself, such as FastAPI's `root_path`
    """
    steps = (*STEPS, *(_without(root.rstrip("/")) for root in roots if root.rstrip("/")))
    found = set(paths)
    unread = list(found)
    work = sum(map(weight, found))
    while unread and work <= MOST_WORK:
        path = unread.pop()
        for step in steps:
            read = step(path)
            if read is not path and read not in found:
                found.add(read)
                unread.append(read)
                work += weight(read)
    return frozenset(found) if work <= MOST_WORK else None


def weight(path: str) -> int:
    """Return how much work it is to take all steps from a path, where a letter of ASCII is 1."""
    signs = A_SIGN * (path.count("%") + path.count("."))
    if path.isascii():
        return A_READING + signs + len(path)
    known = 2 * A_READING + signs + OUTSIDE_ASCII * len(path)
    if any(unicodedata.is_normalized(form, path) for form in ("NFKC", "NFKD")):
        return known
    forms = sum(map(len, map(unicodedata.decomposition, path)))
    marks = sum(map(bool, map(unicodedata.combining, path))) + sum(map(path.count, _BECOMES_MARKS))
    return known + NOT_NORMAL * len(path) + A_FORM * forms + A_MARK * marks


def as_characters(path: str) -> str:
    """Return the percent-encodings outside ASCII as the characters that they are (RFC 3987, 3.2), overlong ones too.

    Also those of characters that mean nothing to any step: whether they are decoded before it or after makes no
    difference, but would make twice as many readings of a name with spaces in it.
    """
    return _CHARACTERS.sub(_decode, shortened(path))


def shortened(path: str) -> str:
    """Decode characters of ASCII that are written in more bytes than they take: `%c0%ae` is a dot."""
    if "%" not in path:
        return path
    return _OVERLONG.sub(lambda found: chr(int(found[1]) << 6 | int(found[2], 16) & 0x3F), path)


def decoded(path: str) -> str:
    """Decode percent-encodings once, IIS's `%u0069` too."""
    return _ESCAPES.sub(_decode, path) if "%" in path else path


def _decode(found: re.Match[str]) -> str:
    escapes = found[0]
    if (character := _ESCAPED.get(escapes)) is not None:
        return character
    if escapes[1] in "uU":
        return chr(int(escapes[2:], 16))
    return bytes.fromhex(escapes.replace("%", " ")).decode("utf-8", "replace")


def separated(path: str) -> str:
    """Take for a slash what is one to somebody: a backslash, its look-alikes, and what could not be decoded."""
    if path.isascii():
        return path.replace("\\", "/")
    for separator in _SEPARATORS:
        path = path.replace(separator, "/")
    return path


def without_parameters(path: str) -> str:
    """Drop the parameters of each segment, from its `;` on."""
    return _PARAMETERS.sub("", path) if ";" in path else path


def ended(path: str) -> str:
    """End the path where a query, a fragment, a line or, in C, a string would.

    A line is the end to a regular expression without one of its own: `(.*)` takes what stands before it.
    """
    for end in "?#\0\n\r":
        path = path.partition(end)[0] if end in path else path
    return path


def cleaned(path: str) -> str:
    """Drop what is not seen: control and format characters, spaces (a `+` in forms), what could not be decoded."""
    if not path.isascii():
        return _UNSEEN.sub("", path)
    seen = path.encode().translate(None, _UNSEEN_IN_ASCII)
    return seen.decode() if len(seen) < len(path) else path


def trimmed(path: str) -> str:
    """Drop the dots at the end of segments, as Windows does."""
    return _TRAILING_DOTS.sub("", path) if "./" in path or path.endswith(".") else path


def compatible(path: str) -> str:
    """Replace compatibility characters: a fullwidth letter or slash becomes a plain one."""
    return path if path.isascii() else unicodedata.normalize("NFKC", path)


def unaccented(path: str) -> str:
    """Drop the marks of letters, also those that folding the case of a letter would leave."""
    return path if path.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", path))


def resolved(path: str) -> str:
    """Resolve the dot segments."""
    if "." not in path or not _DOT_SEGMENT.search(f"/{path}"):
        return path
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:  # the first is what stands before the root
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/".join([*kept, ""] if segments[-1] in (".", "..") else kept)


def collapsed(path: str) -> str:
    """Make one slash of several."""
    while "//" in path:
        path = path.replace("//", "/")
    return path


def with_host(path: str) -> str:
    """Begin with two slashes where more do, or dot segments behind them, and resolve these.

    To the URL Standard (4.4) a host follows any number of slashes. To POSIX (4.13) two of them stand for themselves, so
    Python's `normpath` makes `//host` of `//../host`.
    """
    return f"/{resolved(rooted(path.lstrip('/')))}" if path.startswith("//") else path


def without_authority(path: str) -> str:
    """Drop the scheme and host of a target in absolute form, or the host after two slashes."""
    found = _AUTHORITY.match(path) if "//" in path else None
    return path[found.end() :] if found else path


def without_scheme(path: str) -> str:
    """Drop a scheme that no host follows."""
    found = _SCHEME.match(path) if ":" in path else None
    return path[found.end() :] if found else path


def rooted(path: str) -> str:
    """Begin with a slash."""
    return path if path.startswith("/") else f"/{path}"


def _without(root: str) -> Step:
    """Build the step that takes `root` off, whatever its case and whether a segment ends there or not."""
    folded = root.casefold()

    def without_root(path: str) -> str:
        return path[len(root) :] if path[: len(folded)].casefold().startswith(folded) else path

    return without_root


STEPS: tuple[Step, ...] = (
    shortened,
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
    with_host,
    without_authority,
    without_scheme,
    rooted,
)

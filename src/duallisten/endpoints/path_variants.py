r"""The readings of a path: every path that a proxy, framework or file system could understand it as.

A rule that hides a path must agree with the software that routes the request. Frameworks, proxies and file systems
decode percent-encodings (some twice), take `\` for `/`, drop the parameters after a `;`, resolve `..`, collapse `//`
and fold compatibility characters, in different orders. So the rules are not compared with a single normal form. The
*readings* of a path are the path and all results of the steps below, in any order and any number.

The steps rest on RFC 3986 (2.1 percent-encoding, 3.3 paths, 5.2.4 dot segments), RFC 9112 (3.2 forms of a request
target), RFC 3629 (bytes that are not UTF-8 decode to U+FFFD here) and Unicode's compatibility forms (UAX 15).

Invariants:

- Nothing here changes the path that the application gets.
- No step depends on an earlier step.
- The work is bounded: a path that is too long, or has too many readings, yields None, and the caller must then treat
  the path as hidden.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterable

MOST_WORK = 10_800
"""The most work for one path, in units of `weight`; a path that takes more has no readings.

The worst paths that a search found take a quarter of a millisecond, at any length that is read
(`path_rules.LONGEST_READ`). The limit allows 49 readings of 20 ASCII characters, or 5 of 2,000. No request target that
is used in the wild against such rules has more than 20 readings, and a plain path is not read at all."""

A_READING = 200
"""The weight of one reading, besides its characters; doubled for a path that is not all ASCII."""

A_SIGN = 14
"""The extra weight of each percent sign or dot, because the steps examine them one by one."""

OUTSIDE_ASCII = 4
"""The weight of a character in a path that is not all ASCII: its compatibility forms are looked up."""

NOT_NORMAL = 2
"""The extra weight of each character if compatibility forms replace any: they are looked up one by one."""

A_FORM = 2
"""The weight of each character of a compatibility form as Unicode's database has it: `<wide> 0041`. It has up to 18."""

A_MARK = 70
"""The weight of a combining mark then: marks are sorted in a time that grows with the square of their number."""

_BECOMES_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""Characters that are not marks, but are replaced by marks alone."""


Step = Callable[[str], str]

_OUTSIDE_ASCII = "(?:%[89A-Fa-f][0-9A-Fa-f])+"
_INERT = "%(?:2[0124678Aa9Cc]|3[C-Ec-e]|40|5[BD-Fbd-f]|60|7[B-Eb-e])"
"""Space and ``!"$&'()*,<=>@[]^_`{|}~``."""
_CHARACTERS = re.compile(f"{_OUTSIDE_ASCII}|{_INERT}")
_ESCAPES = re.compile("%[uU][0-9A-Fa-f]{4}|(?:%[0-9A-Fa-f]{2})+")
_ESCAPED = {f"%{high}{low}": chr(int(high + low, 16)) for high in "01234567" for low in string.hexdigits}
"""The ASCII character of each escape."""
_OVERLONG = re.compile(
    "%(?=[CcEeFf])(?:[Cc]|(?:[Ee]0|[Ff]0%[048Cc]0|[Ff]8(?:%[048Cc]0){2}|[Ff][Cc](?:%[048Cc]0){3})%[048Cc])([01])"
    "%([0-9A-Fa-f]{2})"
)
"""An ASCII character in two to six bytes of UTF-8. RFC 3629 (3) forbids it, but lenient decoders read it; the most
lenient take six bits of each byte after the first and ignore the other two."""
_SEPARATORS = "\\\u2044\u2215\u29f8\ufffd"
_PARAMETERS = re.compile(";[^/]*")
_UNSEEN = re.compile(
    "[\0-\x20+\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, spaces, `+`, U+FFFD, and Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt)."""
_UNSEEN_IN_ASCII = bytes(range(0x21)) + b"+\x7f"
"""The ASCII characters among them; deleting these from bytes takes a tenth of the expression's time."""
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""Unicode's blocks of combining marks for letters."""
_TRAILING_DOTS = re.compile(r"\.(?<=[^/.]\.)\.*+(?=/|\Z)")
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|\Z)")
_AUTHORITY = re.compile("(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:(?!//)")


def readings(paths: Iterable[str], roots: Iterable[str] = ()) -> frozenset[str] | None:
    """Return all readings of `paths`, including `paths`; None if they are too many or too long.

    paths: a path as received, and as the application will see it
    roots: path prefixes that the application itself strips, such as FastAPI's `root_path`
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
    """Return the work of taking all steps from a path; an ASCII letter counts as 1."""
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
    """Decode the percent-encoded characters outside ASCII (RFC 3987, 3.2), and overlong encodings.

    Characters without a meaning for any step are decoded, too. The result is the same before or after the steps, but
    undecoded they would double the readings of a name with spaces.
    """
    return _CHARACTERS.sub(_decode, shortened(path))


def shortened(path: str) -> str:
    """Decode ASCII characters in an overlong encoding: `%c0%ae` is a dot."""
    if "%" not in path:
        return path
    return _OVERLONG.sub(lambda found: chr(int(found[1]) << 6 | int(found[2], 16) & 0x3F), path)


def decoded(path: str) -> str:
    """Decode percent-encodings once, including IIS's `%u0069`."""
    return _ESCAPES.sub(_decode, path) if "%" in path else path


def _decode(found: re.Match[str]) -> str:
    escapes = found[0]
    if (character := _ESCAPED.get(escapes)) is not None:
        return character
    if escapes[1] in "uU":
        return chr(int(escapes[2:], 16))
    return bytes.fromhex(escapes.replace("%", " ")).decode("utf-8", "replace")


def separated(path: str) -> str:
    """Replace what some software takes for a slash: a backslash, look-alikes, and U+FFFD for undecodable bytes."""
    if path.isascii():
        return path.replace("\\", "/")
    for separator in _SEPARATORS:
        path = path.replace(separator, "/")
    return path


def without_parameters(path: str) -> str:
    """Drop the parameters of each segment, from the `;` on."""
    return _PARAMETERS.sub("", path) if ";" in path else path


def ended(path: str) -> str:
    """Cut the path where a query, a fragment or a line ends it, or at a NUL, which ends a string in C.

    A regular expression without an end, like `(.*)`, matches only up to the end of the line.
    """
    for end in "?#\0\n\r":
        path = path.partition(end)[0] if end in path else path
    return path


def cleaned(path: str) -> str:
    """Drop invisible characters: controls, formats, spaces (a `+` in forms), and U+FFFD for undecodable bytes."""
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
    """Drop combining marks, including those that case folding would leave."""
    return path if path.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", path))


def resolved(path: str) -> str:
    """Resolve the dot segments."""
    if "." not in path or not _DOT_SEGMENT.search(f"/{path}"):
        return path
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:  # the first is the empty string before the leading slash
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/".join([*kept, ""] if segments[-1] in (".", "..") else kept)


def collapsed(path: str) -> str:
    """Replace several slashes in a row by one."""
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
    """Drop the scheme and host of a target in absolute form, or the host after a leading `//`."""
    found = _AUTHORITY.match(path) if "//" in path else None
    return path[found.end() :] if found else path


def without_scheme(path: str) -> str:
    """Drop a scheme that is not followed by a host."""
    found = _SCHEME.match(path) if ":" in path else None
    return path[found.end() :] if found else path


def rooted(path: str) -> str:
    """Prepend a slash if there is none."""
    return path if path.startswith("/") else f"/{path}"


def _without(root: str) -> Step:
    """Build the step that strips `root`, ignoring case and segment boundaries."""
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

"""OpenAPI documents, as data: taking paths out of one with all that only they need, and adding what one lacks.

A document is what `json` makes of it (OpenAPI 3.1). What is taken out leaves nothing behind that names it: no component
that only it refers to, whether by `$ref`, by a discriminator's mapping or as a security scheme, and no description of a
tag that only it bears. No argument is changed. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]

_COMPONENTS = "#/components/"


def without_paths(document: Document, hidden: Callable[[str], bool]) -> dict[str, Any]:
    """Return `document` without the paths that are `hidden`, and without what only they need."""
    paths = document.get("paths", {})
    kept = {path: item for path, item in paths.items() if not hidden(path)}
    taken = [item for path, item in paths.items() if path not in kept]
    rest = {**document, "paths": kept}
    return without_unused(rest, document, taken)


def without_unused(rest: Document, document: Document, taken: Any) -> dict[str, Any]:
    """Return `rest` without the components of `document` and the tags that `taken` needs and nothing else does.

    rest: the document without `taken`
    taken: the parts of it that are taken out, as a list
    """
    components = document.get("components", {})
    around = {name: part for name, part in rest.items() if name not in ("components", "tags")}
    unused = _needed(taken, components) - _needed(around, components)
    tags = set(_tags(taken)) - set(_tags(around))
    result = dict(rest)
    if "tags" in rest:
        result["tags"] = [tag for tag in rest["tags"] if tag.get("name") not in tags]
    if "components" in rest:
        sections = {
            section: {name: part for name, part in parts.items() if (section, name) not in unused}
            for section, parts in rest["components"].items()
        }
        result["components"] = {section: parts for section, parts in sections.items() if parts}
        if not result["components"]:
            del result["components"]
    return result


def merged(document: Document, more: Document) -> dict[str, Any]:
    """Return `document` with the paths and components of `more` that it lacks; paths in the order of `more`."""
    own = document.get("paths", {})
    result = {**document, "paths": {path: own.get(path, {}) for path in {**more.get("paths", {}), **own}}}
    for path, item in more.get("paths", {}).items():
        result["paths"][path] = {**item, **result["paths"][path]}
    sections = {**more.get("components", {}), **document.get("components", {})}
    if sections:
        result["components"] = {
            name: {**more.get("components", {}).get(name, {}), **document.get("components", {}).get(name, {})}
            for name in sections
        }
    return result


def _needed(part: Any, components: Mapping[str, Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Find the components that `part` refers to, and those that they refer to."""
    found: set[tuple[str, str]] = set()
    unread = [part]
    while unread:
        for reference in set(_references(unread.pop())) - found:
            section, name = reference
            found.add(reference)
            unread.append(components.get(section, {}).get(name))
    return found


def _references(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, str) and part.startswith(_COMPONENTS):
        section, _, name = part.removeprefix(_COMPONENTS).partition("/")
        yield section, name.replace("~1", "/").replace("~0", "~")
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if key == "security" and isinstance(value, list):
                yield from (("securitySchemes", name) for requirement in value for name in requirement)
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _tags(part: Any) -> Iterator[str]:
    """Find the tags that the operations in `part` bear."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "tags" and isinstance(value, list):
                yield from (tag for tag in value if isinstance(tag, str))
            yield from _tags(value)
    elif isinstance(part, list):
        for value in part:
            yield from _tags(value)

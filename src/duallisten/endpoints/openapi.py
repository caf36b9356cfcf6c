"""OpenAPI documents (3.1) as data: removing paths and everything that only they need, and merging two documents.

Invariants:

- Removed paths leave no trace: no component that only they refer to (by `$ref`, by a discriminator's mapping or as a
  security scheme), and no description of a tag that only they have.
- No argument is changed. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]

_COMPONENTS = "#/components/"


def without_paths(document: Document, hidden: Callable[[str], bool]) -> dict[str, Any]:
    """Return `document` without the `hidden` paths, and without the components and tags that only they need."""
    paths = document.get("paths", {})
    kept = {path: item for path, item in paths.items() if not hidden(path)}
    taken = [item for path, item in paths.items() if path not in kept]
    return without_unused({**document, "paths": kept}, document, taken)


def without_unused(rest: Document, document: Document, taken: Any) -> dict[str, Any]:
    """Return `rest` without the components of `document` and the tags that only `taken` needs.

    rest: the document without `taken`
    taken: the removed parts of the document, as a list
    """
    components = document.get("components", {})
    around = {name: part for name, part in rest.items() if name not in ("components", "tags")}
    unused = _needed(taken, components) - _needed(around, components)
    tags = _tags(taken) - _tags(around)
    result = dict(rest)
    if "tags" in rest:
        result["tags"] = [tag for tag in rest["tags"] if tag.get("name") not in tags]
    sections = {
        section: {name: part for name, part in parts.items() if (section, name) not in unused}
        for section, parts in result.pop("components", {}).items()
    }
    if kept := {section: parts for section, parts in sections.items() if parts}:
        result["components"] = kept
    return result


def merged(document: Document, more: Document) -> dict[str, Any]:
    """Return `document` with the paths and components of `more` that it lacks; paths in the order of `more`."""
    result = {**document, "paths": _filled(document.get("paths", {}), more.get("paths", {}))}
    if components := _filled(document.get("components", {}), more.get("components", {})):
        result["components"] = components
    return result


def _filled(own: Document, more: Document) -> dict[str, Any]:
    """Return the parts of both, in the order of `more`; where both have a key, the value of `own` wins."""
    return {name: {**more.get(name, {}), **own.get(name, {})} for name in {**more, **own}}


def _needed(part: Any, components: Document) -> set[tuple[str, str]]:
    """Return the components that `part` refers to, directly or through other components."""
    found: set[tuple[str, str]] = set()
    unread = [part]
    while unread:
        for section, name in set(_references(unread.pop())) - found:
            found.add((section, name))
            unread.append(components.get(section, {}).get(name))
    return found


def _references(part: Any) -> Iterator[tuple[str, str]]:
    for key, value in _values(part):
        if key == "security" and isinstance(value, list):
            yield from (("securitySchemes", name) for requirement in value for name in requirement)
        elif isinstance(value, str) and value.startswith(_COMPONENTS):
            section, _, name = value.removeprefix(_COMPONENTS).partition("/")
            yield section, name.replace("~1", "/").replace("~0", "~")


def _tags(part: Any) -> set[str]:
    """Return the tags of the operations in `part`."""
    tags = [value for key, value in _values(part) if key == "tags" and isinstance(value, list)]
    return {tag for several in tags for tag in several if isinstance(tag, str)}


def _values(part: Any) -> Iterator[tuple[str, Any]]:
    """Return every key and value in `part`, at any depth; items of lists have no key."""
    if isinstance(part, Mapping | list):
        for key, value in part.items() if isinstance(part, Mapping) else (("", item) for item in part):
            yield key, value
            yield from _values(value)

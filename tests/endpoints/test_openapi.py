from __future__ import annotations

import copy
from typing import Any

from duallisten.endpoints.openapi import merged, without_paths

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "shop"},
    "tags": [{"name": "items"}, {"name": "internal"}, {"name": "unused"}],
    "security": [{"key": []}],
    "paths": {
        "/items": {
            "get": {
                "tags": ["items"],
                "responses": {"200": {"content": {"json": {"schema": {"$ref": "#/components/schemas/Item"}}}}},
            }
        },
        "/internal": {
            "get": {
                "tags": ["internal"],
                "security": [{"account": []}],
                "parameters": [{"$ref": "#/components/parameters/Page"}],
                "responses": {
                    "200": {"content": {"json": {"schema": {"$ref": "#/components/schemas/Stock"}}}},
                    "404": {"$ref": "#/components/responses/Missing"},
                },
            }
        },
    },
    "components": {
        "schemas": {
            "Item": {"properties": {"size": {"$ref": "#/components/schemas/Size"}}},
            "Size": {},
            "Stock": {
                "oneOf": [{"$ref": "#/components/schemas/Item"}],
                "discriminator": {"mapping": {"box": "#/components/schemas/Box~1Large"}},
            },
            "Box/Large": {"$ref": "#/components/schemas/Loop"},
            "Loop": {"$ref": "#/components/schemas/Loop"},
            "Orphan": {},
        },
        "parameters": {"Page": {}},
        "responses": {"Missing": {}},
        "securitySchemes": {"key": {}, "account": {}},
    },
}


def test_a_path_leaves_with_all_that_only_it_needs() -> None:
    before = copy.deepcopy(DOCUMENT)
    rest = without_paths(DOCUMENT, lambda path: path == "/internal")
    assert before == DOCUMENT
    assert list(rest["paths"]) == ["/items"]
    assert rest["components"] == {
        "schemas": {name: DOCUMENT["components"]["schemas"][name] for name in ("Item", "Size", "Orphan")},
        "securitySchemes": {"key": {}},
    }
    assert [tag["name"] for tag in rest["tags"]] == ["items", "unused"]
    assert rest["info"] == DOCUMENT["info"]


def test_what_the_rest_needs_stays() -> None:
    rest = without_paths(DOCUMENT, lambda path: path == "/items")
    assert rest["components"]["schemas"].keys() == DOCUMENT["components"]["schemas"].keys()
    assert without_paths(DOCUMENT, lambda path: False) == DOCUMENT


def test_a_document_without_paths_or_components_is_left_as_it_is() -> None:
    assert without_paths({"openapi": "3.1.0"}, lambda path: True) == {"openapi": "3.1.0", "paths": {}}
    only = {"paths": {"/a": {"get": {"$ref": "#/components/schemas/A"}}}, "components": {"schemas": {"A": {}}}}
    assert without_paths(only, lambda path: True) == {"paths": {}}


def test_two_documents_become_one_in_which_the_first_is_kept() -> None:
    more = {
        "info": {"title": "other"},
        "paths": {"/new": {"get": 1}, "/items": {"get": 2, "post": 3}},
        "components": {"schemas": {"New": {}, "Item": {"other": 1}}, "headers": {"H": {}}},
    }
    both = merged(DOCUMENT, more)
    assert both["info"] == DOCUMENT["info"]
    assert list(both["paths"]) == ["/new", "/items", "/internal"]
    assert both["paths"]["/items"] == {"post": 3, **DOCUMENT["paths"]["/items"]}
    assert both["components"]["schemas"]["Item"] == DOCUMENT["components"]["schemas"]["Item"]
    assert both["components"]["schemas"]["New"] == {}
    assert both["components"]["headers"] == {"H": {}}
    assert merged(DOCUMENT, {}) == DOCUMENT
    assert merged({}, {}) == {"paths": {}}

"""What a registry tells of an instance, and what a stranger may have written in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duallisten.registry.entry import BadEntry, Instance, from_json, to_json

BILLING = Instance(
    "billing",
    "web-1-4f",
    "10.240.0.5",
    9240,
    5000,
    host="1.web.ap-1.pn-1.private-network.internal",
    container="web-1",
    version="abc",
    started_at="2026-11-25T08:00:00+00:00",
    state="draining",
)


def test_an_instance_is_read_as_it_was_written() -> None:
    assert from_json(to_json(BILLING)) == BILLING


def test_what_a_newer_version_writes_beside_is_passed_over() -> None:
    assert from_json(json.dumps(BILLING._asdict() | {"zone": {"a": 1}})) == BILLING


def test_little_is_needed() -> None:
    read = from_json('{"service": "a", "id": "1", "address": "fdaa::5", "private_port": 9240}')
    assert (read.url, read.state) == ("http://[fdaa::5]:9240", "ready")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", ""),
        ("service", "a/b"),
        ("service", "-a"),
        ("service", 1),
        ("service", "a" * 101),
        ("id", ""),
        ("id", "a\x1b[2J"),
        ("id", "a\nb"),
        ("id", None),
        ("address", "billing"),
        ("address", "0.0.0.0"),
        ("address", "::"),
        ("address", "fe80::1%eth0"),
        ("address", 167772161),
        ("private_port", 0),
        ("private_port", 65536),
        ("private_port", True),
        ("private_port", "9240"),
        ("public_port", 1.5),
        ("scheme", "file"),
        ("scheme", []),
        ("host", "a b"),
        ("host", "evil/"),
        ("host", "a..b"),
        ("host", "a" * 64 + ".internal"),
        ("host", "a."),
        ("container", "\u202eweb"),
        ("version", "v" * 256),
        ("started_at", "yesterday"),
        ("started_at", "2026-11-25T08:00:00"),
        ("state", "dead"),
        ("state", {}),
    ],
)
def test_a_field_that_is_none_makes_a_bad_entry(field: str, value: Any) -> None:
    with pytest.raises(BadEntry, match=f"the entry's {field} is invalid"):
        from_json(json.dumps(BILLING._asdict() | {field: value}))


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "1", '{"service": "a"}', "[" * 4000, '{"a": "' + "b" * 5000 + '"}', "NaN", '{"id": NaN}']
)
def test_what_is_no_entry_is_a_bad_one(text: str) -> None:
    with pytest.raises(BadEntry):
        from_json(text)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.none())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(Instance._fields), VALUES), max_size=3))
def test_whatever_is_written_makes_a_printable_instance_or_a_bad_entry(fields: list[tuple[str, Any]]) -> None:
    try:
        read = from_json(json.dumps(BILLING._asdict() | dict(fields)))
    except BadEntry as error:
        assert str(error).isascii()
    else:
        assert "".join(str(value) for value in read).isprintable()
        assert from_json(to_json(read)) == read

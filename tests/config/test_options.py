from __future__ import annotations

from ipaddress import ip_network
from operator import attrgetter
from typing import Any

import pytest

from duallisten import Config
from duallisten.config.options import Options, own_options

OPTIONS = {option.name: option for option in own_options()}


def test_every_option_has_its_flag_variable_default_and_help() -> None:
    for option in OPTIONS.values():
        assert option.flag == "--" + {
            "private_paths": "private-path",
            "public_paths": "public-path",
            "private_hostnames": "private-hostname",
        }.get(option.name, option.name.replace("_", "-"))
        variables = [f"DUALLISTEN_{name.replace('-', '_').upper()}" for name in (option.key, option.name)]
        assert option.variables == tuple(dict.fromkeys(variables))
        assert option.help
        assert option.default == (None if option.twin_of else getattr(Options(), option.name))
        assert option.default is None or option.read(option.default) == option.default


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("private_port", "9300", 9300),
        ("private_port", 0, 0),
        ("private_wait", "2.5", 2.5),
        ("private_network", ["10.0.0.0/8", "fd00::/8"], (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("private_network", "10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("private_allow", ["10.1.2.3"], (ip_network("10.1.2.3/32"),)),
        ("private_host", " eth1 ", ("eth1",)),
        ("private_host", ["auto", "127.0.0.1", "auto"], ("auto", "127.0.0.1")),
        ("listeners", "both", "both"),
        ("private_paths", ["/internal/", "/-/", "/internal"], ("/internal", "/-")),
        ("private_paths", "/internal", ("/internal",)),
        ("public_paths", ["/"], ("/",)),
        ("hidden_status", "403", 403),
        ("private_app", " shop:app ", "shop:app"),
        ("private_app", print, print),
        ("strict_routes", True, True),
        ("strict_routes", "off", False),
        ("timeout_request_body", "0.5", 0.5),
        ("timeout_request_body", 0, 0.0),
        ("private_timeout_send", "90", 90.0),
        ("max_head_fields", "50", 50),
        ("private_max_head_fields", "0", 0),
        ("max_body_size", "1048576", 1048576),
        ("private_max_body_size", 0, 0),
        ("limit_connections_per_peer", "8", 8),
    ],
)
def test_a_value_is_read(name: str, given: Any, read: Any) -> None:
    assert OPTIONS[name].read(given) == read


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("private_port", "http"),
        ("private_port", 65536),
        ("private_port", -1),
        ("private_port", True),
        ("private_port", 9240.5),
        ("private_port", None),
        ("private_wait", "soon"),
        ("private_wait", -1),
        ("private_wait", "inf"),
        ("private_wait", "nan"),
        ("private_network", []),
        ("private_network", 10),
        ("private_network", ["10.0.0.1/8"]),
        ("private_network", ["0.0.0.0/0"]),
        ("private_network", ["::/0"]),
        ("private_allow", ["ten"]),
        ("private_host", ""),
        ("private_host", 10),
        ("private_host", ["eth1", ""]),
        ("listeners", "all"),
        ("listeners", None),
        ("side_door", "open"),
        ("private_missing", "ignore"),
        ("platform", "geocities"),
        ("private_paths", 5),
        ("private_paths", [5]),
        ("private_paths", [""]),
        ("public_paths", ["open"]),
        ("hidden_status", 500),
        ("hidden_status", 404.0),
        ("private_app", ""),
        ("private_app", 5),
        ("strict_routes", "perhaps"),
        ("strict_routes", None),
        ("timeout_request_body", "a minute"),
        ("timeout_send", -1),
        ("max_head_fields", "many"),
        ("max_body_size", "1 MiB"),
        ("max_body_size", 0.5),
        ("private_limit_connections_per_peer", -1),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_with_a_reason(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=r"must|is not|has bits|would make"):
        OPTIONS[name].read(given)


LIMITS = {
    "timeout_request_header": ("limits.head_seconds", 30.0),
    "timeout_request_body": ("limits.body_seconds", 60.0),
    "timeout_send": ("limits.send_seconds", 60.0),
    "max_head_size": ("limits.head_bytes", 65536),
    "max_head_fields": ("limits.head_fields", 100),
    "max_body_size": ("limits.body_bytes", None),
    "limit_connections": ("limit_connections", None),
    "limit_connections_per_peer": ("limit_connections_per_peer", None),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_peers_holds_on_both_sides_unless_the_private_one_has_its_own(name: str) -> None:
    attribute, default = LIMITS[name]

    def limits(**options: Any) -> tuple[Any, Any]:
        config = Config("shop:app", log_config=None, **options)
        public, private = map(attrgetter(attribute), (config.side("public"), config.side("private")))
        return public, private

    assert limits() == (default, default)
    assert limits(**{name: 7}) == (7, 7)
    assert limits(**{name: 7, f"private_{name}": "0"}) == (7, None)
    assert limits(**{f"private_{name}": "9"}) == (default, 9)

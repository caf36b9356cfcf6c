"""The times of an end on each platform, where nobody has asked for others: they fit into its grace, and are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duallisten import Config
from duallisten.config.platforms.place import LONGEST_GRACEFUL, SHUTDOWN_RESERVE
from duallisten.config.platforms.recognition import BY_NAME_ALONE
from duallisten.listeners.report import as_json, make_report
from tests.support.applications import Observed
from tests.support.platforms import VARIABLES


@pytest.mark.parametrize(("name", "variables"), [*VARIABLES, *((name, {}) for name in BY_NAME_ALONE)])
def test_lingering_and_the_requests_end_within_the_grace_and_leave_time_for_the_application(
    name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    named: dict[str, Any] = {"platform": name} if name in BY_NAME_ALONE else {}
    config = Config(Observed(), log_config=None, **named)
    platform, grace = config.place.platform, config.place.grace
    assert platform.name == name
    shown = {
        one["option"]: (one["value"], one["origin"]) for one in json.loads(as_json(make_report(config, None)))["values"]
    }
    graceful = config.graceful_seconds
    if grace:
        assert graceful + min(SHUTDOWN_RESERVE, grace / 4) <= grace
        assert shown["timeout_graceful_shutdown"] == (graceful, f"platform {name}")
    else:
        assert graceful == LONGEST_GRACEFUL
    # Lingering is a part of the graceful time, of which half is for what is accepted last.
    for option, promised in (("public_linger", platform.public_linger), ("private_linger", platform.private_dns_ttl)):
        assert getattr(config.options, option) == promised <= graceful / 2
        assert shown.get(option, (0.0, "")) == ((promised, f"platform {name}") if promised else (0.0, ""))
    assert config.warnings == ()

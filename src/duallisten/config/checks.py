"""Checks of options in combination: contradictions are refused before the options are used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from duallisten.config.uvicorn_contract import LOGGING_CONFIG
from duallisten.config.uvicorn_options import CONFIG_VARIABLES
from duallisten.endpoints import Rules, contradiction
from duallisten.errors import UsageError

if TYPE_CHECKING:
    from duallisten.config.options import Options


def rules_of(options: Options) -> Rules:
    """Return the path rules; raises UsageError where a rule has no effect, or hides the public health path."""
    rules = Rules(options.private_paths, options.public_paths, options.hidden_status)
    if found := contradiction(rules):
        raise UsageError(f"--public-path {found[0]} lies inside --private-path {found[1]}, so it could never be served")
    probe = options.public_health
    if probe is not None and (found := contradiction(rules._replace(public=(probe,)))):
        raise UsageError(f"--public-health {probe} lies inside --private-path {found[1]}: choose another path")
    return rules


def check(options: Options, given: Mapping[str, Any]) -> None:
    """Ensure that only one option sets the log format, and that uvicorn can read the number of workers."""
    asked = given.get("log_config")
    if options.log_format == "json" and asked is not None and asked is not LOGGING_CONFIG:
        raise UsageError(
            "--log-format json and --log-config both say what log lines look like: leave one of them out, or name "
            "duallisten.jsonlog.JSONFormatter as the formatter in the latter"
        )
    variable = CONFIG_VARIABLES["workers"]
    workers, text = given.get("workers"), os.environ.get(variable)
    if workers is None and text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"${variable} is {text!r}: it must be a number of workers")
    if workers is not None and not (isinstance(workers, int) and workers >= 0):
        raise UsageError(f"workers={workers!r}: must be a number, 0 or more")

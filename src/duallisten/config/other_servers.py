"""Hints for options of other servers: an error message names our option where a user gives theirs.

The names are gunicorn's, from the settings page of its documentation; hypercorn has most of them, too. Options with the
same name and meaning (`--preload`, `--reload`, `--backlog`, `--forwarded-allow-ips`) are left out. The module is
imported only for an unknown option.
"""

from __future__ import annotations

_SERVICE_MANAGER = "that is for the service manager or the container to do"
_NO_WORKER_CLASS = "leave it out: duallisten serves ASGI applications itself"
_LOG_FILE = "log lines go to standard error and standard output; --log-config sends them elsewhere"

HINTS = {
    "bind": "that is --host and --port here, or --uds or --fd",
    "workers": "that is --workers here",
    "worker-class": _NO_WORKER_CLASS,
    "threads": "workers have no threads: --workers starts processes, and --limit-concurrency limits requests",
    "timeout": "that is --timeout-worker-stall here; requests have --timeout-request-header, "
    "--timeout-request-body and --timeout-send",
    "graceful-timeout": "that is --timeout-graceful-shutdown here",
    "keep-alive": "that is --timeout-keep-alive here",
    "max-requests": "that is --limit-max-requests here",
    "max-requests-jitter": "that is --limit-max-requests-jitter here",
    "worker-connections": "that is --limit-connections here",
    "limit-request-line": "that is --max-head-size here",
    "limit-request-fields": "that is --max-head-fields here",
    "limit-request-field-size": "that is --max-head-size here",
    "config": "options stand in duallisten.toml, or in [tool.duallisten] of pyproject.toml",
    "check-config": "that is --check here",
    "print-config": "that is --check here",
    "chdir": "that is --app-dir here",
    "env": "set the variable in the environment, or in a file for --env-file",
    "reload-extra-file": "that is --reload-include here",
    "certfile": "that is --ssl-certfile here, and --private-ssl-certfile for the private side",
    "keyfile": "that is --ssl-keyfile here, and --private-ssl-keyfile for the private side",
    "ca-certs": "that is --ssl-ca-certs here",
    "access-logfile": _LOG_FILE,
    "error-logfile": _LOG_FILE,
    "log-file": _LOG_FILE,
    "access-logformat": "--log-format json or --log-config says what log lines look like",
    "logger-class": "--log-config says what log lines look like",
    "control-socket": "that is --control here, and python -m duallisten.control asks at it",
    "daemon": _SERVICE_MANAGER,
    "pid": _SERVICE_MANAGER,
    "user": _SERVICE_MANAGER,
    "group": _SERVICE_MANAGER,
    "umask": _SERVICE_MANAGER,
    "-v": "that is --version here",
}
"""The hints by the option's name without dashes."""

_SHORT = {
    "-b": "bind",
    "-w": "workers",
    "-k": "worker-class",
    "-t": "timeout",
    "-c": "config",
    "-e": "env",
    "-D": "daemon",
    "-p": "pid",
    "-u": "user",
    "-g": "group",
    "-m": "umask",
}


def hint(name: str) -> str:
    """Return the hint for an option of another server; empty where the name is unknown.

    Args:
        name: The name as it was typed: `-b`, `--graceful-timeout`, or in a file `graceful_timeout`.
    """
    long = _SHORT.get(name) or name.lstrip("-").replace("_", "-")
    return HINTS.get(name) or HINTS.get(long, "")

"""What a test needs of the machine, as markers: `@pytest.mark.needs_nginx` above the test.

A test that uses one of the fixtures in `OF_FIXTURES` has the marker by that. Where something is not there, the test is
skipped; with `CI` set, where nobody reads what was skipped, it fails. `pytest -m "not needs_root"` leaves tests out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

OF_FIXTURES = {
    "network": ["needs_root"],
    "network6": ["needs_root", "needs_ipv6"],
    "pods": ["needs_root"],
    "redis": ["needs_redis"],
    "postgres": ["needs_postgres"],
    "page": ["needs_chromium"],
}


def lacking(item: pytest.Item) -> str | None:
    """Say what a test needs and this machine does not have; None where it can run."""
    found = (LOOK[marker.name]() for marker in item.iter_markers() if marker.name in LOOK)
    return next((trouble for trouble in found if trouble), None)


def _program(name: str, package: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"there is no {name} (package {package})"


def _namespaces() -> str | None:
    from tests.netns.topology import unfit

    return unfit()


def _ipv6() -> str | None:
    return None if Path("/proc/net/if_inet6").exists() else "the kernel has no IPv6"


def _postgres() -> str | None:
    return None if postgres_folder() else "there is no PostgreSQL (package postgresql)"


def postgres_folder() -> Path | None:
    """Where the newest PostgreSQL has its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


LOOK: dict[str, Callable[[], str | None]] = {
    "needs_root": _namespaces,
    "needs_ipv6": _ipv6,
    "needs_nginx": _program("nginx", "nginx-light"),
    "needs_redis": _program("redis-server", "redis-server"),
    "needs_postgres": _postgres,
    "needs_chromium": _program("chromium", "chromium"),
    "needs_prometheus": _program("prometheus", "prometheus"),
}
"""How to find out what is there, for each marker of pyproject.toml: what is wrong, or None."""

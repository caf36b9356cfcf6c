"""The paths of duallisten's own endpoints, and the checks whether a launch can serve them.

They are exact paths of one side, answered before the application. The public side has one at most. The endpoints
themselves are in `admin`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from duallisten.config.options import Options
from duallisten.endpoints.routes import AppRoutes, is_general, matches
from duallisten.errors import LaunchError
from duallisten.sides import Side

HEALTH_QUESTIONS = ("livez", "readyz", "startupz")
"""The names of the health checks, below `--private-health`."""


def own_paths(options: Options, side: Side = "private") -> dict[str, str]:
    """Return duallisten's own paths of a side, each with the option that sets it."""
    if side == "public":
        path = options.public_health
        return {} if path is None else {path: f"--public-health {path}"}
    paths: dict[str, str] = {}
    if options.private_health is not None:
        prefix = options.private_health.rstrip("/")
        for name in (*HEALTH_QUESTIONS, "status", "status.json", "status/events"):
            paths[f"{prefix}/{name}"] = f"--private-health {options.private_health}"
    if options.private_metrics is not None:
        paths[options.private_metrics] = f"--private-metrics {options.private_metrics}"
    return paths


def check_served(options: Options, *, has_private: bool) -> None:
    """Raise LaunchError where a launch cannot serve the endpoints that were asked for.

    Args:
        options: duallisten's options.
        has_private: Whether there is a private side, now or later.
    """
    paths, metrics = own_paths(options), f"--private-metrics {options.private_metrics}"
    given = " and ".join(dict.fromkeys(paths.values()))
    if given and not has_private:
        verb = "are" if " and " in given else "is"
        raise LaunchError(f"{given} {verb} for the private side, and this launch has none: see --listeners")
    if options.private_metrics is None:
        return
    if options.private_metrics in own_paths(options._replace(private_metrics=None)):
        raise LaunchError(f"{metrics}: that is a path of --private-health {options.private_health}; choose another")
    if find_spec("prometheus_client") is None:
        raise LaunchError(f"{metrics} needs prometheus-client: pip install 'duallisten[metrics]'")


def check_clash(options: Options, sections: Iterable[AppRoutes]) -> None:
    """Raise LaunchError where an application has a route for one of our own paths.

    A catch-all route, such as a single-page application's, is no clash: our path comes first.
    """
    for section in sections:
        for side in section.sides:
            for path, option in own_paths(options, side).items():
                for reached in section.routes or ():
                    is_reached = reached.public if side == "public" else reached.private
                    if is_reached and matches(reached.route, path) and not is_general(reached.route):
                        raise LaunchError(
                            f"{option}: {section.application} has a route for {path}, too ({reached.route.path}); "
                            "choose another path"
                        )

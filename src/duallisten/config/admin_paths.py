"""The paths of duallisten's own endpoints: which there are, and whether a launch can serve them.

They are exact paths of the private side, in front of the application. What answers there is `admin`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from duallisten.config.options import Options
from duallisten.endpoints.routes import AppRoutes, is_general, matches

HEALTH_QUESTIONS = ("livez", "readyz", "startupz")
"""The names of the health checks, below `--private-health`."""


def own_paths(options: Options) -> dict[str, str]:
    """Return the paths that are duallisten's own, each with the option that makes it so."""
    paths: dict[str, str] = {}
    if options.private_health is not None:
        prefix = options.private_health.rstrip("/")
        for name in (*HEALTH_QUESTIONS, "status", "status/events"):
            paths[f"{prefix}/{name}"] = f"--private-health {options.private_health}"
    if options.private_metrics is not None:
        paths[options.private_metrics] = f"--private-metrics {options.private_metrics}"
    return paths


def lacking(options: Options, *, has_private: bool) -> str:
    """Say why the pages that are asked for cannot be served; nothing where they can.

    has_private: whether there is a private side, now or later
    """
    asked = {"--private-health": options.private_health, "--private-metrics": options.private_metrics}
    given = [f"{flag} {path}" for flag, path in asked.items() if path is not None]
    if given and not has_private:
        verb = "is" if len(given) == 1 else "are"
        return f"{' and '.join(given)} {verb} for the private side, and this launch has none: see --listeners"
    if options.private_metrics is None:
        return ""
    if options.private_metrics in own_paths(options._replace(private_metrics=None)):
        return f"{given[1]}: that is a path of {given[0]}; choose another"
    if find_spec("prometheus_client") is None:
        return f"{given[-1]} needs prometheus-client: pip install 'duallisten[metrics]'"
    return ""


def clash(paths: Mapping[str, str], sections: Iterable[AppRoutes]) -> str:
    """Say which of our own paths an application has a route for; nothing where there is none.

    A route that takes whatever no other does, such as a single-page application's, gives way.

    paths: our own, each with the option that makes it so
    """
    for section in sections:
        for reached in section.routes or () if "private" in section.sides else ():
            for path, option in paths.items():
                if matches(reached.route, path) and not is_general(reached.route):
                    return (
                        f"{option}: {section.application} has a route for {path}, too ({reached.route.path}); "
                        "choose another path"
                    )
    return ""

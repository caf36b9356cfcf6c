"""Recognises the platform by its variables.

The first rule that matches decides. A platform's data is in a module with its name, which is imported only when the
platform is needed: all of them together would cost a launch 10 ms.

The order matters where a platform is built on another one or sets the same variables:

- Dokku sets `DYNO`, as Heroku does, and has no variable of its own. It sets `GIT_REV` where it has built the image.
- Knative sets `K_SERVICE`, as Cloud Run does, in a pod of Kubernetes. App Engine sets it, too.
- Platforms built on Kubernetes have its variables, so Kubernetes is the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from duallisten.config.platforms.base import NONE, Platform

RULES: tuple[tuple[str, ...], ...] = (
    ("scalingo", "SCALINGO_APPLICATION_ID"),
    ("scalingo", "APP", "CONTAINER", "CONTAINER_VERSION", "CONTAINER_MEMORY"),
    ("fly", "FLY_APP_NAME", "FLY_MACHINE_ID"),
    ("railway", "RAILWAY_PROJECT_ID", "RAILWAY_SERVICE_ID"),
    ("render", "RENDER=true"),
    ("heroku-private", "DYNO", "HEROKU_PRIVATE_IP"),
    ("dokku", "DYNO", "DOKKU_*"),
    ("dokku", "DYNO", "GIT_REV"),
    ("heroku", "DYNO"),
    ("cloud-foundry", "VCAP_APPLICATION", "CF_INSTANCE_GUID"),
    ("clever-cloud", "APP_ID", "INSTANCE_ID", "CC_PRETTY_INSTANCE_NAME"),
    ("koyeb", "KOYEB_APP_NAME", "KOYEB_SERVICE_NAME"),
    ("northflank", "NF_PROJECT_ID", "NF_OBJECT_ID"),
    ("container-apps", "CONTAINER_APP_NAME", "CONTAINER_APP_REVISION"),
    ("app-service", "WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID"),
    ("upsun", "PLATFORM_APPLICATION", "PLATFORM_PROJECT"),
    ("coolify", "COOLIFY_RESOURCE_UUID"),
    ("nomad", "NOMAD_ALLOC_ID"),
    ("ecs", "ECS_CONTAINER_METADATA_URI_V4"),
    ("kubernetes", "K_SERVICE", "KUBERNETES_SERVICE_HOST"),
    ("none", "K_SERVICE", "GAE_SERVICE"),
    ("cloud-run", "K_SERVICE", "K_REVISION"),
    ("kubernetes", "KUBERNETES_SERVICE_HOST"),
)
"""A platform's name, and the variables that must all be set: `NAME`, `NAME=value`, or `PREFIX*` of a name."""

BY_NAME_ALONE = ("app-runner", "beanstalk", "caprover", "digitalocean", "docker", "openshift", "tailscale", "wireguard")
"""Platforms that set no variable to recognise them by, so they must be named."""

NAMES = (*sorted({rule[0] for rule in RULES} - {NONE.name} | {*BY_NAME_ALONE}), NONE.name)
"""The values of `--platform`, apart from `auto`."""


def recognise(environ: Mapping[str, str]) -> str:
    """Return the name of the platform that has set these variables; `none` where none is known."""
    return next((name for name, *marks in RULES if all(_is_set(mark, environ) for mark in marks)), NONE.name)


@cache
def load(name: str) -> Platform:
    """Return the data of the platform with this name, one of `NAMES`."""
    if name == NONE.name:
        return NONE
    module = name.replace("-", "_")
    platform: Platform = getattr(import_module(f"duallisten.config.platforms.{module}"), module.upper())
    return platform


def every() -> tuple[Platform, ...]:
    """Return all platforms, for tests and documentation."""
    return tuple(map(load, NAMES))


def _is_set(mark: str, environ: Mapping[str, str]) -> bool:
    if mark.endswith("*"):
        return any(name.startswith(mark[:-1]) for name in environ)
    name, is_value, value = mark.partition("=")
    return environ.get(name) == value if is_value else name in environ

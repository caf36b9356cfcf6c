"""What the files in `deploy/` say: the command lines and variables with which platforms start the shop."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from typing import Any, NamedTuple

import yaml

from tests.support.running import ROOT

DEPLOY = ROOT / "deploy"


class Start(NamedTuple):
    """How a platform starts the shop.

    Attributes:
        command: The command line, without the program's name.
        environ: The variables, those of the image included.
        healthcheck: The command that asks in the container how it is; none where the platform runs no such command.
        probes: What the platform asks from outside: the side and the path of each.
        grace: Seconds from the stop signal to SIGKILL; None where no file says it.
    """

    command: tuple[str, ...]
    environ: dict[str, str]
    healthcheck: tuple[str, ...] = ()
    probes: tuple[tuple[str, str], ...] = ()
    grace: float | None = None

    def on(self, **variables: str) -> Start:
        """Return the same with variables that the platform sets over those of the image."""
        return self._replace(environ=self.environ | variables)


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def documents(name: str) -> list[Any]:
    """Read a file of YAML, which may have several documents."""
    return list(yaml.safe_load_all(text(name)))


def instructions(stage: int = -1) -> list[tuple[str, str]]:
    """Read the instructions of a stage of the Dockerfile, each with what follows it."""
    stages: list[list[tuple[str, str]]] = []
    lines = "\n".join(line for line in text("Dockerfile").splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if name:
            stages[-1].append((name, rest.strip()))
    return stages[stage]


def image(**variables: str) -> Start:
    """Read how the image starts, without a platform."""
    said = dict(instructions())
    environ = dict(pair.split("=", 1) for pair in said["ENV"].split())
    del environ["PATH"]
    _, _, check = said["HEALTHCHECK"].partition("CMD ")
    return Start(_program(json.loads(said["ENTRYPOINT"])), environ, tuple(json.loads(check))).on(**variables)


def compose() -> Start:
    """Read how Compose starts it."""
    service = documents("compose.yaml")[0]["services"]["shop"]
    assert "command" not in service and "healthcheck" not in service
    return image(**service["environment"])._replace(grace=_seconds(service["stop_grace_period"]))


def kubernetes(address: str) -> Start:
    """Read how Kubernetes starts it in a pod with this address."""
    pod = documents("kubernetes/deployment.yaml")[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert not {"command", "args"} & container.keys()
    known = {"status.podIP": address}
    environ = {
        one["name"]: one["value"] if "value" in one else known[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container["env"]
    }
    asked = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    probes = tuple((one["port"], one["path"]) for one in asked)
    return image(**environ)._replace(healthcheck=(), probes=probes, grace=pod["terminationGracePeriodSeconds"])


def fly() -> Start:
    """Read how Fly.io starts it."""
    said = tomllib.loads(text("fly.toml"))
    probes = tuple(("public", one["path"]) for one in said["http_service"]["checks"])
    return image(**said["env"])._replace(healthcheck=(), probes=probes, grace=said["kill_timeout"])


def railway() -> Start:
    """Read how Railway starts it."""
    said = json.loads(text("railway.json"))["deploy"]
    assert "startCommand" not in said
    probes = (("public", said["healthcheckPath"]),)
    return image()._replace(healthcheck=(), probes=probes, grace=said["drainingSeconds"])


def render() -> Start:
    """Read how Render starts it."""
    (service,) = documents("render.yaml")[0]["services"]
    assert not {"dockerCommand", "envVars"} & service.keys()
    probes = (("public", service["healthCheckPath"]),)
    return image()._replace(healthcheck=(), probes=probes, grace=service["maxShutdownDelaySeconds"])


def ecs() -> Start:
    """Read how ECS starts it."""
    (container,) = json.loads(text("ecs-task-definition.json"))["containerDefinitions"]
    assert not {"command", "entryPoint"} & container.keys()
    environ = {one["name"]: one["value"] for one in container["environment"]}
    kind, *check = container["healthCheck"]["command"]
    assert kind == "CMD"
    return image(**environ)._replace(healthcheck=tuple(check), grace=container["stopTimeout"])


def procfile(process_type: str = "web") -> Start:
    """Read how a platform with a Procfile starts a process type."""
    commands = dict(re.findall(r"^([A-Za-z0-9_-]+):\s*(.+)$", text("Procfile"), re.MULTILINE))
    return Start(_program(shlex.split(commands[process_type])), {})


def unit(name: str) -> Mapping[str, Mapping[str, str]]:
    """Read a unit of systemd."""
    parser = RawConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read_string(text(f"systemd/{name}").replace("\\\n", " "))
    return parser


def systemd() -> Start:
    """Read how systemd starts it."""
    service = unit("shop.service")["Service"]
    return Start(_program(shlex.split(service["ExecStart"])), {}, grace=_seconds(service["TimeoutStopSec"]))


def sockets() -> Iterator[tuple[str, str, int]]:
    """Read the sockets that systemd passes: the name of each, its address and its port."""
    for name in unit("shop.service")["Service"]["Sockets"].split():
        said = unit(name)["Socket"]
        host, _, port = said["ListenStream"].rpartition(":")
        yield said["FileDescriptorName"], host, int(port)


def _program(command: list[str]) -> tuple[str, ...]:
    program, *arguments = command
    assert program.rpartition("/")[2] == "duallisten"
    return tuple(arguments)


def _seconds(said: str) -> float:
    return float(said.removesuffix("s"))

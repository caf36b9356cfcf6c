"""The files in `deploy/` are what their readers expect: by their schemas, and each name and port in agreement."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest
from pydantic import TypeAdapter

from duallisten.config.platforms import load
from tests.deploy.files import DEPLOY, documents, image, instructions, sockets, text, unit
from tests.support.running import DUALLISTEN, ROOT

KUBERNETES = [
    pytest.param(document, id=f"{path.stem}-{number}")
    for path in sorted((DEPLOY / "kubernetes").iterdir())
    for number, document in enumerate(documents(f"kubernetes/{path.name}"))
]
MODELS = {"v1": "core_v1", "apps/v1": "apps_v1", "networking.k8s.io/v1": "networking_v1"}
PRIVATE_PORT = 9240


def test_a_page_of_the_documentation_shows_each_file() -> None:
    shown = {name for page in (ROOT / "docs").rglob("*.md") for name in re.findall(r'--8<-- "(.+?)"', page.read_text())}
    there = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there - shown == {"README.md", ".dockerignore", "requirements.txt"}


def test_the_image_is_made_in_two_stages_and_runs_as_nobody_in_particular() -> None:
    built, run = instructions(0), instructions()
    assert built != run
    user = dict(run)["USER"]
    assert user.partition(":")[0].isdigit() and not user.startswith("0")
    copied = [rest.split() for name, rest in (*built, *run) if name == "COPY"]
    from_here = {source for *sources, _ in copied for source in sources if not sources[0].startswith("--from")}
    assert from_here == {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    assert all((DEPLOY / name).exists() for name in from_here)
    assert dict(run)["EXPOSE"].split() == [image().environ["PORT"], str(PRIVATE_PORT)]


def test_compose_s_schema_holds() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    (said,) = documents("compose.yaml")
    jsonschema.validate(said, schema)
    assert said["networks"]["private"]["internal"]
    assert "private" not in said["services"]["proxy"]["networks"]


@pytest.mark.parametrize("document", KUBERNETES)
def test_kubernetes_knows_each_field_of_a_manifest(document: dict[str, Any]) -> None:
    module = import_module(f"lightkube.models.{MODELS[document['apiVersion']]}")
    read = msgspec.convert(document, getattr(module, document["kind"]))
    assert _without_none(msgspec.to_builtins(read)) == document


def test_the_manifests_agree_on_labels_and_ports() -> None:
    (deployment,) = documents("kubernetes/deployment.yaml")
    (policy,) = documents("kubernetes/network-policy.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"public": int(image().environ["PORT"]), "private": PRIVATE_PORT}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    opened = {one["port"]: rule["from"] for rule in policy["spec"]["ingress"] for one in rule["ports"]}
    assert opened.keys() == ports.keys() and all(opened.values())
    services = {one["metadata"]["name"]: one["spec"] for one in documents("kubernetes/services.yaml")}
    assert all(one["selector"] == labels for one in services.values())
    assert services["shop"]["ports"][0]["targetPort"] == "public"
    (private,) = services["shop-private"]["ports"]
    assert (private["port"], private["targetPort"]) == (PRIVATE_PORT, "private")
    probes = [container[name]["httpGet"]["port"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == ["private"] * 3


def test_ecs_knows_each_field_of_the_task_definition() -> None:
    found = importlib.util.find_spec("types_boto3_ecs")
    assert found is not None and found.submodule_search_locations is not None
    package = ModuleType("ecs_types")  # the types without the package's client, which needs botocore
    package.__path__ = [*found.submodule_search_locations]
    sys.modules[package.__name__] = package
    shape = import_module("ecs_types.type_defs").RegisterTaskDefinitionRequestTypeDef
    said = json.loads(text("ecs-task-definition.json"))
    assert TypeAdapter(shape).validate_python(said) == said
    ports = {one["name"]: one["containerPort"] for one in said["containerDefinitions"][0]["portMappings"]}
    assert ports == {"public": int(image().environ["PORT"]), "private": PRIVATE_PORT}


def test_fly_proxy_comes_in_at_the_port_that_is_opened() -> None:
    said = tomllib.loads(text("fly.toml"))
    assert said["http_service"]["internal_port"] == int(said["env"]["PORT"])
    assert said["http_service"]["auto_stop_machines"] == "off"
    assert said["kill_timeout"] <= 300


def test_render_keeps_none_of_the_ports() -> None:
    (service,) = documents("render.yaml")[0]["services"]
    assert service["plan"] != "free"
    assert PRIVATE_PORT not in load("render").barred_ports


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze (package systemd)")
def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        program = DUALLISTEN[0]
        (tmp_path / path.name).write_text(path.read_text().replace("/srv/shop/venv/bin/duallisten", program))
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_sockets_belong_to_the_service() -> None:
    service = unit("shop.service")
    names = service["Service"]["Sockets"].split()
    assert service["Unit"]["Requires"].split() == names
    assert {name for name, *_ in sockets()} == {"public", "private"}
    assert unit("shop-private.socket")["Socket"]["Service"] == "shop.service"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value

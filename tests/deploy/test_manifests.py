"""The manifests for Kubernetes fit what the worker does, and Dockerfile, chart and unit agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from sandboxq.cli.run import command
from sandboxq.config import WorkerSettings
from tests.container.oci import USER
from tests.deploy.settings_schema import FILE, schema

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
OBJECTS: list[dict[str, Any]] = [
    each
    for each in yaml.safe_load_all((DEPLOY / "kubernetes/images.yaml").read_text())
    if each is not None
]


def of_kind(kind: str, component: str = "worker") -> dict[str, Any]:
    """Return the object of that kind."""
    found = [
        each
        for each in OBJECTS
        if each["kind"] == kind
        and each["metadata"]["labels"].get("app.kubernetes.io/component", component) == component
    ]
    assert len(found) == 1
    return found[0]


POD: dict[str, Any] = of_kind("Deployment")["spec"]["template"]["spec"]
WORKER: dict[str, Any] = POD["containers"][0]


def test_the_schema_knows_the_settings_of_run() -> None:
    """A mistyped setting is refused; ``python -m tests.deploy.settings_schema`` writes the file."""
    assert json.loads(FILE.read_text()) == schema()


def test_arguments_and_variables_are_those_of_run() -> None:
    """The command takes them."""
    name, *arguments = WORKER["args"]
    assert name == "run"
    context = command.make_context("run", list(arguments), resilient_parsing=True)
    assert context.params["processors"] == ("resize.py",)
    known = {each.envvar for each in command.params}
    assert {each["name"] for each in WORKER["env"]} <= known


def test_running_jobs_have_their_time() -> None:
    """Kubernetes kills later than the worker gives up."""
    given = {each["name"]: each.get("value") for each in WORKER["env"]}
    shutdown = float(given["SANDBOXQ_SHUTDOWN_TIMEOUT"])
    assert shutdown == WorkerSettings().shutdown_timeout
    assert POD["terminationGracePeriodSeconds"] >= shutdown + 10


def test_probes_ask_what_they_should() -> None:
    """Liveness never asks Redis."""
    paths = {
        name: WORKER[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert [each["name"] for each in WORKER["ports"]] == ["http"]


def test_it_may_do_nothing_that_a_container_was_not_tried_with() -> None:
    """tests/container has the same user and restrictions."""
    assert POD["securityContext"]["runAsUser"] == USER
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert WORKER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {"name": "tmp", "mountPath": "/tmp"} in WORKER["volumeMounts"]
    dockerfile = (DEPLOY / "container/Dockerfile").read_text()
    assert re.search(rf"^USER {USER}:{USER}$", dockerfile, re.MULTILINE)


def test_keda_asks_an_exporter_that_is_there() -> None:
    """By the name of its service, for a queue that it is told to tell of."""
    scaled = of_kind("ScaledObject")
    url = scaled["spec"]["triggers"][0]["metadata"]["url"]
    service = of_kind("Service", "exporter")["metadata"]["name"]
    assert url == f"http://{service}.images.svc:9808/v1/load?queue=images&children=2"
    exporter = of_kind("Deployment", "exporter")["spec"]["template"]["spec"]["containers"][0]
    assert exporter["args"] == ["metrics", "images"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == of_kind("Deployment")["metadata"]["name"]
    assert "replicas" not in of_kind("Deployment")["spec"]

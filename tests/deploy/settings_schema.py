"""Writes values.schema.json of the chart, whose settings are those of the command ``run``.

python -m tests.deploy.settings_schema
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sandboxq.cli.run import command

CHART = Path(__file__).parents[2] / "docs/deploy/helm/sandboxq"
FILE = CHART / "values.schema.json"
# What the chart sets by values of its own.
OF_CHART = {"http", "queue", "url"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_OBJECT = {"type": "object"}
_SETTING = {"type": ["string", "number", "boolean"]}


def settings() -> list[str]:
    """Return the names of the settings that have a variable, as flags without dashes before."""
    names = {each.opts[0].lstrip("-") for each in command.params if each.envvar}
    return sorted(names - OF_CHART)


def schema() -> dict[str, Any]:
    """Return the schema: names that are mistyped and values of other types are refused."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "processors": _TEXTS,
            "queues": _TEXTS,
            "settings": {
                "type": "object",
                "properties": {name: dict(_SETTING) for name in settings()},
                "additionalProperties": False,
            },
            "replicas": _COUNT,
            "terminationGracePeriodSeconds": {"type": ["integer", "null"], "minimum": 1},
            "redis": _known("existingSecret", "key", "url"),
            "image": _known("repository", "tag", "pullPolicy"),
            "resources": _OBJECT,
            "keda": {
                "type": "object",
                "properties": {
                    "enabled": {"type": "boolean"},
                    "trigger": {"enum": ["load", "redis"]},
                    "queue": {"type": "string"},
                    "children": {"type": "integer", "minimum": 1},
                    "target": {"type": "string"},
                    "minReplicas": _COUNT,
                    "maxReplicas": {"type": "integer", "minimum": 1},
                    "pollingInterval": _COUNT,
                    "cooldownPeriod": _COUNT,
                    "scaleDown": _OBJECT,
                    "redis": _known("address", "prefix", "authenticationRef"),
                },
                "additionalProperties": False,
            },
        },
    }


def _known(*names: str) -> dict[str, Any]:
    texts = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": texts, "additionalProperties": False}


if __name__ == "__main__":
    FILE.write_text(json.dumps(schema(), indent=2) + "\n")

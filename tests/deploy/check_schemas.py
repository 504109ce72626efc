"""Run by test_chart.py with the schemas on the path: checks each object of a file of YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHERS = {"ScaledObject": ScaledObject, "PodMonitor": PodMonitor}


def unknown(given: Any, taken: Any, place: str) -> Iterator[str]:
    """Yield what a model has not taken: no schema of these forbids other fields by itself."""
    if isinstance(given, dict):
        for name, value in given.items():
            if name in taken:
                yield from unknown(value, taken[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}"
    elif isinstance(given, list):
        for one, other in zip(given, taken, strict=True):
            yield from unknown(one, other, place)


def check(each: dict[str, Any]) -> None:
    """Raise an error when the object is not valid."""
    model = OTHERS.get(each["kind"])
    if model is None:
        kubernetes_validate.validate(each, "1.37", strict=True)
        return
    taken = model.model_validate(each).model_dump(mode="json", by_alias=True, exclude_unset=True)
    fields = list(unknown(each, taken, each["kind"]))
    assert not fields, fields


if __name__ == "__main__":
    for each in yaml.safe_load_all(Path(sys.argv[1]).read_text()):
        if each is not None:
            check(each)

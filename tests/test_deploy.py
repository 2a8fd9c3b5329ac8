"""The Kubernetes manifests parse, hold only fields that KubeRay's v1 resources have, and name commands that exist.

Nothing here is applied to a Kubernetes cluster.
"""

import importlib
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))

# Fields of the published custom resource definitions (ray.io/v1) that the manifests use.
FIELDS = {
    "RayCluster": {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"},
    "RayJob": {
        "entrypoint",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "runtimeEnvYAML",
        "rayClusterSpec",
    },
    "RayService": {"serveConfigV2", "rayClusterConfig"},
    "PersistentVolumeClaim": {"accessModes", "resources"},
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def load(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    return document


def cluster_of(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or (spec if "headGroupSpec" in spec else None)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_manifest_has_only_known_fields(path: Path) -> None:
    document = load(path)
    assert set(document["spec"]) <= FIELDS[document["kind"]]
    assert document["apiVersion"] == ("v1" if document["kind"] == "PersistentVolumeClaim" else "ray.io/v1")
    cluster = cluster_of(document)
    if cluster is None:
        return
    assert set(cluster) <= FIELDS["RayCluster"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert cluster["rayVersion"] == pinned["ray"]
    for group in [{"groupName": "head", **cluster["headGroupSpec"]}, *cluster["workerGroupSpecs"]]:
        assert set(group) <= GROUP
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert {"requests", "limits"} <= set(container["resources"])


def test_images_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in MANIFESTS:
        cluster = cluster_of(load(path))
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]] if cluster else []:
            assert group["template"]["spec"]["containers"][0]["image"] == f"unirna:{version}"


@pytest.mark.parametrize("name", ["rayjob-pretrain.yaml", "rayjob-embed.yaml"])
def test_entrypoints_are_commands_of_ours(name: str) -> None:
    words = shlex.split(load(ROOT / "deploy" / "kuberay" / name)["spec"]["entrypoint"])
    assert words[0] == "python"
    shown = subprocess.run(
        [sys.executable, str(ROOT / words[1]), "--help"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    for flag in (word for word in words if word.startswith("--")):
        assert f"{flag} " in shown, f"{words[1]} has no {flag}"


def test_service_config_builds_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    from unirna.serve.settings import SettingsError

    config = yaml.safe_load(load(ROOT / "deploy" / "kuberay" / "rayservice.yaml")["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    module, _, function = application["import_path"].partition(":")
    build = getattr(importlib.import_module(module), function)
    monkeypatch.delenv("UNIRNA_API_KEY", raising=False)
    with pytest.raises(SettingsError, match="UNIRNA_API_KEY"):
        build(application["args"])
    monkeypatch.setenv("UNIRNA_API_KEY", "k" * 32)
    assert build(application["args"]) is not None
    with pytest.raises(SettingsError, match="no setting stores"):
        build({**application["args"], "stores": "x"})

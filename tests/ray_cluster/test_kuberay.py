"""RayJob and RayCluster for KubeRay: structure, pods against Kubernetes' schema. Not checked against KubeRay's CRD."""

from __future__ import annotations

import copy
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl.config.shipped import shipped_sweeps

FOLDER = Path(__file__).resolve().parents[2] / "ray_cluster"
FILE = FOLDER / "kuberay.yaml"
GROUPS = ("head", "workers")


@pytest.fixture
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def _pod(job: dict[str, Any], group: str) -> dict[str, Any]:
    cluster = job["spec"]["rayClusterSpec"]
    spec = cluster["headGroupSpec"] if group == "head" else cluster["workerGroupSpecs"][0]
    template: dict[str, Any] = spec["template"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": group}, **template}


def test_a_failed_job_is_submitted_again_by_the_same_command(job: dict[str, Any]) -> None:
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["backoffLimit"] >= 1, "each failure builds the cluster again; what is finished is on the volume"
    assert spec["shutdownAfterJobFinishes"] is True
    verb, sweep = spec["entrypoint"].split()[1:3]
    assert verb == "sweep"
    assert sweep in shipped_sweeps()


def test_the_cluster_runs_the_ray_that_is_tested_and_refuses_strangers(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == metadata.version("ray")
    assert cluster["authOptions"] == {"mode": "token"}


def test_a_cluster_that_stays_up_is_the_jobs(job: dict[str, Any]) -> None:
    stays = yaml.safe_load((FOLDER / "raycluster.yaml").read_text())
    assert (stays["apiVersion"], stays["kind"]) == ("ray.io/v1", "RayCluster")
    assert stays["spec"] == job["spec"]["rayClusterSpec"], "what is checked of the one holds for the other"


def test_the_image_has_what_the_pods_ask_for(job: dict[str, Any]) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert f"-t {_pod(job, 'head')['spec']['containers'][0]['image']} " in text
    root = FOLDER.parent
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert copied
    assert all((root / name).exists() for name in copied)
    assert text.rstrip().splitlines()[-2] == "USER 1000", "not as root"


@pytest.mark.parametrize("group", GROUPS)
def test_results_and_data_lie_on_the_volume_that_all_pods_share(job: dict[str, Any], group: str) -> None:
    pod = _pod(job, group)["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    for variable in ("STDCL_STORAGE", "STDCL_DATA"):
        (place,) = (path for path in mounts if environment[variable].startswith(f"{path}/"))
        assert mounts[place]["persistentVolumeClaim"]["claimName"] == "stdcl-shared"
    assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory", "64 MB of shared memory are Kubernetes' default"
    assert "WANDB_API_KEY" not in environment, "a key comes from a Secret"


@pytest.mark.parametrize("group", GROUPS)
def test_a_pod_is_what_kubernetes_accepts(job: dict[str, Any], group: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    pod = _pod(job, group)
    newest = kubernetes.latest_version()
    kubernetes.validate(pod, newest, strict=True)
    wrong = copy.deepcopy(pod)
    wrong["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(wrong, newest, strict=True)

"""How many trainings fit on a cluster, and what each process is handed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stdcl.config import ResourcesConfig
from stdcl.errors import UserError
from stdcl.launch.cluster import (
    START_ATTEMPTS,
    Cluster,
    _start,
    capacity,
    check_capacity,
    environment_to_hand_on,
    oversubscribed,
    waiting_for,
)
from stdcl.sweep.trainables import trial_resources


def resources(**settings: Any) -> ResourcesConfig:
    return ResourcesConfig(**settings)


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 2.0}], {"workers": 2}, 1),
        ([{"CPU": 8.0}], {"workers": 2}, 4),
        ([{"CPU": 1.0}], {"workers": 2}, 0),
        ([{"CPU": 2.0}], {"workers": 1, "cpus_per_worker": 0.5}, 4),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"workers": 3, "cpus_per_worker": 2.0}, 0),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"workers": 2, "cpus_per_worker": 2.0}, 1),
        ([{}, {"CPU": 8.0, "GPU": 2.0}], {"workers": 2, "gpus_per_worker": 1.0}, 1),
        ([{"CPU": 8.0, "GPU": 1.0}], {"workers": 1, "gpus_per_worker": 0.25}, 4),
        ([{"CPU": 64.0, "GPU": 4.0}], {"workers": 1, "gpus_per_worker": 0.25}, 16),
        ([{"CPU": 8.0, "GPU": 4.0}], {"workers": 1, "gpus_per_worker": 0.75}, 4),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 8.0}], {"workers": 1, "gpus_per_worker": 0.3}, 8),
        ([{"CPU": 8.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 1.0}], {"workers": 2, "gpus_per_worker": 1.0}, 2),
        ([{"CPU": 8.0}], {"workers": 2, "gpus_per_worker": 1.0}, 0),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"workers": 2, "placement": "STRICT_PACK"}, 2),
        ([{"CPU": 1.0}, {"CPU": 1.0}], {"workers": 2, "placement": "STRICT_PACK"}, 0),
        ([{"CPU": 4.0}], {"workers": 2, "placement": "STRICT_SPREAD"}, 0),
        ([{"CPU": 4.0}, {"CPU": 1.0}], {"workers": 2, "placement": "STRICT_SPREAD"}, 1),
        ([{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0}], {"workers": 2, "placement": "STRICT_SPREAD"}, 3),
    ],
)
def test_capacity(nodes: list[dict[str, float]], settings: dict[str, Any], expected: int) -> None:
    assert capacity(nodes, resources(**settings)) == expected


def test_too_small_a_cluster_is_refused_with_both_numbers() -> None:
    cluster = Cluster("10.0.0.1:6379", False, ({"CPU": 4.0}, {"CPU": 4.0}))
    with pytest.raises(UserError) as caught:
        check_capacity(cluster, resources(workers=4, gpus_per_worker=1.0))
    text = str(caught.value)
    assert "4 x 1 CPU, 4 x 1 GPU" in text
    assert "8 CPU, 0 GPU on 2 node(s)" in text


def test_a_trial_of_several_workers_holds_no_cpu_itself() -> None:
    assert trial_resources(resources(workers=2)).bundles == [{"node:__internal_head__": 0.001}]
    assert trial_resources(resources(workers=1, cpus_per_worker=2.0)).bundles == [{"CPU": 2.0}]


def test_only_our_variables_are_handed_on() -> None:
    given = {"WANDB_API_KEY": "x", "STDCL_DATA": "/data", "AWS_SECRET_ACCESS_KEY": "y", "HOME": "/root"}
    assert environment_to_hand_on(given) == {"WANDB_API_KEY": "x", "STDCL_DATA": "/data"}


@pytest.mark.parametrize(
    ("text", "kind", "attempts"),
    [
        ("The current node timed out during startup.\nDetails", UserError, START_ATTEMPTS),
        ("something else", RuntimeError, 1),
    ],
)
def test_ray_that_does_not_come_up_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, kind: type[Exception], attempts: int
) -> None:
    calls = []

    def init(**settings: Any) -> None:
        calls.append(settings)
        raise RuntimeError(text)

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(kind) as caught:
        _start(resources(workers=2), tmp_path)
    assert len(calls) == attempts
    assert text.splitlines()[0] in str(caught.value)
    assert "Details" not in str(caught.value)


def test_what_a_training_waits_for() -> None:
    text = waiting_for(resources(workers=2, gpus_per_worker=1.0), {"CPU": 1.0}, {"CPU": 4.0, "GPU": 2.0})
    assert text.startswith(
        "waiting for 2 x 1 CPU, 2 x 1 GPU (placement PACK): 1 of 4 CPU, 0 of 2 GPU free on the cluster"
    )


def test_more_cpus_than_the_machine_has_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("stdcl.launch.cluster.available_cores", lambda: 2)
    assert oversubscribed(resources(workers=2)) == ""
    note = oversubscribed(resources(workers=4))
    assert "resources.workers 4 x resources.cpus_per_worker 1 are more than the 2 core(s)" in note
    assert oversubscribed(resources(workers=1, cpus_per_worker=3.0))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert oversubscribed(resources(workers=4)) == "", "check_capacity knows what a cluster has"

"""``stdcl doctor`` as a user types it: a cluster that answers, refuses or is not there; and ranks without a card."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stdcl.cli.codes import DONE, FAILED
from stdcl.data.nw_ucla.prepare import prepare_nw_ucla
from stdcl.data.nw_ucla.synthetic import write_corpus
from tests.ray.conftest import bare_environment
from tests.ray.own_ray import own_ray

pytestmark = pytest.mark.slow

Findings = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mapping[str, str]]:
    """One node with a GPU that does not exist."""
    with own_ray(gpus=1, cpus=2) as environment:
        yield environment


def doctor(folder: Path, environment: Mapping[str, str], *words: str) -> tuple[int, Findings, str]:
    """Return the exit code, the findings by what was looked at, and what else was said."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stdcl", "doctor", "--json", *words],
        env={
            **bare_environment(), "STDCL_DATA": str(folder / "data"), "STDCL_STORAGE": str(folder / "runs"),
            "HOME": str(folder), **environment,
        },
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    found: Findings = {}
    for each in json.loads(done.stdout):
        found.setdefault(each["what"], []).append(each)
    return done.returncode, found, done.stderr


def test_it_connects(tmp_path: Path, cluster: Mapping[str, str]) -> None:
    code, found, _ = doctor(tmp_path, cluster)
    assert code == DONE
    (said,) = found["cluster"]
    assert said["state"] == "ok"
    assert said["text"].endswith("answers: 1 node(s), 2 CPU, 1 GPU")
    node, note = found["node"]
    assert "2 CPU, 1 GPU; stdcl " in node["text"], "it was asked for its versions"
    assert (note["state"], "the NVIDIA driver lists 0" in note["text"]) == ("note", True)


@pytest.mark.parametrize(
    "token",
    [{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "token"}, {}],
    ids=["wrong", "missing", "no mode"],
)
def test_a_cluster_that_refuses_is_not_called_absent(
    tmp_path: Path, cluster: Mapping[str, str], token: dict[str, str]
) -> None:
    code, found, stderr = doctor(tmp_path, {**token, "RAY_ADDRESS": cluster["RAY_ADDRESS"]})
    assert code == FAILED
    (said,) = found["cluster"]
    assert said["state"] == "bad"
    assert "the cluster refuses us" in said["text"]
    assert "Its token must be in ~/.ray/auth_token or $RAY_AUTH_TOKEN" in said["text"]
    assert "no Ray cluster answers" not in said["text"]
    assert stderr == "", "Ray's own complaints"


def test_nothing_listens(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for words in ([], ["--gpu"]):
        code, found, _ = doctor(tmp_path, {"RAY_ADDRESS": address}, *words)
        assert code == FAILED
        (said,) = found["cluster"]
        assert (
            "no Ray cluster answers there (Connection refused). Start a cluster with 'ray start --head'" in said["text"]
        )
        assert (address in said["text"]) is (not words), "a report about GPUs names no address"


def test_a_cluster_s_card_that_does_not_exist(tmp_path: Path, cluster: Mapping[str, str]) -> None:
    code, found, stderr = doctor(tmp_path, cluster, "--gpu")
    assert code == FAILED
    (said,) = found["ranks"]
    assert said["text"].startswith(
        "on node ADDRESS: a GPU was asked for, but the NVIDIA driver of this machine lists no"
    )
    assert "trying 1 card(s)" in stderr
    assert not list((tmp_path / "runs").iterdir()), "nothing is left"


def test_without_a_card_two_ranks_are_tried_over_gloo(tmp_path: Path) -> None:
    """On a store so small that the recipe's contrast finds too few sequences of a class."""
    write_corpus(tmp_path / "raw", 60, 3)
    prepare_nw_ucla(tmp_path / "raw", tmp_path / "data" / "nw-ucla")
    code, found, _ = doctor(tmp_path, {}, "--gpu", "--cpu", "--encoder", "hcn")
    assert code == FAILED, "there is no card"
    assert [each["state"] for each in found["no card"]] == ["bad"]
    (ranks,) = found["ranks"]
    assert ranks["state"] == "ok"
    assert ranks["text"].startswith("2 ranks on 1 node(s) over gloo and shared memory: every collective is right")
    (training,) = found["training"]
    assert "hcn with STD-CL on nw-ucla cross-view, recipe lite" in training["text"]
    assert {"loader", "epoch", "memory of training", "processor", "tf32"} <= found.keys()
    assert not list((tmp_path / "runs").iterdir()), "nothing is left"

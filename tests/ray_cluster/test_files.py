"""The files that bring machines up: their structure, and the words that reach the sweep."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "ray_cluster"


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("submit", FOLDER / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--set", "seeds=[1, 2, 3]"], ["--set", "seeds=[1, 2, 3]"]),
        (["--set", "question=does it run?", "--dry-run"], ["--set", "question=does it run?", "--dry-run"]),
        (
            ["--set", "seeds=[1, 2]", "--set", "training.epochs=5"],
            ["--set", "seeds=[1, 2]", "--set", "training.epochs=5"],
        ),
        (["--dry-run"], ["--dry-run"]),
        ([], []),
    ],
)
def test_values_survive_ray_submit(submit: ModuleType, typed: list[str], meant: list[str]) -> None:
    arrived = " ".join(typed).split()  # what ray submit makes of them
    assert submit.rejoined(arrived) == meant


def test_the_sweep_is_found_where_the_cluster_file_puts_it(submit: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / ".stdcl" / "sweeps"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine")
    assert submit.find("mine") == str(folder / "mine.yaml")
    assert submit.find("mine.yaml") == str(folder / "mine.yaml")
    assert submit.find("ablation_tau") == "ablation_tau"  # the package's own
    with pytest.raises(SystemExit, match=r"other\.yaml: no such sweep file on the head"):
        submit.find("other.yaml")


def test_the_cluster_files_are_what_ray_accepts() -> None:
    """Ray's own check of cluster files, in a process of its own: it changes what Ray knows of the environment."""
    code = """
import json, sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
workers = []
for path in sys.argv[1:]:
    config = prepare_config(yaml.safe_load(open(path)))
    validate_config(config)
    workers.append(config["max_workers"])
print(json.dumps(workers))
"""
    paths = [str(FOLDER / f"{name}.yaml") for name in ("onprem", "aws", "gcp")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [2, 4, 4]


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_a_cloud_has_room_for_a_trial_at_all_times_and_a_token(provider: str) -> None:
    config: dict[str, Any] = yaml.safe_load((FOLDER / f"{provider}.yaml").read_text())
    assert config["provider"]["type"] == provider
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert kinds["gpu"]["min_workers"] >= 1
    assert kinds["gpu"]["resources"]["GPU"] >= 1
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("/shared" in command and "mount" in command for command in config["initialization_commands"])


@pytest.mark.parametrize("name", ["onprem", "aws", "gcp"])
def test_nothing_of_a_cluster_file_shadows_or_omits_the_package(name: str) -> None:
    config: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert "~/stdcl" not in config["file_mounts"]
    # A pattern without a leading slash leaves out folders anywhere, also inside the package.
    assert "rsync_exclude" not in config
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert command.lstrip().startswith(". ~/.stdcl/cluster/env.sh")
    if name == "onprem":
        assert any("RAY_enable_autoscaler_v2=0" in command for command in config["head_start_ray_commands"])


def test_a_checkout_in_the_home_folder_does_not_shadow_the_package(tmp_path: Path) -> None:
    """``ray submit`` puts the file there, and Python the file's folder first on its path."""
    shutil.copy(FOLDER / "submit.py", tmp_path)
    (tmp_path / "stdcl").mkdir()
    (tmp_path / "statistics.py").write_text("raise ImportError('of the home folder')")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "submit.py"), "no-such-sweep", "--", "--dry-run"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "not installed" not in done.stderr
    assert "no-such-sweep" in done.stderr

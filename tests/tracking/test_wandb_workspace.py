"""A sweep's workspace at W&B: its panels as data, and as W&B would be sent them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from stdcl.cli.dashboard import layout_of
from stdcl.errors import UserError
from stdcl.report.load import load_sweep_state
from stdcl.tracking.wandb_settings import WandbSettings
from stdcl.tracking.wandb_workspace import Panel, build, layout, save
from tests.report.sweeps import temperature_sweep

METRICS = ("epoch", "accuracy", "loss", "ce", "loss_spatial", "contrast/active", "seconds")
TAU = "contrast.temperature"
INSTALLED = importlib.util.find_spec("wandb_workspaces") is not None


def test_panels_are_of_what_varies_and_of_what_the_rows_have() -> None:
    found = layout("tau", [TAU], METRICS)
    assert found.grouped == (TAU,)
    assert found.sections == {
        "Accuracy by cell": (Panel("curves", ("accuracy",)), Panel("curves", ("loss",))),
        "What varies": (Panel("parallel", ("accuracy",), (TAU,)), Panel("importance", ("accuracy",))),
        "Loss terms": (Panel("curves", ("ce",)), Panel("curves", ("loss_spatial",))),
        "Banks": (Panel("curves", ("contrast/active",)),),
    }
    assert list(layout("plain", [], ["accuracy"]).sections) == ["Accuracy by cell"]


def test_a_sweeps_layout_is_read_from_its_folder(tmp_path: Path) -> None:
    sweep = temperature_sweep(tmp_path / "tau", {None: [400], 0.5: [410]})
    folder = sweep.save()
    (trial,) = [path for path in (folder / "trials").iterdir() if "0.5" in path.name]
    row = {"schema": 2, "epoch": 1, "accuracy": 0.5, "loss_spatial": 1.0, "notices": []}
    (trial / "history.jsonl").write_text(json.dumps(row) + "\n")
    found = layout_of(load_sweep_state(folder))
    assert found.sweep == "tau"
    assert found.grouped == (TAU, "contrast.strategy"), "a baseline's configuration has a temperature too"
    assert found.sections["Loss terms"] == (Panel("curves", ("loss_spatial",)),)


@pytest.mark.skipif(not INSTALLED, reason="wandb-workspaces is not installed (pip install 'stdcl[dashboard]')")
def test_what_wandb_would_be_sent() -> None:
    spec: dict[str, Any] = json.loads(
        build(layout("tau", [TAU], METRICS), "me", "stdcl")._to_model().model_dump_json(exclude_none=True)
    )
    assert (spec["entity"], spec["project"], spec["display_name"]) == ("me", "stdcl", "stdcl: tau")
    section = spec["spec"]["section"]
    (runs,) = section["run_sets"]
    assert [(each["key"]["name"], each["value"]) for each in runs["filters"]["filters"]] == [
        ("group", "tau"),
        ("jobType", "train"),
    ]
    assert runs["grouping"] == [{"section": "config", "name": "contrast.value.temperature"}]
    kinds = [[panel["view_type"] for panel in each["panels"]] for each in section["panel_bank_config"]["sections"]]
    assert kinds == [
        ["Run History Line Plot"] * 2,
        ["Parallel Coordinates Plot", "Parameter Importance"],
        ["Run History Line Plot"] * 2,
        ["Run History Line Plot"],
    ]


@pytest.mark.skipif(INSTALLED, reason="wandb-workspaces is installed")
def test_without_the_library_its_name_is_said() -> None:
    with pytest.raises(UserError, match=r"pip install 'stdcl\[dashboard\]'"):
        save(layout("tau", [TAU], METRICS), WandbSettings("stdcl"))


@pytest.mark.skipif(not INSTALLED, reason="wandb-workspaces is not installed (pip install 'stdcl[dashboard]')")
def test_without_an_account_nothing_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no W&B account"):
        save(layout("tau", [TAU], METRICS), WandbSettings("stdcl"), {"HOME": str(tmp_path)})

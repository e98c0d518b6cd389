"""Readings of the paper's open passages: a section of their own, and the spelling of release 0.1 without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from stdcl.config import ContrastConfig, changed_keys, fingerprint, read_run_file, to_yaml
from stdcl.config.contrast import ReadingsConfig, long_key, short_key
from stdcl.config.fingerprint import flat_scientific
from stdcl.config.sweep import load_sweep
from stdcl.errors import UserError
from stdcl.results.importance import Importance, Share, read_importance, write_importance
from stdcl.results.plan import Plan, PlannedTrial, read_plan, write_plan
from stdcl.results.scores import Scores, read_scores, write_scores
from stdcl.results.store import TrialRow, append, read
from stdcl.sweep.sampling import study_space, suggest

OTHER: dict[str, Any] = {
    "negative_sets": "union",
    "reduction": "sum",
    "write": "after",
    "exclude_own_slot": False,
    "shortage": "skip",
    "slots": "clip",
    "bias": False,
    "nonlinearity": "relu",
    "person_mask": "present",
    "freeze_head": True,
}
"""Another value of each reading, as a file of release 0.1 had them beside the method's keys."""

BEFORE = "56f386a6ff7b2a27"
"""Fingerprint of ``RUN`` with ``OTHER`` at commit c2ffc6a, where all keys were in one section."""

RUN: dict[str, Any] = {
    "data": {"dataset": "nw-ucla", "path": "store"},
    "encoder": {"name": "ctrgcn"},
    "contrast": {"temperature": 0.5},
}
SWEEP: dict[str, Any] = {"name": "s", "question": "?", "base": {**RUN, "contrast": {"slots": "item"}}}


def write(folder: Path, content: object) -> Path:
    """Write a YAML file."""
    file = folder / "file.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_both_spellings_are_one_configuration_with_the_fingerprint_of_before(tmp_path: Path) -> None:
    short = read_run_file(write(tmp_path, {**RUN, "contrast": {"temperature": 0.5, **OTHER}}))
    long = read_run_file(write(tmp_path, {**RUN, "contrast": {"temperature": 0.5, "readings": OTHER}}))
    plain = write(tmp_path, RUN)
    typed = [f"{name}={json.dumps(value)}" for name, value in OTHER.items()]
    assert short == long
    assert short == read_run_file(plain, [f"contrast.{text}" for text in typed])
    assert short == read_run_file(plain, [f"contrast.readings.{text}" for text in typed])
    assert short == read_run_file(plain, [f"contrast={json.dumps({'temperature': 0.5, **OTHER})}"])
    assert short.contrast == ContrastConfig(temperature=0.5, **OTHER)
    assert fingerprint(short) == BEFORE
    saved = yaml.safe_load(to_yaml(short))
    assert saved["contrast"]["readings"] == {"weights": "printed", **OTHER}


def test_every_reading_has_two_spellings() -> None:
    assert OTHER.keys() == ReadingsConfig.model_fields.keys() - {"weights"}
    for name in ReadingsConfig.model_fields:
        long = f"contrast.readings.{name}"
        assert long_key(f"contrast.{name}") == long_key(long) == long
        assert long_key(f"base.contrast.{name}") == f"base.{long}"
        assert short_key(long) == f"contrast.{name}"
    for other in ("contrast.temperature", "method.slots", "slots", "contrast.readings"):
        assert long_key(other) == short_key(other) == other


def test_a_fault_is_named_in_the_long_spelling_at_the_line_of_the_short_one(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: {dataset: nw-ucla, path: s}\nencoder: {name: ctrgcn}\ncontrast:\n  slots: clips\n")
    with pytest.raises(UserError) as found:
        read_run_file(file)
    assert f"{file}:4: 'contrast.readings.slots' is 'clips' (did you mean 'clip'?)" in str(found.value)
    with pytest.raises(UserError, match=r"--set contrast.slots=clips: 'contrast.readings.slots' is 'clips'"):
        read_run_file(write(tmp_path, RUN), ["contrast.slots=clips"])
    with pytest.raises(UserError, match=r"unknown key 'contrast.sluts' \(did you mean 'slots'\?\)"):
        read_run_file(write(tmp_path, RUN), ["contrast.sluts=clip"])


def test_a_reading_given_in_both_spellings_is_refused(tmp_path: Path) -> None:
    both = {**RUN, "contrast": {"slots": "clip", "readings": {"slots": "item"}}}
    with pytest.raises(UserError, match=r"unknown key 'contrast.slots' .*did you mean 'contrast.readings.slots'"):
        read_run_file(write(tmp_path, both))
    cells = [{"contrast.slots": "clip", "contrast.readings.slots": "item"}]
    with pytest.raises(UserError, match=r"unknown key 'contrast.slots' .*did you mean 'contrast.readings.slots'"):
        load_sweep(write(tmp_path, {**SWEEP, "cells": cells}))


@pytest.mark.parametrize("key", ["contrast.slots", "contrast.readings.slots"])
@pytest.mark.parametrize("typed", [False, True])
def test_sweeps_vary_readings_in_both_spellings(key: str, typed: bool, tmp_path: Path) -> None:
    grid = {key: ["item", "clip"]}
    content = {**SWEEP, "baseline": True} if typed else {**SWEEP, "grid": grid}
    sweep = load_sweep(write(tmp_path, content), [f"grid={json.dumps(grid)}", "baseline=false"] if typed else [])
    assert sweep.parameters == ("contrast.readings.slots",)
    found = {trial.config.contrast.readings.slots: trial for trial in sweep.trials()}
    assert found["clip"].config.contrast.readings.shortage == "clamp"
    assert found["clip"].parameters == {"contrast.readings.slots": "clip"}
    assert found["clip"].key.startswith("slots=clip,seed=1,")


@pytest.mark.parametrize("key", ["contrast.nonlinearity", "contrast.readings.nonlinearity"])
def test_a_reading_that_nothing_reads_is_refused_in_both_spellings(key: str, tmp_path: Path) -> None:
    grid = {"contrast.strategy": ["global"], key: ["none", "relu"]}
    with pytest.raises(UserError, match=r"'contrast.readings.nonlinearity' belongs to the spatial and the temporal"):
        load_sweep(write(tmp_path, {**SWEEP, "grid": grid}), ["base.contrast={}"])


def test_what_the_first_release_stored_is_read_in_the_long_spelling(tmp_path: Path) -> None:
    short, long = {"contrast.slots": "clip"}, {"contrast.readings.slots": "clip"}
    planned = PlannedTrial("k", "grid", short, 1)
    write_plan(tmp_path / "plan.json", Plan("s", "?", "grid", ("contrast.slots",), (planned,)))
    plan = read_plan(tmp_path / "plan.json")
    assert plan is not None
    assert plan.parameters == tuple(long)
    assert plan.trials == (replace(planned, parameters=long, arm="stdcl"),)

    for key, parameters in (("old", short), ("new", long)):
        row = TrialRow("s", key, 0, "failed", "grid", 1, parameters, "d", "p", "test", "joint", "e", "none")
        append(tmp_path / "results", row)
    rows = read(tmp_path / "results")
    assert [json.loads(text) for text in rows["parameters"]] == [long, long]
    assert list(rows["parameter.contrast.readings.slots"]) == ["clip", "clip"]
    assert "parameter.contrast.slots" not in rows

    write_importance(tmp_path / "i.json", Importance("m", 8, 0, {"contrast.slots": Share(1.0, 1.0, 1.0)}))
    importance = read_importance(tmp_path / "i.json")
    assert importance is not None
    assert list(importance.parameters) == list(long)


def test_scores_of_the_first_release_have_settings_in_the_long_spelling(tmp_path: Path) -> None:
    scores = Scores(
        ids=np.array(["a"], dtype=object),
        labels=np.zeros(1, dtype=np.int64),
        logits=np.zeros((1, 2)),
        dataset="d",
        protocol="p",
        stream="joint",
        data_hash="h",
        encoder="e",
        settings={"contrast.slots": "clip"},
    )
    write_scores(tmp_path / "scores.parquet", scores)
    assert read_scores(tmp_path / "scores.parquet").settings == {"contrast.readings.slots": "clip"}


def test_a_saved_configuration_of_the_first_release_does_not_differ(tmp_path: Path) -> None:
    config = read_run_file(write(tmp_path, {**RUN, "contrast": OTHER}))
    saved = yaml.safe_load(to_yaml(config))
    saved["contrast"] |= saved["contrast"].pop("readings")
    assert changed_keys(yaml.safe_dump(saved), config) == []
    saved["contrast"]["write"] = "before"
    assert changed_keys(yaml.safe_dump(saved), config) == [
        "contrast.readings.write: 'before' in the checkpoint, 'after' in this run"
    ]
    assert "contrast.readings.write" in flat_scientific(config)


def test_a_study_has_the_names_of_the_first_release(tmp_path: Path) -> None:
    space = {"contrast.slots": {"type": "choices", "values": ["item", "clip"]}}
    sweep = load_sweep(write(tmp_path, {**SWEEP, "base": RUN, "search": "optuna", "space": space}))
    assert sweep.parameters == ("contrast.readings.slots",)
    found = study_space(sweep.config.space)
    assert list(found.distributions) == ["contrast.slots"]
    study = optuna.create_study()
    study.enqueue_trial({"contrast.slots": "clip"})
    assert suggest(study.ask(), found) == {"contrast.readings.slots": "clip"}

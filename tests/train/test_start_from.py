"""Runs that start from another run: fine-tuning, and training longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl.config import RunConfig, fingerprint
from stdcl.config.model import InitConfig
from stdcl.errors import UserError
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.results.result import read_result
from stdcl.training.start_from import settled
from tests.train.conftest import MakeConfig
from tests.train.test_trainer import metrics, run, weights


def starting_from(source: Path, make_config: MakeConfig, what: str, **sections: Any) -> RunConfig:
    """A configuration that starts from ``source``, as the command settles it."""
    config = make_config(init_from={"run": str(source), "what": what}, **sections)
    assert config.init_from is not None
    return config.model_copy(update={"init_from": settled(config.init_from, (Path.cwd(),))})


def test_a_run_trained_longer_equals_one_trained_at_once(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(training={"epochs": 4}), tmp_path / "whole")
    run(make_config(training={"epochs": 2}), tmp_path / "first")
    longer = starting_from(tmp_path / "first", make_config, "training", training={"epochs": 4})
    run(longer, tmp_path / "longer", stop_after=1)
    run(longer, tmp_path / "longer")  # interrupted and resumed from its own checkpoint
    whole, parts = (read_history(RunFolder(tmp_path / name).history) for name in ("whole", "longer"))
    assert [metrics(row) for row in whole] == [metrics(row) for row in parts]
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "longer")
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    result = read_result(RunFolder(tmp_path / "longer").result)
    assert result is not None
    assert result.init_from == str(tmp_path / "first")


def test_fine_tuning_begins_with_the_encoder_and_nothing_else(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(training={"epochs": 1}), tmp_path / "source")
    plain = {"contrast": {"strategy": "none"}, "training": {"epochs": 1, "learning_rate": 1e-12, "warmup_epochs": 0}}
    tuned = starting_from(tmp_path / "source", make_config, "encoder", **plain)
    rows = run(tuned, tmp_path / "tuned")
    assert [row["epoch"] for row in rows] == [1]
    before, after = weights(tmp_path / "source"), weights(tmp_path / "tuned")
    assert set(after) == {name for name in before if name.startswith("encoder.")}
    for name, value in after.items():
        if value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(value, before[name], rtol=1e-6, atol=1e-9)


def test_where_it_starts_belongs_to_the_fingerprint(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(training={"epochs": 1}), tmp_path / "a")
    run(make_config(training={"epochs": 1, "seed": 2}), tmp_path / "b")
    prints = {fingerprint(make_config())}
    for source, what in (("a", "encoder"), ("b", "encoder"), ("a", "training")):
        prints.add(fingerprint(starting_from(tmp_path / source, make_config, what)))
    assert len(prints) == 4
    moved = (tmp_path / "a").rename(tmp_path / "moved")
    assert fingerprint(starting_from(moved, make_config, "encoder")) in prints


def test_what_does_not_fit_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    run(make_config(training={"epochs": 1}), tmp_path / "a")
    with pytest.raises(UserError, match="weights of another network"):
        run(starting_from(tmp_path / "a", make_config, "encoder", encoder={"hidden": 24}), tmp_path / "b")
    with pytest.raises(UserError, match=r"training\.epochs to more than that"):
        run(starting_from(tmp_path / "a", make_config, "training", training={"epochs": 1}), tmp_path / "c")
    with pytest.raises(UserError, match="stream"):
        run(starting_from(tmp_path / "a", make_config, "training", data={"stream": "bone"}), tmp_path / "d")
    with pytest.raises(UserError, match="no run folder at"):
        settled(InitConfig(run="nowhere"), (tmp_path, tmp_path / "store"))
    with pytest.raises(UserError, match="has changed"):
        settled(InitConfig(run=str(tmp_path / "a"), digest="0" * 16), ())

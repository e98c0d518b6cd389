"""What a sweep's table asks: short forms, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.config.compare import CompareConfig
from stdcl.config.sweep import Sweep, load_sweep
from stdcl.errors import UserError
from tests.config.test_sweep import GRID, SEARCH


def load(folder: Path, text: str, *overrides: str) -> Sweep:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return load_sweep(path, overrides)


@pytest.mark.parametrize(
    ("written", "kind", "value", "scale"),
    [
        ("to baseline", "to baseline", None, "rank"),
        ("{to value: 0.8}", "to value", 0.8, "rank"),
        ("trend", "trend", None, "rank"),
        ("{trend: log}", "trend", None, "log"),
        ("nothing", "nothing", None, "rank"),
        ("{kind: trend, scale: linear}", "trend", None, "linear"),
    ],
)
def test_short_forms(tmp_path: Path, written: str, kind: str, value: float | None, scale: str) -> None:
    text = GRID.replace("[0.5, 0.8]", "[0.5, 0.8, 1.0]") + f"compare: {written}\nmargin: 0.5\ntable: 4a\n"
    config = load(tmp_path, text).config
    assert config.compare is not None
    assert (config.compare.kind, config.compare.value, config.compare.scale) == (kind, value, scale)
    assert (config.margin, config.table) == (0.5, "4a")
    # As it is saved and read again.
    assert CompareConfig.model_validate(config.compare.model_dump(mode="json")) == config.compare


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["compare=to basline"], "to basline"),
        (["compare={to value: 0.7}"], "to value: 0.7, which no key of the grid has"),
        (["compare={to value: null}"], "needs a value"),
        (["compare=trend"], "no key of the grid has three numbers"),
        (["compare={trend: cubic}"], "'rank', 'log' or 'linear'"),
        (["compare={trend: log, scale: rank}"], "unknown key"),
        (["compare=to baseline", "baseline=false"], "set baseline: true"),
        (["margin=0"], "above 0"),
        (["looks=[2, 5]"], "the last all 2"),
        (["looks=[1, 2]"], "the first at least 2"),
        (["looks=[2, 2]"], "ascending"),
        (
            ["grid={contrast.embedding_dim: [64, 128], contrast.channel_reduction: [8, 64]}", "compare={to value: 64}"],
            "vary one of them",
        ),
    ],
)
def test_impossible_questions_are_refused(tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, GRID, *overrides)
    assert said in str(caught.value)


def test_a_search_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="proves nothing"):
        load(tmp_path, SEARCH, "margin=1.0")

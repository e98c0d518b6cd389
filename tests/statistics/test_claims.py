"""The simulation of benchmarks/claims.py: its truth is the one that it says, and the rules hold in a small run."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "claims.py"
    spec = importlib.util.spec_from_file_location("claims", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["claims"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_world_is_what_it_says(claims: ModuleType) -> None:
    world = claims.World("x", accuracy=0.8, differing=0.12, lasting=0.3, person=2.0, training=1.0)
    effects = claims.effects_of(world)
    assert sum(each**2 for each in vars(effects).values()) == pytest.approx(1.0)
    base = float(stats.norm.ppf(0.8))
    # People are the few of these draws: many small studies.
    found = claims.draw(claims.Shape("x", "nw-ucla", (4,) * 10), effects, 2, 4000, np.random.default_rng(1))
    right = [each > -base for each in found.scores]
    # Two hundredths: six times the error of a mean over 4,000 studies, each with a deviation of at most a fifth.
    assert np.mean(right[0]) == pytest.approx(0.8, abs=0.02)
    assert np.mean(right[0] != right[1]) == pytest.approx(0.12, abs=0.02)


def test_a_small_run_keeps_its_promise(claims: ModuleType) -> None:
    studies = 400
    counts, _ = claims.simulate(claims.NW_UCLA, claims.NW_WORLDS[5], studies, np.random.default_rng(3))
    # Four standard errors: a chance of 3e-5 for each of a rule that is exactly right.
    error = 4.0 * math.sqrt(0.05 * 0.95 / studies)
    for seeds in range(1, claims.SEEDS + 1):
        assert counts.share("false", seeds) <= 0.05 + error
        assert counts.share("covered", seeds) >= 0.95 - error
    assert counts.share("power 0.03", 5) > counts.share("power 0.006", 5)

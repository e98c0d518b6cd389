"""Every method gives on several ranks what it gives on one, and continues from a checkpoint of any number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.base import Method
from stdcl.methods.frhead.method import FRHead
from stdcl.methods.frhead.options import FRHeadOptions
from stdcl.methods.gap.method import GAP
from stdcl.methods.gap.options import GAPOptions
from stdcl.methods.skeletongcl.method import SkeletonGCL
from stdcl.methods.skeletongcl.options import SkeletonGCLOptions
from stdcl.methods.stdcl.method import STDCL
from stdcl.parallel.comm import LocalComm
from tests.distributed.ranks import run_on_ranks, run_on_threads
from tests.methods.ranks import SHAPES, Run, assert_equal_runs, assert_equal_states, make_task, take

COUNTS: dict[str, Any] = {"hard_positives": 2, "hard_negatives": 5, "random_negatives": 4, "embedding_dim": 16}


def stdcl() -> Method:
    return STDCL(ContrastConfig(**COUNTS, channel_reduction=2), make_task(), SHAPES)


def skeletongcl(projection: str = "trained") -> Method:
    options = SkeletonGCLOptions.model_validate({"name": "skeletongcl", **COUNTS, "projection": projection})
    return SkeletonGCL(options, make_task(), SHAPES)


def frhead(version: str = "v1") -> Method:
    options = {
        "name": "frhead",
        "version": version,
        "depths": [1, 5],
        "depth_weights": [0.5, 1.0],
        "embedding_dim": 24,
        "prototypes": 7,
    }
    return FRHead(FRHeadOptions.model_validate(options), make_task(), SHAPES)


def gap(scale: str = "plain") -> Method:
    return GAP(GAPOptions.model_validate({"name": "gap", "dim": 12, "scale": scale}), make_task(), SHAPES)


METHODS: dict[str, Callable[[], Method]] = {
    "stdcl": stdcl,
    "skeletongcl": skeletongcl,
    "skeletongcl frozen": partial(skeletongcl, "frozen"),
    "frhead": frhead,
    "frhead v0": partial(frhead, "v0"),
    "frhead v2": partial(frhead, "v2"),
    "gap": gap,
    "gap exponential": partial(gap, "exponential"),
}


def moved(result: dict[str, Any]) -> bool:
    return any(bool(g.any()) for step in result["gradients"] for g in step.values())


@pytest.mark.parametrize("name", METHODS)
def test_threads_give_what_one_rank_gives(name: str) -> None:
    """Parts are uneven; with 4 ranks and 3 sequences a rank has none."""
    plan = Run(METHODS[name], undone=(5,))
    alone = take(LocalComm(), plan)
    assert moved(alone) != (name == "skeletongcl frozen")
    for size in (2, 3, 4):
        assert_equal_runs(run_on_threads(take, size, plan), alone)


@pytest.mark.parametrize("name", ["skeletongcl", "frhead", "gap"])
def test_processes_give_what_one_rank_gives(name: str) -> None:
    plan = Run(METHODS[name])
    alone = take(LocalComm(), plan)
    for size in (2, 4):
        assert_equal_runs(run_on_ranks(take, size, plan), alone)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 4), (4, 3)])
def test_a_checkpoint_continues_on_any_number_of_ranks(name: str, before: int, after: int, tmp_path: Path) -> None:
    whole = take(LocalComm(), Run(METHODS[name], steps=8))
    run_on_threads(take, before, Run(METHODS[name], steps=5, save=str(tmp_path)))
    rest = run_on_threads(take, after, Run(METHODS[name], steps=3, first=5, load=str(tmp_path)))
    expected = {key: whole[key][5:] for key in ("losses", "gradients", "inputs")}
    assert_equal_runs(rest, whole | expected)
    if before == after == 1:
        for step, losses in enumerate(expected["losses"]):
            assert all(torch.equal(rest[0]["losses"][step][term], loss) for term, loss in losses.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_skipped_step_leaves_no_trace(name: str, tmp_path: Path) -> None:
    """After a rollback the next step is that of a training in which the step before was never taken."""
    undone = take(LocalComm(), Run(METHODS[name], steps=7, undone=(5,)))
    take(LocalComm(), Run(METHODS[name], steps=5, save=str(tmp_path)))
    without = take(LocalComm(), Run(METHODS[name], steps=1, first=6, load=str(tmp_path)))
    torch.testing.assert_close(undone["losses"][-1:], without["losses"], rtol=0, atol=0)
    for result in (undone, without):
        result["state"].pop("statistics")
    assert_equal_states(undone["state"], without["state"], 0.0)


def test_prototypes_of_another_shape_are_refused(tmp_path: Path) -> None:
    method = frhead()
    method.start(LocalComm(), torch.device("cpu"), torch.float32)
    state = method.state()
    state["prototypes"] = state["prototypes"][:, :-1]
    with pytest.raises(UserError, match="prototypes are"):
        method.load(state, tmp_path)


def test_other_texts_are_refused(tmp_path: Path) -> None:
    one, other = (
        GAP(GAPOptions(name="gap", dim=12), make_task(), SHAPES),
        GAP(GAPOptions(name="gap", dim=16), make_task(), SHAPES),
    )
    for method in (one, other):
        method.start(LocalComm(), torch.device("cpu"), torch.float32)
    with pytest.raises(UserError, match="trained with other texts"):
        other.load(one.state(), tmp_path)

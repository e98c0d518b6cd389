from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import LocalComm
from tests.distributed.ranks import run_on_threads
from tests.methods.stdcl.oracle import Oracle
from tests.methods.stdcl.runs import assert_same, make_plan, rounding, run
from tests.rounding import assert_within, gamma

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "contrast_loss.json"
SMALL = {
    "strategy": "spatial",
    "embedding_dim": 5,
    "hard_positives": 2,
    "hard_negatives": 7,
    "random_negatives": 5,
}


def _slots(chosen: torch.Tensor, rows: int) -> list[list[int]]:
    return [[s for s in row if s >= 0] for row in chosen[:rows].tolist()]


def test_loss_and_gradient_equal_the_golden_numbers() -> None:
    golden = json.loads(GOLDEN.read_text())["full_bank"]
    random = np.random.RandomState(7)
    bank = random.standard_normal((40, 6)).astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    random.rand(40)
    features = torch.tensor(random.standard_normal((5, 6)).astype(np.float32), requires_grad=True)
    config = ContrastConfig(
        strategy="spatial",
        embedding_dim=6,
        temperature=golden["tau"],
        hard_positives=golden["n_pos"],
        hard_negatives=golden["n_neg"],
        random_negatives=golden["n_neg"],
    )
    contrast = Contrast(config, torch.arange(40) % 4, LocalComm())
    contrast.step({"spatial": torch.tensor(bank)}, torch.arange(40), step=0, batch_size=40)
    result = contrast.step({"spatial": features}, torch.tensor([3, 10, 17, 21, 38]), step=1, batch_size=5)
    result.losses["spatial"].backward()
    assert features.grad is not None
    allowed = rounding(config.model_dump(), torch.float32)
    assert result.losses["spatial"].item() == pytest.approx(golden["loss"], rel=allowed)
    # A gradient's parts are differences of the size of the largest.
    assert_within(features.grad, torch.tensor(golden["grad"]), allowed * features.grad.abs().max())


options = st.fixed_dictionaries(
    {
        "strategy": st.just("spatial"),
        "embedding_dim": st.integers(2, 9),
        "temperature": st.sampled_from([0.05, 0.5, 0.8, 1.0]),
        "hard_positives": st.integers(1, 6),
        "hard_negatives": st.integers(0, 12),
        "random_negatives": st.integers(1, 12),
        "negative_sets": st.sampled_from(["separate", "union"]),
        "reduction": st.sampled_from(["mean", "sum"]),
        "write": st.sampled_from(["before", "after"]),
        "exclude_own_slot": st.booleans(),
        "shortage": st.sampled_from(["skip", "clamp"]),
        "exchange": st.sampled_from(["candidates", "allgather"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    config=options,
    slots=st.integers(2, 40),
    classes=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    ties=st.booleans(),
    duplicates=st.booleans(),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([1, 2, 3]),
)
def test_equal_to_the_paper_written_as_loops(
    config: dict[str, Any],
    slots: int,
    classes: int,
    batch_size: int,
    ties: bool,
    duplicates: bool,
    seed: int,
    size: int,
) -> None:
    plan = make_plan(
        config,
        slots=slots,
        classes=classes,
        batch_size=batch_size,
        steps=8,
        seed=seed,
        ties=ties,
        duplicates=duplicates,
    )
    results = run_on_threads(run, size, plan)
    oracle = Oracle(config, plan.labels)
    for step, (embeddings, chosen) in enumerate(plan.batches):
        selected = results[0]["selections"][step]
        rows = len(chosen)
        drawn = selected["spatial random_negatives"][:rows].tolist()
        expected = oracle.step(embeddings["spatial"], chosen.tolist(), drawn)
        assert results[0]["active"][step].tolist()[:rows] == expected["active"]
        assert not results[0]["active"][step][rows:].any()
        assert _slots(selected["spatial positives"], rows) == expected["positives"]
        assert _slots(selected["spatial hard_negatives"], rows) == expected["hard_negatives"]
        torch.testing.assert_close(results[0]["losses"][step][0], expected["loss"], rtol=1e-12, atol=1e-12)
        gradient = torch.cat([result["gradients"][step][:, 0] for result in results])
        # The gradient passes the division by the row's norm, which random rows of few numbers may have small.
        steep = max(1.0, float(1.0 / embeddings["spatial"].norm(dim=1).min()))
        torch.testing.assert_close(gradient, expected["gradient"], rtol=1e-10, atol=1e-11 * steep)


@settings(max_examples=20, deadline=None)
@given(
    config=options,
    strategy=st.sampled_from(["spatial", "temporal", "spatial+temporal", "global", "spatial+temporal+global"]),
    slots=st.integers(2, 45),
    classes=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    ties=st.booleans(),
    all_on_one=st.booleans(),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([2, 3, 4, 8]),
    double=st.booleans(),
)
def test_any_number_of_ranks_gives_the_same(
    config: dict[str, Any],
    strategy: str,
    slots: int,
    classes: int,
    batch_size: int,
    ties: bool,
    all_on_one: bool,
    seed: int,
    size: int,
    double: bool,
) -> None:
    plan = make_plan(
        {**config, "strategy": strategy},
        slots=slots,
        classes=classes,
        batch_size=batch_size,
        steps=6,
        seed=seed,
        dtype=torch.float64 if double else torch.float32,
        ties=ties,
        all_on_one=all_on_one,
    )
    assert_same(run_on_threads(run, size, plan), run_on_threads(run, 1, plan), plan)


@pytest.mark.parametrize(
    ("exchange", "dtype", "sizes"),
    [("candidates", torch.float32, (2, 3, 8)), ("allgather", torch.float32, (3,)), ("candidates", torch.float64, (3,))],
)
def test_selection_holds_at_real_sizes_with_planted_ties(
    exchange: str, dtype: torch.dtype, sizes: tuple[int, ...]
) -> None:
    """Some thousand slots, D 256, and rows that many slots share: near-ties and exact ties at the k-th place."""
    config = {"strategy": "spatial", "embedding_dim": 256, "hard_positives": 32, "hard_negatives": 128}
    config |= {"random_negatives": 64, "exchange": exchange}
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2_100) % 7
    vectors = torch.randn(300, 256, generator=generator, dtype=dtype)
    batches = [
        ({"spatial": vectors[torch.randint(0, 300, (len(part),), generator=generator)]}, part)
        for part in torch.randperm(2_100, generator=generator).split(210)
    ]
    batches += [({"spatial": vectors[part % 300]}, part) for part in torch.randperm(2_100).split(210)[:1]]
    plan = make_plan(config)
    plan = type(plan)(config, labels, batches, 210, dtype)
    reference = run_on_threads(run, 1, plan)
    for size in sizes:
        assert_same(run_on_threads(run, size, plan), reference, plan)


def test_more_ranks_than_needed_and_k_beyond_every_shard() -> None:
    """Trap 17: 13 slots on 8 ranks; k larger than any shard; then more ranks than slots."""
    config = {**SMALL, "hard_positives": 3, "hard_negatives": 6, "random_negatives": 6, "shortage": "clamp"}
    plan = make_plan(config, slots=13, classes=2, batch_size=5, steps=10)
    assert_same(run_on_threads(run, 8, plan), run_on_threads(run, 1, plan), plan)
    plan = make_plan(config, slots=5, classes=2, batch_size=5, steps=10)
    assert_same(run_on_threads(run, 8, plan), run_on_threads(run, 1, plan), plan)


def test_both_exchanges_give_the_same() -> None:
    for size in (1, 3):
        plans = [
            make_plan({**SMALL, "strategy": "spatial+temporal+global", "exchange": e, "embedding_dim": 6}, steps=20)
            for e in ("candidates", "allgather")
        ]
        first, second = (run_on_threads(run, size, plan) for plan in plans)
        assert_same(first, second, plans[0])


def test_the_same_run_twice_gives_the_same_bits() -> None:
    plan = make_plan({**SMALL, "strategy": "spatial+temporal"}, steps=10, dtype=torch.float32)
    for size in (1, 3):
        first, second = (run_on_threads(run, size, plan) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a["losses"], b["losses"])
            assert all(map(torch.equal, a["gradients"], b["gradients"]))
            assert all(map(torch.equal, a["rows"], b["rows"]))


def test_a_rank_without_active_anchors_takes_part() -> None:
    """Trap 3: class 1 has one slot, so its anchors are never active; rank 1 has only such anchors."""
    labels = torch.tensor([0] * 9 + [2] * 9 + [1])
    generator = torch.Generator().manual_seed(1)
    fill = torch.randn(19, 5, generator=generator, dtype=torch.float64)
    anchors = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    slots = torch.tensor([0, 12, 18, 18])
    plan = make_plan(SMALL)
    plan = type(plan)(
        SMALL, labels, [({"spatial": fill}, torch.arange(19)), ({"spatial": anchors}, slots)], 19, plan.dtype
    )
    results = run_on_threads(run, 2, plan)
    assert results[0]["active"][1].tolist()[:4] == [True, True, False, False]
    assert results[1]["gradients"][1].abs().sum() == 0
    assert results[0]["gradients"][1].abs().sum() > 0
    assert_same(results, run_on_threads(run, 1, plan), plan)


def test_no_active_anchor_anywhere_is_zero_with_zero_gradient() -> None:
    plan = make_plan({**SMALL, "hard_positives": 30}, steps=3)
    result = run(LocalComm(), plan)
    assert result["losses"].abs().sum() == 0
    assert all(gradient.abs().sum() == 0 for gradient in result["gradients"])
    assert result["stats"]["active_share"] == 0


def test_slots_that_were_never_written_are_never_chosen() -> None:
    """Trap 12: a zero row has similarity 0, which would beat every negative similarity."""
    config = ContrastConfig(**{**SMALL, "shortage": "clamp"})
    contrast = Contrast(config, torch.arange(100) % 2, LocalComm())
    ones = torch.ones(10, 5)
    ones[1::2] *= -1
    result = contrast.step({"spatial": ones}, torch.arange(10), step=0, batch_size=10)
    for name in ("positives", "hard_negatives", "random_negatives"):
        chosen = getattr(result.selection["spatial"], name)
        assert chosen.slots.max() < 10
        assert (chosen.slots >= 0).sum(dim=1).tolist() == [min(chosen.slots.shape[1], 4 + (name != "positives"))] * 10


@pytest.mark.parametrize("exchange", ["candidates", "allgather"])
def test_own_slot_is_excluded_unless_asked_for(exchange: str) -> None:
    """Trap 8: with every slot of the class wanted, the own slot is the one that differs."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    rows = torch.randn(6, 5)
    for exclude in (True, False):
        config = ContrastConfig(
            **{**SMALL, "hard_positives": 3, "shortage": "clamp", "exchange": exchange}, exclude_own_slot=exclude
        )
        contrast = Contrast(config, labels, LocalComm())
        result = contrast.step({"spatial": rows}, torch.arange(6), step=0, batch_size=6)
        for slot, chosen in enumerate(result.selection["spatial"].positives.slots.tolist()):
            assert (slot in chosen) is (not exclude)
            assert sum(s >= 0 for s in chosen) == (2 if exclude else 3)


def test_batch_mates_are_seen_when_written_before_and_not_when_after() -> None:
    for write, expected in (("before", True), ("after", False)):
        contrast = Contrast(ContrastConfig(**SMALL, shortage="clamp", write=write), torch.arange(8) % 2, LocalComm())
        result = contrast.step({"spatial": torch.randn(8, 5)}, torch.arange(8), step=0, batch_size=8)
        assert bool(result.active.all()) is expected


def test_of_a_slot_twice_in_a_batch_the_first_is_kept() -> None:
    """Trap 9: also when the two are on different ranks."""
    plan = make_plan(SMALL, slots=10, classes=2, batch_size=4)
    rows = torch.eye(5, dtype=torch.float64)[:4]
    plan = type(plan)(SMALL, plan.labels, [({"spatial": rows}, torch.tensor([7, 3, 3, 7]))], 4, torch.float64)
    for size in (1, 2, 4):
        results = run_on_threads(run, size, plan)
        for slot, position in ((7, 0), (3, 1)):
            stored = results[slot % size]["rows"][0][slot // size]
            assert torch.equal(stored[:5], rows[position])


def test_hard_positives_are_the_least_and_hard_negatives_the_most_similar() -> None:
    """Trap 16: known angles, on one rank and on three."""
    angles = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 0.1, 0.4, 0.7, 1.0, 1.3, 1.6], dtype=torch.float64)
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    config = {"strategy": "spatial", "embedding_dim": 2, "hard_positives": 2, "hard_negatives": 3}
    config |= {"random_negatives": 1}
    labels = torch.tensor([0] * 6 + [1] * 6)
    plan = make_plan(config)
    plan = type(plan)(config, labels, [({"spatial": rows}, torch.arange(12))], 12, torch.float64)
    for size in (1, 3):
        selected = run_on_threads(run, size, plan)[0]["selections"][0]
        assert selected["spatial positives"][0].tolist() == [5, 4]
        assert selected["spatial hard_negatives"][0].tolist() == [6, 7, 8]


def test_rows_are_unit_float32_and_hold_no_graph() -> None:
    """Traps 18 and 19: also under autocast with half-precision embeddings."""
    contrast = Contrast(ContrastConfig(**SMALL), torch.arange(12) % 2, LocalComm())
    embeddings = (100 * torch.randn(12, 5)).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = contrast.step({"spatial": embeddings}, torch.arange(12), step=0, batch_size=12)
    features = contrast.shards[0].features
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features[:12].norm(dim=1), torch.ones(12), rtol=gamma(5 + 8), atol=0.0)
    assert result.losses["spatial"].dtype == torch.float32
    result.losses["spatial"].backward()
    assert embeddings.grad is not None
    assert embeddings.grad.dtype == torch.bfloat16


def test_an_embedding_of_zeros_gives_finite_numbers() -> None:
    contrast = Contrast(ContrastConfig(**SMALL), torch.arange(12) % 2, LocalComm())
    embeddings = torch.randn(12, 5)
    embeddings[3] = 0
    embeddings.requires_grad_()
    result = contrast.step({"spatial": embeddings}, torch.arange(12), step=0, batch_size=12)
    result.losses["spatial"].backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad[3].abs().sum() == 0


def test_rollback_undoes_a_write_and_changes_nothing_else() -> None:
    """Trap 20: a step that the scaler skipped leaves no trace; the run goes on as if it had not been."""
    plan = make_plan({**SMALL, "strategy": "spatial+temporal"}, slots=23, steps=14, seed=3)
    config = ContrastConfig(**plan.config)
    plain = Contrast(config, plan.labels, LocalComm(), dtype=plan.dtype)
    undone = Contrast(config, plan.labels, LocalComm(), dtype=plan.dtype)
    generator = torch.Generator().manual_seed(0)
    for step, (embeddings, slots) in enumerate(plan.batches):
        noise = {b: torch.full_like(x, torch.nan if step % 2 else 3.0) for b, x in embeddings.items()}
        undone.step(noise, torch.randint(0, 23, slots.shape, generator=generator), step=step, batch_size=6)
        undone.rollback()
        first = plain.step(embeddings, slots, step=step, batch_size=6)
        second = undone.step(embeddings, slots, step=step, batch_size=6)
        for branch in plain.branches:
            assert torch.equal(first.losses[branch], second.losses[branch])
        assert torch.equal(plain.written_step[:-1], undone.written_step[:-1])
    for a, b in zip(plain.shards, undone.shards, strict=True):
        assert torch.equal(a.features, b.features)
    undone.rollback()
    with pytest.raises(RuntimeError, match="nothing to roll back"):
        undone.rollback()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to contrast"):
        Contrast(ContrastConfig(strategy="none"), torch.arange(12) % 2, LocalComm())
    contrast = Contrast(ContrastConfig(**SMALL), torch.arange(12) % 2, LocalComm())
    with pytest.raises(ValueError, match="at most 4"):
        contrast.step({"spatial": torch.randn(5, 5)}, torch.arange(5), step=0, batch_size=4)
    with pytest.raises(ValueError, match="same number"):
        contrast.step({"spatial": torch.randn(3, 5)}, torch.arange(4), step=0, batch_size=4)
    for slot in (12, -1):
        with pytest.raises(RuntimeError, match="slot outside"):
            contrast.step({"spatial": torch.randn(1, 5)}, torch.tensor([slot]), step=0, batch_size=4)


def test_random_negatives_change_with_step_seed_and_branch_but_not_with_company() -> None:
    """Trap 14: a draw belongs to (seed, step, branch, slot); who else is in the batch does not matter."""
    labels = torch.arange(60) % 3
    rows = torch.randn(60, 5)
    config = ContrastConfig(**{**SMALL, "strategy": "spatial+temporal"})

    def draws(seed: int, step: int, batch: list[int]) -> tuple[list[int], list[int]]:
        contrast = Contrast(config, labels, LocalComm(), seed=seed)
        both = {"spatial": rows, "temporal": rows}
        contrast.step(both, torch.arange(60), step=0, batch_size=60)
        chosen = torch.tensor(batch)
        both = {"spatial": rows[chosen], "temporal": rows[chosen]}
        result = contrast.step(both, chosen, step=step, batch_size=len(batch)).selection
        place = batch.index(4)
        spatial, temporal = (result[b].random_negatives.slots[place].tolist() for b in ("spatial", "temporal"))
        return spatial, temporal

    base = draws(0, 1, [4, 9])
    assert base == draws(0, 1, [30, 4, 11])
    different = [base[0], base[1], draws(0, 2, [4])[0], draws(1, 1, [4])[0]]
    assert all(a != b for a, b in itertools.combinations(different, 2))

"""Runs a few steps of the contrast on the ranks of a communicator, for comparison between numbers of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.head import branches_of
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import Comm
from tests.rounding import gamma

SETS = ("positives", "hard_negatives", "random_negatives")


@dataclass(frozen=True)
class Plan:
    """A run: what enters in each step, and how it is divided over ranks."""

    config: dict[str, Any]
    labels: Tensor
    batches: list[tuple[dict[str, Tensor], Tensor]]
    batch_size: int
    dtype: torch.dtype
    all_on_one: bool = False
    """Give the whole batch to ranks as full as they may be, from the last rank down: others get nothing."""

    def parts(self, count: int, size: int) -> list[int]:
        """Number of sequences on each rank."""
        if not self.all_on_one:
            return [len(part) for part in torch.tensor_split(torch.arange(count), size)]
        share = -(-self.batch_size // size)
        sizes = []
        for _ in range(size):
            sizes.append(min(share, count))
            count -= sizes[-1]
        return sizes[::-1]


def make_plan(
    config: dict[str, Any],
    *,
    slots: int = 37,
    classes: int = 4,
    batch_size: int = 6,
    steps: int = 12,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    ties: bool = False,
    duplicates: bool = True,
    all_on_one: bool = False,
) -> Plan:
    """Draw labels, batches of varying size and embeddings; with ``ties`` from a handful of vectors only."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (slots,), generator=generator)
    dim = config["embedding_dim"]
    few = torch.randn(5, dim, generator=generator, dtype=torch.float64)
    batches = []
    for _ in range(steps):
        count = int(torch.randint(1, batch_size + 1, (), generator=generator))
        if duplicates:
            chosen = torch.randint(0, slots, (count,), generator=generator)
        else:
            chosen = torch.randperm(slots, generator=generator)[:count]
        embeddings = {}
        for branch in branches_of(config["strategy"]):
            rows = torch.randn(len(chosen), dim, generator=generator, dtype=torch.float64)
            if ties:
                rows = few[torch.randint(0, 5, (len(chosen),), generator=generator)]
            embeddings[branch] = rows.to(dtype)
        batches.append((embeddings, chosen))
    return Plan(config, labels, batches, batch_size, dtype, all_on_one)


def run(comm: Comm, plan: Plan) -> dict[str, Any]:
    """Run a plan on one rank and return losses, local gradients, selections and the rank's final rows."""
    contrast = Contrast(ContrastConfig(**plan.config), plan.labels, comm, dtype=plan.dtype, seed=5)
    losses, gradients, selections, active = [], [], [], []
    for step, (embeddings, slots) in enumerate(plan.batches):
        sizes = plan.parts(len(slots), comm.size)
        start = sum(sizes[: comm.rank])
        mine = slice(start, start + sizes[comm.rank])
        local = {b: x[mine].clone().requires_grad_() for b, x in embeddings.items()}
        result = contrast.step(local, slots[mine], step=step, batch_size=plan.batch_size)
        total = sum(result.losses.values())
        assert isinstance(total, Tensor)
        total.backward()
        losses.append(torch.stack(list(result.losses.values())).detach())
        gradients.append(torch.stack([x.grad for x in local.values()], dim=1))
        active.append(result.active)
        selections.append({f"{b} {name}": getattr(s, name).slots for b, s in result.selection.items() for name in SETS})
    return {
        "losses": torch.stack(losses),
        "gradients": gradients,
        "selections": selections,
        "active": torch.stack(active),
        "rows": [shard.features[:-1].clone() for shard in contrast.shards],
        "stats": {k: v for k, v in contrast.epoch_stats().items() if "bytes" not in k and "seconds" not in k},
    }


def rounding(config: dict[str, Any], dtype: torch.dtype) -> float:
    """Return how far a loss, or its gradient, may be off for two orders of its sums, relative to itself and to 1.

    A score is a sum over the embedding of unit rows, divided by the temperature; a loss is a sum over scores.
    """
    full = ContrastConfig(**config)
    counted = full.hard_positives + full.hard_negatives + full.random_negatives
    return 2 * gamma(full.embedding_dim + counted + 16, dtype) / min(full.temperature, 1.0)


def whole_bank(results: list[dict[str, Any]], slots: int) -> Tensor:
    """Put the ranks' rows together: ``(branches, L, D)``."""
    size = len(results)
    branches = []
    for b in range(len(results[0]["rows"])):
        bank = torch.zeros(slots, results[0]["rows"][b].shape[1], dtype=results[0]["rows"][b].dtype)
        for rank, result in enumerate(results):
            bank[rank::size] = result["rows"][b]
        branches.append(bank)
    return torch.stack(branches)


def assert_same(results: list[dict[str, Any]], reference: list[dict[str, Any]], plan: Plan) -> None:
    """Assert that two runs of one plan, on any number of ranks, agree: selections exactly, numbers to rounding."""
    tolerance = rounding(plan.config, plan.dtype)
    wanted = reference[0]
    for result in results:
        assert result["selections"] is not None
        for step, (mine, theirs) in enumerate(zip(result["selections"], wanted["selections"], strict=True)):
            for name, slots in mine.items():
                assert torch.equal(slots, theirs[name]), f"step {step}: {name} differ"
        assert torch.equal(result["active"], wanted["active"])
        torch.testing.assert_close(result["losses"], wanted["losses"], rtol=tolerance, atol=tolerance)
        assert result["stats"].keys() == wanted["stats"].keys()
        for name, value in result["stats"].items():
            # An epoch's means over at most every anchor of every step.
            allowed = tolerance + gamma(len(plan.batches) * plan.batch_size, plan.dtype)
            assert abs(value - wanted["stats"][name]) <= allowed * max(1.0, abs(value)), name
    for step in range(len(plan.batches)):
        gradient = torch.cat([result["gradients"][step] for result in results])
        target = torch.cat([result["gradients"][step] for result in reference])
        torch.testing.assert_close(gradient, target, rtol=tolerance, atol=tolerance)
    slots = plan.labels.numel()
    assert torch.equal(whole_bank(results, slots), whole_bank(reference, slots))

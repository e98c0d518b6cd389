"""Bytes that each rank sends in a step of the contrast, counted for both exchanges at L and 10 L slots.

    python -m benchmarks.communication [--slots 5100] [--markdown]

The bytes are what the collectives of one whole step carry, counted as they are called (``CountingComm``). What a rank
sends follows from shapes alone, so a communicator that answers for the other ranks stands in for them; a test compares
its counts with those of real gloo processes.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import ReduceOp
from stdcl.parallel.placement import Placement

RANKS = (2, 3, 4, 8, 16)


class EchoComm:
    """Rank 0 of ``size`` ranks that all hold what it holds: right shapes, and so right counts, without the others."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def all_gather(self, x: Tensor) -> Tensor:
        return x.detach().expand(self.size, *x.shape).clone()

    def all_to_all(self, x: Tensor) -> Tensor:
        return x.detach()[:1].expand_as(x).clone()

    def all_reduce(self, x: Tensor, op: ReduceOp = "sum") -> Tensor:
        return x.detach().clone()

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return x.detach().clone()

    def barrier(self) -> None:
        return None


def counted(config: ContrastConfig, slots: int, size: int, batch_size: int, classes: int = 10) -> float:
    """Run one step and return the bytes that rank 0 of ``size`` sent."""
    contrast = Contrast(config, torch.arange(slots) % classes, EchoComm(size))
    share = batch_size // size
    rows = {branch: torch.randn(share, config.embedding_dim) for branch in contrast.branches}
    contrast.step(rows, torch.arange(share), step=0, batch_size=batch_size)
    return contrast.epoch_stats()["communication_bytes"]


def predicted(config: ContrastConfig, slots: int, size: int, batch_size: int, branches: int) -> float:
    """The formula of docs/scaling.md, for ring collectives and float32 banks."""
    share = -(-batch_size // size)
    gathers, reduces = size - 1, 2 * (size - 1) / size
    anchors = gathers * share * (4 * branches * config.embedding_dim + 8)
    ages = reduces * 4 * branches
    if config.exchange == "allgather":
        width = -(-config.embedding_dim // 4) * 4
        return anchors + ages + gathers * 4 * branches * Placement(slots, size).rows(0) * width
    asked = config.hard_positives + config.hard_negatives
    candidates = 2 * gathers * branches * share * asked * 8  # to the merging rank, and merged to all
    drawn = reduces * 4 * branches * batch_size * config.random_negatives
    gradient = reduces * 4 * branches * batch_size * config.embedding_dim
    return anchors + candidates + drawn + gradient + ages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=5_100, help="L")
    parser.add_argument("--batch", type=int, default=16, help="sequences in the global batch")
    arguments = parser.parse_args()
    print("Counted bytes sent per step and rank, spatial+temporal, D 256, 128/512/512, batch", arguments.batch)
    print("| exchange | W | L | 10 L | formula at L |")
    print("|---|---|---|---|---|")
    for exchange in ("candidates", "allgather"):
        config = ContrastConfig(exchange=exchange)
        for size in RANKS:
            few, many = (counted(config, n, size, arguments.batch) for n in (arguments.slots, 10 * arguments.slots))
            formula = predicted(config, arguments.slots, size, arguments.batch, branches=2)
            print(f"| {exchange} | {size} | {few:,.0f} | {many:,.0f} | {formula:,.0f} |")


if __name__ == "__main__":
    main()

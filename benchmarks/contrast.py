"""Time of one bank's forward and backward, beside what the machine can do at all.

    python -m benchmarks.contrast [--threads N] [--repeats N] [--clock wall|cpu] [--exchange candidates|allgather]

For each (batch, slots, classes) it prints the milliseconds of one whole step of one branch (write, compare, select,
loss, gradient), of the bare matrix product anchors x bank, of one pass over the bank, the ratio of the step to their
sum, and the memory the step needs beyond the bank. All are the best of interleaved repeats in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import LocalComm

CASES = ((16, 5_100, 10), (64, 40_091, 60), (64, 63_026, 120))


def fill(contrast: Contrast, chunk: int = 2048, spread: float = 0.15) -> None:
    """Write every slot of the (single) shard with rows scattered about a centre of their class."""
    labels = contrast.slot_index.classes
    generator = torch.Generator().manual_seed(0)
    dim = contrast.config.embedding_dim
    centres = torch.nn.functional.normalize(torch.randn(int(labels.max()) + 1, dim, generator=generator), dim=1)
    for slots in torch.split(torch.arange(contrast.slot_index.num_slots), chunk):
        rows = centres[labels[slots]] + spread * torch.randn(len(slots), dim, generator=generator)
        contrast.write({b: torch.nn.functional.normalize(rows, dim=1) for b in contrast.branches}, slots)


def memory_peak(reset: bool) -> int:
    """Peak resident bytes of this process since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def resident() -> int:
    """Resident bytes of this process now (Linux)."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def run_case(
    batch: int, slots: int, classes: int, exchange: str, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Measure one case; milliseconds and MB."""
    config = ContrastConfig(strategy="spatial", exchange=exchange)
    contrast = Contrast(config, torch.arange(slots) % classes, LocalComm())
    fill(contrast)
    bank = contrast.shards[0].features
    before = resident()
    memory_peak(reset=True)
    generator = torch.Generator().manual_seed(1)
    inputs = [
        (
            torch.randn(batch, config.embedding_dim, generator=generator, requires_grad=True),
            torch.randperm(slots, generator=generator)[:batch],
        )
        for _ in range(8)
    ]
    counter = 0

    def step() -> None:
        nonlocal counter
        embeddings, chosen = inputs[counter % len(inputs)]
        result = contrast.step({"spatial": embeddings}, chosen, step=counter, batch_size=batch)
        result.losses["spatial"].backward()
        counter += 1

    anchors = torch.randn(batch, config.embedding_dim)
    out = torch.empty(len(bank), batch)
    measured: dict[str, Callable[[], object]] = {
        "step": step,
        "product": lambda: torch.mm(bank, anchors.t(), out=out),
        "pass": lambda: bank.sum(),
    }
    step()
    beyond = memory_peak(reset=False) - before
    best = dict.fromkeys(measured, float("inf"))
    for _ in range(repeats):
        for name, function in measured.items():
            began = clock()
            function()
            best[name] = min(best[name], 1000 * (clock() - began))
    flops = 2 * batch * slots * config.embedding_dim
    return {**best, "gflops": flops / best["product"] / 1e6, "memory_mb": beyond / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--exchange", choices=("candidates", "allgather"), default="candidates")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of one thread, for a machine that does other work too",
    )
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    if arguments.clock == "cpu":
        arguments.threads = 1
    clock = time.perf_counter if arguments.clock == "wall" else time.thread_time
    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.threads} threads, exchange {arguments.exchange}, D 256, 128/512/512, best of {arguments.repeats}"
    )
    print("batch   slots classes | step ms = product + pass + rest (x of product + pass) | GFLOP/s  MB beyond bank")
    rows = []
    for batch, slots, classes in CASES:
        row = run_case(batch, slots, classes, arguments.exchange, arguments.repeats, clock)
        rows.append({"batch": batch, "slots": slots, "classes": classes, **row})
        floor = row["product"] + row["pass"]
        print(
            f"{batch:5d} {slots:7d} {classes:7d} | {row['step']:7.2f} = {row['product']:6.2f} + {row['pass']:5.2f} + "
            f"{row['step'] - floor:6.2f} ({row['step'] / floor:4.1f} x) | {row['gflops']:7.0f}  {row['memory_mb']:6.0f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

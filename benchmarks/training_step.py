"""One training step of CTR-GCN at NW-UCLA size: forward, loss, backward, SGD.

    python benchmarks/training_step.py [--contrast] [--threads N] [--repeats N] [--batch N]

Prints milliseconds a sequence, the GFLOP/s by the public implementation's operation count, and the machine's
matrix-product peak measured in the same run. ``--contrast`` also runs the step with STD-CL (decoupling head, both banks
full, sampling, loss; one rank) and prints what share it adds. All are interleaved.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from encoders import LAYOUTS, REFERENCE_GMAC, make_encoder, processor, seconds
from peak import Peak
from torch import Tensor, nn

from stdcl.config.contrast import ContrastConfig
from stdcl.encoders.base import Encoder
from stdcl.launch.malloc import keep_freed_memory
from stdcl.methods.stdcl.head import DecouplingHead
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import LocalComm

LAYOUT = LAYOUTS["nw-ucla"]
SLOTS = 5100


def optimiser(modules: list[nn.Module]) -> torch.optim.Optimizer:
    """The recipe's SGD."""
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)


def plain_step(model: Encoder, x: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a step with cross-entropy alone."""
    sgd = optimiser([model])

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(x).logits, labels).backward()
        sgd.step()

    return step


def contrast_step(model: Encoder, x: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a step with cross-entropy, spatial and temporal contrast, the banks full."""
    config = ContrastConfig()
    shape = model.feature_shape()
    head = DecouplingHead(config, shape, shape[1])
    contrast = Contrast(config, torch.arange(SLOTS) % LAYOUT.num_classes, LocalComm())
    contrast.write(
        {
            branch: nn.functional.normalize(torch.randn(SLOTS, config.embedding_dim), dim=1)
            for branch in contrast.branches
        },
        torch.arange(SLOTS),
    )
    sgd = optimiser([model, head])
    count = 0

    def step() -> None:
        nonlocal count
        sgd.zero_grad(set_to_none=True)
        output = model(x)
        slots = (torch.arange(len(x)) + count * len(x)) % SLOTS
        result = contrast.step(head(output.feature_map, output.pooled), slots, step=count, batch_size=len(x))
        loss = torch.nn.functional.cross_entropy(output.logits, labels)
        for term in result.losses.values():
            loss = loss + term
        loss.backward()
        sgd.step()
        count += 1

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contrast", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread, not the wall clock")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time needs --threads 1")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as training does
    batch = arguments.batch
    x = torch.randn(batch, 3, LAYOUT.num_frames, LAYOUT.num_joints, LAYOUT.num_persons)
    labels = torch.arange(batch) % LAYOUT.num_classes
    reference = Peak()
    runs: dict[str, Callable[[], object]] = {"plain": plain_step(make_encoder("ctrgcn", LAYOUT), x, labels)}
    if arguments.contrast:
        runs["contrast"] = contrast_step(make_encoder("ctrgcn", LAYOUT), x, labels)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, clock))
        reference.take(lambda run: seconds(run, clock))
    best = {name: min(values) for name, values in times.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    achieved = 6 * REFERENCE_GMAC["ctrgcn"]["nw-ucla"] * batch / best["plain"]
    peak = 1e-9 * reference.flops()
    print(f"{processor()}, {arguments.threads} threads, batch {batch}, load now {os.getloadavg()[0]:.1f}")
    print(
        f"CTR-GCN training step: {best['plain'] / batch * 1e3:.1f} ms/sequence (median "
        f"{median['plain'] / batch * 1e3:.1f}), {achieved:.0f} GFLOP/s, peak {peak:.0f} "
        f"({reference.kind()}), share {achieved / peak:.0%}"
    )
    if arguments.contrast:
        print(
            f"with STD-CL: {best['contrast'] / batch * 1e3:.1f} ms/sequence (median "
            f"{median['contrast'] / batch * 1e3:.1f}); it adds {best['contrast'] / best['plain'] - 1:.1%} (of medians "
            f"{median['contrast'] / median['plain'] - 1:.1%})"
        )


if __name__ == "__main__":
    main()

"""What each method adds to a training step of CTR-GCN at NW-UCLA size, in time and memory.

    python benchmarks/methods.py [--repeats N] [--batch N] [--frames N]

Forward, the objective with the method's terms, backward and SGD, on one rank, banks and prototypes filled, with the
options of ``preset: fair``. Steps of all methods alternate; processor time of one thread is counted. A ratio is the
median over rounds of (a method's step / the plain step of the same round). Memory is the largest resident set of a
process of its own that makes three steps, banks included, less that of the plain one.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from encoders import LAYOUTS, processor

from stdcl.config.load import resolve
from stdcl.data.dataset import Batch
from stdcl.encoders.base import Layout
from stdcl.encoders.build import build_encoder
from stdcl.launch.malloc import keep_freed_memory
from stdcl.methods.base import Features, FeatureShapes, Step, Task
from stdcl.methods.build import build_method, method_taps
from stdcl.parallel.comm import LocalComm
from stdcl.training.model import Model
from stdcl.training.objective import Objective
from stdcl.training.optim import build_optimizer

ITEMS = 5100
"""Training items: 1,020 clips, each five times per epoch, as the full recipe has it."""
PLAIN = "none"
METHODS = (PLAIN, "stdcl", "skeletongcl", "frhead", "gap")
ROUNDS_BEFORE = 2


def make_step(name: str, batch: int, frames: int) -> Callable[[], None]:
    """Return a training step with a method, whose banks are filled."""
    config = resolve(
        {"data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": "ctrgcn"}, "method": {"name": name}},
        "benchmark",
    )
    like = LAYOUTS["nw-ucla"]
    layout = Layout(like.num_joints, like.num_persons, frames, like.num_classes, like.skeleton)
    labels = torch.arange(ITEMS) % layout.num_classes
    torch.manual_seed(0)
    encoder = build_encoder(config.encoder, layout)
    encoder.request_taps(method_taps(config))
    shapes = FeatureShapes(*encoder.output_shapes())
    classes = tuple(f"class {label}" for label in range(layout.num_classes))
    task = Task(labels, ITEMS // 5, classes, layout.skeleton, seed=0, batch_size=batch, identity="benchmark")
    method = build_method(config, task, shapes)
    model, comm, device = Model(encoder, method), LocalComm(), torch.device("cpu")
    method.start(comm, device, torch.float32)
    objective = Objective(config.training, method, comm, device)
    optimizer = build_optimizer(config.training, model.parameters())
    number = 0

    def items() -> torch.Tensor:
        return (torch.arange(batch) + number * batch) % ITEMS

    present = torch.ones(batch, layout.num_persons, dtype=torch.bool)
    for number in range(-(-ITEMS // batch) if name != PLAIN else 0):  # fills banks and prototypes; features are drawn
        logits = torch.nn.functional.one_hot(labels[items()], layout.num_classes) * 5.0 + torch.randn(batch, 1)
        drawn = Features(
            logits,
            torch.randn(batch, *shapes.feature_map),
            torch.randn(batch, shapes.pooled),
            present,
            {tap: torch.randn(batch, *shape) for tap, shape in shapes.taps.items()},
        )
        with torch.no_grad():
            method.step(method.embed(drawn), Step(logits, labels[items()], items(), number, 0, batch))
    x = torch.randn(batch, 3, frames, layout.num_joints, layout.num_persons)

    def step() -> None:
        nonlocal number
        at = items()
        optimizer.zero_grad(set_to_none=True)
        output = model(x, labels[at], at, present)
        seen = Batch(x, labels[at], at, present)
        objective(output, seen, number=number, epoch=config.training.epochs - 1, global_size=batch).total.backward()
        optimizer.step()
        number += 1

    return step


def memory(name: str, arguments: argparse.Namespace) -> float:
    """Return the largest resident set of three steps in a process of their own, MB."""
    command = [
        sys.executable,
        __file__,
        "--only",
        name,
        "--batch",
        str(arguments.batch),
        "--frames",
        str(arguments.frames),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--frames", type=int, default=52)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    if arguments.only:
        step = make_step(arguments.only, arguments.batch, arguments.frames)
        for _ in range(3):
            step()
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        print(int(peak) / 1024)
        return
    steps = {name: make_step(name, arguments.batch, arguments.frames) for name in METHODS}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for round_number in range(ROUNDS_BEFORE + arguments.repeats):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            if round_number >= ROUNDS_BEFORE:
                seconds[name].append(time.process_time() - begun)
    needed = {name: memory(name, arguments) for name in METHODS}
    print(
        f"{processor()}, 1 thread, batch {arguments.batch}, {arguments.frames} frames, {arguments.repeats} rounds, "
        f"torch {torch.__version__}, load now {os.getloadavg()[0]:.1f}"
    )
    print("| method | ms per sequence (median) | step / plain step | lowest to highest quarter | memory, MB more |")
    print("|---|---|---|---|---|")
    for name in METHODS:
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        median = 1e3 * statistics.median(seconds[name]) / arguments.batch
        more = needed[name] - needed[PLAIN]
        print(f"| {name} | {median:.1f} | {middle:.3f} | {low:.3f} to {high:.3f} | {more:+.0f} |")


if __name__ == "__main__":
    main()

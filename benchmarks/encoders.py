"""Forward and backward of every encoder, beside the machine's peak (peak.py) measured in the same run.

    python benchmarks/encoders.py [ENCODER ...] [--layouts nw-ucla ntu] [--threads N] [--repeats N] [--batch N]

One row per encoder and layout: milliseconds per sequence of one training step's forward and backward, the GFLOP/s that
this achieves by the public implementation's own operation count (FLOPs = 2 multiply-accumulates of its convolutions,
linear layers and matrix products; training = 3 forward passes), the peak, their ratio, and milliseconds per sequence of
evaluation. Work that exact algebra saves counts as done, so the ratio can pass 100 %. Steps and the peak's work are
interleaved; the best of each is reported, and the ratio of medians beside the ratio of the best.

``--cpu-time`` counts the processor time of one thread instead of the wall clock: for a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peak import Peak
from pydantic import TypeAdapter

from stdcl.config.model import EncoderConfig
from stdcl.encoders.base import Encoder, Layout
from stdcl.encoders.build import build_encoder
from stdcl.launch.malloc import keep_freed_memory
from stdcl.skeleton import NTU, NW_UCLA

LAYOUTS = {
    "nw-ucla": Layout(num_joints=20, num_persons=1, num_frames=52, num_classes=10, skeleton=NW_UCLA),
    "ntu": Layout(num_joints=25, num_persons=2, num_frames=64, num_classes=60, skeleton=NTU),
}
# Multiply-accumulates (1e9) of one sequence's forward pass in the public implementations, all persons.
REFERENCE_GMAC = {
    "hcn": {"nw-ucla": 0.114, "ntu": 0.389},
    "agcn": {"nw-ucla": 1.334, "ntu": 4.140},
    "ctrgcn": {"nw-ucla": 0.618, "ntu": 1.939},
    "hyperformer": {"nw-ucla": 1.665, "ntu": 5.273},
    "infogcn": {"nw-ucla": 0.570, "ntu": 1.784},
}
OPTIONS = {"hyperformer": {"hyperedges": "default"}}


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    steps: list[float]
    evaluations: list[float]
    peak: Peak


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return what ``clock`` says one call took."""
    start = clock()
    run()
    return clock() - start


def make_encoder(name: str, layout: Layout) -> Encoder:
    """Build an encoder with its default options."""
    config: EncoderConfig = TypeAdapter(EncoderConfig).validate_python({"name": name, **OPTIONS.get(name, {})})
    torch.manual_seed(0)
    return build_encoder(config, layout)


def training_pass(model: Encoder, x: torch.Tensor, labels: torch.Tensor, keys: torch.Tensor) -> None:
    """Run forward, loss and backward."""
    model.zero_grad(set_to_none=True)
    output = model(x, keys=keys, labels=labels)
    loss = torch.nn.functional.cross_entropy(output.logits, labels)
    for term in model.own_losses(output, labels).values():
        loss = loss + term
    loss.backward()


def measure(name: str, layout: Layout, batch: int, repeats: int, clock: Callable[[], float]) -> Timing:
    """Time training passes, evaluations and the peak in turn."""
    model = make_encoder(name, layout)
    x = torch.randn(batch, 3, layout.num_frames, layout.num_joints, layout.num_persons)
    labels, keys = torch.arange(batch) % layout.num_classes, torch.arange(batch)
    timing = Timing([], [], Peak())

    def evaluate() -> None:
        model.eval()
        with torch.no_grad():
            model(x)
        model.train()

    for warm in (True, *[False] * repeats):
        results = (
            seconds(lambda: training_pass(model, x, labels, keys), clock),
            seconds(evaluate, clock),
        )
        timing.peak.take(lambda run: seconds(run, clock), keep=not warm)
        if not warm:
            timing.steps.append(results[0])
            timing.evaluations.append(results[1])
    return timing


def row(name: str, layout_name: str, batch: int, timing: Timing) -> str:
    """Format one line of the table."""
    flops = 6e9 * REFERENCE_GMAC[name][layout_name] * batch
    achieved, peak = flops / min(timing.steps), timing.peak.flops()
    by_median = (flops / statistics.median(timing.steps)) / timing.peak.flops(statistics.median)
    return (
        f"| {name} | {layout_name} | {min(timing.steps) / batch * 1e3:.1f} | {achieved / 1e9:.0f} | "
        f"{peak / 1e9:.0f} ({timing.peak.kind()}) | "
        f"{achieved / peak:.0%} | {by_median:.0%} | {min(timing.evaluations) / batch * 1e3:.1f} |"
    )


def processor() -> str:
    """Return the processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    except OSError:
        names = {platform.processor()}
    return ", ".join(sorted(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=sorted(REFERENCE_GMAC), metavar="ENCODER")
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time needs --threads 1")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    unknown = sorted(set(arguments.encoders) - set(REFERENCE_GMAC))
    if unknown:
        parser.error(f"unknown encoders {unknown}; allowed: {', '.join(sorted(REFERENCE_GMAC))}")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as training does
    print(
        f"{processor()}, {os.cpu_count()} processors, {arguments.threads} threads, torch {torch.__version__}, "
        f"Python {sys.version.split()[0]}, batch {arguments.batch}, load {os.getloadavg()[0]:.1f} before the start\n"
    )
    columns = "encoder", "layout", "fwd+bwd ms/seq.", "GFLOP/s", "peak", "share", "of medians", "evaluation ms/seq."
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in arguments.encoders:
        for layout_name in arguments.layouts:
            timing = measure(name, LAYOUTS[layout_name], arguments.batch, arguments.repeats, clock)
            print(row(name, layout_name, arguments.batch, timing), flush=True)


if __name__ == "__main__":
    main()

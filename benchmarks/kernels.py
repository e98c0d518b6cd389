"""What each C kernel, the choice of a library for 1x1 convolutions and the allocator's setting save.

    python benchmarks/kernels.py [ENCODER ...] [--layout nw-ucla] [--threads N] [--repeats N] [--batch N]
    python benchmarks/kernels.py --without "1x1 by convolution"     # this case alone
    python benchmarks/kernels.py --dispatch             # what a call costs beside the kernel's own work

Training passes are timed with all, without one, and without any kernel.

A row a case: milliseconds a sequence (best and median), and the ratio of the best to that with everything. The cases of
an encoder are interleaved, so a busy machine slows all of them. The allocator's setting is for the whole process: run
once more with ``--default-allocator`` to see what it saves. ``--cpu-time`` counts the processor time of one thread
instead of the wall clock: for a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from encoders import LAYOUTS, make_encoder, processor, seconds, training_pass

from stdcl.encoders import pointwise
from stdcl.kernels import attention, batch_norm, branches, graph_product
from stdcl.kernels.extension import run
from stdcl.launch.malloc import keep_freed_memory

KERNELS: dict[str, ModuleType] = {
    "batch normalisation": batch_norm,
    "temporal branches": branches,
    "refined graphs": graph_product,
    "attention": attention,
}
USED = {
    "ctrgcn": ["batch normalisation", "temporal branches", "refined graphs"],
    "infogcn": ["batch normalisation", "temporal branches"],
    "hyperformer": ["batch normalisation", "temporal branches", "attention"],
    "agcn": ["batch normalisation"],
}
POINTWISE = "1x1 by convolution"
NOTHING = "nothing"


@contextmanager
def without(names: list[str]) -> Iterator[None]:
    """Run with PyTorch operations in place of some kernels, or with products for all 1x1 convolutions."""
    kept = {name: KERNELS[name]._kernel for name in names if name != POINTWISE}
    try:
        for name in kept:
            KERNELS[name]._kernel = None  # type: ignore[attr-defined]
        if POINTWISE in names:
            pointwise._by_convolution = False
        yield
    finally:
        pointwise._by_convolution = None
        for name, kernel in kept.items():
            KERNELS[name]._kernel = kernel  # type: ignore[attr-defined]


def dispatch() -> None:
    """Print microseconds of processor time of a small kernel: called alone, by its interface, and as an operator."""
    torch.set_num_threads(1)
    x, out = torch.randn(64, 16), torch.empty(2, 16)
    kernel = batch_norm._kernel
    assert kernel is not None, "the kernel is not built"
    calls: dict[str, Callable[[], object]] = {
        "the kernel alone": lambda: run(kernel.moments, [x], x.shape, [out]),
        "with checks and choice": lambda: batch_norm.moments(x),
        "as an operator": lambda: torch.ops.stdcl.moments(x),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(20):
        for name, call in calls.items():
            times[name].append(seconds(lambda: [call() for _ in range(1000)], time.process_time))  # noqa: B023
    print(f"{processor()}, torch {torch.__version__}: moments of 64 x 16 numbers, microseconds of one thread")
    for name, values in times.items():
        print(f"{name}: {min(values) * 1e3:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=list(USED), metavar="ENCODER")
    parser.add_argument("--layout", default="nw-ucla", choices=list(LAYOUTS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--default-allocator", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--without", nargs="+", metavar="CASE", help="these cases only, beside the one with everything")
    parser.add_argument("--dispatch", action="store_true")
    arguments = parser.parse_args()
    if arguments.dispatch:
        dispatch()
        return
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time needs --threads 1")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    unknown = sorted(set(arguments.encoders) - set(USED))
    if unknown:
        parser.error(f"unknown encoders {unknown}; allowed: {', '.join(USED)}")
    torch.set_num_threads(arguments.threads)
    if not arguments.default_allocator:
        keep_freed_memory()  # as training does
    layout = LAYOUTS[arguments.layout]
    print(f"{processor()}, {arguments.threads} threads, batch {arguments.batch}, layout {arguments.layout}\n")
    print("| encoder | without | ms/seq. | median | ratio |\n|---|---|---|---|---|")
    for name in arguments.encoders:
        model = make_encoder(name, layout)
        x = torch.randn(arguments.batch, 3, layout.num_frames, layout.num_joints, layout.num_persons)
        labels, keys = torch.arange(arguments.batch) % layout.num_classes, torch.arange(arguments.batch)
        cases = {NOTHING: [], **{case: [case] for case in (*USED[name], POINTWISE)}, "any kernel": USED[name]}
        cases = {case: off for case, off in cases.items() if case in (NOTHING, *(arguments.without or cases))}
        times: dict[str, list[float]] = {case: [] for case in cases}
        for warm in (True, *[False] * arguments.repeats):
            for case, kernels in cases.items():
                with without(kernels):
                    taken = seconds(lambda: training_pass(model, x, labels, keys), clock)  # noqa: B023 - called at once
                if not warm:
                    times[case].append(taken / arguments.batch * 1e3)
        whole = min(times[NOTHING])
        for case, taken_times in times.items():
            best, median = min(taken_times), statistics.median(taken_times)
            print(f"| {name} | {case} | {best:.1f} | {median:.1f} | {best / whole:.2f} |", flush=True)


if __name__ == "__main__":
    main()

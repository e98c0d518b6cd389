"""What each C kernel and the allocator's setting save: training passes with all, without one, and without any.

    python benchmarks/kernels.py [ENCODER ...] [--layout nw-ucla] [--threads N] [--repeats N] [--batch N]

A row a case: milliseconds a sequence (best and median), and the ratio of the best to that with everything. The cases of
an encoder are interleaved, so a busy machine slows all of them. The allocator's setting is for the whole process: run
once more with ``--default-allocator`` to see what it saves.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from encoders import LAYOUTS, make_encoder, processor, seconds, training_pass

from stdcl.kernels import attention, batch_norm, branches, graph_product
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


@contextmanager
def without(names: list[str]) -> Iterator[None]:
    """Run with PyTorch operations in place of some kernels."""
    kept = {name: KERNELS[name]._kernel for name in names}
    try:
        for name in names:
            KERNELS[name]._kernel = None  # type: ignore[attr-defined]
        yield
    finally:
        for name, kernel in kept.items():
            KERNELS[name]._kernel = kernel  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=list(USED), metavar="ENCODER")
    parser.add_argument("--layout", default="nw-ucla", choices=list(LAYOUTS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--default-allocator", action="store_true")
    arguments = parser.parse_args()
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
        cases = {"nothing": [], **{kernel: [kernel] for kernel in USED[name]}, "any kernel": USED[name]}
        times: dict[str, list[float]] = {case: [] for case in cases}
        for warm in (True, *[False] * arguments.repeats):
            for case, kernels in cases.items():
                with without(kernels):
                    taken = seconds(lambda: training_pass(model, x, labels, keys))  # noqa: B023 - called at once
                if not warm:
                    times[case].append(taken / arguments.batch * 1e3)
        whole = min(times["nothing"])
        for case, taken_times in times.items():
            best, median = min(taken_times), statistics.median(taken_times)
            print(f"| {name} | {case} | {best:.1f} | {median:.1f} | {best / whole:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""Runs a method for some steps on the ranks of a communicator, without an encoder: its features are drawn."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stdcl.methods.base import EpochCost, Features, FeatureShapes, Method, Step, Task
from stdcl.parallel.batch_norm import use_synchronised
from stdcl.parallel.comm import Comm
from stdcl.skeleton import NW_UCLA

# Weights are drawn from torch's one generator, which ranks that are threads share.
_BUILDING = threading.Lock()
CLASSES = 5
BATCH = 10
CHANNELS = 8
SHAPES = FeatureShapes(
    feature_map=(2, CHANNELS, 6, 20),
    pooled=CHANNELS,
    taps={
        "graph": (3, 20, 20),
        "block1": (2, 4, 12, 20),
        "block5": (2, CHANNELS, 6, 20),
    },
)


def make_task(items: int = 40) -> Task:
    """Return a task of random labels."""
    labels = torch.randint(0, CLASSES, (items,), generator=torch.Generator().manual_seed(3))
    names = tuple(f"class {k}" for k in range(CLASSES))
    return Task(labels, items, names, NW_UCLA, seed=11, batch_size=BATCH, identity="drawn")


@dataclass(frozen=True)
class Run:
    """What to do: ``steps`` global batches from ``first`` on.

    Attributes:
        make: builds the method.
        steps: how many steps.
        first: number of the first step.
        sizes: sequences of the global batches, in turn.
        undone: steps after which the state is rolled back, as if the optimiser step had been skipped.
        load: folder that the method's state and shards are read from before the first step.
        save: folder that they are written to after the last.
        dtype: of everything.
    """

    make: Callable[[], Method]
    steps: int = 8
    first: int = 0
    sizes: tuple[int, ...] = (10, 7, 9, 3)
    undone: tuple[int, ...] = ()
    load: str = ""
    save: str = ""
    dtype: torch.dtype = torch.float64


def drawn_features(step: int, count: int, labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Features]:
    """Return keys' items and the features of a global batch; logits are right for about half of it."""
    generator = torch.Generator().manual_seed(100 + step)

    def draw(*shape: int) -> Tensor:
        return torch.randn((count, *shape), generator=generator, dtype=torch.float64).to(dtype)

    items = torch.randperm(len(labels), generator=generator)[:count]
    logits = draw(CLASSES)
    right = torch.rand(count, generator=generator) < 0.5
    logits[right, labels[items][right]] += 6
    return items, Features(
        logits,
        draw(*SHAPES.feature_map),
        draw(SHAPES.pooled),
        torch.ones(count, 2, dtype=torch.bool),
        {name: draw(*shape) for name, shape in SHAPES.taps.items()},
    )


def take(comm: Comm, plan: Run) -> dict[str, Any]:
    """Carry a plan out on one rank and return what it gave: plain tensors and numbers."""
    task = make_task()
    with _BUILDING:
        method = plan.make()
    if method.head is not None:
        head = method.head = copy.deepcopy(method.head).to(plan.dtype)
        use_synchronised(head, comm)
    method.start(comm, torch.device("cpu"), plan.dtype)
    if plan.load:
        saved = torch.load(Path(plan.load) / "state.pt", weights_only=True)
        method.load(saved["method"], Path(plan.load))
        if method.head is not None:
            method.head.load_state_dict(saved["head"])
    losses: list[dict[str, Tensor]] = []
    gradients: list[dict[str, Tensor]] = []
    inputs: list[dict[str, Tensor]] = []
    for step in range(plan.first, plan.first + plan.steps):
        count = plan.sizes[step % len(plan.sizes)]
        items, whole = drawn_features(step, count, task.labels, plan.dtype)
        mine = torch.tensor_split(torch.arange(count), comm.size)[comm.rank]
        local = Features(
            whole.logits[mine],
            whole.feature_map[mine].requires_grad_(),
            whole.pooled[mine].requires_grad_(),
            whole.present[mine],
            {name: tap[mine].requires_grad_() for name, tap in whole.taps.items()},
        )
        terms = method.step(
            method.embed(local), Step(local.logits, task.labels[items[mine]], items[mine], step, step // 4, count)
        )
        weights = method.weights(step // 4)
        parameters = dict(method.head.named_parameters()) if isinstance(method.head, nn.Module) else {}
        for parameter in parameters.values():
            parameter.grad = None
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if total.requires_grad:
            total.backward()
        losses.append({name: term.detach() for name, term in terms.items()})
        gradients.append({name: _gradient(p) for name, p in parameters.items() if p.requires_grad})
        read = {"feature_map": local.feature_map, "pooled": local.pooled, **local.taps}
        inputs.append({name: _gradient(x) for name, x in read.items()})
        if step in plan.undone:
            method.rollback()
    if plan.save:
        folder = Path(plan.save)
        method.save_shard(folder)
        if comm.rank == 0:
            head_state = method.head.state_dict() if method.head is not None else {}
            torch.save({"method": method.state(), "head": head_state}, folder / "state.pt")
        comm.barrier()
    return {
        "losses": losses,
        "gradients": gradients,
        "inputs": inputs,
        "head": {} if method.head is None else method.head.state_dict(),
        "state": method.state(),
        "report": {
            name: value
            for name, value in method.report(EpochCost(plan.steps, 0.0, 0.0)).items()
            if not name.endswith(("bytes", "bytes_per_step"))
        },
    }


def _gradient(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad.clone()


def assert_equal_runs(ranks: list[dict[str, Any]], alone: dict[str, Any], tolerance: float = 1e-11) -> None:
    """Assert that a run on several ranks gave what one rank gave: terms, gradients, state, figures."""
    for result in ranks:
        torch.testing.assert_close(result["losses"], alone["losses"], rtol=tolerance, atol=tolerance)
        assert_equal_states(result["state"], alone["state"], tolerance)
        torch.testing.assert_close(result["head"], alone["head"], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(result["report"], alone["report"], rtol=1e-9, atol=1e-9)
    for step, expected in enumerate(alone["gradients"]):
        summed = {name: sum(result["gradients"][step][name] for result in ranks) for name in expected}
        torch.testing.assert_close(summed, expected, rtol=1e-9, atol=tolerance)
        joined = {name: torch.cat([r["inputs"][step][name] for r in ranks]) for name in alone["inputs"][step]}
        torch.testing.assert_close(joined, alone["inputs"][step], rtol=1e-9, atol=tolerance)


def assert_equal_states(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    """Assert that two methods' states are equal, numbers to ``tolerance``."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, str):
            assert value == other[name], name
        else:
            torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance)

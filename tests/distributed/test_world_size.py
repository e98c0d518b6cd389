"""Training on 1, 2 and 4 real gloo ranks is the same training: gradients, weights, banks and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stdcl.config.load import merge, resolve
from stdcl.data.loader import prefetch
from stdcl.data.sampler import epoch_order, global_batches, local_part
from stdcl.methods.stdcl.method import STDCL
from stdcl.parallel.comm import Comm, LocalComm
from stdcl.training.trainer import Trainer
from tests.distributed.ranks import run_on_ranks

STEPS = 2
RAW: dict[str, Any] = {
    "recipe": "none",
    "data": {"dataset": "nw-ucla", "frames": 12},
    "contrast": {
        "strategy": "spatial+temporal+global",
        "embedding_dim": 32,
        "hard_positives": 3,
        "hard_negatives": 8,
        "random_negatives": 8,
        "shortage": "clamp",
    },
    # 10 sequences: 4 ranks do not divide them.
    "training": {"epochs": 1, "batch_size": 10, "learning_rate": 0.05, "precision": "float64", "weight_decay": 1e-4},
    "resources": {"loader_threads": 0},
    "tracking": {"wandb": "disabled"},
}


def few_steps(comm: Comm, raw: dict[str, Any], folder: str) -> dict[str, Any]:
    """Take a few steps on this rank's parts; return gradients, weights, metrics, and save the banks."""
    config = resolve(raw, "test")
    trainer = Trainer(config, Path(folder) / "run", comm, torch.device("cpu"))
    data, settings = trainer.parts.data, config.training
    order = epoch_order(settings.seed, 0, data.train.num_items)
    batches = global_batches(order, settings.batch_size, settings.drop_last)[:STEPS]
    parts = [local_part(batch, comm.rank, comm.size) for batch in batches]
    trainer.model.train()
    gradients = []
    for step, batch in enumerate(prefetch(data.train, 0, parts, threads=0)):
        trainer.step(batch, 0, step, len(batches[step]), len(batches))
        gradients.append({n: p.grad.clone().numpy() for n, p in trainer.parts.model.named_parameters()})
    banks = Path(folder) / f"banks-{comm.size}"
    banks.mkdir(exist_ok=True)
    trainer.parts.method.save_shard(banks)
    comm.barrier()
    evaluated = trainer.evaluate(0)
    sums = trainer.state.sums.reduce(comm)
    return {
        "gradients": gradients,
        "state": {name: value.numpy() for name, value in trainer.parts.model.state_dict().items()},
        "metrics": trainer.objective.epoch_losses(sums, 0) | {"accuracy": evaluated["accuracy"]},
        "active": trainer.objective.epoch_report(STEPS, 1.0)["contrast/active_share"],
    }


def logical_bank(raw: dict[str, Any], folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Load banks saved by any number of ranks on one rank."""
    trainer = Trainer(resolve(raw, "test"), folder.parent / "read", LocalComm(), torch.device("cpu"))
    method = trainer.parts.method
    assert isinstance(method, STDCL)
    assert method.contrast is not None
    method.contrast.load(folder)
    contrast = method.contrast
    pairs = zip(contrast.branches, contrast.shards, strict=True)
    return {branch: shard.features.numpy().copy() for branch, shard in pairs}


def assert_close(one: Any, other: Any, what: str, relative: float = 1e-10) -> None:
    scale = max(float(np.abs(one).max()), 1e-3)  # a bias before batch norm is zero but for rounding
    worst = float(np.abs(one - other).max()) / scale
    assert worst <= relative, f"{what}: {worst:.2e} of the largest value"


@pytest.fixture(scope="module")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 synthetic NW-UCLA sequences."""
    from stdcl.data.nw_ucla.synthetic import prepare_synthetic

    store = tmp_path_factory.mktemp("world") / "store"
    prepare_synthetic(store, 120, 5)
    return store


@pytest.mark.parametrize("encoder", ["ctrgcn", "agcn", "hyperformer"])
def test_any_number_of_ranks_is_the_same_training(encoder: str, synthetic_store: Path, tmp_path: Path) -> None:
    assert_the_same_training(encoder, synthetic_store, tmp_path)


def test_any_number_of_ranks_is_the_same_training_on_real_data(nw_ucla_store: Path, tmp_path: Path) -> None:
    assert_the_same_training("ctrgcn", nw_ucla_store, tmp_path)


def assert_the_same_training(encoder: str, store: Path, tmp_path: Path) -> None:
    """Compare one rank with two and four."""
    raw = merge(RAW, {"encoder": {"name": encoder}, "data": {"path": str(store)}})
    whole = few_steps(LocalComm(), raw, str(tmp_path))
    assert whole["active"] > 0.3
    bank = logical_bank(raw, tmp_path / "banks-1")
    for size in (2, 4):
        ranks = run_on_ranks(few_steps, size, raw, str(tmp_path))
        other = logical_bank(raw, tmp_path / f"banks-{size}")
        for branch, rows in bank.items():
            assert_close(rows, other[branch], f"{size} ranks: bank {branch}")
        for rank, got in enumerate(ranks):
            where = f"{size} ranks, rank {rank}"
            for step in range(STEPS):
                # Scaled by the layer's kind-independent largest gradient: some gradients are zero but for rounding.
                largest = max(float(np.abs(g).max()) for g in whole["gradients"][step].values())
                for name, gradient in whole["gradients"][step].items():
                    difference = np.abs(gradient - got["gradients"][step][name]).max()
                    bound = 1e-10 * max(float(np.abs(gradient).max()), 1e-3 * largest)
                    assert difference <= bound, f"{where}, step {step}: gradient of {name} off by {difference:.2e}"
            for name, value in whole["state"].items():
                assert_close(value, got["state"][name], f"{where}: {name}")
            assert got["metrics"] == pytest.approx(whole["metrics"], rel=1e-10)

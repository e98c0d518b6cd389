"""STD-CL inside Lightning's Trainer is the training of the plain loop, and its checkpoints hold the banks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stdcl.methods.stdcl.module import STDCLLoss
from stdcl.parallel.comm import LocalComm
from tests.methods.stdcl.test_module import BATCH, ITEMS, OPTIONS, TinyEncoder, assert_same, data, train

with warnings.catch_warnings():  # those of the imports of other packages
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning.pytorch", reason="needs Lightning: pip install 'stdcl[lightning]'")

pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning",  # hints about loaders, SLURM and the like
    "ignore:.*LeafSpec.* is deprecated:FutureWarning",  # Lightning 2.6 with torch 2.13
)


class Recognition(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """What a user of Lightning writes: the criterion is a part of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TinyEncoder().double()
        self.criterion = STDCLLoss((8, 6, 5), data()[1], BATCH, axes="NCTV", options=OPTIONS, dtype=torch.float64)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return cross-entropy and the terms of STD-CL."""
        x, labels, items = batch
        features, logits = self.encoder(x)
        return nn.functional.cross_entropy(logits, labels) + sum(self.criterion(features, items).values())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give all parameters, those of the head too, to one optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.2)


def fit(module: Recognition, epochs: int, folder: Path, start: Path | None = None) -> Any:
    x, labels = data()
    loader = DataLoader(TensorDataset(x, labels, torch.arange(ITEMS)), batch_size=BATCH)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, default_root_dir=folder, **quiet
    )
    trainer.fit(module, loader, ckpt_path=start)
    return trainer


def states(module: Recognition) -> dict[str, Any]:
    return {"encoder": module.encoder.state_dict(), "criterion": module.criterion.state_dict()}


def test_it_is_the_plain_loop_and_resumes_with_its_banks(tmp_path: Path) -> None:
    plain = train(LocalComm(), 3 * ITEMS // BATCH)["state"]
    torch.manual_seed(0)
    whole = Recognition()
    fit(whole, 3, tmp_path)
    assert_same(states(whole), plain)
    torch.manual_seed(0)
    half = Recognition()
    fit(half, 1, tmp_path).save_checkpoint(tmp_path / "half.ckpt")
    rest = Recognition()
    fit(rest, 3, tmp_path, start=tmp_path / "half.ckpt")
    assert_same(states(rest), plain)
    assert rest.criterion.steps == 3 * ITEMS // BATCH

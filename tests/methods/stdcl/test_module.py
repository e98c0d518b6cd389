"""STD-CL in plain PyTorch loops: one process, and DDP on two ranks with sharded banks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.stdcl.module import STDCLLoss
from stdcl.parallel.comm import Comm, LocalComm
from tests.distributed.ranks import run_on_ranks

CLASSES, ITEMS, BATCH = 4, 48, 12
OPTIONS = ContrastConfig(
    embedding_dim=8, channel_reduction=2, hard_positives=2, hard_negatives=4, random_negatives=4, shortage="clamp"
)


class TinyEncoder(nn.Module):
    """Somebody's own encoder: a map (N, C, T, V) and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.classify = nn.Linear(8 * 6 * 5, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x).relu()
        return features, self.classify(features.flatten(1))


def data() -> tuple[Tensor, Tensor]:
    """48 sequences (N, 3, 6, 5) of four classes that a linear map can tell apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ITEMS) % CLASSES
    centres = torch.randn(CLASSES, 3, 6, 5, generator=generator, dtype=torch.float64)
    return centres[labels] + 0.3 * torch.randn(ITEMS, 3, 6, 5, generator=generator, dtype=torch.float64), labels


def train(comm: Comm, steps: int, state: Any = None, first: int = 0) -> dict[str, Any]:
    """The loop that a user writes; with several ranks encoder and criterion are wrapped in DDP."""
    x, labels = data()
    torch.manual_seed(0)
    encoder: nn.Module = TinyEncoder().double()
    criterion = STDCLLoss((8, 6, 5), labels, BATCH, axes="NCTV", options=OPTIONS, dtype=torch.float64)
    if state is not None:
        encoder.load_state_dict(state["encoder"])
        criterion.load_state_dict(state["criterion"])
    wrapped_encoder, wrapped_criterion = encoder, criterion
    if not isinstance(comm, LocalComm):
        wrapped_encoder, wrapped_criterion = DistributedDataParallel(encoder), DistributedDataParallel(criterion)
    optimizer = torch.optim.SGD([*encoder.parameters(), *criterion.parameters()], lr=0.2)
    losses = []
    for step in range(first, first + steps):
        batch = (torch.arange(BATCH) + step * BATCH) % ITEMS
        own = batch[comm.rank * BATCH // comm.size : (comm.rank + 1) * BATCH // comm.size]
        features, logits = wrapped_encoder(x[own])
        share = nn.functional.cross_entropy(logits, labels[own], reduction="sum") * comm.size / BATCH
        terms = wrapped_criterion(features, own)
        optimizer.zero_grad()
        (share + sum(terms.values())).backward()
        optimizer.step()
        losses.append([float(term.detach()) for term in terms.values()])
    saved = {"encoder": encoder.state_dict(), "criterion": criterion.state_dict()}
    correct = (encoder(x)[1].argmax(1) == labels).double().mean()
    return {"losses": losses, "state": saved, "accuracy": float(correct)}


def assert_same(one: Any, other: Any, tolerance: float = 1e-10) -> None:
    """Compare two nested states of tensors and numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key], tolerance)
    elif isinstance(one, Tensor) and one.is_floating_point():
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    elif isinstance(one, Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_one_process_learns_and_resumes_to_the_bit() -> None:
    whole = train(LocalComm(), 40)
    assert whole["accuracy"] == 1.0
    assert all(loss > 0 for loss in whole["losses"][-1])
    first = train(LocalComm(), 15)
    buffer = io.BytesIO()
    torch.save(first["state"], buffer)
    buffer.seek(0)
    second = train(LocalComm(), 25, torch.load(buffer, weights_only=True), first=15)
    assert first["losses"] + second["losses"] == whole["losses"]
    assert_same(second["state"], whole["state"], 0.0)


def test_two_ranks_with_sharded_banks_are_the_same_training() -> None:
    whole = train(LocalComm(), 6)
    for rank in run_on_ranks(train, 2, 6):
        torch.testing.assert_close(torch.tensor(rank["losses"]), torch.tensor(whole["losses"]), rtol=1e-10, atol=1e-10)
        assert_same(rank["state"], whole["state"])


def test_a_state_of_two_ranks_continues_on_one() -> None:
    whole = train(LocalComm(), 8)
    half = run_on_ranks(train, 2, 4)[0]
    rest = train(LocalComm(), 4, half["state"], first=4)
    assert_same(rest["state"], whole["state"])


def test_axes_in_another_order_are_the_same_map() -> None:
    _, labels = data()
    x = torch.randn(BATCH, 2, 8, 6, 5)
    items = torch.arange(BATCH)
    found = []
    for axes in ("NMCTV", "NCTVM", "NTVCM"):
        order = ["NMCTV".index(axis) for axis in axes]
        criterion = STDCLLoss(tuple(x.permute(order).shape[1:]), labels, BATCH, axes=axes, options=OPTIONS)
        found.append([float(term.detach()) for term in criterion(x.permute(order), items).values()])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_autocast_and_start_epoch() -> None:
    x, labels = data()
    criterion = STDCLLoss(
        (3, 6, 5),
        labels,
        BATCH,
        axes="NCTV",
        options=OPTIONS.model_copy(update={"start_epoch": 2, "channel_reduction": 1}),
    )
    items = torch.arange(BATCH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = criterion(x[items].to(torch.bfloat16), items, epoch=1)
        after = criterion(x[items].to(torch.bfloat16), items, epoch=2)
    assert all(term.dtype == torch.float32 and float(term.detach()) == 0.0 for term in before.values())
    assert all(float(term.detach()) > 0.0 for term in after.values())


def test_a_skipped_step_is_undone() -> None:
    x, labels = data()
    criterion = STDCLLoss(
        (3, 6, 5), labels, BATCH, axes="NCTV", options=OPTIONS.model_copy(update={"channel_reduction": 1})
    )
    criterion(x[:BATCH].float(), torch.arange(BATCH))
    before = criterion.get_extra_state()["banks"]
    criterion(x[BATCH : 2 * BATCH].float(), torch.arange(BATCH, 2 * BATCH))
    criterion.rollback()
    assert_same(criterion.get_extra_state()["banks"], before, 0.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"axes": "NCTX"}, "axes is 'NCTX'"),
        ({"axes": "CNTV"}, "first axis must be N"),
        ({"feature_shape": (8, 6)}, "has 2 axes"),
        ({"labels": torch.zeros(8, dtype=torch.int64)}, "there are no negatives"),
        ({"labels": data()[1].double()}, "integers are needed"),
        ({"labels": data()[1].reshape(6, 8)}, r"labels are \(6, 8\)"),
        ({"batch_size": 0}, "at least 1"),
        ({"options": ContrastConfig(strategy="none")}, "nothing to contrast"),
        ({"options": OPTIONS.model_copy(update={"strategy": "global"})}, "pooled_dim"),
        ({"options": OPTIONS.model_copy(update={"channel_reduction": 64})}, "leaves no channel"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(arguments: dict[str, Any], named: str) -> None:
    given = {"feature_shape": (8, 6, 5), "labels": data()[1], "batch_size": BATCH, "axes": "NCTV", "options": OPTIONS}
    with pytest.raises(UserError, match=named):
        STDCLLoss(**{**given, **arguments})


@pytest.mark.parametrize("kind", [list, np.asarray])
def test_labels_that_are_no_tensor_and_maps_of_another_shape(kind: Callable[[Any], Any]) -> None:
    x, labels = data()
    criterion = STDCLLoss((3, 6, 5), kind(labels.tolist()), BATCH, axes="NCTV", options=OPTIONS)
    same = STDCLLoss((3, 6, 5), labels, BATCH, axes="NCTV", options=OPTIONS)
    items = torch.arange(BATCH)
    assert_same(criterion(x[:BATCH], items), same(x[:BATCH], items), 0.0)
    with pytest.raises(UserError, match=r"the feature map is \(12, 3, 5, 6\).*must be \(n, 3, 6, 5\)"):
        criterion(x[:BATCH].transpose(2, 3), items)
    with pytest.raises(UserError, match=r"items are torch\.float32; integers are needed"):
        criterion(x[:BATCH], items.float())


def test_a_state_of_other_data_is_refused() -> None:
    _, labels = data()
    state = STDCLLoss((8, 6, 5), labels, BATCH, axes="NCTV", options=OPTIONS).state_dict()
    other = STDCLLoss((8, 6, 5), labels.flip(0), BATCH, axes="NCTV", options=OPTIONS)
    with pytest.raises(UserError, match="another dataset or split"):
        other.load_state_dict(state)

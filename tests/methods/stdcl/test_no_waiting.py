"""A step never waits for the device: nothing in it has a shape that depends on data, and nothing is read back."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stdcl.config.contrast import ContrastConfig
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import LocalComm

# ATen operations that on a GPU make the host wait: values read back, and results whose shape depends on data.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::repeat_interleave.Tensor",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::bincount",
}


class _Refuse(TorchDispatchMode):
    """Fails at operations that would wait, among them indexing by a mask."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert func._schema.name not in WAITING, f"{func} waits for the device"
        if func._schema.name in ("aten::index", "aten::index_put", "aten::index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, "indexing by a mask waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("exchange", ["candidates", "allgather"])
@pytest.mark.parametrize("negative_sets", ["separate", "union"])
def test_a_step_waits_for_nothing(exchange: str, negative_sets: str) -> None:
    few = {"hard_positives": 3, "hard_negatives": 9, "random_negatives": 7, "embedding_dim": 8}
    config = ContrastConfig(**few, exchange=exchange, negative_sets=negative_sets)
    contrast = Contrast(config, torch.arange(40) % 4, LocalComm())
    for step in range(3):
        rows = {branch: torch.randn(8, 8, requires_grad=True) for branch in contrast.branches}
        with _Refuse():
            result = contrast.step(rows, torch.arange(8) + 8 * step, step=step, batch_size=8)
            torch.stack(list(result.losses.values())).sum().backward()
            contrast.rollback()


def test_the_refusal_works() -> None:
    x = torch.randn(5)
    for waiting in (lambda: x[x > 0], lambda: x.sum().item(), lambda: bool(x.sum() > 0), lambda: x.nonzero()):
        with pytest.raises(AssertionError, match="waits"), _Refuse():
            waiting()

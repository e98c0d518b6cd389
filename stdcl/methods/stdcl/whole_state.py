"""The banks of all ranks as one plain state, for a ``state_dict``: gathered on saving, dealt out again on loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stdcl.errors import UserError
from stdcl.methods.stdcl.bank_files import BankState, check_identity, load_slot_index
from stdcl.parallel.comm import Comm


def gather(state: BankState, comm: Comm) -> dict[str, Any]:
    """Return the whole banks in slot order, the same on every rank; every rank calls this.

    Args:
        state: this rank's part.
        comm: the ranks.

    Returns:
        Plain values and CPU tensors: ``features`` {branch: (L, D)}, ``written_step`` (L,), the slot index, and what the
        banks belong to.
    """
    features = {
        branch: _gathered(shard.features[:, : shard.dim], state, comm) for branch, shard in state.shards.items()
    }
    return {
        **state.identity(),
        "features": features,
        "written_step": _gathered(state.written_step.unsqueeze(1), state, comm).squeeze(1),
        "listed": state.slot_index.listed_now().cpu(),
        "written_slots": state.slot_index.written.cpu().clone(),
    }


def _gathered(rows: Tensor, state: BankState, comm: Comm) -> Tensor:
    most = state.placement.rows(0)
    padded = torch.nn.functional.pad(rows[:-1], (0, 0, 0, most - (len(rows) - 1)))
    by_slot = comm.all_gather(padded).transpose(0, 1).reshape(-1, rows.shape[1])
    return by_slot[: state.placement.num_slots].cpu().clone()


def load(state: BankState, saved: Mapping[str, Any]) -> None:
    """Take this rank's rows out of a whole state, whatever the number of ranks that gathered it.

    Raises:
        UserError: it is not a bank, or one of other data or options.
    """
    if not isinstance(saved, Mapping) or "written_slots" not in saved:
        raise UserError("state_dict: it holds no memory banks of STD-CL")
    check_identity(saved, state.identity(), "state_dict")
    load_slot_index(state.slot_index, {"listed": saved["listed"], "written": saved["written_slots"]})
    slots = state.placement.slots(state.rank)
    count = len(slots)
    for branch, shard in state.shards.items():
        shard.features[:count, : shard.dim] = saved["features"][branch][slots].to(shard.features)
    state.written_step[:count] = saved["written_step"][slots].to(state.written_step)

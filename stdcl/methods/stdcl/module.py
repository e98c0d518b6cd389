"""STD-CL for any PyTorch loop: head, sharded banks, sampling and loss behind one ``nn.Module``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.methods.stdcl.feasibility import feasibility
from stdcl.methods.stdcl.head import DecouplingHead
from stdcl.methods.stdcl.sharded import Contrast
from stdcl.parallel.comm import default_comm
from stdcl.seeding import torch_seed

_AXES = "NMCTV"


class STDCLLoss(nn.Module):
    """Spatial-temporal decoupling contrastive loss on the feature map of any encoder (STD-CL, eq. 4-10).

    Add the returned terms to the cross-entropy. The head's parameters belong to this module: give them to the
    optimiser, and with several ranks wrap the module in ``DistributedDataParallel``, as the encoder. Banks are sharded
    over the ranks of ``group`` by slot; every rank must call ``forward`` in every step, also with n = 0 sequences.

    The value of each term is that of the global batch, equal on all ranks. Its gradient is W times this rank's share,
    so that data parallelism's average over W ranks is the gradient of the global loss.

    ``state_dict`` holds the head and, as extra state, the whole banks, gathered from all ranks: with several ranks call
    it on every one of them, and save it on one. It loads on any number of ranks.

    Args:
        feature_shape: of one sequence's map, in the order of ``axes`` without N.
        labels: (L,) integers, the class of each training item; ``items`` are places in it. Also an array or a list.
        batch_size: sequences of a full global batch: no step may bring more.
        axes: the axes of the map: N sequences, C channels, T frames, V joints, and M persons where there are any.
        pooled_dim: numbers in the vector that the classifier sees; needed for strategies with a global branch.
        options: tau, r, D, sample counts, strategy, ...; the paper's by default.
        group: a ``torch.distributed`` process group, the ranks; None: the default one where there is one, else this
            process alone.
        device: where head and banks are.
        dtype: of head and banks, float32 or float64.
        seed: of the head's initial weights and of the random negatives.

    Raises:
        UserError: the options do not fit the map or the classes.

    Example::

        criterion = STDCLLoss((2, 256, 16, 25), labels=train_labels, batch_size=64, axes="NMCTV")
        optimizer = torch.optim.SGD([*encoder.parameters(), *criterion.parameters()], lr=0.1)
        for x, y, items in loader:
            feature_map, logits = encoder(x)
            loss = cross_entropy(logits, y) + sum(criterion(feature_map, items).values())
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        labels: Tensor | NDArray[Any] | Sequence[int],
        batch_size: int,
        *,
        axes: str = _AXES,
        pooled_dim: int | None = None,
        options: ContrastConfig | None = None,
        group: Any = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options = options or ContrastConfig()
        self._order = _order(axes, self.options.strategy)
        self._has_persons = "M" in axes
        if len(feature_shape) != len(axes) - 1:
            raise UserError(
                f"feature_shape {tuple(feature_shape)} has {len(feature_shape)} axes, but axes '{axes}' without N are "
                f"{len(axes) - 1}"
            )
        self._shape = tuple(feature_shape)
        labels = _classes(labels)
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; at least 1 is needed")
        found = feasibility(self.options, labels)
        if found.problems:
            raise UserError("\n".join(found.problems))
        if "global" in self.options.strategy and pooled_dim is None:
            raise UserError("pooled_dim: the strategy has a global branch, so the width of the pooled vector is needed")
        sizes = dict(zip([axis for axis in axes if axis != "N"], feature_shape, strict=True))
        persons, channels, frames, joints = sizes.get("M", 1), sizes["C"], sizes["T"], sizes["V"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "head"))
            self.head = DecouplingHead(self.options, (persons, channels, frames, joints), pooled_dim or 0)
        self.head.to(device=device, dtype=dtype)
        self.batch_size = batch_size
        self.steps = 0
        self._contrast = Contrast(self.options, labels, comm=default_comm(group), device=device, dtype=dtype, seed=seed)

    def forward(
        self,
        feature_map: Tensor,
        items: Tensor,
        *,
        pooled: Tensor | None = None,
        present: Tensor | None = None,
        epoch: int | None = None,
    ) -> dict[str, Tensor]:
        """Write the batch into the banks and return the weighted loss terms by branch.

        Args:
            feature_map: (n, ...) with the axes of the constructor, any floating type.
            items: (n,) integers, the training item of each sequence.
            pooled: (n, C'), for a global branch.
            present: (n, M) bool, for ``person_mask: present``.
            epoch: from 0; before ``options.start_epoch`` the banks are filled and the terms have weight 0.

        Returns:
            Scalars by branch: ``spatial``, ``temporal``, ``global``, those of the strategy.

        Raises:
            UserError: the map is not of the constructor's shape, or ``items`` are no integers.
        """
        if tuple(feature_map.shape[1:]) != self._shape:
            raise UserError(
                f"the feature map is {tuple(feature_map.shape)}; with feature_shape {self._shape} it must be"
                f" (n, {', '.join(map(str, self._shape))})"
            )
        if items.is_floating_point():
            raise UserError(f"items are {items.dtype}; integers are needed, the place of each sequence in labels")
        with torch.autocast(feature_map.device.type, enabled=False):
            x = feature_map.to(next(self.head.parameters()).dtype)
            if not self._has_persons:
                x = x.unsqueeze(1)
            x = x.permute(self._order)
            vector = x.new_zeros((len(x), 0)) if pooled is None else pooled.to(x.dtype)
            embeddings = self.head(x, vector, present)
        result = self._contrast.step(embeddings, items, step=self.steps, batch_size=self.batch_size)
        self.steps += 1
        ranks, options = self._contrast.comm.size, self.options
        weights = {
            "spatial": options.weight_spatial,
            "temporal": options.weight_temporal,
            "global": options.weight_global,
        }
        begun = epoch is None or epoch >= options.start_epoch
        terms = {}
        for branch, loss in result.losses.items():
            weighted = loss * (weights[branch] if begun else 0.0)
            terms[branch] = weighted + (ranks - 1) * (weighted - weighted.detach())
        return terms

    def rollback(self) -> None:
        """Undo the last step's write, for an optimiser step that a ``GradScaler`` skipped."""
        self._contrast.rollback()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the whole banks and the number of steps; a collective call."""
        return {"steps": self.steps, "banks": self._contrast.whole_state()}

    def set_extra_state(self, state: Any) -> None:
        """Take up what :meth:`get_extra_state` gave, on any number of ranks."""
        self._contrast.load_whole_state(state["banks"])
        self.steps = int(state["steps"])


def _classes(labels: Tensor | NDArray[Any] | Sequence[int]) -> Tensor:
    found = torch.as_tensor(labels)
    if found.dim() != 1 or (len(found) and (found.is_floating_point() or found.is_complex())):
        raise UserError(f"labels are {tuple(found.shape)} {found.dtype}; (L,) integers are needed")
    return found.long()


def _order(axes: str, strategy: str) -> tuple[int, ...]:
    needed = set("NCTV")
    if len(set(axes)) != len(axes) or not needed <= set(axes) <= needed | {"M"}:
        raise UserError(
            f"axes is '{axes}'; it must name each of N (sequences), C (channels), T (frames), V (joints) once, and M "
            "(persons) where there are any, for example 'NCTV' or 'NMCTV'"
        )
    if strategy == "none":
        raise UserError("options.strategy is none: there is nothing to contrast")
    if axes[0] != "N":
        raise UserError(f"axes is '{axes}'; its first axis must be N: sequences come first")
    full = axes if "M" in axes else f"N{'M'}{axes[1:]}"
    return tuple(full.index(axis) for axis in _AXES)

"""The decoupling head: one embedding a branch from the encoder's last feature map (STD-CL, eq. 4-5)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stdcl.config.contrast import ContrastConfig
from stdcl.errors import UserError
from stdcl.parallel.batch_norm import BatchNorm

BRANCHES = ("spatial", "temporal", "global")


def branches_of(strategy: str) -> tuple[str, ...]:
    """Return the branches of a strategy such as ``"spatial+temporal"``, in a fixed order; none for ``"none"``."""
    return tuple(branch for branch in BRANCHES if branch in strategy.split("+"))


def undecoupled(branches: tuple[str, ...], feature_shape: tuple[int, int, int, int]) -> tuple[str, ...]:
    """Say which of the branches have nothing to tell apart on maps of ``feature_shape`` (M, C, T, V)."""
    _, _, frames, joints = feature_shape
    if frames == joints == 1 and {"spatial", "temporal"} & set(branches):
        return (
            "contrast.strategy: the encoder's feature map has one place (T 1, V 1), so the spatial and the temporal "
            "feature are made of the same numbers and nothing is decoupled; more frames (data.frames) or an earlier "
            "map of the encoder keep the axes apart",
        )
    places = {"spatial": ("V", joints), "temporal": ("T", frames)}
    return tuple(
        f"contrast.strategy: the encoder's feature map has {axis} 1, so the {branch} feature is the whole sequence's"
        for branch, (axis, size) in places.items()
        if size == 1 and branch in branches
    )


class Decoupling(nn.Module):
    """One branch of eq. 4-5: pool one axis away, reduce the channels place by place, flatten, project.

    ``s = zeta(flatten(theta(pool_T(X))))`` for the spatial branch, ``t = sigma(flatten(phi(pool_V(X))))`` for the
    temporal one. Flattened place-major: all channels of joint (or frame) 1, then of joint 2, and so on. Persons share
    the maps and are averaged: before them when the branch is linear (the same value, for less work), after them when
    something nonlinear lies between.
    """

    def __init__(self, config: ContrastConfig, channels: int, places: int) -> None:
        super().__init__()
        reduced = channels // config.channel_reduction
        if reduced == 0:
            raise UserError(
                f"contrast.channel_reduction: {config.channel_reduction} leaves no channel of the encoder's "
                f"{channels}; allowed is 1 to {channels}"
            )
        self.reduce = nn.Linear(channels, reduced, bias=config.readings.bias)
        self.norm = BatchNorm(reduced) if config.readings.nonlinearity == "bn+relu" else None
        self.rectify = config.readings.nonlinearity != "none"
        self.project = nn.Linear(places * reduced, config.embedding_dim, bias=config.readings.bias)
        init_projection(self.project)

    def forward(self, pooled: Tensor, weights: Tensor) -> Tensor:
        """Map ``(n, M, places, C)`` with person weights ``(n, M)`` (each row sums to 1) to ``(n, D)``."""
        if not self.rectify:
            mean = torch.einsum("nmpc,nm->npc", pooled, weights)
            embedding: Tensor = self.project(self.reduce(mean).flatten(1))
            return embedding
        hidden = self.reduce(pooled)
        if self.norm is not None:
            hidden = self.norm(hidden)
        each = self.project(hidden.relu().flatten(2))
        return torch.einsum("nmd,nm->nd", each, weights)


def init_projection(layer: nn.Linear) -> None:
    """Start a projection as the authors' release does: Kaiming normal by fan-out, zero bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class DecouplingHead(nn.Module):
    """Spatial, temporal and global embeddings, those that the strategy asks for.

    The head is part of the model: its parameters belong to the optimiser and to data-parallel averaging. It is not
    needed for evaluation.
    """

    def __init__(self, config: ContrastConfig, feature_shape: tuple[int, int, int, int], pooled_dim: int) -> None:
        """Build for maps of ``feature_shape`` (M, C, T, V) and pooled vectors of ``pooled_dim`` numbers."""
        super().__init__()
        _, channels, frames, joints = feature_shape
        self.branches = branches_of(config.strategy)
        self._masked = config.readings.person_mask == "present"
        self.spatial = Decoupling(config, channels, joints) if "spatial" in self.branches else None
        self.temporal = Decoupling(config, channels, frames) if "temporal" in self.branches else None
        self.overall = None
        if "global" in self.branches:
            self.overall = nn.Linear(pooled_dim, config.embedding_dim, bias=config.readings.bias)
            init_projection(self.overall)
        if config.readings.freeze_head:
            self.requires_grad_(False)

    def forward(self, feature_map: Tensor, pooled: Tensor, present: Tensor | None = None) -> dict[str, Tensor]:
        """Return ``{branch: (n, D)}``, not normalised.

        Args:
            feature_map: ``(n, M, C, T, V)``, the last map before pooling.
            pooled: ``(n, C')``, the vector the classifier sees.
            present: ``(n, M)`` bool, which persons are there; needed with ``person_mask: present``. A sequence
                without any counts all.
        """
        return dict(self._embed(feature_map, pooled, present))

    def _embed(self, x: Tensor, pooled: Tensor, present: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        weights = self._person_weights(x, present)
        if self.spatial is not None:
            yield "spatial", self.spatial(x.mean(dim=3).transpose(2, 3), weights)
        if self.temporal is not None:
            yield "temporal", self.temporal(x.mean(dim=4).transpose(2, 3), weights)
        if self.overall is not None:
            yield "global", self.overall(pooled)

    def _person_weights(self, x: Tensor, present: Tensor | None) -> Tensor:
        if not self._masked:
            return x.new_full(x.shape[:2], 1.0 / x.shape[1])
        if present is None:
            raise ValueError("person_mask 'present' needs the persons that are present")
        there = present.to(x.dtype)
        there = torch.where(there.sum(dim=1, keepdim=True) > 0, there, 1.0)
        return there / there.sum(dim=1, keepdim=True)

"""Encoder and a method's head as one module: trained, averaged over ranks and saved together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder
from stdcl.methods.base import Features, Method


class ModelOutput(NamedTuple):
    """What a forward pass gives for N sequences.

    Attributes:
        logits: (N, K).
        embeddings: what the method's ``embed`` gives, each with first axis N; empty for cross-entropy alone.
        own_losses: the encoder's own weighted terms, scalars over these N sequences.
    """

    logits: Tensor
    embeddings: dict[str, Tensor]
    own_losses: dict[str, Tensor]


class Model(nn.Module):
    """An encoder and, in training, a method's head that is dropped afterwards (paper, figure 3).

    Args:
        encoder: any encoder.
        method: whose head it is; its ``embed`` runs in this module.
        autocast: precision of the encoder's products; None: that of its parameters.
    """

    def __init__(self, encoder: Encoder, method: Method, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = method.head
        self._embed = method.embed
        self._autocast = autocast

    def forward(self, x: Tensor, labels: Tensor, keys: Tensor, present: Tensor) -> ModelOutput:
        """Encode ``x`` (N, 3, T, V, M).

        Args:
            x: the sequences.
            labels: (N,) int64.
            keys: (N,) int64, a random key per sequence.
            present: (N, M) bool, which persons are really there.
        """
        with torch.autocast(x.device.type, dtype=self._autocast, enabled=self._autocast is not None):
            output = self.encoder(x, keys=keys, labels=labels)
        # Losses and contrast are kept in full precision: sums of many exponentials, and 1/norm.
        full = next(self.encoder.parameters()).dtype
        output = output._replace(
            logits=output.logits.to(full),
            feature_map=output.feature_map.to(full),
            pooled=output.pooled.to(full),
            taps={name: tap.to(full) for name, tap in output.taps.items()},
        )
        own = self.encoder.own_losses(output, labels)
        embeddings = self._embed(Features(output.logits, output.feature_map, output.pooled, present, output.taps))
        return ModelOutput(output.logits, embeddings, own)

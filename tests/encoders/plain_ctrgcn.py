"""CTR-GCN written with PyTorch's own operations, channels first: what the package's network is held against."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from stdcl.encoders.graph import PLAN


class PlainCTRGCN:
    """CTR-GCN over the tensors of a state dictionary of `stdcl.encoders.ctrgcn.network.CTRGCN`.

    Args:
        state: parameters and running statistics by name; the latter are moved in place where ``training``.
        training: whether batch normalisation takes the statistics of the batch.
    """

    def __init__(self, state: Mapping[str, Tensor], training: bool) -> None:
        self.state = state
        self.training = training

    def norm(self, name: str, x: Tensor) -> Tensor:
        s = self.state
        mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return functional.batch_norm(x, mean, variance, s[f"{name}.weight"], s[f"{name}.bias"], training=self.training)

    def conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = dilation * (weight.shape[2] // 2)
        return torch.conv2d(x, weight, self.state[f"{name}.bias"], (stride, 1), (padding, 0), (dilation, 1))

    def spatial(self, name: str, x: Tensor, changes: bool) -> Tensor:
        total = torch.zeros(())
        for subset, adjacency in enumerate(self.state[f"{name}.A"]):
            part = f"{name}.s{subset}"
            q, k = (self.conv(f"{part}.{kind}", x).mean(dim=2) for kind in "qk")
            refined = self.conv(f"{part}.r", torch.tanh(q[..., :, None] - k[..., None, :]))
            graph = adjacency + self.state[f"{name}.alpha"] * refined
            total = total + torch.einsum("ncuv,nctv->nctu", graph, self.conv(f"{part}.v", x))
        shortcut = self.norm(f"{name}.down.bn", self.conv(f"{name}.down.conv", x)) if changes else x
        return torch.relu(self.norm(f"{name}.bn", total) + shortcut)

    def temporal(self, name: str, x: Tensor, stride: int) -> Tensor:
        def reduced(branch: str) -> Tensor:
            return torch.relu(self.norm(f"{branch}.bn1", self.conv(f"{branch}.pw", x)))

        parts = [
            self.norm(
                f"{name}.br{index}.bn2", self.conv(f"{name}.br{index}.conv", reduced(f"{name}.br{index}"), stride, d)
            )
            for index, d in enumerate((1, 2))
        ]
        pooled = torch.max_pool2d(reduced(f"{name}.br2"), (3, 1), (stride, 1), (1, 0))
        parts.append(self.norm(f"{name}.br2.bn2", pooled))
        parts.append(self.norm(f"{name}.br3.bn1", self.conv(f"{name}.br3.pw", x, stride)))
        return torch.cat(parts, dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """Map (N, 3, T, V, M) to (N, K)."""
        n, c, t, v, m = x.shape
        x = self.norm("in_bn", x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for number, (channels_in, channels_out, stride) in enumerate(PLAN, start=1):
            block, changes = f"b{number}", channels_in != channels_out
            y = self.temporal(f"{block}.tcn", self.spatial(f"{block}.gcn", x, changes), stride)
            if number > 1:
                y = y + (self.norm(f"{block}.res.bn", self.conv(f"{block}.res.conv", x, stride)) if changes else x)
            x = torch.relu(y)
        pooled = x.view(n, m, x.shape[1], -1).mean(dim=(1, 3))
        return functional.linear(pooled, self.state["fc.weight"], self.state["fc.bias"])

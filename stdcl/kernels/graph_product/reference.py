"""The refined graphs and their product in PyTorch operations. Letters, arguments and results are the interface's."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()  # said once more for torch.export, which drops the autograd function around it
def forward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    b, c, s, v, t = values.shape
    basis = _basis(qk, a)
    graphs = _graphs(mixing, basis, values.dtype)
    mixed = torch.bmm(graphs.transpose(1, 2), values.reshape(b * c, s * v, t))
    offset = torch.bmm(_columns(basis).transpose(1, 2), biased.expand(b, -1, -1)).to(values.dtype)
    out = values.new_empty((b, v, t, c))
    return torch.add(mixed.view(b, c, v, t).permute(0, 2, 3, 1), offset[:, :, None, :], out=out)


def backward(
    values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    b, c, s, v, t = values.shape
    basis = _basis(qk, a)
    graphs = _graphs(mixing, basis, values.dtype)
    grad_offset = grad.sum(dim=2, dtype=mixing.dtype)
    by_channel = grad.reshape(b, v * t, c).transpose(1, 2).contiguous().view(b * c, v, t)
    grad_graphs = torch.bmm(values.reshape(b * c, s * v, t), by_channel.transpose(1, 2)).view(b, c, s, v * v)
    grad_values = torch.bmm(graphs, by_channel).view(values.shape)
    grad_mixing, grad_basis = torch.empty_like(mixing), torch.empty_like(basis)
    cast_mixing, cast_basis = mixing.to(values.dtype), basis.to(values.dtype).flatten(3)
    for i in range(s):
        part = grad_graphs[:, :, i]
        grad_basis[:, i] = torch.bmm(cast_mixing[i].t().expand(b, -1, -1), part).view(basis[:, i].shape)
        grad_mixing[i] = torch.bmm(part, cast_basis[:, i].transpose(1, 2)).sum(0)
    grad_biased = torch.bmm(_columns(basis), grad_offset).sum(0)
    grad_columns = (
        torch.bmm(grad_offset, biased.t().expand(b, -1, -1)).transpose(1, 2).reshape(b, s, mixing.shape[2], 1, v)
    )
    grad_basis += grad_columns
    relation = grad_basis[:, :, :-2] * (1.0 - basis[:, :, :-2].square())  # (B, S, R, V_v, V_u)
    grad_qk = torch.stack((relation.sum(dim=3), -relation.sum(dim=4)), dim=1).permute(0, 4, 1, 2, 3)
    return grad_values, grad_qk, grad_basis[:, :, -1].sum(0).transpose(1, 2), grad_mixing, grad_biased


def _basis(qk: Tensor, a: Tensor) -> Tensor:
    """Return the graphs' basis (B, S, K, V_v, V_u)."""
    q, k = qk.permute(2, 0, 3, 4, 1)  # (B, S, R, V) each
    b, s, reduced, v = q.shape
    basis = a.new_ones((b, s, reduced + 2, v, v))
    relation = basis[:, :, :reduced]
    torch.tanh(torch.sub(q[:, :, :, None, :], k[:, :, :, :, None], out=relation), out=relation)
    basis[:, :, -1] = a.transpose(1, 2)
    return basis


def _columns(basis: Tensor) -> Tensor:
    """Return the sums of the basis over V_v, (B, S K, V_u)."""
    return basis.sum(dim=3).flatten(1, 2)


def _graphs(mixing: Tensor, basis: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the graphs of all samples and channels, (B C, S V_v, V_u), in ``dtype``."""
    b, s, _, v, _ = basis.shape
    c = mixing.shape[1]
    mixing, rows = mixing.to(dtype), basis.to(dtype).flatten(3)
    graphs = mixing.new_empty((b, c, s, v * v))
    for i in range(s):
        torch.bmm(mixing[i].expand(b, -1, -1), rows[:, i], out=graphs[:, :, i])
    return graphs.view(b * c, s * v, v)

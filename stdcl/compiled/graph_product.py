"""CTR-GCN's refined graphs and the product with them: compiled (``graph_product.c``) for float32 on CPUs with AVX-512,
PyTorch operations elsewhere.

Letters: B samples, C channels, S subsets, R relation channels, K = R + 2 factors of a graph, V joints, T frames. From q
and k (B, V, S, R), A (S, V, V), mixing (S, C, K) and biased (S K, C):

- ``basis[b, s, :, v, u] = [tanh(q[b, u, s] - k[b, v, s]); 1; A[s, u, v]]``, K numbers,
- ``graph[b, c, s, v, u] = sum_k mixing[s, c, k] basis[b, s, k, v, u]``,
- ``out[b, u, t, c] = sum_{s, v} graph[b, c, s, v, u] values[b, c, s, v, t] + sum_{s, k, v} biased[(s, k), c]
  basis[b, s, k, v, u]``.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from stdcl.compiled.extension import avx512_extension, takes

_graph_product = avx512_extension("_graph_product")

_BLOCK = 16  # channels that the kernel takes at a time


def usable() -> bool:
    """Return whether the kernel was built for this installation and this processor can run it."""
    return _graph_product is not None


def _kernel_for(*tensors: Tensor) -> ModuleType | None:
    channels = tensors[0].shape[1]
    return _graph_product if takes(*tensors) and channels % _BLOCK == 0 else None


def forward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    """Return ``out`` (B, V, T, C), contiguous, in the type of ``values``.

    Args:
        values: (B, C, S, V, T), in the type that products run in.
        qk: (B, V, 2, S, R), q then k.
        a: (S, V, V).
        mixing: (S, C, K).
        biased: (S K, C).
    """
    b, c, s, v, t = values.shape
    kernel = _kernel_for(values, qk, a, mixing, biased)
    if kernel is not None:
        values, qk, a, mixing, biased = (x.contiguous() for x in (values, qk, a, mixing, biased))
        out = values.new_empty((b, v, t, c))
        kernel.forward(
            values.data_ptr(),
            qk.data_ptr(),
            a.data_ptr(),
            mixing.data_ptr(),
            biased.data_ptr(),
            (b, c, s, qk.shape[4], v, t),
            torch.get_num_threads(),
            out.data_ptr(),
        )
        return out
    basis = _basis(qk, a)
    graphs = _graphs(mixing, basis, values.dtype)
    mixed = torch.bmm(graphs.transpose(1, 2), values.reshape(b * c, s * v, t))
    offset = torch.bmm(_columns(basis).transpose(1, 2), biased.expand(b, -1, -1)).to(values.dtype)
    out = values.new_empty((b, v, t, c))
    return torch.add(mixed.view(b, c, v, t).permute(0, 2, 3, 1), offset[:, :, None, :], out=out)


class Gradients(NamedTuple):
    """Of the arguments of `forward`, in their shapes."""

    values: Tensor
    qk: Tensor
    a: Tensor
    mixing: Tensor
    biased: Tensor


def backward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor, grad: Tensor) -> Gradients:
    """Return the gradients of `forward`'s arguments.

    Args:
        values: as given to `forward`, as all but the last.
        grad: (B, V, T, C), the gradient of its result.
    """
    b, c, s, v, t = values.shape
    kernel = _kernel_for(values, qk, a, mixing, biased, grad)
    if kernel is not None:
        values, qk, a, mixing, grad = (x.contiguous() for x in (values, qk, a, mixing, grad))
        turned = biased.t().contiguous()
        grad_values, grad_qk = torch.empty_like(values), torch.empty_like(qk)
        # A part a sample of what all samples share.
        grad_a, grad_mixing, grad_biased = (x.new_empty((b, *x.shape)) for x in (a, mixing, biased))
        kernel.backward(
            values.data_ptr(),
            qk.data_ptr(),
            a.data_ptr(),
            mixing.data_ptr(),
            turned.data_ptr(),
            grad.data_ptr(),
            (b, c, s, qk.shape[4], v, t),
            torch.get_num_threads(),
            grad_values.data_ptr(),
            grad_qk.data_ptr(),
            grad_a.data_ptr(),
            grad_mixing.data_ptr(),
            grad_biased.data_ptr(),
        )
        return Gradients(grad_values, grad_qk, grad_a.sum(0), grad_mixing.sum(0), grad_biased.sum(0))
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
    return Gradients(grad_values, grad_qk, grad_basis[:, :, -1].sum(0).transpose(1, 2), grad_mixing, grad_biased)


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

"""CTR-GCN's product with refined graphs: compiled (``graph_product.c``) for float32 on CPUs with AVX-512, PyTorch
operations elsewhere.

Letters: B samples, C channels, S subsets, K factors of a graph, V joints, T frames. The graph of a sample, channel and
subset is ``sum_k mixing[s, c, k] basis[b, s, k, v, u]``.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from stdcl.compiled.extension import avx512_extension

_graph_product = avx512_extension("_graph_product")

_BLOCK = 16  # channels that the kernel takes at a time


def usable() -> bool:
    """Return whether the kernel was built for this installation and this processor can run it."""
    return _graph_product is not None


def _kernel_for(*tensors: Tensor) -> ModuleType | None:
    channels = tensors[0].shape[1]
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() > 0 for t in tensors)
    return _graph_product if usable() and fits and channels % _BLOCK == 0 else None


def mix(values: Tensor, mixing: Tensor, basis: Tensor, offset: Tensor) -> Tensor:
    """Return ``out[b, u, t, c] = offset[b, u, c] + sum_{s, v} graph[b, c, s, v, u] values[b, c, s, v, t]``.

    Args:
        values: (B, C, S, V, T), in the type that products run in.
        mixing: (S, C, K).
        basis: (B, S, K, V_v, V_u).
        offset: (B, V, C).

    Returns:
        (B, V, T, C), contiguous, in the type of ``values``.
    """
    b, c, s, v, t = values.shape
    kernel = _kernel_for(values, mixing, basis, offset)
    if kernel is not None:
        values, mixing, basis, offset = (x.contiguous() for x in (values, mixing, basis, offset))
        out = values.new_empty((b, v, t, c))
        kernel.mix(
            values.data_ptr(),
            mixing.data_ptr(),
            basis.data_ptr(),
            offset.data_ptr(),
            (b, c, s, mixing.shape[2], v, t),
            torch.get_num_threads(),
            out.data_ptr(),
        )
        return out
    graphs = _graphs(mixing, basis, values.dtype)
    mixed = torch.bmm(graphs.transpose(1, 2), values.reshape(b * c, s * v, t))
    out = values.new_empty((b, v, t, c))
    return torch.add(mixed.view(b, c, v, t).permute(0, 2, 3, 1), offset.to(values.dtype)[:, :, None, :], out=out)


def mix_backward(values: Tensor, mixing: Tensor, basis: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of `mix` with respect to values, mixing, basis and offset.

    Args:
        values: as given to `mix`, as ``mixing`` and ``basis``.
        grad: (B, V, T, C), the gradient of the result.
    """
    b, c, s, v, t = values.shape
    factors = mixing.shape[2]
    kernel = _kernel_for(values, mixing, basis, grad)
    if kernel is not None:
        values, mixing, basis, grad = (x.contiguous() for x in (values, mixing, basis, grad))
        grad_values, grad_basis = torch.empty_like(values), torch.empty_like(basis)
        grad_mixing, grad_offset = mixing.new_empty((b, s, c, factors)), mixing.new_empty((b, v, c))
        kernel.mix_backward(
            values.data_ptr(),
            mixing.data_ptr(),
            basis.data_ptr(),
            grad.data_ptr(),
            (b, c, s, factors, v, t),
            torch.get_num_threads(),
            grad_values.data_ptr(),
            grad_basis.data_ptr(),
            grad_mixing.data_ptr(),
            grad_offset.data_ptr(),
        )
        return grad_values, grad_mixing.sum(0), grad_basis, grad_offset
    graphs = _graphs(mixing, basis, values.dtype)
    grad_offset = grad.sum(dim=2, dtype=mixing.dtype)
    by_channel = grad.reshape(b, v * t, c).transpose(1, 2).contiguous().view(b * c, v, t)
    grad_graphs = torch.bmm(values.reshape(b * c, s * v, t), by_channel.transpose(1, 2)).view(b, c, s, v * v)
    grad_values = torch.bmm(graphs, by_channel).view(values.shape)
    grad_mixing, grad_basis = torch.empty_like(mixing), torch.empty_like(basis)
    cast_mixing, cast_basis = mixing.to(values.dtype), basis.to(values.dtype).flatten(3)
    for i in range(s):
        part = grad_graphs[:, :, i]
        grad_basis[:, i] = torch.bmm(cast_mixing[i].t().expand(b, -1, -1), part).view(b, factors, v, v)
        grad_mixing[i] = torch.bmm(part, cast_basis[:, i].transpose(1, 2)).sum(0)
    return grad_values, grad_mixing, grad_basis, grad_offset


def _graphs(mixing: Tensor, basis: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the graphs of all samples and channels, (B C, S V_v, V_u), in ``dtype``."""
    b, s, _, v, _ = basis.shape
    c = mixing.shape[1]
    mixing, rows = mixing.to(dtype), basis.to(dtype).flatten(3)
    graphs = mixing.new_empty((b, c, s, v * v))
    for i in range(s):
        torch.bmm(mixing[i].expand(b, -1, -1), rows[:, i], out=graphs[:, :, i])
    return graphs.view(b * c, s * v, v)

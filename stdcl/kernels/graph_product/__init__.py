"""CTR-GCN's refined graphs and the product with them. The kernel (``graph_product.c``) needs AVX-512.

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

from stdcl.kernels.extension import avx512_extension, takes
from stdcl.kernels.graph_product import reference

_kernel = avx512_extension("stdcl.kernels.graph_product._kernel")

_BLOCK = 16  # channels that the kernel takes at a time


def usable() -> bool:
    """Return whether the kernel was built for this installation and this processor can run it."""
    return _kernel is not None


def _kernel_for(*tensors: Tensor) -> ModuleType | None:
    channels = tensors[0].shape[1]
    return _kernel if takes(*tensors) and channels % _BLOCK == 0 else None


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
    return reference.forward(values, qk, a, mixing, biased)


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
    return Gradients(*reference.backward(values, qk, a, mixing, biased, grad))

"""CTR-GCN's refined graphs and the product with them. The kernel (``graph_product.c``) needs AVX-512.

Letters: B samples, C channels, S subsets, R relation channels, K = R + 2 factors of a graph, V joints, T frames. From q
and k (B, V, S, R), A (S, V, V), mixing (S, C, K) and biased (S K, C):

- ``basis[b, s, :, v, u] = [tanh(q[b, u, s] - k[b, v, s]); 1; A[s, u, v]]``, K numbers,
- ``graph[b, c, s, v, u] = sum_k mixing[s, c, k] basis[b, s, k, v, u]``,
- ``out[b, u, t, c] = sum_{s, v} graph[b, c, s, v, u] values[b, c, s, v, t] + sum_{s, k, v} biased[(s, k), c]
  basis[b, s, k, v, u]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from stdcl.kernels.check import check, check_axes
from stdcl.kernels.choice import kernel_for, operator
from stdcl.kernels.extension import avx512_extension, run
from stdcl.kernels.graph_product import reference

_kernel = avx512_extension("stdcl.kernels.graph_product._kernel")


def usable() -> bool:
    """Return whether the kernel was built for this installation and this processor can run it."""
    return _kernel is not None


def graph_product(values: Tensor, bias: Tensor, qk: Tensor, a: Tensor, mixing: Tensor) -> Tensor:
    """Return ``sum_{s, v} graph[b, c, s, v, u] (values[b, c, s, v, t] + bias[s, c])`` (B, V, T, C), differentiable.

    Args:
        values: (B, C, S, V, T), in the type that products run in.
        bias: (S, C), added after the graph, where it is one number per joint and channel.
        qk: (B, V, 2, S, R), q then k.
        a: (S, V, V).
        mixing: (S, C, K).

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if the last four differ in type or device.
    """
    check_axes("graph_product", mixing=(mixing, 3))
    check("graph_product", a, ("mixing", mixing, mixing.shape), ("bias", bias, mixing.shape[:2]))
    out: Tensor = _GraphProduct.apply(values, bias, qk, a, mixing)  # type: ignore[no-untyped-call]
    return out


class _GraphProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bias: Tensor, qk: Tensor, a: Tensor, mixing: Tensor) -> Tensor:
        ctx.save_for_backward(values, bias, qk, a, mixing)
        return forward(values, qk, a, mixing, _biased(mixing, bias))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        values, bias, qk, a, mixing = ctx.saved_tensors
        found = backward(values, qk, a, mixing, _biased(mixing, bias), gradients[0])
        grad_biased = found.biased.view(len(a), -1, bias.shape[1]).transpose(1, 2)
        grad_mixing = torch.addcmul(found.mixing, grad_biased, bias[:, :, None])
        return found.values, (grad_biased * mixing).sum(dim=2), found.qk, found.a, grad_mixing


def _biased(mixing: Tensor, bias: Tensor) -> Tensor:
    return (mixing * bias[:, :, None]).transpose(1, 2).flatten(0, 1)


def forward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    """Return ``out`` (B, V, T, C), contiguous, in the type of ``values``.

    Args:
        values: (B, C, S, V, T), in the type that products run in.
        qk: (B, V, 2, S, R), q then k.
        a: (S, V, V).
        mixing: (S, C, K).
        biased: (S K, C).

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if the last four differ in type or device.
    """
    _check(values, qk, a, mixing, biased)
    if _takes(values, qk, a, mixing, biased):
        return _forward(values, qk, a, mixing, biased)
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

    Raises:
        ValueError: if a shape does not fit.
        TypeError: if types or devices do not fit.
    """
    _check(values, qk, a, mixing, biased)
    b, c, _, v, t = values.shape
    check("graph_product", values, ("grad", grad, (b, v, t, c)))
    if _takes(values, qk, a, mixing, biased, grad):
        of_values, of_qk, *shared = _backward(values, qk, a, mixing, biased, grad)
        return Gradients(of_values, of_qk, *(x.sum(0) for x in shared))
    return Gradients(*reference.backward(values, qk, a, mixing, biased, grad))


def _check(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> None:
    check_axes("graph_product", values=(values, 5), qk=(qk, 5))
    b, c, s, v, _ = values.shape
    reduced = qk.shape[4]
    check(
        "graph_product",
        a,
        ("qk", qk, (b, v, 2, s, reduced)),
        ("a", a, (s, v, v)),
        ("mixing", mixing, (s, c, reduced + 2)),
        ("biased", biased, (s * (reduced + 2), c)),
    )


def _takes(values: Tensor, *others: Tensor) -> bool:
    kernel = kernel_for(_kernel, values, *others)
    return kernel is not None and values.shape[1] % kernel.BLOCK == 0


def _sizes(values: Tensor, qk: Tensor) -> tuple[int, ...]:
    b, c, s, v, t = values.shape
    return b, c, s, qk.shape[4], v, t


def _fake_forward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    b, c, _, v, t = values.shape
    return values.new_empty((b, v, t, c))


@operator("graph_product", _fake_forward)
def _forward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor) -> Tensor:
    assert _kernel is not None
    out = _fake_forward(values, qk, a, mixing, biased)
    run(_kernel.forward, (values, qk, a, mixing, biased), _sizes(values, qk), [out])
    return out


def _fake_backward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor, grad: Tensor) -> list[Tensor]:
    b = len(values)
    # A part per sample of what all samples share.
    return [
        values.new_empty(shape) for shape in (values.shape, qk.shape, *((b, *x.shape) for x in (a, mixing, biased)))
    ]


@operator("graph_product_backward", _fake_backward)
def _backward(values: Tensor, qk: Tensor, a: Tensor, mixing: Tensor, biased: Tensor, grad: Tensor) -> list[Tensor]:
    assert _kernel is not None
    made = _fake_backward(values, qk, a, mixing, biased, grad)
    run(_kernel.backward, (values, qk, a, mixing, biased.t(), grad), _sizes(values, qk), made)
    return made

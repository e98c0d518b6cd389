"""Whether the kernel or its reference runs, and how: called directly, or as an operator that ``torch.compile`` sees."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from stdcl.errors import UserError
from stdcl.kernels.check import recording

SWITCH = "STDCL_KERNELS"
"""Environment variable: ``0`` turns all kernels off."""

_Call = TypeVar("_Call", bound=Callable[..., object])


def switched_on(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment leaves the kernels on.

    Raises:
        UserError: if `SWITCH` has another value than 0 and 1.
    """
    value = environment.get(SWITCH, "")
    if value not in ("", "0", "1"):
        raise UserError(f"{SWITCH} is '{value}'; allowed are 0 (no C kernels) and 1 (the default)")
    return value != "0"


ON = switched_on()
"""Whether kernels run in this process; read once, because they are called hundreds of times per step."""


def kernel_for(kernel: ModuleType | None, *tensors: Tensor | None) -> ModuleType | None:
    """Return ``kernel`` if it runs on these tensors, None if the reference must.

    A kernel takes float32 on the CPU with at least one element per tensor, and no subclasses of tensors. In
    ``torch.export`` and ``torch.jit.trace`` the reference runs: what they record consists of PyTorch's own operations.
    """
    if kernel is None or not all(_takes(x) for x in tensors):
        return None
    if recording():
        return None
    return kernel if ON else None


def operator(name: str, fake: Callable[..., object]) -> Callable[[_Call], _Call]:
    """Register a kernel's call as the operator ``stdcl::name``, with ``fake`` for its results' shapes.

    Outside ``torch.compile``, which sees the operator, the call stays direct: an operator's dispatch takes time.
    """

    def register(call: _Call) -> _Call:
        registered = torch.library.custom_op(f"stdcl::{name}", call, mutates_args=())
        registered.register_fake(fake)

        @functools.wraps(call)
        def run(*arguments: object) -> object:
            return registered(*arguments) if torch.compiler.is_dynamo_compiling() else call(*arguments)

        return run  # type: ignore[return-value]

    return register


def _takes(x: Tensor | None) -> bool:
    plain = x is None or type(x) in (Tensor, Parameter)
    return plain and (x is None or (x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0))

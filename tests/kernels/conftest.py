"""Each test that asks for ``way`` runs with the kernel and with the reference."""

from __future__ import annotations

import pytest

from stdcl.kernels import choice
from stdcl.kernels.extension import extension


@pytest.fixture(params=["kernel", "reference"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """``kernel`` is skipped where the kernel of the test module's ``OPERATION`` cannot run; the reference never is."""
    operation = request.module.OPERATION
    if request.param == "kernel":
        monkeypatch.setattr(choice, "ON", True)
        if operation._kernel is None:
            pytest.skip(missing(operation.__name__))
    else:
        monkeypatch.setattr(choice, "ON", False)
    return str(request.param)


def missing(operation: str) -> str:
    """Say why an operation's kernel cannot run."""
    if extension(f"{operation}._kernel") is None:
        return f"the kernel of {operation} was not built: no C compiler at installation"
    return f"the kernel of {operation} needs AVX-512, which this processor lacks; the reference is tested"

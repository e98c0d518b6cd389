"""Kernels under ``torch.export``, ``torch.jit.trace`` and ``torch.compile``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from types import ModuleType

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from stdcl.config.model import EncoderConfig
from stdcl.encoders.base import Layout
from stdcl.encoders.build import build_encoder
from stdcl.kernels import attention, batch_norm, branches, choice, graph_product
from stdcl.runs.export import _Logits
from stdcl.skeleton import NW_UCLA
from tests.kernels.conftest import missing
from tests.kernels.test_checks import GROUPS, HOPS, given

LAYOUT = Layout(num_joints=20, num_persons=1, num_frames=16, num_classes=10, skeleton=NW_UCLA)
ENCODERS = [{"name": name} for name in ("ctrgcn", "infogcn", "agcn", "hcn", "stgcn", "protogcn")]
ENCODERS.append({"name": "hyperformer", "hyperedges": "default"})


@pytest.mark.filterwarnings("ignore:No complete tensor found in the group")  # weights that share memory
@pytest.mark.parametrize("section", ENCODERS, ids=lambda section: section["name"])
def test_encoders_are_exported_in_the_operations_of_pytorch_for_any_batch(
    monkeypatch: pytest.MonkeyPatch, section: dict[str, str]
) -> None:
    monkeypatch.setattr(choice, "ON", True)
    config: EncoderConfig = TypeAdapter(EncoderConfig).validate_python(section)
    torch.manual_seed(0)
    model = _Logits(build_encoder(config, replace(LAYOUT, num_persons=2))).eval()
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(2, 3, 16, 20, 2),), dynamic_shapes={"x": {0: torch.export.Dim("N")}}
        )
        assert not [node.target for node in program.graph.nodes if "stdcl" in str(node.target)]
        other = torch.randn(5, 3, 16, 20, 2)
        monkeypatch.setattr(choice, "ON", False)
        stored = BytesIO()
        torch.export.save(program, stored)
        stored.seek(0)
        torch.testing.assert_close(torch.export.load(stored).module()(other), model(other))


_START = """
import sys, torch
from tests.kernels.test_encoders import LAYOUTS, step
from stdcl.encoders.ctrgcn.network import CTRGCN
step(CTRGCN(LAYOUTS[0]), torch.randn(2, 3, LAYOUTS[0].num_frames, 20, 1), torch.arange(2))
print("torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_load_the_compiler() -> None:
    """`torch._dynamo` takes a second to import; PyTorch's optimisers load it, evaluation has no need of it."""
    ran = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


OPERATORS = {
    "normalise": (batch_norm, lambda t: batch_norm.normalise(**t, relu=True)),
    "graph_product_with_bias": (graph_product, lambda t: graph_product.graph_product(**t)),
    "branches": (branches, lambda t: branches.forward(**t, stride=1, time_axis=1)),
    "attention": (attention, lambda t: attention.attend(**t, groups=GROUPS, hops=HOPS)),
}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # by torch.compile itself
@pytest.mark.parametrize("name", OPERATORS)
def test_torch_compile_calls_the_kernel_as_one_operator(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The compiled call has the kernel's bits, in the result and, where it is differentiable, in the gradients."""
    monkeypatch.setattr(choice, "ON", True)
    operation, call = OPERATORS[name]
    if operation._kernel is None:
        pytest.skip(missing(operation.__name__))
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for part in graph.modules() for node in part.graph.nodes)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    tensors = given(name)[1]
    compiled = torch.compile(call, fullgraph=True, backend=backend)
    if name not in ("graph_product_with_bias", "attention"):
        assert torch.equal(compiled(tensors), call(tensors))
        assert any("stdcl" in target for target in seen)
        return
    results = []
    for run in (call, compiled):
        leaves = {key: x.clone().requires_grad_() for key, x in tensors.items()}
        out = run(leaves)
        results.append([out, *torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))])
    assert any("stdcl" in target for target in seen)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.filterwarnings("ignore")  # it is deprecated, and warns of every look at a shape
def test_a_jit_trace_does_not_keep_the_results_of_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ON", True)
    x, other, factor, shift = torch.randn(8, 4), torch.randn(8, 4), torch.randn(4), torch.randn(4)
    traced = torch.jit.trace(lambda y: batch_norm.normalise(y, None, factor, shift, True), (x,))
    torch.testing.assert_close(traced(other), batch_norm.normalise(other, None, factor, shift, True))


# Name of each operator: the operation, and what it is given after its tensors.
REGISTERED: dict[str, tuple[ModuleType, tuple[object, ...]]] = {
    "moments": (batch_norm, ()),
    "normalise": (batch_norm, (True,)),
    "gradient_sums": (batch_norm, ()),
    "normalise_backward": (batch_norm, (True,)),
    "graph_product": (graph_product, ()),
    "graph_product_backward": (graph_product, ()),
    "branches": (branches, (2, 2)),
    "branches_backward": (branches, (2, 2)),
    "attention": (attention, (GROUPS, HOPS)),
}


@pytest.mark.parametrize("name", REGISTERED)
def test_operators_are_what_they_are_registered_as(name: str) -> None:
    """Their schema; no result shares memory with an argument; the fake has the shapes and strides of the result."""
    operation, rest = REGISTERED[name]
    if operation._kernel is None:
        pytest.skip(missing(operation.__name__))
    tensors = [torch.randn(8, 4)] if name == "moments" else given(name)[1].values()
    found = getattr(torch.ops.stdcl, name).default
    torch.library.opcheck(found, (*tensors, *rest), test_utils=("test_schema", "test_faketensor"))

"""Golden numbers of the reference implementations: deterministic weights, and what comes out for a given input."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stdcl.encoders.base import Encoder, Layout
from stdcl.skeleton import NTU, NW_UCLA, spatial_partition

FOLDER = Path(__file__).parents[1] / "golden"
LAYOUTS = {
    "nwucla": Layout(num_joints=20, num_persons=1, num_frames=52, num_classes=10, skeleton=NW_UCLA),
    "ntu60": Layout(num_joints=25, num_persons=2, num_frames=64, num_classes=60, skeleton=NTU),
}
# The last part of a golden name -> ours.
SUFFIXES = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def load(encoder: str, dataset: str) -> dict[str, Any]:
    """Return the golden file of an encoder and a dataset ("nwucla" or "ntu60")."""
    content: dict[str, Any] = json.loads((FOLDER / f"{encoder}_{dataset}.json").read_text())
    return content


def our_name(name: str) -> str:
    """Translate a golden parameter name by its last part alone."""
    *path, last = name.split(".")
    return ".".join([*path, SUFFIXES.get(last, last)])


def filled(name: str, shape: tuple[int, ...], layout: Layout, alpha: float) -> Tensor:
    """Return the weight that the golden files' rule gives to a parameter of this name and shape."""
    w = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "w":
        w = w / math.sqrt(math.prod(shape[1:]))
    elif last in ("b", "beta", "mean"):
        w = 0.05 * w
    elif last == "gamma":
        w = 1 + 0.1 * w
    elif last == "var":
        w = 1 + 0.3 * np.abs(w)
    elif last == "A":
        w = spatial_partition(layout.skeleton) + 0.02 * w
    elif last == "B":
        w = 0.02 * w
    elif last == "alpha":
        w = np.full(shape, alpha)
    elif last == "outer":
        w = np.eye(shape[-1]) + 0.05 * w
    elif last == "topo":
        w = np.eye(shape[-1]) + w
    elif last == "pos":
        w = 0.5 * w
    return torch.from_numpy(np.asarray(w)).to(torch.float32)


def fill(
    model: Encoder,
    content: dict[str, Any],
    *,
    alpha: float = 0.05,
    rename: Callable[[str], str] = our_name,
) -> None:
    """Give ``model`` the golden weights; every golden name must exist in it, and nothing else may be left.

    Args:
        model: the encoder.
        content: a golden file.
        alpha: what scalars named ``alpha`` are.
        rename: golden name -> name in ``model.state_dict()``.
    """
    state = {}
    for entry in content["params"]:
        shape = tuple(entry["shape"])
        state[rename(entry["name"])] = filled(entry["name"], shape, model.layout, alpha)
    own = model.state_dict()
    for name, tensor in state.items():
        assert own[name].shape == tensor.shape, name
    model.load_state_dict(state)


def example(content: dict[str, Any]) -> Tensor:
    """Return the golden input (2, 3, T, V, M)."""
    shape = content["input"]["shape"]
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape)).to(torch.float32)


def compare(
    model: Encoder,
    content: dict[str, Any],
    blocks: list[nn.Module],
    to_reference: Callable[[Tensor], Tensor],
    tolerance: float = 1e-4,
) -> None:
    """Assert that logits and every block's statistics equal the golden ones.

    Args:
        model: the encoder with golden weights.
        content: the golden file.
        blocks: the modules whose outputs the file lists.
        to_reference: a block's output -> (N M, C, T, V).
        tolerance: allowed difference as a share of the largest absolute value: the reference's own rounding, in
            float32. Ours is computed in float64, so no processor's rounding is added to it.
    """
    model.double().eval()
    outputs: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: outputs.append(to_reference(out))) for block in blocks]
    with torch.no_grad():
        logits = model(example(content).double()).logits
    for hook in hooks:
        hook.remove()
    assert len(outputs) == len(content["block_outputs"])
    for index, (out, want) in enumerate(zip(outputs, content["block_outputs"], strict=True)):
        limit = tolerance * want["absmax"]
        assert list(out.shape) == want["shape"], f"block {index}"
        out = out.double()
        got = {
            "mean": out.mean().item(),
            "std": out.std(unbiased=False).item(),
            "absmax": out.abs().max().item(),
        }
        for key, value in got.items():
            assert abs(value - want[key]) <= limit, f"block {index}: {key} is {value}, golden {want[key]}"
        for key, values in (("first4", out.flatten()[:4]), ("last4", out.flatten()[-4:])):
            worst = (values - torch.tensor(want[key], dtype=torch.float64)).abs().max().item()
            assert worst <= limit, f"block {index}: {key} differ by {worst}"
    want_logits = torch.tensor(content["logits"])
    worst = (logits - want_logits).abs().max().item()
    assert worst <= tolerance * want_logits.abs().max().item(), f"logits differ by {worst}"

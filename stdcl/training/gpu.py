"""How GPUs compute: TF32 products and deterministic algorithms, as a configuration says.

The settings belong to the process, which may serve one training after another, so each training sets all of them.
"""

from __future__ import annotations

import os

import torch

from stdcl.config.model import TrainingConfig

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""What cuBLAS must find in the environment to be deterministic."""


def set_arithmetic(config: TrainingConfig, device: torch.device) -> None:
    """Set what a training on ``device`` computes with; on a CPU there is nothing to set.

    Raises:
        RuntimeError: later, from an operation that has no deterministic algorithm on GPUs, where those are asked for.
    """
    if device.type != "cuda":
        return
    in_convolutions, in_products = config.tf32 in ("convolutions", "all"), config.tf32 == "all"
    torch.backends.cudnn.allow_tf32 = in_convolutions
    torch.backends.cuda.matmul.allow_tf32 = in_products
    if config.deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = False

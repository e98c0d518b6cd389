"""The device that a rank computes on. A rank that was given a GPU never falls back to the CPU."""

from __future__ import annotations

import os
from importlib import metadata

import torch

from stdcl.config import ResourcesConfig
from stdcl.errors import UserError
from stdcl.launch.nodes import cards_of_the_driver

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What a process may see of a machine's cards; Ray sets it for each worker that it gives some."""


class NoCard(UserError):
    """A process that was given a GPU sees none: a fault of its node, which every training would meet there."""


def check_card() -> None:
    """Check that PyTorch sees a card here.

    Raises:
        NoCard: it sees none; the sentence says why.
    """
    if not torch.cuda.is_available():
        raise NoCard(f"a GPU was asked for, but {why_no_card()}; resources.gpus_per_worker=0 trains on CPUs")


def why_no_card() -> str:
    """Return why PyTorch sees no card in this process."""
    known = cards_of_the_driver()
    if not known:
        return "the NVIDIA driver of this machine lists no card, and PyTorch sees none"
    listed = f"the NVIDIA driver lists {len(known)} card(s), and PyTorch sees none"
    if torch.version.cuda is None:
        return f"{listed}: torch {metadata.version('torch')} is built without CUDA"
    if VISIBLE in os.environ:
        return f"{listed}: {VISIBLE} is '{os.environ[VISIBLE]}'"
    return f"{listed}: torch {metadata.version('torch')} (CUDA {torch.version.cuda}) does not work with this driver"


def own_device(resources: ResourcesConfig) -> torch.device:
    """Return the device of a training of one rank, in this process: the first card that it may see, or the CPU.

    Raises:
        NoCard: a GPU is asked for, and there is none.
    """
    if resources.gpus_per_worker == 0:
        return torch.device("cpu")
    check_card()
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    return device


def device_of_rank(resources: ResourcesConfig) -> torch.device:
    """Return the device that Ray Train gave this rank of a group.

    Raises:
        NoCard: as ``own_device``.
    """
    if resources.gpus_per_worker == 0:
        return torch.device("cpu")
    check_card()
    import ray.train.torch

    device: torch.device = ray.train.torch.get_device()
    torch.cuda.set_device(device)
    return device

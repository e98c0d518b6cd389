"""The device that a rank computes on. A rank that was given a GPU never falls back to the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
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


def use_card(card: torch.device) -> torch.device:
    """Make a card the one that this process computes on; return it."""
    torch.cuda.set_device(card)
    return card


@dataclass(frozen=True)
class Cards:
    """What ranks do that were given a card each. Where cards are declared to Ray alone, tests do otherwise.

    Attributes:
        backend: of their process group.
        check: raises NoCard if this process sees none.
        use: takes the card that Ray gave this rank; returns where it computes.
    """

    backend: str = "nccl"
    check: Callable[[], None] = check_card
    use: Callable[[torch.device], torch.device] = use_card


CARDS = Cards()


def own_device(resources: ResourcesConfig, cards: Cards = CARDS) -> torch.device:
    """Return the device of a training of one rank, in this process: the first card that it may see, or the CPU.

    Raises:
        NoCard: a GPU is asked for, and there is none.
    """
    if resources.gpus_per_worker == 0:
        return torch.device("cpu")
    cards.check()
    return cards.use(torch.device("cuda", 0))


def device_of_rank(resources: ResourcesConfig, cards: Cards = CARDS) -> torch.device:
    """Return the device that Ray Train gave this rank of a group.

    Raises:
        NoCard: as ``own_device``.
    """
    if resources.gpus_per_worker == 0:
        return torch.device("cpu")
    cards.check()
    import ray.train.torch

    return cards.use(ray.train.torch.get_device())

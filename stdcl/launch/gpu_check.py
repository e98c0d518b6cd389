"""A trial of what training on GPUs needs: every card, the ranks' connection, the rates of loader and encoder.

All of it runs as a training's ranks run, one a card, started the same way; its one row holds what was found.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stdcl.config import RunConfig
from stdcl.errors import UserError
from stdcl.launch.cluster import environment_to_hand_on
from stdcl.launch.worker import Job
from stdcl.launch.worker_group import follow_group, launch
from stdcl.parallel.comm import Comm
from stdcl.parallel.trial import CommTrial, gather_texts, nccl_version, try_collectives
from stdcl.results.row import EpochRow, add_figures
from stdcl.training.gpu import set_arithmetic
from stdcl.training.processor import arithmetic_facts
from stdcl.training.rates import Rates, measure_rates

STEPS = 8
"""That are timed."""
_FOUND = "found"


@dataclass(frozen=True)
class CardFacts:
    """One rank's device; it names no machine, address or person.

    Attributes:
        node: which of the ranks' nodes, from 1.
        processor, driver, tf32: as a result has them.
        total_gib, free_gib: memory, free before anything was trained; 0 for a CPU.
        capability: for example ``9.0``; empty for a CPU.
        cuda, cudnn, nccl: versions that PyTorch was built with; empty without.
        rounds_convolutions, rounds_products: whether float32 was rounded to TF32, as measured.
    """

    node: str
    processor: str
    driver: str = ""
    tf32: str = ""
    total_gib: float = 0.0
    free_gib: float = 0.0
    capability: str = ""
    cuda: str = ""
    cudnn: str = ""
    nccl: str = ""
    rounds_convolutions: bool = False
    rounds_products: bool = False


@dataclass(frozen=True)
class GpuCheck:
    """What was found on all ranks together.

    Attributes:
        cards: one per rank, in their order.
        ranks: of the connection; of one rank, the collectives are the identity.
        rates: None where they were not asked for.
    """

    cards: tuple[CardFacts, ...]
    ranks: CommTrial
    rates: Rates | None


def rounds_to_tf32(operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], device: torch.device) -> bool:
    """Whether an operation loses the last bits of a float32 factor: 1 + 2^-12 needs more than TF32's 10 bits."""
    factor = 1.0 + 2.0**-12
    # Large enough that a library has reason to take the cores that round.
    a, b = torch.zeros(256, 256, device=device), torch.eye(256, device=device)
    a.fill_diagonal_(factor)
    return bool((operation(a, b).diagonal() != factor).any().item())


def _convolution(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two square matrices, as a 1x1 convolution."""
    return torch.nn.functional.conv2d(b.T[:, :, None, None], a[:, :, None, None])[:, :, 0, 0].T


def card_facts(config: RunConfig, device: torch.device, node: str) -> CardFacts:
    """Look at this rank's device, set as ``config`` says."""
    set_arithmetic(config.training, device)
    facts = arithmetic_facts(config.training, device)
    found = CardFacts(
        node=node,
        processor=facts["processor"],
        driver=facts["driver"],
        tf32=facts["tf32"],
        rounds_convolutions=rounds_to_tf32(_convolution, device),
        rounds_products=rounds_to_tf32(torch.matmul, device),
    )
    if device.type != "cuda":
        return found
    free, total = torch.cuda.mem_get_info(device)
    return replace(
        found,
        total_gib=round(total / 2**30, 1),
        free_gib=round(free / 2**30, 1),
        capability=".".join(map(str, torch.cuda.get_device_capability(device))),
        cuda=str(torch.version.cuda),
        cudnn=str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        nccl=nccl_version(),
    )


def check_loop(
    config: RunConfig,
    run_dir: Path,
    *,
    comm: Comm,
    device: torch.device,
    sweep: str,
    trial: str,
    steps: int = STEPS,
    node: Callable[[], str] = lambda: "",
) -> Iterator[EpochRow]:
    """Look at every rank's device, try the connection and measure; a training loop by its contract, of one row.

    Args:
        config: what is measured.
        run_dir: not used.
        comm: the ranks.
        device: where this rank computes.
        sweep, trial: not used.
        steps: that are timed; 0 measures no rates.
        node: gives an opaque name of this rank's node.
    """
    cards = gather_texts(json.dumps(asdict(card_facts(config, device, node()))), comm, device)
    ranks = try_collectives(comm, device)
    rates = measure_rates(config, comm, device, steps=steps) if steps else None
    row: EpochRow = {"epoch": 1, "done": True}
    found = {"cards": cards, "ranks": asdict(ranks), "rates": asdict(rates) if rates else None}
    add_figures(row, {_FOUND: json.dumps(found)})  # type: ignore[dict-item]  # a text: this row goes into no file
    yield row


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


def read_check(row: EpochRow) -> GpuCheck:
    """Return what a row of ``check_loop`` holds, with nodes counted from 1 in the order of the ranks."""
    found: dict[str, Any] = json.loads(str(row[_FOUND]))  # type: ignore[literal-required]
    cards = [json.loads(text) for text in found["cards"]]
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(card["node"] for card in cards), 1)}
    ranks = CommTrial(**{**found["ranks"], "wrong": tuple(found["ranks"]["wrong"])})
    rates = Rates(**found["rates"]) if found["rates"] else None
    return GpuCheck(tuple(CardFacts(**{**card, "node": numbers[card["node"]]}) for card in cards), ranks, rates)


def run_check(
    config: RunConfig, storage: Path, *, steps: int, remote: bool, on_event: Callable[[str], None]
) -> GpuCheck:
    """Run the check on ``config.resources.workers`` ranks, and leave nothing behind.

    Args:
        config: what is measured, and the resources of its ranks.
        storage: a folder that all nodes see.
        steps: that are timed; 0 measures no rates.
        remote: whether the process is connected to a cluster already; ranks then run there, one alone as well.
        on_event: told what else happens.

    Raises:
        UserError, TrainingFailed: a rank could not do it.
    """
    loop = partial(check_loop, steps=steps, node=_node)
    folder = storage / f".check-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        if not remote:
            return read_check(launch(config, folder, loop=loop, on_event=on_event))
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        row: EpochRow = {}
        for item in follow_group(
            Job(config, folder.absolute(), "", "", environment_to_hand_on()), loop, folder / "ray"
        ):
            if isinstance(item, str):
                on_event(item)
            else:
                row = item
        return read_check(row)
    except OSError as error:
        raise UserError(f"{storage}: cannot be written to ({error.strerror}); set STDCL_STORAGE") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)

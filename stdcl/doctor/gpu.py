"""What training on GPUs needs, tried out in about two minutes: to be read, and pasted into a bug report.

No finding names a machine, an address, a folder, a person or a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from stdcl.config import RunConfig
from stdcl.config.load import resolve
from stdcl.config.paths import data_path, data_root, storage_path, variable
from stdcl.data.store import MANIFEST_FILE, read_manifest
from stdcl.doctor.finding import Finding
from stdcl.doctor.machine import devices_here, versions_here
from stdcl.errors import UserError
from stdcl.launch.cluster import free_now, looking_at
from stdcl.launch.device import why_no_card
from stdcl.launch.failures import TrainingFailed
from stdcl.launch.gpu_check import STEPS, CardFacts, GpuCheck, run_check
from stdcl.parallel.trial import BYTES
from stdcl.specs import datasets
from stdcl.training.components import check
from stdcl.training.rates import loader_rate_here

Say = Callable[[str], None]
STEPS_ON_CPU = 3
ENCODER = "ctrgcn"
_NEARLY_FULL = 0.9
"""Of a card's memory, from which on a training may not fit when something else comes."""


def examine_gpu(
    data: str | None = None, encoder: str = ENCODER, *, on_cpu: bool = False, say: Say = lambda text: None
) -> list[Finding]:
    """Look at every card of $RAY_ADDRESS's cluster, or of this machine.

    Args:
        data: a prepared store, by name or path; None: the first under the data folder.
        encoder: whose rate is measured, with STD-CL.
        on_cpu: where there is no card, measure the rates on a CPU, and try two ranks over gloo.
        say: told what happens meanwhile.
    """
    return [replace(each, text=without_places(each.text)) for each in _examine(data, encoder, on_cpu, say)]


def without_places(text: str) -> str:
    """Return a text without addresses, and without the folders of this user, his results and his data."""
    for variable_, path in (("STDCL_STORAGE", storage_path()), ("STDCL_DATA", data_root()), ("HOME", Path.home())):
        text = text.replace(str(path.absolute()), f"${variable_}")
    return _ADDRESS.sub("ADDRESS", text)


_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")


def _examine(data: str | None, encoder: str, on_cpu: bool, say: Say) -> list[Finding]:
    out = [*versions_here(), *devices_here()]
    try:
        address = variable("RAY_ADDRESS")
        if address:
            with looking_at(address) as cluster:
                out += _of_cards(int(cluster.total("GPU")), int(free_now().get("GPU", 0.0)), data, encoder, say)
            if out[-1].what != "no card" or not on_cpu:
                return out
        else:
            import torch

            cards = torch.cuda.device_count()
            out += _of_cards(cards, cards, data, encoder, say, remote=False)
            if cards:
                return out
        out += _on_cpu(data, encoder, say) if on_cpu else _loader(data, encoder)
    except UserError as error:
        out.append(Finding("cluster", "bad", str(error)))
    return out


def _loader(data: str | None, encoder: str) -> Iterator[Finding]:
    try:
        store = _store(data)
        if store is None:
            yield _NO_DATA
            return
        config = _config(store, encoder, "full", 1, 0)
        yield Finding("loader", "ok", f"{_loader_words(loader_rate_here(config), config)} on this machine")
    except UserError as error:
        yield Finding("loader", "bad", str(error).splitlines()[0])
    yield Finding("rates", "note", "`stdcl doctor --gpu --cpu` measures this machine's CPU, and two ranks over gloo")


_NO_DATA = Finding("rates", "note", "not measured: no prepared data (`stdcl data prepare`, or `stdcl data synth`)")


def _loader_words(rate: float, config: RunConfig) -> str:
    return f"{rate:,.0f} sequences/s a rank with resources.loader_threads {config.resources.loader_threads}"


def _of_cards(
    cards: int, free: int, data: str | None, encoder: str, say: Say, *, remote: bool = True
) -> Iterator[Finding]:
    if cards == 0:
        why = "Ray counts no GPU on this cluster" if remote else why_no_card()
        yield Finding("no card", "bad", f"{why}; nothing here is about GPUs")
        return
    if free < cards:
        yield Finding("cards", "note", f"{cards - free} of {cards} are held by other jobs; the free ones are tried")
    if free == 0:
        yield Finding("cards", "bad", "none is free; try again when a job has ended")
        return
    say(f"trying {free} card(s): about two minutes")
    yield from _checked(data, encoder, "full", workers=free, gpus=1, remote=remote, say=say)


def _on_cpu(data: str | None, encoder: str, say: Say) -> Iterator[Finding]:
    say("measuring on the CPU")
    yield from _checked(data, encoder, "lite", workers=1, gpus=0, remote=False, say=say)
    yield from _checked(None, encoder, "lite", workers=2, gpus=0, remote=False, say=say, rates=False)


def _checked(
    data: str | None, encoder: str, recipe: str, *, workers: int, gpus: int, remote: bool, say: Say, rates: bool = True
) -> Iterator[Finding]:
    try:
        store = _store(data) if rates else None
        config = _config(store, encoder, recipe, workers, gpus)
        why_not = _NO_DATA if store is None else _unfit(config)
        steps = 0 if why_not else STEPS if gpus else STEPS_ON_CPU
        found = run_check(config, storage_path().absolute(), steps=steps, remote=remote, on_event=say)
    except (UserError, TrainingFailed) as error:
        yield Finding("ranks", "bad", str(error).splitlines()[0])
        return
    if rates:
        yield from _cards(found.cards)
    yield from _ranks(found)
    if found.rates is not None:
        yield from rate_findings(found, config)
    elif rates and why_not:
        yield why_not


def _unfit(config: RunConfig) -> Finding | None:
    """Why nothing can be trained on these data; cards and their connection are tried all the same."""
    try:
        check(config)
    except UserError as error:
        return Finding("rates", "bad", f"not measured: {str(error).splitlines()[0]}")
    return None


def _store(data: str | None) -> Path | None:
    if data is not None:
        return data_path(data)
    found = [path.parent for path in sorted(data_root().glob(f"*/{MANIFEST_FILE}"))]
    return next((folder.absolute() for folder in found if read_manifest(folder).dataset in datasets()), None)


def _config(store: Path | None, encoder: str, recipe: str, workers: int, gpus: int) -> RunConfig:
    dataset = read_manifest(store).dataset if store is not None else "nw-ucla"
    if dataset not in datasets():
        raise UserError(f"{store}: '{dataset}' has no recipe to measure with; give --data a store of ntu60 or nw-ucla")
    raw = {
        "recipe": recipe,
        "data": {"dataset": dataset, "path": str(store or "none")},
        "encoder": {"name": encoder},
        # A small store, such as the quick start's, has classes of fewer sequences than the recipe chooses among.
        "contrast": {"readings": {"shortage": "clamp"}},
        "resources": {"workers": workers, "gpus_per_worker": gpus, "max_failures": 0},
        "tracking": {"wandb": "disabled"},
    }
    return resolve(raw, "stdcl doctor")


def _cards(cards: Sequence[CardFacts]) -> Iterator[Finding]:
    """A line for each kind of card on each node, and one on how they round."""
    for card in dict.fromkeys(cards):
        if not card.capability:
            yield Finding("processor", "ok", card.processor)
            continue
        number = cards.count(card)
        yield Finding(
            "card",
            "ok",
            f"node {card.node}: {f'{number} x ' if number > 1 else ''}{card.processor}, {card.total_gib:.1f} GiB "
            f"({card.free_gib:.1f} free), compute capability {card.capability}, driver {card.driver or 'unknown'}, "
            f"CUDA {card.cuda}, cuDNN {card.cudnn}, NCCL {card.nccl or 'none'}",
        )
    kinds = {(card.processor, card.driver, card.cuda, card.cudnn) for card in cards}
    if len(kinds) > 1:
        yield Finding(
            "cards", "note", f"{len(kinds)} kinds of card, driver or library: last digits differ between them"
        )
    for tf32, convolutions, products in dict.fromkeys(
        (card.tf32, card.rounds_convolutions, card.rounds_products) for card in cards
    ):
        measured = f"convolutions {_rounds(convolutions)}, matrix products {_rounds(products)} (measured)"
        told = f"training.tf32: {tf32}; " if tf32 else "CPUs have none; "
        expected = (tf32 in ("convolutions", "all"), tf32 == "all")
        # A library may choose a kernel without tensor cores for one shape: that is no fault. The reverse is.
        unasked = (convolutions and not expected[0]) or (products and not expected[1])
        yield Finding("tf32", "bad" if unasked else "ok", told + measured)


def _rounds(rounds: bool) -> str:
    return "round to TF32" if rounds else "keep float32"


def _ranks(found: GpuCheck) -> Iterator[Finding]:
    size, trial = len(found.cards), found.ranks
    transport = "NCCL" if found.cards[0].capability else "gloo and shared memory"
    if size == 1:
        if found.cards[0].capability:
            yield Finding("ranks", "note", "a single card: nothing to connect, NCCL was not tried")
        return
    nodes = len({card.node for card in found.cards})
    where = f"{size} ranks on {nodes} node(s) over {transport}"
    if trial.wrong:
        yield Finding("ranks", "bad", f"{where}: wrong numbers from {', '.join(trial.wrong)}")
        return
    yield Finding(
        "ranks",
        "ok",
        f"{where}: every collective is right; a sum of {BYTES / 2**20:.0f} MiB takes {1000 * trial.seconds:.1f} ms "
        f"({trial.rate / 1e9:.2f} GB/s a rank)",
    )


def rate_findings(found: GpuCheck, config: RunConfig) -> Iterator[Finding]:
    """Yield what the measured rates mean."""
    rates, size = found.rates, len(found.cards)
    if rates is None:
        return
    data, settings = config.data, config.training
    what = (
        f"{config.encoder.name} with STD-CL on {data.dataset} {data.protocol}, recipe {config.recipe}, "
        f"batch {settings.batch_size}, {settings.precision}, {size} rank{'s' * (size > 1)}"
    )
    yield Finding("training", "ok", f"{rates.training:,.0f} sequences/s a rank ({what})")
    loader = _loader_words(rates.loader, config)
    if rates.loader < rates.training:
        yield Finding(
            "loader",
            "note",
            f"{loader}: less than training takes; more threads, or more cores a worker, make it faster",
        )
    else:
        yield Finding("loader", "ok", f"{loader}: {rates.loader / rates.training:.1f} times what training takes")
    minutes, seconds = divmod(round(rates.epoch_seconds * max(1.0, rates.training / rates.loader)), 60)
    yield Finding(
        "epoch", "ok", f"about {minutes}:{seconds:02d} minutes with evaluation ({settings.epochs} in the recipe)"
    )
    total = min(card.total_gib for card in found.cards)
    used = rates.memory_mib / 1024
    if not total:
        yield Finding("memory of training", "ok", f"{used:.2f} GiB resident a rank")
        return
    free = min(card.free_gib for card in found.cards)
    state: Literal["ok", "note"] = "note" if used > _NEARLY_FULL * free else "ok"
    yield Finding("memory of training", state, f"{used:.2f} GiB allocated a card, of {free:.1f} free and {total:.1f}")

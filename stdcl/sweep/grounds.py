"""Where a forecast's numbers come from: earlier runs of the same kind, else steps measured now."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from stdcl.config import RunConfig
from stdcl.config.arms import BASELINE
from stdcl.config.sweep import Sweep, Trial, cell_name
from stdcl.config.yaml_text import parse_yaml
from stdcl.errors import UserError
from stdcl.launch.cluster import Cluster, capacity
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.results.result import read_result
from stdcl.sweep.disk import kept_at_the_end
from stdcl.sweep.forecast import OTHER, CellCost, Forecast, Ground
from stdcl.sweep.record import Recorder
from stdcl.training.footprint import footprint
from stdcl.training.probe import Probe, operations, probe
from stdcl.training.processor import processor_name

if TYPE_CHECKING:
    from stdcl.sweep.remaining import Remaining

Say = Callable[[str], None]
READ_AT_MOST = 300
"""Earlier runs that are looked at, the newest first."""
SIZES_AT_MOST = 16
"""Trials whose checkpoints are sized; the others are taken to be like them."""
PROBES_AT_MOST = 8
"""Settings that are measured; further ones are scaled by their encoders' operations."""


class Kind(NamedTuple):
    """What a training's speed depends on."""

    encoder: str
    shape: str
    method: str
    batch_size: int
    precision: str
    workers: int
    threads: int
    device: str


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return the kind of a resolved configuration, as ``model_dump`` or a run folder has it."""
    data, training, resources = config["data"], config["training"], config["resources"]
    shape = [data.get(name) for name in ("dataset", "protocol", "frames", "repeat", "evaluate_on")]
    method = config.get("method") or {}
    return Kind(
        json.dumps(config["encoder"], sort_keys=True, default=str),
        json.dumps([*shape, training.get("evaluate_every")]),
        str(method.get("name") or config.get("contrast", {}).get("strategy")),
        int(training["batch_size"]),
        str(training.get("precision")),
        int(resources.get("workers", 1)),
        max(1, int(resources.get("cpus_per_worker", 1))),
        "cuda" if resources.get("gpus_per_worker") else "cpu",
    )


def recorded(storage: Path) -> dict[Kind, dict[str, Probe]]:
    """Return what earlier runs under the storage folder took, the median of each kind on each processor.

    Folders of runs that cannot be read are passed over: a forecast is no verdict.
    """
    found: list[tuple[float, Path]] = []
    for pattern in ("*/trials/*/result.json", "*/*/result.json"):
        for path in storage.glob(pattern):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
    took: dict[Kind, dict[str, list[Probe]]] = {}
    for _, path in sorted(found, reverse=True)[:READ_AT_MOST]:
        run = RunFolder(path.parent)
        try:
            result = read_result(path)
            kind = kind_of(parse_yaml(run.config.read_text(encoding="utf-8"), str(run.config)))
            rows = read_history(run.history)
        except (OSError, UserError, ValueError, KeyError, TypeError):
            continue
        if result is None or result.taken_from or len(rows) < 2:
            continue
        seconds = median(float(row["seconds"]) for row in rows[1:])
        memory = max(float(row.get("peak_memory_mib", 0.0)) for row in rows)
        took.setdefault(kind, {}).setdefault(result.processor, []).append(Probe(seconds, memory))
    return {kind: {name: _median(runs) for name, runs in by.items()} for kind, by in took.items()}


def _median(runs: Sequence[Probe]) -> Probe:
    return Probe(median(each.epoch_seconds for each in runs), median(each.memory_mib for each in runs))


def on_processor(took: Mapping[Kind, Mapping[str, Probe]], own: Mapping[str, str]) -> dict[Kind, tuple[Probe, Ground]]:
    """Choose from what earlier runs took: those on one's own processor, else the median of the others'.

    Args:
        took: see ``recorded``.
        own: device -> the processor that will train; a device that is not in it can be any (a cluster's).
    """
    known: dict[Kind, tuple[Probe, Ground]] = {}
    for kind, by in took.items():
        wanted = own.get(kind.device)
        if wanted is not None and wanted in by:
            known[kind] = by[wanted], "recorded"
        else:
            known[kind] = _median(list(by.values())), "recorded" if wanted is None else OTHER
    return known


def _own(cluster: Cluster | None) -> dict[str, str]:
    """The processors that will train, where they are known: CUDA is not begun for the name of a card."""
    here = cluster is None or cluster.local
    return {"cpu": processor_name(torch.device("cpu"))} if here else {}


def scaled(work: float, measured: Sequence[tuple[float, Probe]]) -> Probe:
    """Return what a setting takes by its operations, from the measured setting that is nearest in them."""
    nearest, found = min(measured, key=lambda pair: abs(math.log(pair[0] / work)))
    return Probe(found.epoch_seconds * work / nearest, found.memory_mib)


def forecast(
    sweep: Sweep,
    trials: Sequence[Trial],
    with_data: Collection[str],
    recorder: Recorder,
    *,
    elsewhere: Collection[str] = (),
    remaining: Remaining | None = None,
    storage: Path,
    cluster: Cluster | None,
    measure: bool,
    say: Say,
    probe_one: Callable[[RunConfig], Probe] = probe,
) -> Forecast:
    """Return what is left of a sweep.

    Args:
        sweep: the sweep.
        trials: all; for a search, those at the ends of its ranges.
        with_data: keys of those whose data are there.
        recorder: says how many epochs of a trial are to be trained.
        elsewhere: keys of those that equal finished runs of other sweeps.
        remaining: of a search; None: all of it.
        storage: where earlier runs are looked for.
        cluster: what trains; None: this machine.
        measure: whether settings of which nothing is known are measured now, which takes seconds each.
        say: told that it measures.
        probe_one: measures a configuration.
    """
    resources = sweep.config.resources
    proposals = _proposals(sweep, remaining, recorder)
    if proposals is None:
        left = [(trial, 0 if trial.key in elsewhere else recorder.epochs_left(trial)) for trial in trials]
    else:
        left = [(trial, recorder.epochs_of_new(trial) if proposals.number else 0) for trial in trials]
    known = on_processor(recorded(storage), _own(cluster))
    kinds = {
        kind_of(trial.config.model_dump(mode="json")): trial
        for trial, epochs in left
        if epochs and trial.key in with_data
    }
    on_cpu = {kind: trial for kind, trial in kinds.items() if kind.device == "cpu"}
    missing = {kind: trial for kind, trial in on_cpu.items() if kind not in known or known[kind][1] == OTHER}
    if measure and missing:
        chosen = list(missing.items())[:PROBES_AT_MOST]
        say(f"measuring {len(chosen)} setting(s) for some seconds each; nothing of it is kept")
        for kind, trial in chosen:
            known[kind] = probe_one(trial.config), "probed"
        if len(missing) > len(chosen):
            measured = [(operations(trial.config), known[kind][0]) for kind, trial in chosen]
            for kind, trial in list(missing.items())[len(chosen) :]:
                known[kind] = scaled(operations(trial.config), measured), "scaled"
    nodes = cluster.nodes if cluster is not None else ({"CPU": float(len(os.sched_getaffinity(0)))},)
    at_once = sweep.config.at_once(max(1, capacity(nodes, resources)))
    cores = sum(node.get("CPU", 0.0) for node in nodes) if cluster is None else 0.0
    # One worker alone was measured; earlier runs have shared the cores as these will.
    slower = max(1.0, resources.workers * resources.cpus_per_worker / cores) if cores else 1.0
    known = {
        kind: (
            replace(each, epoch_seconds=each.epoch_seconds * slower) if ground in ("probed", "scaled") else each,
            ground,
        )
        for kind, (each, ground) in known.items()
    }
    return Forecast(
        sweep.config.name,
        tuple(_cells(left, known, sweep, proposals)),
        resources.workers,
        resources.cpus_per_worker,
        resources.gpus_per_worker,
        at_once,
        "this machine" if cluster is None else cluster.describe(),
        cores or None,
        _disk(sweep, left, with_data, at_once, proposals),
        proposals is not None,
        len(elsewhere),
    )


class _Proposals(NamedTuple):
    """A search's trials that are still to be trained.

    Attributes:
        begun: the epochs that each of those has left which were begun.
        new: how many are still to be drawn.
    """

    begun: tuple[int, ...]
    new: int

    @property
    def number(self) -> int:
        return len(self.begun) + self.new


def _proposals(sweep: Sweep, remaining: Remaining | None, recorder: Recorder) -> _Proposals | None:
    """What a search has left; None for a grid. A trial that is held or complete takes a place and trains nothing."""
    if sweep.config.search != "optuna":
        return None
    if remaining is None:
        return _Proposals((), sweep.config.search_settings.trials)
    return _Proposals(tuple(filter(None, map(recorder.epochs_left, remaining.begun))), remaining.new)


def _cells(
    left: Sequence[tuple[Trial, int]],
    known: Mapping[Kind, tuple[Probe, Ground]],
    sweep: Sweep,
    proposals: _Proposals | None,
) -> list[CellCost]:
    cells: dict[str, tuple[Trial, int, int]] = {}
    stated = bool(sweep.config.arms)
    for trial, epochs in left:
        short = {key.removesuffix(".name").split(".")[-1]: value for key, value in trial.parameters.items()}
        name = cell_name(trial.arm, short, stated=stated)
        if trial.arm == BASELINE and short and not stated:
            name = f"{BASELINE} {name}"
        first, count, total = cells.get(name, (trial, 0, 0))
        cells[name] = first, count + (epochs > 0), total + epochs
    if proposals is not None:
        # The dearest corner stands for every proposal.
        dear, epochs = max(left, key=lambda corner: _seconds(corner[0], known) or 0.0)
        total = sum(proposals.begun) + proposals.new * epochs
        cells = {"proposal (the dearest corner)": (dear, proposals.number, total)}
    out = []
    for name, (trial, count, total) in cells.items():
        found = known.get(kind_of(trial.config.model_dump(mode="json")))
        if found is None:
            out.append(CellCost(name, count, total, None, None, "none"))
        else:
            out.append(CellCost(name, count, total, found[0].epoch_seconds, found[0].memory_mib, found[1]))
    return out


def _seconds(trial: Trial, known: Mapping[Kind, tuple[Probe, Ground]]) -> float | None:
    found = known.get(kind_of(trial.config.model_dump(mode="json")))
    return None if found is None else found[0].epoch_seconds


def _disk(
    sweep: Sweep,
    left: Sequence[tuple[Trial, int]],
    with_data: Collection[str],
    at_once: int,
    proposals: _Proposals | None,
) -> tuple[int, int] | None:
    todo = [trial for trial, epochs in left if epochs]
    if any(trial.key not in with_data for trial in todo):
        return None
    looked_at = todo[:: max(1, len(todo) // SIZES_AT_MOST)]
    try:
        sizes = [footprint(trial.config) for trial in looked_at]
    except UserError:  # the check of the data names it
        return None
    if not sizes:
        return None
    largest = max(sizes, key=lambda size: size.whole)
    number = len(todo) if proposals is None else proposals.number
    each = sum(kept_at_the_end(size, sweep.config.checkpoints.keep, 4) for size in sizes) / len(sizes)
    end = int(each * number)
    return end, end + min(at_once, number) * 4 * largest.whole


def refuse_beyond(found: Forecast, budget: float) -> None:
    """Refuse a sweep that takes more hours than it may.

    Raises:
        UserError: it does, or nobody knows.
    """
    if found.hours is None:
        raise UserError(
            f"--budget {budget:g}: how long the trials take is not known: no earlier run is of this kind, and GPUs are "
            "not measured beforehand. Train one trial first (stdcl train), or leave --budget out"
        )
    if found.hours > budget:
        raise UserError(
            f"--budget {budget:g}: this sweep takes {'at most' if found.at_most else 'about'} {found.hours:.2f} "
            f"{found.unit}: {found.trials} trial(s), {found.epochs} epochs. Allow more, or ask less (seeds, values, "
            "epochs)"
        )

"""Train one configuration in a run folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stdcl.config import RunConfig, fingerprint, read_run_file
from stdcl.config.load import merge, resolve_with
from stdcl.config.paths import SINGLE_RUNS, data_path, storage_path
from stdcl.data.synthetic import ensure_data
from stdcl.errors import UserError
from stdcl.launch.failures import TrainingFailed, is_divergence
from stdcl.launch.worker_group import launch
from stdcl.results.layout import RunFolder
from stdcl.results.progress import close_progress
from stdcl.results.reading import RunRecord, load_run
from stdcl.results.row import EpochRow
from stdcl.tracking import wandb_settings
from stdcl.training.checkpoint import load_state
from stdcl.training.components import check
from stdcl.training.optim import learning_rate
from stdcl.training.start_from import settled, source_checkpoint


@dataclass(frozen=True)
class Run:
    """A run that was checked and can be launched.

    Attributes:
        config: resolved, with an absolute path of the data.
        folder: of the run.
        data: name of the data and their split.
        num_train: training items per epoch.
        num_test: evaluated sequences.
        origin: the run that its weights come from, and what of it; empty if there is none.
    """

    config: RunConfig
    folder: RunFolder
    data: str
    num_train: int
    num_test: int
    origin: str


class RunFailed(Exception):
    """A run ended in an error.

    Attributes:
        resumable: whether the same command can get further.
    """

    def __init__(self, message: str, *, resumable: bool) -> None:
        super().__init__(message)
        self.resumable = resumable


def open_run(
    config: RunConfig, file: Path, out: Path | None, on_event: Callable[[str], None] = lambda text: None
) -> Run:
    """Check a run file's configuration against its data; synthetic data that are not there are made.

    Args:
        config: the resolved configuration.
        file: the run file, which names the run.
        out: the run folder; None: under the storage folder, named after file and configuration.
        on_event: called with a text when something worth telling happened.

    Raises:
        UserError: with one line per fault.
    """
    # Settled here: a worker's current folder can be another.
    data_section = config.data.model_copy(update={"path": str(data_path(config.data.path))})
    config = config.model_copy(update={"data": data_section})
    if config.init_from is not None:
        init = settled(config.init_from, (Path.cwd(), storage_path()))
        config = config.model_copy(update={"init_from": init})
    folder = (out or storage_path() / SINGLE_RUNS / f"{file.stem}-{fingerprint(config)[:8]}").absolute()
    if ensure_data(config):
        on_event("made the synthetic data")
    try:
        data = check(config)
    except UserError as error:
        raise UserError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
    for remark in data.remarks:
        on_event(remark)
    wandb_settings.check(wandb_settings.settings_of(config.tracking))
    origin = "" if config.init_from is None else f"{config.init_from.run} ({_what_starts(config)})"
    return Run(config, RunFolder(folder), data.name, data.train.num_items, data.test.num_items, origin)


def _what_starts(config: RunConfig) -> str:
    init, training = config.init_from, config.training
    if init is None or init.what == "encoder":
        return "its encoder's weights; optimiser, banks and schedule begin anew"
    state = load_state(source_checkpoint(Path(init.run)), torch.device("cpu"))
    first = int(state["position"][0])
    rate = learning_rate(training, first, 0, 1)
    return (
        f"its training after {first} epochs; epochs {first + 1} to {training.epochs} follow this file's schedule, "
        f"learning rate {rate:g} at first"
    )


def train_run(
    run: Run,
    *,
    on_row: Callable[[EpochRow], None] = lambda row: None,
    on_event: Callable[[str], None] = lambda text: None,
    on_signal: Callable[[str], None] = lambda name: None,
) -> EpochRow:
    """Train a run to its end, from wherever its folder is; return the last row.

    Args:
        run: see :func:`open_run`.
        on_row: called with each epoch's numbers.
        on_event: called with a text when something else is worth telling.
        on_signal: called with the name of the first SIGINT or SIGTERM; see ``launch``.

    Raises:
        UserError: bad data or resources.
        RunFailed: an error in training.
        Stopped: a signal asked for it, and all that was done is saved.
        KeyboardInterrupt: a signal asked for it; the last checkpoint counts.
    """
    try:
        return launch(
            run.config,
            run.folder.root,
            sweep=SINGLE_RUNS,
            trial=run.folder.name,
            on_row=on_row,
            on_event=on_event,
            on_signal=on_signal,
        )
    except KeyboardInterrupt:
        close_progress(run.folder.progress, "interrupted")
        raise
    except Exception as error:
        close_progress(run.folder.progress, "failed")
        if is_divergence(error):
            raise RunFailed(str(error), resumable=False) from error
        if isinstance(error, TrainingFailed):
            raise RunFailed(str(error), resumable=True) from error
        raise


def train(
    config: Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    on_row: Callable[[EpochRow], None] = lambda row: None,
) -> RunRecord:
    """Train a configuration in a folder, or continue the training that is there, as ``stdcl train`` does.

    With ``resources.workers: 1`` this process trains; with more, a group of Ray workers, on the cluster that
    ``RAY_ADDRESS`` names or on one that is started here.

    Args:
        config: a run file, or the sections that one holds.
        out: the run's folder; made if it is not there. A folder with another configuration is refused.
        overrides: ``section.key=value`` texts, each replacing one key.
        on_row: called with each epoch's numbers.

    Returns:
        What the folder holds at the end: result, history, scores.

    Raises:
        UserError: bad configuration, data or resources, with one line per fault; nothing was started.
        RunFailed: an error in training; its ``resumable`` says whether calling again can get further.
        Stopped: SIGINT or SIGTERM asked for it, and all that was done is saved.
        KeyboardInterrupt: a signal asked for it; the last checkpoint counts.

    Example::

        run = stdcl.train("run.yaml", "runs/one", overrides=["contrast.temperature=0.5"])
        print(run.history[-1]["accuracy"])
    """
    if isinstance(config, Mapping):
        name = Path("config")
        resolved = resolve_with(merge({}, config), str(name), overrides)
    else:
        name = Path(config)
        resolved = read_run_file(name, overrides)
    run = open_run(resolved, name, Path(out))
    train_run(run, on_row=on_row)
    return load_run(run.folder.root)

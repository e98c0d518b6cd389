"""Repeat a run's accuracy from its checkpoint, and write what each sequence scored."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from stdcl import atomic, specs
from stdcl.config import RunConfig, paths
from stdcl.config.load import validate_fragment
from stdcl.encoders.base import EncoderOutput
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.features import Features, write_features
from stdcl.results.layout import RunFolder, what_else
from stdcl.results.measures import METRIC_PREFIX, measure
from stdcl.results.result import RunResult, read_result
from stdcl.results.scores import Scores, per_class_accuracy, write_scores
from stdcl.training import checkpoint
from stdcl.training.components import autocast_dtype, check_plugins, new_encoder, open_data, parameter_dtype
from stdcl.training.evaluate import evaluate
from stdcl.training.scores import scores_of
from stdcl.training.state import last_row


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        run: the run's folder.
        checkpoint: name of the checkpoint that was read.
        which: ``last`` or ``best`` (best on the evaluated sequences themselves).
        split: the sequences that were scored.
        stream: the checkpoint's stream.
        accuracy: top-1, a fraction.
        recorded: the accuracy that training recorded for this checkpoint; None if it recorded none.
        num_sequences: each counted once.
        without_copies: accuracy over the sequences that are no copies of training sequences, and their number; None
            where the data name no copies.
        classes: class names.
        class_accuracy: (K,) fractions; NaN for a class without sequences.
        class_counts: (K,) sequences.
        scores: the file of per-sequence scores.
        features: the file of the vectors before the classifier; None where it was not asked for.
        not_saved: why the scores and the accuracies could not be written; empty if they were.
    """

    run: Path
    checkpoint: str
    which: Literal["last", "best"]
    split: str
    stream: str
    accuracy: float
    recorded: float | None
    num_sequences: int
    without_copies: tuple[float, int] | None
    classes: tuple[str, ...]
    class_accuracy: NDArray[np.float64]
    class_counts: NDArray[np.int64]
    scores: Path
    metrics: Mapping[str, float]
    features: Path | None = None
    not_saved: str = ""

    def render(self) -> str:
        """Return the report as text for a terminal."""
        right = round(self.accuracy * self.num_sequences)
        lines = [
            f"{self.run}",
            f"  checkpoint {self.checkpoint} ({self.which}), stream {self.stream}, {self.split}",
            f"  accuracy {100 * self.accuracy:.2f} %  ({right} of {self.num_sequences} sequences)",
        ]
        if self.without_copies is not None:
            accuracy, kept = self.without_copies
            lines.append(
                f"  without the {self.num_sequences - kept} copies of training sequences {100 * accuracy:.2f} %  "
                f"({round(accuracy * kept)} of {kept})"
            )
        if self.recorded is not None:
            same = abs(self.recorded - self.accuracy) * self.num_sequences < 0.5
            lines.append(
                f"  {'equal to' if same else 'DIFFERENT from'} the {100 * self.recorded:.2f} % recorded in training"
            )
        for name, number in self.metrics.items():
            metric = specs.metric(name)
            lines.append(f"  {metric.title} {f'{100 * number:.2f} %' if metric.percent else f'{number:g}'}")
        width = max(len(name) for name in self.classes)
        lines.append("  per class:")
        for name, value, count in zip(self.classes, self.class_accuracy, self.class_counts, strict=True):
            shown = f"{100 * value:6.2f} %" if count else "       -"
            lines.append(f"    {name:<{width}}  {shown}  of {count}")
        lines.append(f"  ! {self.not_saved}" if self.not_saved else f"  scores: {self.scores}")
        if self.features is not None and not self.not_saved:
            lines.append(f"  features: {self.features}")
        return "\n".join(lines)


def read_config(folder: Path, state: dict[str, Any]) -> RunConfig:
    """Return the configuration that a checkpoint was trained with.

    Raises:
        UserError: the code of its encoder or dataset, where that is a plug-in, has changed since.
    """
    config: RunConfig = validate_fragment(RunConfig, yaml.safe_load(state["config"]), f"{folder}: configuration")
    check_plugins(config, ("data", "encoder"))
    return config


def find_checkpoint(run: Path, which: Literal["last", "best"]) -> tuple[Path, dict[str, Any]]:
    """Return a run's last or best whole checkpoint and its state.

    Raises:
        UserError: the run has none.
    """
    if not run.is_dir():
        raise UserError(f"{run}: {what_else(run, 'run') or 'no such run folder'}")
    files = RunFolder(run)
    folder, result = checkpoint.newest(files.checkpoints), read_result(files.result)
    if folder is None and result is None and (other := what_else(run, "run")):
        raise UserError(f"{run}: {other}")
    if folder is None:
        raise UserError(f"{run}: no whole checkpoint under '{files.checkpoints.name}'; {_without(files, result)}")
    state = checkpoint.load_state(folder, torch.device("cpu"))
    if which == "last" and result is not None and state["position"][0] < result.row["epoch"]:
        raise UserError(
            f"{run}: trained to epoch {result.row['epoch']}, but the checkpoint of its last epoch is missing or "
            f"incomplete; the newest whole one, {folder.name}, is of epoch {state['position'][0]}: "
            f"{_without(files, result)}. The command that trained it trains what came after {folder.name} again"
        )
    if which == "best":
        name = state["best"][2]
        folder = RunFolder(run).checkpoints / name
        if not name or not folder.is_dir():
            raise UserError(f"{run}: the best epoch's checkpoint is not there; use --checkpoint last")
        checkpoint.read_manifest(folder)
        state = checkpoint.load_state(folder, torch.device("cpu"))
    return folder, state


def _without(files: RunFolder, result: RunResult | None) -> str:
    """What there is of a run whose checkpoint is not there."""
    if result is None:
        return "it has not been trained (stdcl train)"
    accuracy = f"its training recorded {100 * float(result.row['accuracy']):.2f} % after the last epoch"
    if files.scores().is_file():
        return f"{accuracy}, and {files.scores().name} holds what it scored (`stdcl fuse` reads it)"
    return f"{accuracy}; to have checkpoints again, move the folder away and train"


def evaluate_run(
    run: Path,
    *,
    which: Literal["last", "best"] = "last",
    data_path: Path | None = None,
    device: torch.device | None = None,
    features: bool = False,
) -> Report:
    """Score a run's test part by its checkpoint's encoder; writes ``scores.parquet`` and ``evaluation.json`` there.

    The stream, the protocol and everything else come from the checkpoint itself and cannot be told otherwise.

    Args:
        run: the run's folder.
        which: the last epoch's checkpoint, or the best one's.
        data_path: where the prepared store lies now, if it moved; it must be the same data.
        device: where to compute; None: a GPU if there is one.
        features: also write ``features.parquet``, the vector that the classifier sees of each sequence.

    Raises:
        UserError: no whole checkpoint, no data, or other data than the checkpoint's.
    """
    folder, state = find_checkpoint(run, which)
    config = read_config(folder, state)
    if data_path is not None:
        place = paths.data_path(str(data_path)).absolute()
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(place)})})
    try:
        data = open_data(config)
    except UserError as error:
        if data_path is not None or paths.data_path(config.data.path).is_dir():
            raise
        again = shlex.join(["stdcl", "evaluate", str(run), "--data", "DIR"])
        raise UserError(
            f"{error}\nif the store was moved, say where it is (a path, or a name under $STDCL_DATA): {again}"
        ) from None
    check_data(folder, data.store.manifest.content_hash, data.store.path)
    _check_stream(folder, config)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = new_encoder(config, data.layout)
    weights = {k.removeprefix("encoder."): v for k, v in state["model"].items() if k.startswith("encoder.")}
    encoder.load_state_dict(weights)
    dtype = parameter_dtype(config)
    encoder = encoder.to(device=device, dtype=dtype)
    vectors: list[torch.Tensor] = []

    def collect(output: EncoderOutput) -> None:
        if features:
            vectors.append(output.pooled.float().cpu())

    result = evaluate(encoder, data.test, LocalComm(), device, autocast=autocast_dtype(config), on_output=collect)
    try:
        scores = scores_of(result, data, config, run=run.name, checkpoint=folder.name)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None
    row = last_row(state)
    report = Report(
        run=run,
        checkpoint=folder.name,
        which=which,
        split=data.split,
        stream=config.data.stream,
        accuracy=scores.accuracy,
        recorded=row.get("accuracy"),
        num_sequences=len(scores.labels),
        without_copies=scores.accuracy_without_copies,
        classes=data.store.manifest.classes,
        class_accuracy=per_class_accuracy(scores),
        class_counts=np.bincount(scores.labels, minlength=len(data.store.manifest.classes)),
        scores=RunFolder(run).scores(which),
        metrics={
            name.removeprefix(METRIC_PREFIX): number for name, number in measure(scores.logits, scores.labels).items()
        },
        features=RunFolder(run).features(which) if features else None,
    )
    try:
        _save(report, scores)
        if report.features is not None:
            write_features(
                report.features,
                Features(
                    ids=scores.ids,
                    labels=scores.labels,
                    vectors=torch.cat(vectors).numpy(),
                    classes=scores.classes,
                    data_hash=scores.data_hash,
                    fingerprint=scores.fingerprint,
                    checkpoint=scores.checkpoint,
                ),
            )
    except OSError as error:
        return replace(report, not_saved=f"{run}: not written to ({error.strerror}): the scores are not saved")
    return report


def _save(report: Report, scores: Scores) -> None:
    write_scores(report.scores, scores)
    atomic.write_json(
        RunFolder(report.run).evaluation(report.which),
        {
            "checkpoint": report.checkpoint,
            "split": report.split,
            "stream": report.stream,
            "accuracy": report.accuracy,
            "recorded_accuracy": report.recorded,
            "num_sequences": report.num_sequences,
            "accuracy_without_copies": None if report.without_copies is None else report.without_copies[0],
            "num_sequences_without_copies": None if report.without_copies is None else report.without_copies[1],
            "metrics": dict(report.metrics),
            "per_class": {
                name: {"accuracy": None if count == 0 else value, "sequences": count}
                for name, value, count in zip(
                    report.classes, report.class_accuracy.tolist(), report.class_counts.tolist(), strict=True
                )
            },
        },
    )


def check_data(folder: Path, content_hash: str, store: Path) -> None:
    """Refuse other data than a checkpoint was trained on; an imported one belongs to no store.

    Raises:
        UserError: the content hash of ``store`` is another.
    """
    expected = checkpoint.read_manifest(folder)["identity"]["dataset_hash"]
    if expected and expected != content_hash:
        raise UserError(
            f"{folder}: trained on data with content hash {expected[:16]}..., but {store} has "
            f"{content_hash[:16]}...; what is computed with other data would not be this run's"
        )


def _check_stream(folder: Path, config: RunConfig) -> None:
    identity = checkpoint.read_manifest(folder)["identity"]
    if identity["stream"] != config.data.stream:
        raise UserError(f"{folder}: its manifest says stream '{identity['stream']}', its state '{config.data.stream}'")

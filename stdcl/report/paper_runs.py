"""What each column of the paper's tables has of ours: accuracies, fused streams, accuracies by level, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stdcl.errors import UserError
from stdcl.report.answers import SweepAnswers
from stdcl.report.fusing import Fusion, fused_scores, fusions
from stdcl.report.lines import Line
from stdcl.report.machines import machine_fact
from stdcl.results.fusion import STREAMS
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Answers, Scores, per_class_accuracy, read_scores
from stdcl.statistics.difficulty import NAMES, level_of

ACCURACY = "top1_acc_percent"
LEVEL = "mean_class_acc_percent"
MEMORY = "memory_usage_G"
MINUTES = "time_min_per_epoch"
FUSED = {"2S": STREAMS[:2], "4S": STREAMS}


@dataclass(frozen=True)
class Column:
    """A column: where a number is measured.

    Attributes:
        dataset, protocol: the benchmark.
        stream: a stream, ``2S``, ``4S``, or ``level:Hard`` and so on; empty where it does not matter.
        metric: as in the shipped numbers; they are percent, GiB or minutes.
    """

    dataset: str
    protocol: str
    stream: str
    metric: str = ACCURACY


@dataclass(frozen=True)
class Runs:
    """What belongs to a cell: answers per seed, or numbers alone.

    Attributes:
        line: as what it is compared.
        values, answers: by seed.
        trials: ``sweep/trial`` of its trials.
        planned: seeds.
        fusion: of fused streams, of what it was made.
    """

    line: Line
    values: Mapping[int, float]
    answers: Mapping[int, Answers]
    trials: tuple[str, ...]
    planned: tuple[int, ...]
    fusion: Fusion | None = None

    @property
    def parts(self) -> tuple[Line, ...]:
        """Its lines: one, or one per fused stream."""
        return (self.line,) if self.fusion is None else self.fusion.parts

    @property
    def choices(self) -> int:
        """Configurations that it may be."""
        return 1 if self.fusion is None else self.fusion.choices

    @property
    def states(self) -> dict[int, str]:
        """Seed -> what became of it."""
        if self.fusion is None:
            return {trial.seed: trial.state for trial in self.line.trials}
        return {
            seed: "not fused" if state == "finished" and seed not in self.values else state
            for seed, state in self.fusion.states.items()
        }

    @property
    def without_copies(self) -> float | None:
        """Mean over seeds on the sequences that are no copies of training sequences, in percent."""
        found = [
            float(each.right[~each.copies].mean())
            for each in self.answers.values()
            if each.copies is not None and each.copies.any() and not each.copies.all()
        ]
        return 100 * float(np.mean(found)) if found and len(found) == len(self.values) else None


def runs_of(name: str, lines: Sequence[Line], answers: SweepAnswers, remarks: list[str]) -> dict[Column, list[Runs]]:
    """What each column has of ours."""
    out: dict[Column, list[Runs]] = {}
    for line in lines:
        place = line.place
        if name == "4e":
            for metric, values in _costs(line, remarks).items():
                column = Column(place.dataset, place.protocol, "", metric)
                out.setdefault(column, []).append(Runs(line, values, {}, line.names, line.planned))
        elif name == "4d":
            for level, values in _levels(line, remarks).items():
                column = Column(place.dataset, place.protocol, f"level:{level}", LEVEL)
                out.setdefault(column, []).append(Runs(line, values, {}, line.names, line.planned))
        else:
            values = {trial.seed: 100 * float(trial.row["accuracy"]) for trial in line.finished}
            own = {t.seed: answers.by_trial[t.key] for t in line.finished if t.key in answers.by_trial}
            column = Column(place.dataset, place.protocol, place.stream)
            out.setdefault(column, []).append(Runs(line, values, own, line.names, line.planned))
    if name not in ("4d", "4e"):
        _add_fused(out, lines, answers, remarks)
    return out


def _add_fused(out: dict[Column, list[Runs]], lines: Sequence[Line], answers: SweepAnswers, remarks: list[str]) -> None:
    for fused, needed in FUSED.items():
        for fusion in fusions(lines, needed):
            place = fusion.parts[0].place
            found: dict[int, Scores] = {}
            if fusion.choices == 1:
                found, left_out = fused_scores(fusion, answers)
                remarks += [f"{fused} of {why}" for why in left_out]
            column = Column(place.dataset, place.protocol, fused)
            runs = Runs(
                line=fusion.line,
                values={seed: 100 * scores.accuracy for seed, scores in found.items()},
                answers={seed: _answers(scores) for seed, scores in found.items()},
                trials=fusion.trials,
                planned=fusion.planned,
                fusion=fusion,
            )
            out.setdefault(column, []).append(runs)


def _answers(scores: Scores) -> Answers:
    order = np.argsort(scores.ids, kind="stable")
    subjects, copies = (None if each is None else each[order] for each in (scores.subjects, scores.copies))
    return Answers(scores.ids[order], scores.correct[order], subjects, copies, "", scores.data_hash)


def _costs(line: Line, remarks: list[str]) -> dict[str, dict[int, float]]:
    """GiB and minutes an epoch of each seed."""
    out: dict[str, dict[int, float]] = {MEMORY: {}, MINUTES: {}}
    for trial in line.finished:
        seconds = machine_fact(trial, "steady_epoch_seconds")
        if "peak_memory_mib" in trial.row:
            out[MEMORY][trial.seed] = float(trial.row["peak_memory_mib"]) / 1024
        if seconds is not None:
            out[MINUTES][trial.seed] = float(seconds) / 60
        else:
            remarks.append(f"{trial.key}: no minutes: it says none of a second to fourth epoch of its last attempt")
    return out


def _levels(line: Line, remarks: list[str]) -> dict[str, dict[int, float]]:
    """Mean class accuracy of each level and seed; grouped by the line's own accuracies, as the paper does."""
    by_seed: dict[int, np.ndarray] = {}
    for trial in line.finished:
        try:
            by_seed[trial.seed] = per_class_accuracy(read_scores(RunFolder(trial.folder).scores()))
        except UserError as error:
            remarks.append(f"left out: {error}")
    out: dict[str, dict[int, float]] = {level: {} for level in NAMES}
    if by_seed:
        groups = level_of(np.mean(list(by_seed.values()), axis=0))
        for seed, accuracies in by_seed.items():
            for index, level in enumerate(NAMES):
                if (groups == index).any():
                    out[level][seed] = 100 * float(accuracies[groups == index].mean())
    return out

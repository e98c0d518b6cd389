"""What was compared, as numbers: paired differences, accuracy against epochs, and the classes that gain or lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stdcl.errors import UserError
from stdcl.report.confusion import scores_by_seed
from stdcl.report.provenance import cell_name
from stdcl.report.table import Cell, SweepTable
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.statistics.difference import compare

MOVED = 0.03
"""Classes whose accuracy changes by more than this are drawn, as in the paper's Figure 4."""
MOST_CLASSES = 24
"""Of these, so many at most: half that gain most, half that lose most."""


@dataclass(frozen=True)
class Bar:
    """A row of a figure: points of accuracy, with an interval and single seeds."""

    label: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Learning:
    """An arm's accuracies in percent: (epochs,) and (seeds, epochs), NaN where a seed has none."""

    label: str
    epochs: np.ndarray
    values: np.ndarray


def differences(table: SweepTable) -> list[Bar]:
    """Each question with an answer, in points, by the interval of its verdict: cells, then trends."""
    out = []
    asked = [(cell_name(cell, table.parameters), cell.asked) for cell in table.cells if cell.asked is not None]
    trends = table.judgement.trends if table.judgement is not None else ()
    for label, each in [*asked, *((trend.question.name, trend) for trend in trends)]:
        if each.verdict is not None:
            d = each.verdict.difference
            seeds = tuple(100 * value for value in d.per_seed)
            out.append(Bar(label, 100 * d.estimate, 100 * d.interval.low, 100 * d.interval.high, seeds))
    return out


def learning(table: SweepTable) -> list[Learning]:
    """Accuracy after each evaluated epoch of every cell's trials."""
    out = []
    for cell in table.cells:
        by_seed = []
        for trial in cell.trials:
            try:
                rows = read_history(RunFolder(trial.folder).history)
            except UserError:  # the table's remarks name it
                continue
            by_seed.append({row["epoch"]: 100 * row["accuracy"] for row in rows if "accuracy" in row})
        epochs = sorted(set().union(*by_seed)) if by_seed else []
        if epochs:
            values = np.array([[seed.get(epoch, math.nan) for epoch in epochs] for seed in by_seed])
            out.append(Learning(cell_name(cell, table.parameters), np.array(epochs), values))
    return out


def classes(table: SweepTable, cell: Cell) -> tuple[list[Bar], int]:
    """The classes on which a cell and what it is compared with differ by more than ``MOVED``, most gained first.

    Returns:
        The classes, and the number of all classes with sequences; no class where scores are missing or do not fit.
    """
    asked = cell.asked
    if asked is None or asked.other is None:
        return [], 0
    mine, others = scores_by_seed(table, cell), scores_by_seed(table, table.cells[asked.other])
    seeds = sorted(mine.keys() & others.keys())
    if not seeds:
        return [], 0
    first = mine[seeds[0]]
    order = np.argsort(first.ids, kind="stable")
    pairs = [(others[seed], mine[seed]) for seed in seeds]
    paired = [trial for each in (cell, table.cells[asked.other]) for trial in each.finished if trial.seed in seeds]
    if table.answers.common(paired) is None:
        return [], 0
    base, arm = (
        np.stack([pair[side].correct[np.argsort(pair[side].ids, kind="stable")] for pair in pairs]) for side in (0, 1)
    )
    labels = first.labels[order]
    subjects = None if first.subjects is None else first.subjects[order]
    out = []
    present = [int(label) for label in np.unique(labels)]
    for label in present:
        members = labels == label
        if members.sum() < 2:
            continue
        found = compare(base[:, members], arm[:, members], None if subjects is None else subjects[members])
        if abs(found.estimate) > MOVED:
            name = first.classes[label] if first.classes else f"class {label}"
            per_seed = tuple(100 * each for each in found.per_seed)
            low, high = 100 * found.interval.low, 100 * found.interval.high
            out.append(Bar(f"{name} ({int(members.sum())})", 100 * found.estimate, low, high, per_seed))
    return sorted(out, key=lambda bar: (-bar.value, bar.label)), len(present)


def extremes(moved: list[Bar]) -> list[Bar]:
    """At most ``MOST_CLASSES`` of the classes that move: the first and the last ones."""
    half = MOST_CLASSES // 2
    return moved if len(moved) <= MOST_CLASSES else [*moved[:half], *moved[-half:]]

"""Which classes are taken for which others more or less often than by what a cell is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

import numpy as np

from stdcl.errors import UserError
from stdcl.report.table import Cell, SweepTable
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Scores, read_scores

MATRIX = 12
"""Classes up to which a whole matrix is shown; of more, the pairs that change most."""
MOST_PAIRS = 20


@dataclass(frozen=True)
class ConfusionChange:
    """The change of a confusion matrix.

    Attributes:
        classes: names of the K classes.
        change: (K, K) points: how much larger a share of class i's sequences is called j, mean over seeds; the diagonal
            is the change of the classes' accuracies. NaN for a class without sequences.
        counts: (K,) sequences of each class.
        seeds: over which.
    """

    classes: tuple[str, ...]
    change: np.ndarray
    counts: np.ndarray
    seeds: tuple[int, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The confusions (true class, called) that change most, at most ``MOST_PAIRS``, what became rarer first."""
        change = np.nan_to_num(self.change.copy())
        np.fill_diagonal(change, 0.0)
        order = np.argsort(-np.abs(change), axis=None, kind="stable")[:MOST_PAIRS]
        found = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, change.shape), strict=True) if change[i, j]]
        return sorted(found, key=lambda pair: change[pair])

    @property
    def merit(self) -> np.ndarray:
        """``change`` with the sign of what is off the diagonal turned: more is better everywhere."""
        return np.where(np.eye(len(self.classes), dtype=bool), self.change, -self.change)


def confusion(scores: Scores) -> np.ndarray:
    """(K, K) counts: row the true class, column the one with the highest score."""
    classes = scores.logits.shape[1]
    pairs = scores.labels * classes + scores.logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def confusion_change(table: SweepTable, cell: Cell, faults: list[str] | None = None) -> ConfusionChange | None:
    """Compare a cell's confusions with those of what it is compared with, seed by seed.

    Args:
        table, cell: of the sweep.
        faults: is told which files of scores are left out, and why.

    Returns:
        None where the cell is compared with nothing, or scores are missing or of different sequences.
    """
    if cell.asked is None or cell.asked.other is None:
        return None
    mine, others = (scores_by_seed(table, each, faults) for each in (cell, table.cells[cell.asked.other]))
    seeds = tuple(sorted(mine.keys() & others.keys()))
    if not seeds:
        return None
    first = mine[seeds[0]]
    counts = np.bincount(first.labels, minlength=first.logits.shape[1])
    changes = []
    for seed in seeds:
        pair = [confusion(others[seed]), confusion(mine[seed])]
        if any(each.shape != (len(counts), len(counts)) or (each.sum(axis=1) != counts).any() for each in pair):
            return None
        changes.append(pair[1] - pair[0])
    with np.errstate(invalid="ignore"):
        change = 100 * np.mean(changes, axis=0) / counts[:, None]
    names = first.classes or tuple(f"class {index}" for index in range(len(counts)))
    return ConfusionChange(names, change, counts, seeds)


def scores_by_seed(table: SweepTable, cell: Cell, faults: list[str] | None = None) -> Mapping[int, Scores]:
    """A cell's scores by seed; those that the table leaves out are left out here.

    So is a file whose logits are damaged, which are read here alone: the table reads which sequences are right.
    """
    out = {}
    for trial in cell.finished:
        if trial.key in table.answers.by_trial:
            try:
                out[trial.seed] = read_scores(RunFolder(trial.folder).scores())
            except UserError as error:
                if faults is not None:
                    faults.append(
                        f"scores left out: {error}; stdcl evaluate {quote(str(trial.folder))} writes them again"
                    )
    return out

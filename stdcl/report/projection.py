"""Features of two arms in two dimensions: the paper's Figures 2 and 5. Each arm has a space and a map of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stdcl.errors import UserError, nearest
from stdcl.report.provenance import cell_name
from stdcl.report.table import Cell, SweepTable
from stdcl.results.comparable import same_sequences
from stdcl.results.features import Features, read_features
from stdcl.results.layout import RunFolder
from stdcl.results.scores import read_scores

Method = Literal["pca", "tsne"]
MOST_CLASSES = 10
"""Classes that are drawn where none are named."""
_SEED = 0
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Map:
    """One arm.

    Attributes:
        label: which.
        places: (N, 2).
        labels: (N,) class index of each.
        ids: (N,) of the sequences.
        explained: share of the variance that the two axes hold, for PCA; None for t-SNE.
        separation: how many of each sequence's ten nearest, in the whole space, are of its class; a fraction.
    """

    label: str
    places: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    explained: float | None
    separation: float


@dataclass(frozen=True)
class Pair:
    """A cell beside what it is compared with.

    Attributes:
        maps: the other one first.
        classes: class index -> name, of those that are drawn.
        chosen: how the classes were chosen, in words.
        caption: method and parameters.
    """

    maps: tuple[Map, Map]
    classes: dict[int, str]
    chosen: str
    caption: str


def feature_pair(table: SweepTable, cell: Cell, method: Method = "pca", classes: Sequence[str] = ()) -> Pair | None:
    """Map the features of a cell and of what it is compared with, of the first seed for which both have them.

    Args:
        table: of the sweep.
        cell: one of its cells.
        method: ``pca``, or ``tsne`` by scikit-learn.
        classes: names of those that are drawn; none: all of up to ten, else the ten that the other arm confuses most.

    Returns:
        None where the cell is compared with nothing, or features are missing.

    Raises:
        UserError: a file of features is damaged or of another training, a class is unknown, or scikit-learn is missing.
    """
    if cell.asked is None or cell.asked.other is None:
        return None
    other = table.cells[cell.asked.other]
    found = _common(other, cell)
    if found is None:
        return None
    seed, base, mine = found
    if not same_sequences((base, mine)):
        raise UserError(f"features of {cell_name(cell, table.parameters)} and its reference are of different sequences")
    chosen, how = _chosen(base, other, seed, classes)
    kept = np.isin(mine.labels, chosen)
    arms = [(other, base), (cell, mine)]
    maps = tuple(_map(cell_name(arm, table.parameters), each, kept, method) for arm, each in arms)
    count = int(kept.sum())
    caption = f"{count} sequences, seed {seed}, each arm projected by itself; "
    if method == "pca":
        caption += "PCA of the centred features"
    else:
        caption += f"t-SNE, perplexity {_perplexity(count):g}, start by PCA, 1,000 steps, random seed {_SEED}"
    names = {index: mine.classes[index] if mine.classes else f"class {index}" for index in chosen}
    return Pair((maps[0], maps[1]), names, how, caption)


def pca(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Project (N, C) on the two directions of largest variance, by singular value decomposition.

    Signs are fixed: the largest entry of each direction is positive.

    Returns:
        (N, 2) and the share of the variance that they hold.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    first = directions[:2]
    first = first * np.sign(first[np.arange(len(first)), np.abs(first).argmax(axis=1)])[:, None]
    total = float((values**2).sum())
    return centred @ first.T, float((values[:2] ** 2).sum() / total) if total else 0.0


def tsne(vectors: np.ndarray) -> np.ndarray:
    """Project (N, C) by t-SNE (van der Maaten and Hinton 2008), seeded.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE  # optional, and slow to import
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'stdcl[tsne]' (PCA needs nothing more)") from None
    made = TSNE(perplexity=_perplexity(len(vectors)), init="pca", learning_rate="auto", random_state=_SEED)
    return np.asarray(made.fit_transform(vectors.astype(np.float32)))


def _perplexity(count: int) -> float:
    """t-SNE's number of neighbours, which must be well below the number of sequences."""
    return float(min(_PERPLEXITY, max(2, (count - 1) // 3)))


def neighbours_of_own_class(vectors: np.ndarray, labels: np.ndarray, number: int = 10) -> float:
    """Share of each sequence's nearest ones (Euclidean, in the whole space) that are of its class, on average."""
    x = vectors.astype(np.float64)
    squares = (x**2).sum(axis=1)
    distance = squares[:, None] + squares[None, :] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    number = min(number, len(x) - 1)
    near = np.argpartition(distance, number - 1, axis=1)[:, :number]
    return float((labels[near] == labels[:, None]).mean())


def _common(other: Cell, cell: Cell) -> tuple[int, Features, Features] | None:
    theirs = {trial.seed: trial for trial in other.finished}
    for trial in cell.finished:
        places = [RunFolder(each.folder).features() for each in (theirs.get(trial.seed), trial) if each is not None]
        if len(places) == 2 and all(place.is_file() for place in places):
            pair = [read_features(place) for place in places]
            for features, each in zip(pair, (theirs[trial.seed], trial), strict=True):
                if features.fingerprint != each.row.get("fingerprint"):
                    raise UserError(f"{each.folder}: its features are of another training; evaluate it again")
            return trial.seed, pair[0], pair[1]
    return None


def _chosen(base: Features, other: Cell, seed: int, wanted: Sequence[str]) -> tuple[list[int], str]:
    present = [int(label) for label in np.unique(base.labels)]
    if wanted:
        names = list(base.classes)
        for name in wanted:
            if name not in names:
                raise UserError(f"--classes: no class '{name}'{nearest(name, names)}; there are {', '.join(names)}")
        return [names.index(name) for name in wanted], "classes as named"
    if len(present) <= MOST_CLASSES:
        return present, "all classes"
    trial = next(each for each in other.finished if each.seed == seed)
    scores = read_scores(RunFolder(trial.folder).scores())
    wrong = np.bincount(scores.labels[~scores.correct], minlength=len(base.classes))
    wrong = wrong + np.bincount(scores.logits.argmax(axis=1)[~scores.correct], minlength=len(base.classes))
    most = sorted(present, key=lambda label: (-wrong[label], label))[:MOST_CLASSES]
    return sorted(most), f"the {MOST_CLASSES} classes in most errors of the left arm"


def _map(label: str, features: Features, kept: np.ndarray, method: Method) -> Map:
    vectors, labels, ids = features.vectors[kept], features.labels[kept], features.ids[kept]
    separation = neighbours_of_own_class(vectors, labels)
    if method == "tsne":
        return Map(label, tsne(vectors), labels, ids, None, separation)
    places, explained = pca(vectors)
    return Map(label, places, labels, ids, explained, separation)

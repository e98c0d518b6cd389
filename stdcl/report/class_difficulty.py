"""Classes by difficulty (paper, Table 4d): hard, medium and easy ones, without and with contrast.

The paper groups the classes "for their respective results", which reads as each model by its own accuracies; then
classes move between the rows, and the rows of two models are not comparable. So the baseline's accuracies group the
classes here, and both arms are scored on these groups; the grouping by each arm's own accuracies stands below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stdcl import specs
from stdcl.errors import UserError
from stdcl.report.display import Display
from stdcl.report.published import benchmark_test_sequences, reported_results
from stdcl.results.fusion import check_same_sequences
from stdcl.results.scores import Scores, per_class_accuracy

LEVELS = ("Hard", "Medium", "Easy")
BOUNDS = (0.8, 0.9)
"""Accuracies below the first are hard, above the second easy; both bounds themselves are medium."""

_COLUMNS = ("grouped by", "level", "classes", "baseline", "with contrast", "difference")


def level_of(accuracies: np.ndarray) -> np.ndarray:
    """Return (K,) indices into ``LEVELS`` of (K,) class accuracies; -1 for a class without sequences (NaN)."""
    low, high = BOUNDS
    # Accuracies are counts over counts: a bound that is met exactly must not be missed by rounding.
    levels = np.where(accuracies < low - 1e-12, 0, np.where(accuracies > high + 1e-12, 2, 1))
    return np.where(np.isnan(accuracies), -1, levels)


def difficulty(baseline: Sequence[Scores], contrast: Sequence[Scores]) -> Display:
    """Compare two arms on hard, medium and easy classes.

    Args:
        baseline: the runs without contrast, one a seed; their mean accuracies group the classes.
        contrast: the runs with it.

    Raises:
        UserError: the runs are of different sequences, encoders or streams.
    """
    if not baseline or not contrast:
        raise UserError("classes by difficulty: at least one run of each arm is needed")
    runs = [*baseline, *contrast]
    check_same_sequences(runs)
    for fact in ("encoder", "stream"):
        found = sorted({str(getattr(run, fact)) for run in runs})
        if len(found) > 1:
            raise UserError(f"classes by difficulty: runs of one {fact} are compared; these are of {', '.join(found)}")
    first = runs[0]
    means = [np.mean([per_class_accuracy(run) for run in arm], axis=0) for arm in (baseline, contrast)]
    own = [level_of(mean) for mean in means]
    rows = []
    for grouping, groups in (("baseline's", (own[0], own[0])), ("each arm's own", (own[0], own[1]))):
        for index, level in enumerate(LEVELS):
            members = [group == index for group in groups]
            scores = [float(mean[m].mean()) if m.any() else None for mean, m in zip(means, members, strict=True)]
            counts = [int(m.sum()) for m in members]
            same = groups[0] is groups[1]
            difference = f"{100 * (scores[1] - scores[0]):+.2f}" if same and None not in scores else "–"  # type: ignore[operator]
            rows.append(
                (
                    grouping,
                    level,
                    str(counts[0]) if same else f"{counts[0]} / {counts[1]}",
                    *("no class" if score is None else f"{100 * score:.2f}" for score in scores),
                    difference,
                    *(_paper(first, level, arm) for arm in ("", " w/ours")),
                )
            )
    return Display(
        title="classes by difficulty",
        lines=(f"{first.dataset}, {first.protocol}, {first.evaluated_on}, {first.encoder}, {first.stream}",),
        columns=(*_COLUMNS, "paper: baseline", "paper: STD-CL"),
        left=(True, True, *[False] * 6),
        rows=tuple(rows),
        notes=tuple(_notes(baseline, contrast, means[0])),
    )  # fmt: skip


def _paper(scores: Scores, level: str, arm: str) -> str:
    if benchmark_test_sequences(scores.dataset, scores.protocol) == len(scores.ids):
        encoder = specs.encoders().get(scores.encoder)
        method = f"{encoder.paper_name}{arm}" if encoder is not None and encoder.paper_name else None
        for row in reported_results():
            if (row.method, row.dataset, row.protocol, row.stream) == (
                method, scores.dataset, scores.protocol, f"level:{level}",
            ) and row.accuracy is not None:  # fmt: skip
                return f"{row.accuracy:g}"
    return "–"


def _notes(baseline: Sequence[Scores], contrast: Sequence[Scores], accuracies: np.ndarray) -> list[str]:
    low, high = (round(100 * bound) for bound in BOUNDS)
    out = [
        f"hard: below {low} %, medium: {low} to {high} %, easy: above {high} % of a class's sequences right",
        "numbers are means of class accuracies in percent, over "
        f"{len(baseline)} run(s) without and {len(contrast)} with contrast, on {len(baseline[0].ids)} sequences",
        "grouped by each arm's own accuracies, classes move between rows: no difference is taken there",
    ]
    empty = int(np.isnan(accuracies).sum())
    if empty:
        out.append(f"{empty} class(es) without sequences are left out")
    return out

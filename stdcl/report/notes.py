"""The notes below a table: what a reader must know to read its numbers, and what went wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stdcl.report.labels import differences_text, letter
from stdcl.report.load import TrialState
from stdcl.report.table import STATES, SweepTable, is_synthetic

_LISTED = 10  # failed trials that are named


def notes(table: SweepTable) -> list[str]:
    """What a reader must know to read the numbers."""
    cells, finished = table.cells, table.finished
    out = [f"trials: {counted(table.trials) or 'none'}"]
    unfinished = [trial for trial in table.trials if trial.state == "unfinished"]
    if unfinished:
        out.append(
            "unfinished (running, or interrupted: the same `stdcl sweep` command continues them): "
            + ", ".join(f"{trial.key} (epochs done: {trial.epochs_done})" for trial in unfinished[:5])
            + (f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else "")
        )
    if not finished:
        return out
    on = sorted({str(trial.row.get("evaluated_on", "test")) for trial in finished})
    what = f"accuracy: percent of the {' or '.join(on)} sequences, after the last epoch"
    if table.search == "optuna":
        out.append(what)
        out.append("the best of a search is picked by its result: repeat it with several seeds, on the test sequences")
    else:
        out.append(
            f"{what}; mean ± sample standard deviation over seeds; in brackets the 95 % t-interval of the mean over "
            "seeds (none where all seeds agree)"
        )
    if "test" in on and table.search == "grid":
        out.append(
            "best-on-test: the best epoch, chosen on the test sequences themselves, as published numbers are; "
            "too high by construction"
        )
    if any(is_synthetic(trial) for trial in finished):
        out.append("synthetic data: these numbers show that the path works, and nothing about a published benchmark")
    sizes = sorted({int(trial.row["num_test"]) for trial in finished})
    out += [f"one sequence of {size} = {100 / size:.3g} points" for size in sizes]
    errors = [(cell.last, cell.num_test) for cell in cells if cell.last and cell.last.binomial_error is not None]
    if errors:
        last, num_test = max(errors, key=lambda each: each[0].binomial_error or 0.0)
        out.append(
            f"binomial standard error of {100 * last.mean:.1f} % on {num_test} sequences: "
            f"{100 * (last.binomial_error or 0.0):.2f} points; more seeds do not make it smaller"
        )
    if any(cell.last and cell.last.n == 1 for cell in cells):
        out.append("a single seed has no spread: its differences may be chance")
    if any(cell.difference for cell in cells):
        out.append(
            "vs baseline: mean difference in points over the seeds that both have, (+/=/-) how many of them are above, "
            "equal to and below the baseline's same seed, [95 % t-interval]"
        )
    out += _machines(finished)
    papers = [cell.paper for cell in cells if cell.paper]
    if papers:
        out.append(f"paper: as printed, {', '.join(sorted({paper.source for paper in papers}))}")
        if any(paper.temperature_unstated for paper in papers):
            out.append(
                "* the paper picks tau among 0.5, 0.8 and 1.0 by result, and does not say which one belongs to "
                "its number: the same number is in each row that it may belong to"
            )
        out += sorted({f"paper, note: {paper.note}" for paper in papers if paper.note})
        out += [
            f"[{mark}] not the paper's setting; in brackets the published recipe's: {differences_text(differing)}"
            for differing, mark in _marked_settings(table)
        ]
    return out


def remarks(table: SweepTable) -> list[str]:
    """What went wrong with reading the numbers, or is inconsistent among them."""
    return [*table.remarks, *_inconsistencies(table.finished), *_failures(table.trials)]


def counted(trials: Sequence[TrialState]) -> str:
    """How many trials are in each state, for example ``2 finished, 1 failed``."""
    numbers = {state: sum(trial.state == state for trial in trials) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


_MACHINE = ("workers", "threads", "exchange", "processor")
"""Facts of a result that change the last bits of float32 numbers, and with them where a training ends."""


def _machines(finished: Sequence[TrialState]) -> list[str]:
    """In which of these the trials differ, for example ``workers 1 (3 trials) and 2 (6)``."""
    results = [trial.result for trial in finished if trial.result is not None]
    differing = []
    for name in _MACHINE:
        counts = Counter(value for result in results if (value := getattr(result, name)))
        if len(counts) > 1:
            listed = [f"{value} ({counts[value]})" for value in sorted(counts, key=str)]
            differing.append(f"{name} {' and '.join(listed)}")
    if not differing:
        return []
    return [
        f"trials differ in {'; '.join(differing)} (in brackets: trials): the algorithm is the same, float32 numbers "
        "differ by rounding that grows while they train (docs/determinism.md)"
    ]


def setting_marks(table: SweepTable) -> dict[str, str]:
    """Which letter marks the paper's number where a trial differs from the published recipe, by ``repr`` of how."""
    return {repr(differing): mark for differing, mark in _marked_settings(table)}


def _marked_settings(table: SweepTable) -> list[tuple[Mapping[str, tuple[Any, Any]], str]]:
    differing = [cell.paper.differences for cell in table.cells if cell.paper and cell.paper.differences]
    distinct = list({repr(each): each for each in differing}.values())
    return [(each, letter(index)) for index, each in enumerate(distinct)]


def _inconsistencies(finished: Sequence[TrialState]) -> list[str]:
    """What makes the trials of one table less comparable than it looks."""
    out = []
    for name, what in (("code_version", "code versions"), ("data_hash", "data")):
        # Different data sets have different hashes; only within one must they agree.
        values: dict[str, set[str]] = {}
        for trial in finished:
            if name in trial.row:
                group = str(trial.row.get("dataset")) if name == "data_hash" else ""
                values.setdefault(group, set()).add(str(trial.row[name]))
        out += [f"trials of different {what}: {', '.join(sorted(each))}" for each in values.values() if len(each) > 1]
    return out


def _failures(trials: Sequence[TrialState]) -> list[str]:
    failed = [trial for trial in trials if trial.state == "failed"]
    lines = []
    for trial in failed[:_LISTED]:
        error = str(trial.row.get("error") or "").strip() or "no error text"
        lines.append(f"failed: {trial.key}: {error.splitlines()[-1][:200]}")
    return [*lines, f"and {len(failed) - _LISTED} more failed trials"] if len(failed) > _LISTED else lines

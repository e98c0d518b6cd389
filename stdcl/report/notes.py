"""The notes below a table: what a reader must know to read its numbers, and what went wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stdcl.report import confirmation
from stdcl.report.labels import differences_text, letter, short_names, trial_number
from stdcl.report.load import TrialState
from stdcl.report.machines import code_remarks, machine_notes
from stdcl.report.searching import undominated
from stdcl.report.table import SweepTable, is_synthetic
from stdcl.results.importance import LEAST
from stdcl.results.state import STATES, UNFINISHED
from stdcl.results.status import counted as counted_states
from stdcl.statistics.difference import Difference
from stdcl.statistics.verdict import NOT_ENOUGH

_LISTED = 10  # failed trials that are named


def notes(table: SweepTable) -> list[str]:
    """What a reader must know to read the numbers."""
    cells, finished = table.cells, table.finished
    out = [f"trials: {counted(table.trials) or 'none'}"]
    unfinished = [trial for trial in table.trials if trial.state in UNFINISHED]
    if unfinished:
        out.append(
            "unfinished (the same `stdcl sweep` command continues those that were interrupted): "
            + ", ".join(f"{trial.key} ({trial.state}, epochs done: {trial.epochs_done})" for trial in unfinished[:5])
            + (f" and {len(unfinished) - 5} more" if len(unfinished) > 5 else "")
        )
    if not finished:
        return out
    on = sorted({str(trial.row.get("evaluated_on", "test")) for trial in finished})
    what = f"accuracy: percent of the {' or '.join(on)} sequences, after the last epoch"
    if table.search == "optuna":
        out.append(what)
        out.append(
            "the best of a search is picked by its result: repeat it with several seeds, on the test sequences "
            f"(`stdcl confirm {table.name}`)"
        )
        if front := undominated(table):
            listed = ", ".join(
                f"{trial_number(trial.key) or trial.key} ({100 * trial.row['accuracy']:.2f} %, "
                f"{trial.row['seconds_per_epoch']:.3g} s/epoch)"
                for trial in front[:_LISTED]
            )
            more = f" and {len(front) - _LISTED} more" if len(front) > _LISTED else ""
            out.append(f"trials that no other beats in both accuracy and seconds an epoch: {listed}{more}")
        out += _importance(table)
    else:
        out.append(f"{what}; mean ± sample standard deviation over seeds; {_interval_of_accuracy(table)}")
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
    if errors and not any(cell.accuracy for cell in cells):
        last, num_test = max(errors, key=lambda each: each[0].binomial_error or 0.0)
        out.append(
            f"binomial standard error of {100 * last.mean:.1f} % on {num_test} sequences: "
            f"{100 * (last.binomial_error or 0.0):.2f} points; more seeds do not make it smaller"
        )
    if any(cell.last and cell.last.n == 1 for cell in cells):
        out.append("a single seed has no spread: its differences may be chance")
    out += _differences(table)
    out += confirmation.sentences(table)
    copies = {(cell.num_test or 0) - cell.without_copies[1] for cell in cells if cell.without_copies}
    if copies:
        out.append(
            f"without copies: the same without the {' or '.join(map(str, sorted(copies)))} test sequences that are "
            "exact copies of training sequences in the distributed files"
        )
    out += machine_notes(finished)
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
    return [*table.remarks, *_inconsistencies(table.finished), *_code_changes(table.finished), *_failures(table.trials)]


def counted(trials: Sequence[TrialState]) -> str:
    """How many trials are in each state, for example ``2 finished, 1 failed``."""
    return counted_states((trial.state for trial in trials), STATES)


def _importance(table: SweepTable) -> list[str]:
    found = table.importance
    if found is None:
        complete, pruned = len(table.finished), sum(trial.state == "pruned" for trial in table.trials)
        if complete >= LEAST:
            return []
        return [
            f"importance of the parameters: not computed, since it needs {LEAST} complete trials and there are "
            f"{complete}" + (f" (the {pruned} that were stopped early do not count)" if pruned else "")
        ]
    names = short_names(table.parameters)
    shares = sorted(found.parameters.items(), key=lambda each: -each[1].share)
    listed = ", ".join(
        f"{names.get(key, key)} {100 * s.share:.0f} % [{100 * s.low:.0f}, {100 * s.high:.0f}]" for key, s in shares
    )
    left = f"; {found.pruned} trials that were stopped early are left out" if found.pruned else ""
    return [
        f"importance of the parameters ({found.method}, {found.complete} complete trials{left}; in brackets the middle "
        f"90 % of resampled studies): {listed}"
    ]


def _interval_of_accuracy(table: SweepTable) -> str:
    intervals = [cell.accuracy.interval for cell in table.cells if cell.accuracy is not None]
    if not intervals:
        return "in brackets the 95 % t-interval of the mean over seeds (none where all seeds agree)"
    covers = sorted({interval.covers for interval in intervals})
    return f"in brackets its {100 * intervals[0].level:.0f} % interval ({' or '.join(covers)})"


def _differences(table: SweepTable) -> list[str]:
    """How the cells are compared, and the answers in sentences."""
    judgement, cells = table.judgement, table.cells
    answered = [asked for asked in judgement.asked if asked.verdict is not None] if judgement is not None else []
    if judgement is None or not answered:
        out = []
        if any(cell.difference for cell in cells):
            out.append(
                f"vs {table.reference}: mean difference in points over the seeds that both have, (+/=/-) how many of "
                f"them are above, equal to and below the same seed of {table.reference}, [95 % t-interval over seeds]"
            )
        if judgement is not None and table.answers.missing:
            out.append("no verdicts: no scores per sequence; `stdcl evaluate SWEEP` writes them from checkpoints")
        return out
    first = answered[0].verdict
    assert first is not None
    margin = f"{100 * judgement.margin.size:g} point{'s' if judgement.margin.size != 0.01 else ''}"
    reason = "" if judgement.named else f" by default ({judgement.margin.reason})"
    out = [
        "differences in points over the seeds that both have, (+/=/-) how many of them are above, equal and below, "
        f"[{100 * first.difference.interval.level:.0f} % interval: {first.difference.interval.covers}]",
        f"verdicts: one family of {len(judgement.asked)} question{'s' * (len(judgement.asked) != 1)}, false claims in "
        f"at most {100 * judgement.alpha:g} % of such tables (Holm); margin {margin}{reason}",
    ]
    if any(asked.verdict is not None and asked.verdict.not_enough for asked in judgement.asked):
        out.append(NOT_ENOUGH)
    if judgement.looks:
        out.append(f"looks after {', '.join(map(str, judgement.looks))} seeds, as the sweep's file names them")
    for asked in judgement.asked:
        said = asked.verdict.sentence if asked.verdict is not None else "no seed is finished in all of its cells"
        if asked.verdict is not None:
            said += _limits(asked.verdict.difference)
        if asked.without_copies is not None:
            d = asked.without_copies
            low, high = d.interval.low, d.interval.high
            said += f"; without copies {100 * d.estimate:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        out.append(f"{asked.question.name}: {said}")
    if table.answers.missing:
        out.append(f"without scores, so not in any verdict: {', '.join(table.answers.missing[:_LISTED])}")
    return out


def _limits(difference: Difference) -> str:
    """How wide the interval would be with either kind of chance alone: the wider one limits."""
    seeds, sequences = difference.over_seeds, difference.over_sequences
    if seeds is None:
        return ""
    who = "people" if difference.clusters is not None else "sequences"
    widths = [50.0 * (interval.high - interval.low) for interval in (seeds, sequences)]
    return f"; alone, seeds are good for ±{widths[0]:.2f} and {who} for ±{widths[1]:.2f}"


def setting_marks(table: SweepTable) -> dict[str, str]:
    """Which letter marks the paper's number where a trial differs from the published recipe, by ``repr`` of how."""
    return {repr(differing): mark for differing, mark in _marked_settings(table)}


def _marked_settings(table: SweepTable) -> list[tuple[Mapping[str, tuple[Any, Any]], str]]:
    differing = [cell.paper.differences for cell in table.cells if cell.paper and cell.paper.differences]
    distinct = list({repr(each): each for each in differing}.values())
    return [(each, letter(index)) for index, each in enumerate(distinct)]


def _inconsistencies(finished: Sequence[TrialState]) -> list[str]:
    """What makes the trials of one table less comparable than it looks."""
    # Different data sets have different hashes; only within one must they agree.
    hashes: dict[str, set[str]] = {}
    for trial in finished:
        if "data_hash" in trial.row:
            hashes.setdefault(str(trial.row.get("dataset")), set()).add(str(trial.row["data_hash"]))
    differing = [each for each in hashes.values() if len(each) > 1]
    return [*code_remarks(finished), *(f"trials of different data: {', '.join(sorted(each))}" for each in differing)]


def _code_changes(finished: Sequence[TrialState]) -> list[str]:
    """Runs that were resumed under other code than they began with."""
    changed = [(trial.key, trial.result.code_versions) for trial in finished if trial.result is not None]
    changed = [(key, versions) for key, versions in changed if len(versions) > 1]
    lines = [f"resumed under changed code: {key} ({', then '.join(versions)})" for key, versions in changed[:_LISTED]]
    more = len(changed) - _LISTED
    return [*lines, f"and {more} more trials resumed under changed code"] if more > 0 else lines


def _failures(trials: Sequence[TrialState]) -> list[str]:
    failed = [trial for trial in trials if trial.state == "failed"]
    lines = []
    for trial in failed[:_LISTED]:
        error = str(trial.row.get("error") or "").strip() or "no error text"
        lines.append(f"failed: {trial.key}: {error.splitlines()[-1][:200]}")
    return [*lines, f"and {len(failed) - _LISTED} more failed trials"] if len(failed) > _LISTED else lines

"""The numbers of a table, unrounded, and one line per trial."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from stdcl.report.judgement import Asked
from stdcl.report.labels import differences_text
from stdcl.report.load import TrialState
from stdcl.report.table import SHARED, Cell, SweepTable
from stdcl.report.wording import emptiness
from stdcl.results.state import STATES
from stdcl.statistics.difference import Interval

TREND = "trend"
"""Stands in place of an arm in the row of a question about several cells at once."""

_TRIAL_FACTS = (
    "attempt", "dataset", "protocol", "evaluated_on", "stream", "encoder", "strategy", "synthetic", "num_test",
    "accuracy", "best_accuracy", "best_epoch", "epochs", "total_seconds", "seconds_per_epoch", "throughput",
    "peak_memory_mib", "workers", "fingerprint", "code_version", "data_hash", "started", "finished", "wandb_id",
    "command", "error",
)  # fmt: skip


def render(table: SweepTable) -> str:
    """The table's numbers, unrounded: accuracies in percent, differences in points, empty where there is none.

    A row per cell, and one per trend, whose ``arm`` is ``TREND``.
    """
    if table.search == "optuna":
        return render_trials(table, table.top)
    rows = [_csv_row(cell, table.parameters) for cell in table.cells]
    header = list(rows[0]) if rows else ["arm", *table.parameters]
    trends = table.judgement.trends if table.judgement is not None else ()
    rows += [{"arm": TREND, **_asked(asked), "note": None if asked.verdict else "no answer"} for asked in trends]
    return to_csv(rows, header)


def render_trials(table: SweepTable, trials: Sequence[TrialState] | None = None) -> str:
    """One line per trial with all that its numbers can be traced by; accuracies as fractions."""
    rows = []
    for trial in table.trials if trials is None else trials:
        parameters = {name: _plain(trial.parameters.get(name)) for name in table.parameters}
        facts = {name: _plain(trial.row.get(name)) for name in _TRIAL_FACTS}
        own = {"key": trial.key, "arm": trial.arm, "seed": trial.seed, "state": trial.state}
        rows.append({**own, **parameters, **facts, "epochs": trial.epochs_done})
    header = ["key", "arm", "seed", "state", *table.parameters, *_TRIAL_FACTS]
    return to_csv(rows, header)


def _csv_row(cell: Cell, parameters: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": cell.arm}
    row |= {name: _plain(cell.parameters.get(name)) for name in parameters}
    row |= {name: cell.identity.get(name) for name in (*SHARED, "strategy")}
    row["seeds_planned"] = len(cell.trials)
    for state in STATES:
        row[f"seeds_{state.replace(' ', '_')}"] = sum(trial.state == state for trial in cell.trials)
    for name, summary in (("accuracy", cell.last), ("best_epoch_accuracy", cell.best)):
        for part in ("mean", "std", "low", "high"):
            row[f"{name}_{part}"] = _percent(summary, part)
    for name, metric in cell.metrics.items():  # in their own units
        for part in ("mean", "std"):
            row[f"{name}_{part}"] = getattr(metric, part, None)
    row["accuracy_binomial_error"] = _percent(cell.last, "binomial_error")
    row["num_test"] = cell.num_test
    for part in ("mean", "std", "low", "high"):
        row[f"difference_{part}"] = _percent(cell.difference, part)
    for part in ("n", "better", "equal", "worse"):
        row[f"difference_{part}"] = getattr(cell.difference, part, None)
    row |= _judged(cell)
    row["paper"] = cell.paper.accuracy if cell.paper else None
    row["paper_source"] = cell.paper.source if cell.paper else None
    row["paper_temperature_unstated"] = cell.paper.temperature_unstated if cell.paper else None
    row["paper_differences"] = differences_text(cell.paper.differences) if cell.paper else None
    row["note"] = None if cell.last else emptiness(cell)
    return row


def _judged(cell: Cell) -> dict[str, Any]:
    """What the statistics over seeds and sequences say of a cell; points and percent."""
    row = _asked(cell.asked)
    interval, without = cell.accuracy.interval if cell.accuracy is not None else None, cell.without_copies
    row |= _interval("accuracy_interval", interval)
    row["num_test_without_copies"] = without[1] if without else None
    row["accuracy_without_copies"] = _percent(without[0], "mean") if without else None
    return row


def _asked(asked: Asked | None) -> dict[str, Any]:
    """A question and its answer."""
    verdict = asked.verdict if asked is not None else None
    found = verdict.difference if verdict is not None else None
    row: dict[str, Any] = {"question": asked.question.name if asked is not None else None}
    row["verdict"] = str(verdict.word) if verdict is not None else None
    row["stage"] = str(verdict.stage) if verdict is not None else None
    for name in ("p", "p_equivalence"):
        row[name] = getattr(verdict, name, None)
    for name in ("margin", "smallest_difference"):
        row[name] = _percent(verdict, name)
    row["seeds_needed"] = verdict.seeds_needed if verdict is not None else None
    row["estimate"] = _percent(found, "estimate")
    row |= _interval("interval", None if found is None else found.interval)
    row |= _interval("over_seeds", None if found is None else found.over_seeds)
    row |= _interval("over_sequences", None if found is None else found.over_sequences)
    row["estimate_without_copies"] = _percent(asked.without_copies, "estimate") if asked is not None else None
    return row


def _interval(name: str, interval: Interval | None) -> dict[str, Any]:
    return {
        f"{name}_low": _percent(interval, "low"),
        f"{name}_high": _percent(interval, "high"),
        f"{name}_covers": interval.covers if interval is not None else None,
    }


def _percent(of: object, part: str) -> float | None:
    value = getattr(of, part, None)
    return None if value is None else 100 * float(value)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def to_csv(rows: Sequence[Mapping[str, Any]], header: Sequence[str]) -> str:
    """Rows under a header; None is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()

"""Where a cell comes from, in words for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stdcl.report.labels import NOTHING, differences_text
from stdcl.report.load import TrialState
from stdcl.report.provenance import (
    Provenance,
    cell_name,
    find_cell,
    find_trial,
    provenance,
    read_inputs,
    recompute,
    stale,
)
from stdcl.report.table import Cell, SweepTable, sweep_table
from stdcl.results.layout import SweepFolder


def explain(directory: Path, name: str | None, check: bool = False) -> tuple[str, bool]:
    """Say where the number of a cell comes from; without a name, list the cells.

    Args:
        directory: the sweep's folder.
        name: see ``provenance.find_cell``.
        check: whether the accuracies are computed again from the files of scores.

    Returns:
        The text, and whether nothing has changed since the report and, if checked, every number agrees.

    Raises:
        UserError: the folder is no sweep's, or no cell, or several, have this name.
    """
    table = sweep_table(directory)
    report = SweepFolder(directory).report
    changed = stale(table, report)
    if table.search == "optuna":
        return _explain_search(table, directory, name, check, changed)
    chosen = list(table.cells) if name is None else [find_cell(table, name)]
    lines: list[str] = []
    good = True
    for cell in chosen:
        own = cell_name(cell, table.parameters)
        row = table.cells.index(cell) + 1
        lines.append(f"{table.name}, row {row}: {own}: {_number(cell)}{_verdict(cell)}")
        if own in changed:
            good = False
            lines += [f"  STALE since the report was written: {each}" for each in changed[own]]
        if name is not None:
            for source in provenance(table, directory, cell.trials).values():
                lines += _trial(source)
        if check:
            faults, said = _checked(cell.trials)
            good = good and not faults
            lines += said
    if read_inputs(report) is None:
        lines.append("no report was written yet: nothing to hold these inputs against (stdcl report)")
    if name is None and table.cells:
        lines.append(f"stdcl why {directory} ROW says where a row comes from")
    return "\n".join(lines), good


def _explain_search(
    table: SweepTable, directory: Path, name: str | None, check: bool, changed: Mapping[str, Sequence[str]]
) -> tuple[str, bool]:
    """The same of a search, whose rows are trials."""
    lines: list[str] = []
    good = True
    for trial in table.top if name is None else [find_trial(table, name)]:
        row = f"row {table.top.index(trial) + 1}" if trial in table.top else "not among the best"
        result = f"{100 * float(trial.row['accuracy']):.2f} %" if "accuracy" in trial.row else "no result"
        lines.append(f"{table.name}, {row}: {trial.key}: {result}")
        if trial.key in changed:
            good = False
            lines += [f"  STALE since the report was written: {each}" for each in changed[trial.key]]
        if name is not None:
            for source in provenance(table, directory, [trial]).values():
                lines += _trial(source)
        if check:
            faults, said = _checked([trial])
            good = good and not faults
            lines += said
    if read_inputs(SweepFolder(directory).report) is None:
        lines.append("no report was written yet: nothing to hold these inputs against (stdcl report)")
    if name is None and table.top:
        lines.append(f"stdcl why {directory} ROW says where a row comes from, trial=N any other trial")
    return "\n".join(lines), good


def _number(cell: Cell) -> str:
    if cell.last is None:
        return "no finished trial"
    spread = "" if cell.last.std is None else f" ± {100 * cell.last.std:.2f}"
    return f"{100 * cell.last.mean:.2f}{spread} % over {len(cell.finished)} of {len(cell.trials)} seeds"


def _verdict(cell: Cell) -> str:
    verdict = cell.asked.verdict if cell.asked is not None else None
    return f"\n  {verdict.sentence}" if verdict is not None else ""


def _trial(source: Provenance) -> list[str]:
    trial = source.trial
    row = trial.row
    said = f"{100 * float(row['accuracy']):.2f} % of {row['num_test']} sequences" if "accuracy" in row else "no result"
    out = [f"  {trial.key}: {trial.state}, {said}, seed {trial.seed}"]
    facts: dict[str, Any] = {
        "fingerprint": row.get("fingerprint") or NOTHING,
        "data": row.get("data_hash") or NOTHING,
    }
    if source.reference:
        facts[f"unlike {source.reference}"] = _differing(source.from_reference)
    if source.from_published is not None:
        facts["unlike the published recipe"] = _differing(source.from_published)
    for attempt in source.attempts:
        parts = [attempt.status, f"code {attempt.code_version or NOTHING}", attempt.started, attempt.error[-200:]]
        facts[f"attempt {attempt.number}"] = ", ".join(filter(None, parts))
    facts |= source.environment
    facts |= {name: f"sha256 {value}" if value else "missing" for name, value in source.files.items()}
    facts["W&B run"] = row.get("wandb_id") or NOTHING
    facts["repeat"] = row.get("command") or NOTHING
    width = max(map(len, facts))
    return out + [f"    {name:<{width}}  {value}" for name, value in facts.items()]


def _differing(found: Mapping[str, tuple[Any, Any]]) -> str:
    return differences_text(found) or "nothing"


def _checked(trials: Sequence[TrialState]) -> tuple[bool, list[str]]:
    found = recompute(trials)
    if not found:
        return False, ["  nothing to compute again: no trial is finished"]
    faults = [each for each in found if each.fault]
    out = [f"  DOES NOT AGREE: {each.key}: {each.fault}" for each in faults]
    if not faults:
        mean = sum(each.found or 0.0 for each in found) / len(found)
        out.append(f"  computed again from {len(found)} files of scores: {100 * mean:.2f} %, agrees")
    return bool(faults), out

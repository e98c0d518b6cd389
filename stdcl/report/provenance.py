"""Where a number comes from: the trials of a cell with everything that they depend on, and whether it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stdcl.atomic import write_json
from stdcl.config.arms import BASELINE, references_of
from stdcl.config.fingerprint import differing_keys, flat_scientific
from stdcl.config.model import METHOD_NAME, is_of_method
from stdcl.errors import UserError, nearest
from stdcl.report.labels import short_names, value_text
from stdcl.report.load import TrialState
from stdcl.report.published import Place, differences_to_published
from stdcl.report.table import Cell, SweepTable
from stdcl.results.layout import RunFolder, SweepFolder, place_below
from stdcl.results.scores import read_scores
from stdcl.results.store import scan

INPUTS = "inputs.json"
"""In the report's folder: the files that its numbers depend on, with their digests."""
_ENVIRONMENT = (
    "device",
    "processor",
    "precision",
    "tf32",
    "driver",
    "workers",
    "threads",
    "exchange",
    "packages",
    "execution",
    "init_from",
    "taken_from",
)


@dataclass(frozen=True)
class Attempt:
    """One launch of a trial, as the results store has it; empty texts where it does not say."""

    number: int
    status: str
    code_version: str
    started: str
    finished: str
    error: str


@dataclass(frozen=True)
class Provenance:
    """Everything that a trial's number depends on.

    Attributes:
        trial: whose.
        reference: name of the cell that its configuration is compared with; empty for the reference itself.
        from_reference: key -> (its value, the reference's).
        from_published: key -> (its value, the published recipe's); None where no recipe is published for it.
        attempts: its launches.
        environment: what it ran on and with, as its result says.
        files: its files -> SHA-256; None where a file is missing.
    """

    trial: TrialState
    reference: str
    from_reference: Mapping[str, tuple[Any, Any]]
    from_published: Mapping[str, tuple[Any, Any]] | None
    attempts: tuple[Attempt, ...]
    environment: Mapping[str, Any]
    files: Mapping[str, str | None]


def cell_name(cell: Cell, parameters: Sequence[str]) -> str:
    """How a cell is named on the command line: its arm, where it is stated, and ``temperature=0.5``, with commas."""
    names = short_names(parameters)
    parts = [f"{names[key]}={value_text(cell.parameters[key])}" for key in parameters if key in cell.parameters]
    if cell.stated or (cell.arm == BASELINE and not {"contrast.strategy", METHOD_NAME} & cell.parameters.keys()):
        parts.insert(0, cell.arm)
    return ",".join(parts) or cell.arm


def find_cell(table: SweepTable, name: str) -> Cell:
    """Return a cell by its name (parts in any order; those that all cells share may be left out), or its row's number.

    Raises:
        UserError: none or several fit.
    """
    named = {cell_name(cell, table.parameters): cell for cell in table.cells}
    if name in named:
        return named[name]
    if name.isdigit() and 1 <= int(name) <= len(table.cells):
        return table.cells[int(name) - 1]
    wanted = {part.strip() for part in name.split(",")}
    fits = [cell for own, cell in named.items() if wanted <= set(own.split(","))]
    if len(fits) == 1:
        return fits[0]
    what = f"{len(fits)} cells of {table.name} are" if fits else f"no cell of {table.name} is"
    raise UserError(
        f"{what} named '{name}'{'' if fits else nearest(name, named)}; give a row's number or one of: "
        + "; ".join(f"{number} {own}" for number, own in enumerate(named, 1))
    )


def find_trial(table: SweepTable, name: str) -> TrialState:
    """Return a trial of a search by its row in the table, as ``trial=7``, or by its name.

    Raises:
        UserError: none or several fit.
    """
    if name.isdigit() and 1 <= int(name) <= len(table.top):
        return table.top[int(name) - 1]
    fits = [trial for trial in table.trials if name in (trial.key, trial.key.split(",")[0])]
    if len(fits) == 1:
        return fits[0]
    raise UserError(
        f"{len(fits) or 'no'} trial{'s' * (len(fits) > 1)} of {table.name} named '{name}'; give a row's number, from 1 "
        f"to {len(table.top)}, or a trial's, such as trial=0"
    )


def provenance(table: SweepTable, directory: Path, trials: Sequence[TrialState] | None = None) -> dict[str, Provenance]:
    """Trial's key -> where its number comes from.

    Args:
        table: of the sweep.
        directory: the sweep's folder.
        trials: only these; None: all.
    """
    launches = _attempts(directory)
    others = _compared_with(table.cells)
    by_trial = {trial.key: other for cell, other in zip(table.cells, others, strict=True) for trial in cell.trials}
    out = {}
    for trial in table.trials if trials is None else trials:
        other = by_trial.get(trial.key)
        twin = None if other is None else next((t for t in other.trials if t.seed == trial.seed), None)
        mine, theirs = _settings(trial), {} if twin is None else _settings(twin)
        published = None
        if mine:
            number = trial.row.get("num_test")
            published = differences_to_published(Place.of(mine), mine, None if number is None else int(number))
        result = trial.result
        environment = {name: getattr(result, name) for name in _ENVIRONMENT if result is not None}
        environment["precision"] = mine.get("training.precision")
        environment["taken_from"] = place_below(environment.get("taken_from", ""), directory.absolute().parent)
        out[trial.key] = Provenance(
            trial=trial,
            reference="" if other is None else cell_name(other, table.parameters),
            from_reference=_from_reference(trial, mine, theirs) if mine and theirs else {},
            from_published=published,
            attempts=tuple(launches.get(trial.key, ())),
            environment={name: value for name, value in environment.items() if value not in (None, "")},
            files=input_files(trial),
        )
    return out


def _compared_with(cells: Sequence[Cell]) -> list[Cell | None]:
    """Per cell what it is asked about, else its reference, else the first cell; None for that itself."""
    reference = next((cell.arm for cell in cells if cell.reference), "")
    references = references_of([(cell.arm, cell.parameters) for cell in cells], reference).of
    out: list[Cell | None] = []
    for index, (cell, other) in enumerate(zip(cells, references, strict=True)):
        if cell.asked is not None and cell.asked.other is not None:
            other = cell.asked.other
        elif other is None and not cell.reference and index:
            other = 0
        out.append(None if other is None else cells[other])
    return out


def _from_reference(
    trial: TrialState, mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """What differs, without the options of a method that the reference is not trained with."""
    found = differing_keys(mine, theirs)
    own = {**trial.stated, **trial.parameters}
    strange = {key for key in found if is_of_method(key) and key not in theirs and key not in own}
    return {key: pair for key, pair in found.items() if key not in strange}


def _settings(trial: TrialState) -> dict[str, Any]:
    return {} if trial.config is None else flat_scientific(trial.config)


def _attempts(directory: Path) -> dict[str, list[Attempt]]:
    out: dict[str, list[Attempt]] = {}
    for record in scan(SweepFolder(directory).results).rows.to_dict("records"):
        texts = {}
        for name in ("status", "code_version", "started", "finished", "error"):
            value = record.get(name)
            # NaN and NaT, which are not equal to themselves, are empty cells.
            texts[name] = "" if value is None or value != value else str(value)
        out.setdefault(str(record["key"]), []).append(Attempt(int(record["attempt"]), **texts))
    return {key: sorted(each, key=lambda attempt: attempt.number) for key, each in out.items()}


def input_files(trial: TrialState) -> dict[str, str | None]:
    """The files that a trial's numbers are read from -> SHA-256; None where a file is missing."""
    folder = RunFolder(trial.folder)
    return {path.name: digest(path) for path in (folder.config, folder.history, folder.result, folder.scores())}


def digest(path: Path) -> str | None:
    """SHA-256 of a file in hexadecimal; None where it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_inputs(report: Path, trials: Sequence[TrialState]) -> Path:
    """Write which files a report's numbers depend on; returns the file."""
    path = report / INPUTS
    write_json(path, {trial.key: input_files(trial) for trial in trials})
    return path


def read_inputs(report: Path) -> dict[str, dict[str, str | None]] | None:
    """What ``write_inputs`` wrote; None without a file.

    Raises:
        UserError: it is damaged.
    """
    path = report / INPUTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): dict(files) for key, files in content.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); `stdcl report` writes it again") from None


def stale(table: SweepTable, report: Path) -> dict[str, list[str]]:
    """Name of each cell, of a search each trial, whose inputs have changed since the report was written -> what has.

    A cell rests on its own trials and, by its difference, on those of the cell that it is compared with.

    Args:
        table: of the sweep.
        report: the report's folder.
    """
    known = read_inputs(report)
    if known is None:
        return {}
    groups: dict[str, Sequence[TrialState]] = {}
    for cell, found in zip(table.cells, _compared_with(table.cells), strict=True):
        other = found if cell.asked is not None or cell.difference is not None else None
        groups[cell_name(cell, table.parameters)] = (*cell.trials, *(() if other is None else other.trials))
    if table.search == "optuna":
        groups = {trial.key: (trial,) for trial in table.trials}
    out: dict[str, list[str]] = {}
    for group, trials in groups.items():
        changes = []
        for trial in trials:
            was, now = known.get(trial.key, {}), input_files(trial)
            for name, value in now.items():
                if value != was.get(name):
                    what = "is new" if was.get(name) is None else "is missing" if value is None else "has changed"
                    changes.append(f"{trial.key}/{name} {what}")
        if changes:
            out[group] = changes
    return out


@dataclass(frozen=True)
class Recomputed:
    """A trial's accuracy from its file of scores.

    Attributes:
        key: the trial's.
        recorded: its result, a fraction.
        found: from the scores; None where they cannot be read.
        fault: what does not fit; empty if it does.
    """

    key: str
    recorded: float
    found: float | None
    fault: str


def recompute(trials: Sequence[TrialState]) -> list[Recomputed]:
    """Compute the accuracy of each finished trial again, from its scores."""
    out = []
    for trial in trials:
        if trial.state != "finished":
            continue
        recorded = float(trial.row["accuracy"])
        try:
            scores = read_scores(RunFolder(trial.folder).scores())
        except UserError as error:
            out.append(Recomputed(trial.key, recorded, None, str(error)))
            continue
        fault = ""
        if abs(scores.accuracy - recorded) * len(scores.ids) >= 0.5:
            fault = f"the scores give {100 * scores.accuracy:.2f} %, the result is {100 * recorded:.2f} %"
        elif scores.fingerprint and trial.row.get("fingerprint") not in (None, "", scores.fingerprint):
            fault = f"the scores are of another configuration ({scores.fingerprint})"
        elif trial.row.get("data_hash") not in (None, "", scores.data_hash):
            fault = f"the scores are of other data ({scores.data_hash[:16]})"
        out.append(Recomputed(trial.key, recorded, scores.accuracy, fault))
    return out

"""The table of a sweep: for each cell, what its seeds came to, beside the baseline and the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stdcl.report.load import SweepState, TrialState, load_sweep_state
from stdcl.report.paper import STATED, PaperValue, paper_value
from stdcl.report.summary import PairedDifference, Summary, paired_difference, summarise

BASELINE = "baseline"
_TOP = 10  # trials of a search that its table shows; failed trials that are listed
_IDENTITY = {
    "dataset": "data.dataset",
    "protocol": "data.protocol",
    "evaluated_on": "data.evaluate_on",
    "stream": "data.stream",
    "encoder": "encoder.name",
    "strategy": "contrast.strategy",
}


@dataclass(frozen=True)
class Cell:
    """One row of a grid's table: one configuration, over its seeds.

    Attributes:
        arm: ``baseline`` or ``grid``.
        parameters: dotted key -> value, of what the sweep varies.
        identity: dataset, protocol, evaluated_on, stream, encoder, strategy; what is unknown is left out.
        trials: one a seed, by seed.
        last: over the finished seeds, of the last epoch's accuracy; None where no seed has finished.
        best: the same of the best epoch's, chosen on the evaluated sequences themselves.
        num_test: number of evaluated sequences; None when unknown or not the same for all seeds.
        difference: to the baseline of the same other parameters, by seed; None for the baseline or without one.
        paper: the paper's number for this setting.
    """

    arm: str
    parameters: Mapping[str, Any]
    identity: Mapping[str, Any]
    trials: tuple[TrialState, ...]
    last: Summary | None
    best: Summary | None
    num_test: int | None
    difference: PairedDifference | None
    paper: PaperValue | None

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")

    @property
    def emptiness(self) -> str:
        """What a cell without a number says instead, for example ``no finished trial (1 failed, 1 unfinished)``."""
        return f"no finished trial ({_counts(self.trials)})" if self.trials else "no trial"


@dataclass(frozen=True)
class SweepTable:
    """A sweep's table, numbers only; ``render`` makes text of it and ``figures`` a picture.

    Attributes:
        name, question, search, parameters: of the sweep.
        cells: the rows of a grid, baselines first; empty for a search.
        trials: all trials.
        top: of a search, its finished trials with the highest accuracy first.
        notes: what a reader must know to read the numbers.
        remarks: what went wrong with reading them, or is inconsistent among them.
    """

    name: str
    question: str
    search: Literal["grid", "optuna"]
    parameters: tuple[str, ...]
    cells: tuple[Cell, ...]
    trials: tuple[TrialState, ...]
    top: tuple[TrialState, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]

    def text(self) -> str:
        """The table for a terminal."""
        from stdcl.report.render import to_text

        return to_text(self)

    def write(self, directory: Path) -> list[Path]:
        """Write ``table.txt``, ``.md``, ``.csv``, ``.tex``, ``trials.csv`` and, with a result, ``accuracy.png``."""
        from stdcl.report.render import write

        return write(self, directory)


def sweep_table(directory: Path) -> SweepTable:
    """Make the table of a sweep from its folder, whatever its state.

    Args:
        directory: ``<storage>/<sweep>``.

    Raises:
        UserError: it is not a sweep's folder, or its plan or results cannot be read.
    """
    return build_table(load_sweep_state(directory))


def build_table(sweep: SweepState) -> SweepTable:
    """Make the table of a sweep from what is known of it."""
    cells = _cells(sweep) if sweep.search == "grid" else ()
    finished = [trial for trial in sweep.trials if trial.state == "finished"]
    top = sorted(finished, key=lambda trial: (-_accuracy(trial), trial.key))[:_TOP] if sweep.search == "optuna" else ()
    return SweepTable(
        name=sweep.name,
        question=sweep.question,
        search=sweep.search,
        parameters=sweep.parameters,
        cells=cells,
        trials=sweep.trials,
        top=tuple(top),
        notes=tuple(_notes(sweep, cells, finished)),
        remarks=(*sweep.remarks, *_inconsistencies(finished), *_failures(sweep.trials)),
    )


def _cells(sweep: SweepState) -> tuple[Cell, ...]:
    groups: dict[tuple[str, str], list[TrialState]] = {}
    for trial in sweep.trials:
        groups.setdefault((trial.arm, repr(sorted(trial.parameters.items()))), []).append(trial)
    # What all known trials share also holds for those that are not known yet.
    shared = _shared_identity(sweep.trials)
    made = [
        _cell(sorted(trials, key=lambda trial: trial.seed), shared, _baseline_of(trials[0], groups))
        for trials in groups.values()
    ]
    # Each baseline stands above the cells that are compared with it; else the plan's order holds.
    place: dict[str, int] = {}
    for cell in made:
        place.setdefault(_apart_from_contrast(cell.parameters), len(place))
    made.sort(key=lambda cell: (place[_apart_from_contrast(cell.parameters)], cell.arm != BASELINE))
    return tuple(made)


def _cell(trials: Sequence[TrialState], shared: Mapping[str, Any], baseline: Sequence[TrialState] | None) -> Cell:
    first = trials[0]
    finished = [trial for trial in trials if trial.state == "finished"]
    counts = {int(trial.row["num_test"]) for trial in finished}
    num_test = counts.pop() if len(counts) == 1 else None
    identity = {**shared, **_identity(finished[0] if finished else first)}
    if first.arm == BASELINE:
        identity["strategy"] = "none"
    elif "contrast.strategy" in first.parameters:
        identity["strategy"] = first.parameters["contrast.strategy"]
    by_seed = {trial.seed: _accuracy(trial) for trial in finished}
    difference = None
    if baseline is not None:
        others = {trial.seed: _accuracy(trial) for trial in baseline if trial.state == "finished"}
        difference = paired_difference(by_seed, others)
    return Cell(
        arm=first.arm,
        parameters=first.parameters,
        identity=identity,
        trials=tuple(trials),
        last=summarise(list(by_seed.values()), num_test),
        best=summarise([trial.row["best_accuracy"] for trial in finished if "best_accuracy" in trial.row], num_test),
        num_test=num_test,
        difference=difference,
        paper=_paper(first, identity, num_test if finished else shared.get("num_test"), finished or trials),
    )


def _baseline_of(
    trial: TrialState, groups: Mapping[tuple[str, str], Sequence[TrialState]]
) -> Sequence[TrialState] | None:
    """The baseline's trials that agree with a trial in everything but the contrast."""
    if trial.arm == BASELINE:
        return None
    wanted = _apart_from_contrast(trial.parameters)
    for (arm, _), trials in groups.items():
        if arm == BASELINE and _apart_from_contrast(trials[0].parameters) == wanted:
            return trials
    return None


def _apart_from_contrast(parameters: Mapping[str, Any]) -> str:
    return repr(sorted((key, value) for key, value in parameters.items() if not key.startswith("contrast.")))


def _paper(
    trial: TrialState, identity: Mapping[str, Any], num_test: int | None, trials: Sequence[TrialState]
) -> PaperValue | None:
    if any(_synthetic(each) for each in trials) or not {"dataset", "protocol", "stream", "encoder"} <= identity.keys():
        return None
    known = (*STATED, "contrast.temperature")
    settings = {key: trial.settings[key] for key in known if key in trial.settings}
    settings.update(trial.parameters)
    if "strategy" in identity:
        settings["contrast.strategy"] = identity["strategy"]
    return paper_value(
        dataset=str(identity["dataset"]),
        protocol=str(identity["protocol"]),
        stream=str(identity["stream"]),
        encoder=str(identity["encoder"]),
        num_test=num_test,
        settings=settings,
    )


def _identity(trial: TrialState) -> dict[str, Any]:
    found = {name: trial.fact(name, key) for name, key in _IDENTITY.items()}
    return {name: value for name, value in found.items() if value is not None}


def _shared_identity(trials: Sequence[TrialState]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in _IDENTITY:
        # Of the contrast, what the others share; the baseline has none.
        alike = [trial for trial in trials if name != "strategy" or trial.arm != BASELINE]
        values = {identity[name] for identity in map(_identity, alike) if name in identity}
        if len(values) == 1:
            out[name] = values.pop()
    counts = {int(trial.row["num_test"]) for trial in trials if "num_test" in trial.row}
    if len(counts) == 1:
        out["num_test"] = counts.pop()
    return out


def _synthetic(trial: TrialState) -> bool:
    said = trial.row.get("synthetic")
    return any(key.startswith("data.synthetic.") for key in trial.settings) if said is None else bool(said)


def _accuracy(trial: TrialState) -> float:
    return float(trial.row["last_accuracy"])


def _counts(trials: Sequence[TrialState]) -> str:
    states = ("finished", "pruned", "failed", "unfinished", "not started")
    numbers = {state: sum(trial.state == state for trial in trials) for state in states}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


def _notes(sweep: SweepState, cells: Sequence[Cell], finished: Sequence[TrialState]) -> list[str]:
    out = [f"trials: {_counts(sweep.trials) or 'none'}"]
    unfinished = [trial for trial in sweep.trials if trial.state == "unfinished"]
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
    if sweep.search == "optuna":
        out.append(what)
        out.append("the best of a search is picked by its result: repeat it with several seeds, on the test sequences")
    else:
        out.append(
            f"{what}; mean ± sample standard deviation over seeds; in brackets the 95 % t-interval of the mean over "
            "seeds (none where all seeds agree)"
        )
    if "test" in on and sweep.search == "grid":
        out.append(
            "best-on-test: the best epoch, chosen on the test sequences themselves, as published numbers are; "
            "too high by construction"
        )
    if any(_synthetic(trial) for trial in finished):
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
            "vs baseline: mean difference in points over the seeds that both have, with its 95 % t-interval; "
            "+/=/-: seeds above, equal to and below the baseline's same seed"
        )
    papers = [cell.paper for cell in cells if cell.paper]
    if papers:
        out.append(f"paper: as printed, {', '.join(sorted({paper.source for paper in papers}))}")
        if any(paper.temperature_unstated for paper in papers):
            out.append(
                "* the paper picks tau among 0.5, 0.8 and 1.0 by result, and does not say which one stands behind "
                "its number: the same number stands in each row that it may belong to"
            )
        out += sorted({f"paper, note: {paper.note}" for paper in papers if paper.note})
        recipes = {str(cell.finished[0].settings.get("recipe", "full")) for cell in cells if cell.finished} - {"full"}
        if recipes:
            out.append(f"trained with recipe {', '.join(sorted(recipes))}; the paper's numbers are of full schedules")
    return out


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
    for trial in failed[:_TOP]:
        error = str(trial.row.get("error") or "").strip() or "no error text"
        lines.append(f"failed: {trial.key}: {error.splitlines()[-1][:200]}")
    return [*lines, f"and {len(failed) - _TOP} more failed trials"] if len(failed) > _TOP else lines

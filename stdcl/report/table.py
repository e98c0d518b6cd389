"""The table of a sweep as data: for each cell, its seeds' results beside the baseline and the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stdcl.config.model import METHOD_NAME, STDCL, is_treatment
from stdcl.report.answers import SweepAnswers, read_sweep_answers
from stdcl.report.judgement import Arm, Asked, Judgement, accuracy_of, judge
from stdcl.report.load import SweepState, TrialState, load_sweep_state
from stdcl.report.published import PaperValue, paper_value
from stdcl.results.importance import Importance
from stdcl.statistics.margins import default_margin
from stdcl.statistics.proportion import Accuracy
from stdcl.statistics.repeats import PairedDifference, Summary, paired_difference, summarise

BASELINE = "baseline"
SHARED = ("encoder", "stream", "dataset", "protocol", "evaluated_on")
"""Facts of a cell's identity that are told once where all trials agree."""

_TOP = 10  # trials of a search that its table shows
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
        trials: one per seed, by seed.
        last: over the finished seeds, of the last epoch's accuracy; None where no seed has finished.
        best: the same of the best epoch's, chosen on the evaluated sequences themselves.
        num_test: number of evaluated sequences; None when unknown or not the same for all seeds.
        difference: to the baseline of the same other parameters, by seed; None for the baseline or without one.
        paper: the paper's number for this setting.
        accuracy: over seeds and sequences, from the trials' scores; None where one has none.
        without_copies: the same over the sequences that are no copies of training sequences, with their number; None
            where there are no copies.
        asked: the question of the sweep's family that is about this cell, with its answer; None where there is none.
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
    accuracy: Accuracy | None = None
    without_copies: tuple[Accuracy, int] | None = None
    asked: Asked | None = None

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")


@dataclass(frozen=True)
class SweepTable:
    """A sweep's table, numbers only; ``wording`` turns it into strings and ``figures`` into a picture.

    Attributes:
        name, question, search, parameters: of the sweep.
        cells: the rows of a grid, baselines first; empty for a search.
        trials: all trials.
        top: of a search, its finished trials with the highest accuracy first.
        judgement: the questions that it asks and their answers; None where it asks none.
        answers: which sequences the trials classify rightly.
        logarithmic: keys that a search draws by logarithm.
        importance: of a search's parameters.
        remarks: what went wrong with reading the sweep.
    """

    name: str
    question: str
    search: Literal["grid", "optuna"]
    parameters: tuple[str, ...]
    cells: tuple[Cell, ...]
    trials: tuple[TrialState, ...]
    top: tuple[TrialState, ...]
    judgement: Judgement | None
    answers: SweepAnswers
    logarithmic: frozenset[str]
    importance: Importance | None
    remarks: tuple[str, ...]

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")


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
    answers = read_sweep_answers(sweep.trials if sweep.search == "grid" else ())
    cells = _cells(sweep) if sweep.search == "grid" else ()
    judgement = _judgement(sweep, cells, answers) if cells else None
    cells = tuple(_with_answers(cell, index, answers, judgement) for index, cell in enumerate(cells))
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
        judgement=judgement,
        answers=answers,
        logarithmic=sweep.logarithmic,
        importance=sweep.importance,
        remarks=(*sweep.remarks, *answers.remarks),
    )


def _judgement(sweep: SweepState, cells: Sequence[Cell], answers: SweepAnswers) -> Judgement | None:
    baselines = {apart_from_treatment(cell.parameters): i for i, cell in enumerate(cells) if cell.arm == BASELINE}
    arms = [
        Arm(
            cell.parameters,
            cell.trials,
            None if cell.arm == BASELINE else baselines.get(apart_from_treatment(cell.parameters)),
        )
        for cell in cells
    ]
    datasets = {str(cell.identity.get("dataset")) for cell in cells}
    config = sweep.sweep.config if sweep.sweep is not None else None
    dataset = min(datasets, key=lambda name: default_margin(name).size)
    return judge(arms, answers, config, sweep.seeds, sweep.parameters, dataset)


def _with_answers(cell: Cell, index: int, answers: SweepAnswers, judgement: Judgement | None) -> Cell:
    whole, without = accuracy_of(cell.finished, answers)
    asked = judgement.of(index) if judgement is not None else None
    return replace(cell, accuracy=whole, without_copies=without, asked=asked)


def _cells(sweep: SweepState) -> tuple[Cell, ...]:
    groups: dict[tuple[str, str], list[TrialState]] = {}
    for trial in sweep.trials:
        groups.setdefault((trial.arm, repr(sorted(trial.parameters.items()))), []).append(trial)
    # What all known trials share also holds for those that are not known yet.
    shared = _shared_identity(sweep.trials)
    baselines: dict[str, list[TrialState]] = {}
    for (arm, _), trials in groups.items():
        if arm == BASELINE:
            baselines.setdefault(apart_from_treatment(trials[0].parameters), trials)
    made = [
        _cell(
            sweep,
            sorted(trials, key=lambda trial: trial.seed),
            shared,
            # In everything but the method they agree; a baseline has none of its own.
            None if arm == BASELINE else baselines.get(apart_from_treatment(trials[0].parameters)),
        )
        for (arm, _), trials in groups.items()
    ]
    # Each baseline stands above the cells that are compared with it; else the plan's order holds.
    place: dict[str, int] = {}
    for cell in made:
        place.setdefault(apart_from_treatment(cell.parameters), len(place))
    made.sort(key=lambda cell: (place[apart_from_treatment(cell.parameters)], cell.arm != BASELINE))
    return tuple(made)


def _cell(
    sweep: SweepState, trials: Sequence[TrialState], shared: Mapping[str, Any], baseline: Sequence[TrialState] | None
) -> Cell:
    first = trials[0]
    finished = [trial for trial in trials if trial.state == "finished"]
    counts = {int(trial.row["num_test"]) for trial in finished}
    num_test = counts.pop() if len(counts) == 1 else None
    identity = {**shared, **_identity(finished[0] if finished else first)}
    if first.arm == BASELINE:
        identity["strategy"] = "none"
    elif "contrast.strategy" in first.parameters:
        identity["strategy"] = first.parameters["contrast.strategy"]
    elif first.parameters.get(METHOD_NAME, STDCL) != STDCL:
        identity["strategy"] = first.parameters[METHOD_NAME]
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
        paper=_paper(sweep, finished or trials, num_test if finished else shared.get("num_test")),
    )


def apart_from_treatment(parameters: Mapping[str, Any]) -> str:
    """Equal for cells that differ in the method alone."""
    return repr(sorted((key, value) for key, value in parameters.items() if not is_treatment(key)))


def _paper(sweep: SweepState, trials: Sequence[TrialState], num_test: int | None) -> PaperValue | None:
    """The paper's number for a cell; None also where its trials' configuration is not known."""
    if any(is_synthetic(each) for each in trials):
        return None
    config = next((found for each in trials if (found := sweep.config_of(each))), None)
    return None if config is None else paper_value(config, num_test, sweep.parameters)


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


def is_synthetic(trial: TrialState) -> bool:
    """Whether a trial's data are made up; where its result does not say, by its configuration."""
    said = trial.row.get("synthetic")
    return any(key.startswith("data.synthetic.") for key in trial.settings) if said is None else bool(said)


def _accuracy(trial: TrialState) -> float:
    return float(trial.row["accuracy"])

"""The table of a sweep as data: for each cell, its seeds' results beside the baseline and the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stdcl import specs
from stdcl.config.arms import BASELINE, references_of, setting, unique
from stdcl.config.confirms import ConfirmsConfig
from stdcl.config.model import METHOD_NAME, STDCL, is_baseline
from stdcl.config.space import ACCURACY
from stdcl.report.answers import SweepAnswers, read_sweep_answers
from stdcl.report.judgement import Arm, Asked, Judgement, accuracy_of, judge
from stdcl.report.load import SweepState, TrialState, load_sweep_state
from stdcl.report.measured import metrics_of
from stdcl.report.promised import is_promised
from stdcl.report.published import TEMPERATURES, PaperValue, is_elsewhere, paper_value
from stdcl.results.importance import Importance
from stdcl.statistics.margins import default_margin
from stdcl.statistics.proportion import Accuracy
from stdcl.statistics.repeats import PairedDifference, Summary, paired_difference, summarise

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
        arm: its name.
        reference: whether the other arms are compared with it.
        parameters: dotted key -> value, of what the sweep varies beside its arms.
        identity: dataset, protocol, evaluated_on, stream, encoder, strategy; what is unknown is left out.
        trials: one per seed, by seed.
        last: over the finished seeds, of the last epoch's accuracy; None where no seed has finished.
        best: the same of the best epoch's, chosen on the evaluated sequences themselves.
        num_test: number of evaluated sequences; None when unknown or not the same for all seeds.
        difference: to the reference of the same setting, by seed; None for the reference or without one.
        paper: the paper's number for this setting.
        stated: whether the sweep's file states its arms.
        metrics: name -> the same as ``last`` of each metric that was asked for.
        accuracy: over seeds and sequences, from the trials' scores; None where one has none.
        without_copies: the same over the sequences that are no copies of training sequences, with their number; None
            where there are no copies.
        asked: the question of the sweep's family that is about this cell, with its answer; None where there is none.
        promised: of a sweep that confirms a search, whether the search promised something of this very configuration;
            None where that is not known.
    """

    arm: str
    reference: bool
    parameters: Mapping[str, Any]
    identity: Mapping[str, Any]
    trials: tuple[TrialState, ...]
    last: Summary | None
    best: Summary | None
    num_test: int | None
    difference: PairedDifference | None
    paper: PaperValue | None
    stated: bool = False
    metrics: Mapping[str, Summary | None] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    without_copies: tuple[Accuracy, int] | None = None
    asked: Asked | None = None
    promised: bool | None = False

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")

    @property
    def plain(self) -> bool:
        """Whether it is of cross-entropy alone."""
        return is_plain(self.trials[0])


@dataclass(frozen=True)
class SweepTable:
    """A sweep's table, numbers only; ``wording`` turns it into strings and ``figures`` into a picture.

    Attributes:
        name, question, search, parameters: of the sweep.
        arms: those that the file states; empty where an arm is named by its method.
        reference: name of the arm that the others are compared with.
        cells: the rows of a grid, those of the reference first; empty for a search.
        trials: all trials.
        top: of a search, its finished trials with the highest accuracy first.
        judgement: the questions that it asks and their answers; None where it asks none.
        answers: which sequences the trials classify rightly.
        logarithmic: keys that a search draws by logarithm.
        importance: of a search's parameters.
        remarks: what went wrong with reading the sweep.
        metrics: names of those that it shows beside accuracy.
        confirms: the search whose best configurations it trains again; None if it is not that.
        objectives: of a search, what its trials are judged by.
    """

    name: str
    question: str
    search: Literal["grid", "optuna"]
    parameters: tuple[str, ...]
    arms: tuple[str, ...]
    reference: str
    cells: tuple[Cell, ...]
    trials: tuple[TrialState, ...]
    top: tuple[TrialState, ...]
    judgement: Judgement | None
    answers: SweepAnswers
    logarithmic: frozenset[str]
    importance: Importance | None
    remarks: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    confirms: ConfirmsConfig | None = None
    objectives: tuple[str, ...] = ()

    @property
    def finished(self) -> tuple[TrialState, ...]:
        """The trials with a result."""
        return tuple(trial for trial in self.trials if trial.state == "finished")


def sweep_table(directory: Path, metrics: Sequence[str] = ()) -> SweepTable:
    """Make the table of a sweep from its folder, whatever its state.

    Args:
        directory: ``<storage>/<sweep>``.
        metrics: names of metrics that it shows beside accuracy.

    Raises:
        UserError: it is not a sweep's folder, its plan or results cannot be read, or there is no such metric.
    """
    for name in metrics:
        specs.metric(name)
    table = build_table(load_sweep_state(directory))
    cells = tuple(replace(cell, metrics=metrics_of(cell.finished, metrics)) for cell in table.cells)
    return replace(table, cells=cells, metrics=tuple(metrics))


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
        arms=sweep.arms,
        reference=sweep.reference,
        cells=cells,
        trials=sweep.trials,
        top=tuple(top),
        judgement=judgement,
        answers=answers,
        logarithmic=sweep.logarithmic,
        importance=sweep.importance,
        remarks=(*sweep.remarks, *answers.remarks, *without_reference(sweep)),
        confirms=sweep.sweep.config.confirms if sweep.sweep is not None else None,
        objectives=_objectives(sweep),
    )


def _objectives(sweep: SweepState) -> tuple[str, ...]:
    if sweep.search != "optuna":
        return ()
    return tuple(sweep.sweep.config.search_settings.objectives) if sweep.sweep is not None else (ACCURACY,)


def _judgement(sweep: SweepState, cells: Sequence[Cell], answers: SweepAnswers) -> Judgement | None:
    references = references_of([(cell.arm, cell.parameters) for cell in cells], sweep.reference).of
    arms = [
        Arm(cell.arm, cell.parameters, cell.trials, other, stated=bool(sweep.arms))
        for cell, other in zip(cells, references, strict=True)
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
    by_cell = [sorted(trials, key=lambda trial: trial.seed) for trials in groups.values()]
    references = references_of([(trials[0].arm, trials[0].parameters) for trials in by_cell], sweep.reference).of
    made = [
        _cell(sweep, trials, shared, None if other is None else by_cell[other])
        for trials, other in zip(by_cell, references, strict=True)
    ]
    # Each reference is above the cells that are compared with it; else the plan's order holds.
    settings = [setting(cell.parameters) for cell in made]
    groups_of = [index if other is None else other for index, other in enumerate(references)]
    first = {each: index for index, each in reversed(list(enumerate(settings)))}
    reached = {each: index for index, each in reversed(list(enumerate(groups_of)))}
    compared = zip(settings, groups_of, strict=True)
    keys = [(first[one], reached[group], group != index) for index, (one, group) in enumerate(compared)]
    return tuple(made[index] for index in sorted(range(len(made)), key=keys.__getitem__))


def without_reference(sweep: SweepState) -> list[str]:
    """Which arms are compared with nothing because the reference that the file names is several cells."""
    cells = unique((trial.arm, dict(trial.parameters)) for trial in sweep.trials) if sweep.search == "grid" else []
    arms = dict.fromkeys(cells[index][0] for index in references_of(cells, sweep.reference).unclear)
    return [
        f"'{arm}' is compared with nothing: the reference '{sweep.reference}' has several cells that fit alike; name "
        "another reference, or compare them in a sweep with one"
        for arm in arms
    ]


def _cell(
    sweep: SweepState, trials: Sequence[TrialState], shared: Mapping[str, Any], reference: Sequence[TrialState] | None
) -> Cell:
    first = trials[0]
    finished = [trial for trial in trials if trial.state == "finished"]
    counts = {int(trial.row["num_test"]) for trial in finished}
    num_test = counts.pop() if len(counts) == 1 else None
    identity = {**shared, **_identity(finished[0] if finished else first)}
    given = {**first.stated, **first.parameters}
    if is_plain(first):
        identity["strategy"] = "none"
    elif "contrast.strategy" in given:
        identity["strategy"] = given["contrast.strategy"]
    elif given.get(METHOD_NAME, STDCL) != STDCL:
        identity["strategy"] = given[METHOD_NAME]
    by_seed = {trial.seed: _accuracy(trial) for trial in finished}
    difference = None
    if reference is not None:
        others = {trial.seed: _accuracy(trial) for trial in reference if trial.state == "finished"}
        difference = paired_difference(by_seed, others)
    return Cell(
        arm=first.arm,
        reference=first.arm == sweep.reference,
        parameters=first.parameters,
        identity=identity,
        trials=tuple(trials),
        last=summarise(list(by_seed.values()), num_test),
        best=summarise([trial.row["best_accuracy"] for trial in finished if "best_accuracy" in trial.row], num_test),
        num_test=num_test,
        difference=difference,
        paper=_paper(sweep, finished or trials, num_test if finished else shared.get("num_test")),
        stated=bool(sweep.arms),
        promised=is_promised(sweep.sweep, first.arm, first.parameters),
    )


def is_plain(trial: TrialState) -> bool:
    """Whether a trial is of cross-entropy alone."""
    said = trial.row.get("strategy")
    if said is not None:
        return bool(said == "none")
    return is_baseline({**trial.stated, **trial.parameters}) or (not trial.stated and trial.arm == BASELINE)


def _paper(sweep: SweepState, trials: Sequence[TrialState], num_test: int | None) -> PaperValue | None:
    """The paper's number for a cell; None also where its trials' configuration is not known."""
    # What can be told without a configuration: to resolve it takes most of a large table's time.
    known = _identity(trials[0])
    if {"dataset", "protocol"} <= known.keys() and is_elsewhere(known["dataset"], known["protocol"], num_test):
        return None
    if any(is_synthetic(each) for each in trials) or _is_of_no_table(trials[0]):
        return None
    config = next((found for each in trials if (found := sweep.config_of(each))), None)
    return None if config is None else paper_value(config, num_test, sweep.parameters)


def _is_of_no_table(trial: TrialState) -> bool:
    """Whether STD-CL ran with a temperature that the paper has no number for."""
    given = {**trial.stated, **trial.parameters}
    temperature = given.get("contrast.temperature", TEMPERATURES[0])
    return given.get(METHOD_NAME, STDCL) == STDCL and not is_plain(trial) and temperature not in TEMPERATURES


def _identity(trial: TrialState) -> dict[str, Any]:
    found = {name: trial.fact(name, key) for name, key in _IDENTITY.items()}
    return {name: value for name, value in found.items() if value is not None}


def _shared_identity(trials: Sequence[TrialState]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in _IDENTITY:
        # Of the contrast, what the others share; cross-entropy alone has none.
        alike = [trial for trial in trials if name != "strategy" or not is_plain(trial)]
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

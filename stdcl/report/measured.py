"""Metrics of a sweep's trials: as its results have them, else from the trials' scores."""

from __future__ import annotations

from collections.abc import Sequence

from stdcl.errors import UserError
from stdcl.report.load import TrialState
from stdcl.results.layout import RunFolder
from stdcl.results.measures import METRIC_PREFIX, measure
from stdcl.results.scores import read_scores
from stdcl.statistics.repeats import Summary, summarise


def metric_of(trial: TrialState, name: str) -> float | None:
    """Return a finished trial's metric; None where it is not recorded and there are no scores to compute it from."""
    recorded = trial.row.get("more", {}).get(METRIC_PREFIX + name)
    if recorded is not None:
        return float(recorded)
    try:
        scores = read_scores(RunFolder(trial.folder).scores())
    except UserError:
        return None
    if trial.row.get("data_hash") not in (None, "", scores.data_hash):
        return None
    return measure(scores.logits, scores.labels, [name])[METRIC_PREFIX + name]


def metrics_of(trials: Sequence[TrialState], names: Sequence[str]) -> dict[str, Summary | None]:
    """Return each metric over a cell's finished seeds; None where no seed has it."""
    found = {name: [metric_of(trial, name) for trial in trials] for name in names}
    return {name: summarise([each for each in values if each is not None]) for name, values in found.items()}

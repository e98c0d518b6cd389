"""What difference a sweep's seeds could show, said before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stdcl.config.arms import references_of, unique
from stdcl.config.sweep import Sweep
from stdcl.errors import UserError
from stdcl.report.judgement import Arm, questions_of
from stdcl.report.published import benchmark_test_sequences
from stdcl.statistics.components import default_components
from stdcl.statistics.margins import Margin, default_margin
from stdcl.statistics.power import Plan, Study, plan

SUBJECTS: Mapping[tuple[str, str], int] = MappingProxyType(
    {
        ("nw-ucla", "cross-view"): 10,
        ("ntu60", "x-sub"): 20,
        ("ntu60", "x-view"): 40,
        ("ntu120", "x-sub"): 53,
        ("ntu120", "x-set"): 106,
    }
)
"""People in the test part of each protocol, by the papers of the data sets; equal shares are assumed."""


def what_seeds_can_show(sweep: Sweep, parts: Mapping[tuple[str, str], Sequence[int] | int | None] | None = None) -> str:
    """Say what difference the seeds of a grid could show.

    Args:
        sweep: its file.
        parts: test sequences by dataset and protocol where the prepared data differ from the benchmark's, or are of no
            benchmark: those of each person, or one number without people; None: not prepared yet.

    Raises:
        UserError: it is a search.
    """
    config = sweep.config
    trials = sweep.trials()
    if config.search != "grid" or not trials:
        raise UserError(
            f"{sweep.where}: a search proves nothing; plan the sweep that confirms its best (stdcl confirm)"
        )
    cells = unique((trial.arm, trial.parameters) for trial in trials)
    references = references_of(cells, sweep.reference).of
    arms = [Arm(*cell, (), other, bool(sweep.arms)) for cell, other in zip(cells, references, strict=True)]
    asked = questions_of(arms, config, sweep.parameters)
    if not asked:
        way = "baseline: true, arms or compare would ask"
        return f"{config.name} compares nothing: its seeds show no difference ({way}): {config.question}"
    lines = [f"{config.name}: {len(asked)} question(s), {len(config.seeds)} seed(s): {config.question}"]
    for dataset, protocol in dict.fromkeys((t.config.data.dataset, t.config.data.protocol) for t in trials):
        where = dataset, str(protocol)
        test = parts[where] if parts is not None and where in parts else _published(*where)
        if test is None:
            lines.append(f"{dataset} {protocol}: how many test sequences there are is not known before it is prepared")
        else:
            lines += _of_data(sweep, *where, test, len(asked))
    return "\n".join(lines)


def _published(dataset: str, protocol: str) -> tuple[int, ...] | int | None:
    """Return the test sequences of each person of a benchmark, or of all where the people are not known."""
    sequences, people = benchmark_test_sequences(dataset, protocol), SUBJECTS.get((dataset, protocol))
    if sequences is None or people is None:
        return sequences
    share, rest = divmod(sequences, people)
    return tuple(share + (index < rest) for index in range(people))


def _of_data(sweep: Sweep, dataset: str, protocol: str, test: Sequence[int] | int, questions: int) -> list[str]:
    clusters = None if isinstance(test, int) else tuple(test)
    sequences = test if isinstance(test, int) else sum(test)
    people = None if clusters is None else len(clusters)
    assumed = default_components(dataset)
    study = Study(assumed.components, sequences, clusters)
    found = plan(study, len(sweep.config.seeds), questions)
    margin = default_margin(dataset)
    if sweep.config.margin is not None:
        margin = Margin(sweep.config.margin / 100.0, "named by the sweep's file")
    needed = study.seeds_needed(margin.size, found.alpha / questions, found.power)
    enough = "no number of seeds shows it" if math.isinf(needed) else f"{needed:.0f} seeds show it"
    return [
        f"{dataset} {protocol}: {sequences:,} test sequences{f' of {people} people' if people else ''}",
        *_said(found),
        f"  a difference of the margin, {_points(margin.size)} ({margin.reason}): {enough}",
        f"  variances {assumed.reason}",
    ]


def _said(found: Plan) -> list[str]:
    others = ", ".join(f"{seeds}: {100 * size:.1f}" for seeds, size in found.by_seeds)
    again = "" if found.trained_again else "; one seed says nothing of training again"
    return [
        f"  {found.seeds} seed(s) show a true difference of {_points(found.smallest)} with a chance of "
        f"{100 * found.power:.0f} %, false claims in at most {100 * found.alpha:g} % of such tables{again}",
        f"  by seeds, in points: {others}; with any number of seeds {100 * found.limit:.1f}; one sequence is "
        f"{100 * found.one_sequence:.3g}",
    ]


def _points(fraction: float) -> str:
    number = f"{100 * fraction:.2g}"
    return f"{number} point{'' if number == '1' else 's'}"

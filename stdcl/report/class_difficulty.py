"""Classes by difficulty (paper, Table 4d): hard, medium and easy ones, without and with contrast.

No answer takes part in choosing the group that it is counted in (``stdcl/statistics/difficulty.py``): grouped by the
runs that are compared, hard classes gain and easy ones lose without any effect. The paper's own grouping, each model by
its own accuracies, is shown beside the paper's own numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stdcl.errors import UserError
from stdcl.report.display import BREAK, Display
from stdcl.report.labels import NOTHING, differences_text
from stdcl.report.published import level_value
from stdcl.results.fusion import arm_keys, check_same_sequences
from stdcl.results.scores import Scores, per_class_accuracy
from stdcl.statistics.difference import Interval
from stdcl.statistics.difficulty import BOUNDS, NAMES, LevelDifference, by_difficulty, level_of

_COLUMNS = ("level", "classes", "baseline", f"with{BREAK}contrast", "difference")


def difficulty(baseline: Sequence[Scores], contrast: Sequence[Scores]) -> Display:
    """Compare two arms on hard, medium and easy classes, over the seeds that both have.

    Args:
        baseline: the runs without contrast, one per seed.
        contrast: the runs with it.

    Raises:
        UserError: the runs are of different sequences, encoders or streams, an arm mixes configurations or has a seed
            twice, or the arms have no seed in common.
    """
    if not baseline or not contrast:
        raise UserError("classes by difficulty: at least one run of each arm is needed")
    runs = [*baseline, *contrast]
    check_same_sequences(runs)
    for fact in ("encoder", "stream"):
        found = sorted({str(getattr(run, fact)) for run in runs})
        if len(found) > 1:
            raise UserError(f"classes by difficulty: runs of one {fact} are compared; these are of {', '.join(found)}")
    for name, arm in (("baseline", baseline), ("contrast", contrast)):
        _check_one_arm(name, arm)
    first, second, pairing = _paired(baseline, contrast)
    order = np.argsort(runs[0].ids, kind="stable")
    answers = [np.stack([run.correct[np.argsort(run.ids, kind="stable")] for run in arm]) for arm in (first, second)]
    subjects = None if runs[0].subjects is None else runs[0].subjects[order]
    levels = by_difficulty(answers[0], answers[1], runs[0].labels[order], subjects)
    published = _published(first, second)
    return Display(
        title="classes by difficulty",
        lines=(_what(runs[0]),),
        columns=_COLUMNS if not published else (*_COLUMNS, "paper"),
        left=(True, *[False] * (len(_COLUMNS) - 1 + bool(published))),
        rows=(*(_row(each, bool(published)) for each in levels), *published),
        notes=tuple(_notes(first, second, pairing, levels, bool(published))),
    )


def _what(run: Scores) -> str:
    return (
        f"{run.dataset}, {run.protocol}, {run.evaluated_on} ({len(run.ids):,} sequences), {run.encoder}, {run.stream}"
    )


def _check_one_arm(name: str, runs: Sequence[Scores]) -> None:
    """Refuse an arm of different configurations: seeds alone may differ."""
    known = [run for run in runs if run.settings]
    for run in known[1:]:
        one, other = ({**each.settings, "training.seed": None} for each in (known[0], run))
        keys = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
        if keys:
            listed = ", ".join(f"{key} {one.get(key)} and {other.get(key)}" for key in keys)
            raise UserError(
                f"classes by difficulty: --{name} is one arm, but {known[0].run} and {run.run} differ in more than the "
                f"seed: {listed}"
            )
    if name == "contrast" and any(arm_keys(run) == {"contrast.strategy": "none"} for run in runs):
        raise UserError("classes by difficulty: a run of --contrast was trained without contrast")


def _paired(baseline: Sequence[Scores], contrast: Sequence[Scores]) -> tuple[Sequence[Scores], Sequence[Scores], str]:
    """Both arms in the order of their common seeds, and how they were paired."""
    if any(run.seed is None for run in (*baseline, *contrast)):
        if len(baseline) != len(contrast):
            raise UserError(
                "classes by difficulty: which seed is whose is not known (scores of an earlier version), and the arms "
                f"have {len(baseline)} and {len(contrast)} runs; evaluate the runs again (stdcl evaluate)"
            )
        return baseline, contrast, "runs are paired in their order: their files do not say the seed"
    by_seed = []
    for name, arm in (("baseline", baseline), ("contrast", contrast)):
        seeds = {run.seed: run for run in arm}
        if len(seeds) < len(arm):
            raise UserError(f"classes by difficulty: --{name} has a seed twice; give one run per seed")
        by_seed.append(seeds)
    common = sorted(seed for seed in by_seed[0].keys() & by_seed[1].keys() if seed is not None)
    if not common:
        raise UserError("classes by difficulty: the arms have no seed in common; runs are compared seed by seed")
    left = sorted({seed for arm in by_seed for seed in arm if seed is not None} - set(common))
    said = f"seeds {', '.join(map(str, common))}"
    if left:
        said += f"; not in both arms and left out: {', '.join(map(str, left))}"
    return [by_seed[0][seed] for seed in common], [by_seed[1][seed] for seed in common], said


def _row(level: LevelDifference, with_paper: bool) -> tuple[str, ...]:
    count = f"{level.classes:.1f}".removesuffix(".0")
    cells = [level.name, count, _percent(level.baseline), _percent(level.arm), _difference(level)]
    return tuple([*cells, NOTHING] if with_paper else cells)


def _percent(share: float | None) -> str:
    return "no class" if share is None else f"{100 * share:.2f}"


def _difference(level: LevelDifference) -> str:
    if level.difference is None:
        return NOTHING
    text = f"{100 * level.difference:+.2f}"
    if level.interval is not None:
        text += f"{BREAK}[{100 * level.interval.low:+.2f}, {100 * level.interval.high:+.2f}]"
    return text


def _published(baseline: Sequence[Scores], contrast: Sequence[Scores]) -> list[tuple[str, ...]]:
    """The paper's grouping with the paper's numbers; empty where it has none for this setting."""
    arms = (baseline[0], contrast[0])
    values = {name: [level_value(run.settings, len(run.ids), name) for run in arms] for name in NAMES}
    if not any(value for each in values.values() for value in each):
        return []
    means = [np.mean([per_class_accuracy(run) for run in arm], axis=0) for arm in (baseline, contrast)]
    own = [level_of(mean) for mean in means]
    rows = []
    for index, name in enumerate(NAMES):
        members = [group == index for group in own]
        scores = [float(mean[m].mean()) if m.any() else None for mean, m in zip(means, members, strict=True)]
        paper = " / ".join(NOTHING if value is None else f"{value.accuracy:g}" for value in values[name])
        counts = " / ".join(str(int(m.sum())) for m in members)
        rows.append((f"{name}, as{BREAK}in the paper", counts, *map(_percent, scores), NOTHING, paper))
    return rows


def _notes(
    baseline: Sequence[Scores],
    contrast: Sequence[Scores],
    pairing: str,
    levels: Sequence[LevelDifference],
    published: bool,
) -> list[str]:
    low, high = (round(100 * bound) for bound in BOUNDS)
    chosen = "from the other seeds" if len(baseline) > 1 else "from the other half of its class's sequences"
    out = [
        f"hard: below {low} %, medium: {low} to {high} %, easy: above {high} % of a class's sequences right",
        "numbers are means of class accuracies in percent; both arms together choose the level of a class, for each "
        f"answer {chosen}, so that luck does not pass for a gain; classes: their mean number",
        pairing,
    ]
    interval: Interval | None = next((each.interval for each in levels if each.interval is not None), None)
    if interval is not None:
        out.append(f"difference in points, with its {100 * interval.level:.0f} % interval for {interval.covers}")
    if published:
        out.append(
            "as in the paper: each arm's classes grouped by its own accuracies; classes move between rows, hard ones "
            "gain by that alone, and no difference is taken"
        )
        for name, run in (("baseline", baseline[0]), ("with contrast", contrast[0])):
            differing: Mapping[str, tuple[object, object]] = next(
                (value.differences for level in NAMES if (value := level_value(run.settings, len(run.ids), level))), {}
            )
            if differing:
                listed = differences_text(differing)
                out.append(f"{name}: not the paper's setting; in brackets the published recipe's: {listed}")
    empty = int(np.isnan(per_class_accuracy(baseline[0])).sum())
    if empty:
        out.append(f"{empty} class(es) without sequences are left out")
    return out

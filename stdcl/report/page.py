"""A sweep's report as one HTML page: self-contained, so that it opens from a file without a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stdcl.atomic import write_text
from stdcl.errors import UserError
from stdcl.report import svg
from stdcl.report.display import BREAK, one_line
from stdcl.report.judgement import Asked
from stdcl.report.labels import NOTHING, short_names, trial_number, value_text
from stdcl.report.load import TrialState
from stdcl.report.page_comparison import cell_views
from stdcl.report.paper import PaperTable
from stdcl.report.paper_wording import paper_display
from stdcl.report.projection import Method
from stdcl.report.provenance import Provenance, cell_name, provenance
from stdcl.report.searching import importance_basis, importances, parallel
from stdcl.report.table import SweepTable
from stdcl.report.wording import display
from stdcl.results.history import read_history
from stdcl.results.layout import RunFolder
from stdcl.results.row import EpochRow
from stdcl.results.state import UNFINISHED
from stdcl.statistics.proportion import binomial_interval
from stdcl.statistics.sequential import Stage
from stdcl.statistics.verdict import Verdict, Word

PAGE = "report.html"
_KINDS = {Word.BETTER: "better", Word.WORSE: "worse", Word.NO_DIFFERENCE: "same", Word.UNDECIDED: "undecided"}
"""Classes of the style sheet."""


@dataclass(frozen=True)
class Answer:
    """A question and its answer: ``kind`` is the class of its badge."""

    question: str
    word: str
    kind: str
    sentence: str


@dataclass(frozen=True)
class TrialView:
    """A trial as the page shows it."""

    anchor: str
    name: str
    cell: str
    series: int
    state: str
    seed: int
    accuracy: str
    epochs: str
    duration: str
    memory: str
    error: str
    curves: Markup
    last: tuple[tuple[str, str], ...]
    from_reference: tuple[tuple[str, str, str], ...]
    reference: str
    from_published: tuple[tuple[str, str, str], ...] | None
    provenance: Provenance
    command: str


@dataclass(frozen=True)
class PaperCell:
    """A cell of the paper's table: its lines, the class of its verdict, and its runs as (anchor, name).

    Runs of other sweeps have no anchor here.
    """

    lines: tuple[str, ...]
    kind: str
    runs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PaperView:
    """The paper's table as the page shows it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[PaperCell, ...]], ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]


def write_page(
    table: SweepTable,
    directory: Path,
    path: Path,
    paper: PaperTable | None = None,
    projection: Method = "pca",
    classes: Sequence[str] = (),
) -> list[str]:
    """Write a sweep's page, atomically; the same inputs give the same bytes. Arguments as of ``render``.

    Returns:
        What the page has to leave out because files are damaged or do not fit.
    """
    faults: list[str] = []
    write_text(path, render(table, directory, paper, projection=projection, classes=classes, faults=faults))
    return faults


def render(
    table: SweepTable,
    directory: Path,
    paper: PaperTable | None = None,
    refresh: int | None = None,
    projection: Method = "pca",
    classes: Sequence[str] = (),
    faults: list[str] | None = None,
) -> str:
    """Return a sweep's page.

    Args:
        table: of the sweep.
        directory: the sweep's folder.
        paper: the table of the paper that the sweep fills, alone or with others; None where its file names none.
        refresh: seconds after which a browser asks for it again; None for a page that stays as it is.
        projection, classes: of the maps of features, as in ``projection.feature_pair``.
        faults: is told what is left out because files are damaged or do not fit; the page says it, too.

    Raises:
        UserError: as ``projection.feature_pair``.
    """
    shown = display(table)
    names, series = _series(table)
    trials = _trials(table, directory, names, series)
    anchors = {trial.name: trial.anchor for trial in trials}
    compared, left_out = cell_views(table, projection, classes)
    unfit = [cell.fault for cell in compared if cell.fault]
    if faults is not None:
        faults += unfit
    template = _environment().get_template("report.html")
    return template.render(
        title=table.name,
        refresh=refresh,
        question=table.question,
        verdict=verdict_sentence(table),
        answers=_answers(table),
        facts=shown.lines[1:] if table.question else shown.lines,
        columns=[one_line(column) for column in shown.columns],
        left=shown.left,
        leading=shown.leading,
        rows=[
            (f"row-{index}", [cell.split(BREAK) for cell in row], _runs_of(table, index, anchors))
            for index, row in enumerate(shown.rows)
        ],
        notes=[note for note in shown.notes if not note.startswith("!")],
        remarks=[note.removeprefix("! ") for note in shown.notes if note.startswith("!")],
        differences=_differences(table, names),
        accuracies=_accuracies(table, names),
        learning=_learning(table, names, series),
        importance=_importance(table),
        importance_basis=importance_basis(table),
        parallel=_parallel(table),
        paper=_paper_view(paper, table, anchors),
        compared=compared,
        left_out=left_out,
        arms=list(enumerate(names)),
        trials=trials,
        states=Counter(trial.state for trial in table.trials),
        missing=[*_missing(table), *unfit],
        nothing=NOTHING,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("stdcl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _series(table: SweepTable) -> tuple[list[str], dict[str, int]]:
    """What figures are filtered by, and its number for each trial: cells, or what became of a search's trials."""
    if table.search == "grid":
        names = [cell_name(cell, table.parameters) for cell in table.cells]
        return names, {trial.key: index for index, cell in enumerate(table.cells) for trial in cell.trials}
    known = [trial for trial in table.trials if trial.state in ("finished", "pruned")]
    return ["finished", "stopped early"], {trial.key: int(trial.state == "pruned") for trial in known}


def verdict_sentence(table: SweepTable) -> str:
    """What came out, in one sentence."""
    judgement = table.judgement
    if table.search == "optuna":
        if not table.top:
            return "No trial is finished."
        best = table.top[0]
        values = ", ".join(
            f"{n} {value_text(best.parameters.get(k))}" for k, n in short_names(table.parameters).items()
        )
        pruned = sum(trial.state == "pruned" for trial in table.trials)
        stopped = f" ({pruned} more were stopped early)" if pruned else ""
        return (
            f"The best of {len(table.finished)} finished trials{stopped} has "
            f"{100 * float(best.row['accuracy']):.2f} % ({values}). {_rivals(table)}It was picked by its result, so "
            f"confirm it with several seeds, on the test sequences: `stdcl confirm {table.name}`."
        )
    found = [(asked, asked.verdict) for asked in judgement.asked if asked.verdict] if judgement is not None else []
    if not table.finished:
        return "No trial is finished: nothing can be said yet."
    if not found:
        if judgement is None:
            return "Nothing is compared: the sweep asks no question and has no baseline."
        return "No verdict: no seed is finished, with its scores, in both cells of a comparison."
    counts = Counter(verdict.word for _, verdict in found)
    if len(found) == 1:
        asked, verdict = found[0]
        return f"{asked.question.name}: {_plainly(verdict)}."
    listed = {
        Word.BETTER: "better",
        Word.WORSE: "worse",
        Word.NO_DIFFERENCE: "no different by more than the margin",
        Word.UNDECIDED: "undecided",
    }
    said = ", ".join(f"{counts[word]} {text}" for word, text in listed.items() if counts[word])
    if any(verdict.stage is Stage.INCOMPLETE for _, verdict in found):
        said += " (trials are missing: nothing is decided before all planned seeds are in)"
    without = len(judgement.asked) - len(found) if judgement is not None else 0
    said += f", {without} without an answer yet" if without else ""
    decided = [each for each in found if each[1].word in (Word.BETTER, Word.WORSE)]
    asked, verdict = max(decided or found, key=lambda each: abs(each[1].difference.estimate))
    largest = f"The largest {'shown ' if decided else ''}difference: {asked.question.name}, {_plainly(verdict)}."
    return f"Of {len(found) + without} comparisons: {said}. {largest}"


def _rivals(table: SweepTable) -> str:
    """How many trials cannot be told from a search's best, by the size of its sample of sequences alone."""
    best = table.top[0]
    total = int(best.row["num_test"])
    low, _ = binomial_interval(float(best.row["accuracy"]) * total, total)
    rivals = sum(float(trial.row["accuracy"]) >= low for trial in table.finished) - 1
    if not rivals:
        return ""
    return (
        f"{rivals} of the other {len(table.finished) - 1} may be as good: on {total} sequences its accuracy is only "
        f"known to be {100 * low:.1f} % or more. "
    )


def _plainly(verdict: Verdict) -> str:
    """A verdict for those who do not read statistics."""
    d = verdict.difference
    size = (
        f"{100 * d.estimate:+.2f} points, between {100 * d.interval.low:+.2f} and {100 * d.interval.high:+.2f} (95 %)"
    )
    how = f"{d.seeds} seed{'s' * (d.seeds != 1)}"
    if d.subjects:
        how += f" and {d.subjects} people"
    early = " so far" if verdict.stage is Stage.INCOMPLETE else ""
    early += f" ({verdict.not_enough})" if verdict.not_enough else ""
    return f"{verdict.word}{early}: {size}, over {how}"


def _answers(table: SweepTable) -> list[Answer]:
    return [_answer(asked) for asked in table.judgement.asked] if table.judgement is not None else []


def _answer(asked: Asked) -> Answer:
    verdict = asked.verdict
    if verdict is None:
        return Answer(
            asked.question.name, "no answer", "none", "no seed is finished, with its scores, in all its cells"
        )
    return Answer(asked.question.name, str(verdict.word), _KINDS[verdict.word], verdict.sentence)


def _runs_of(table: SweepTable, row: int, anchors: Mapping[str, str]) -> list[tuple[str, str]]:
    if table.search == "optuna":
        return [(anchors[trial.key], f"trial {trial_number(trial.key)}") for trial in table.top[row : row + 1]]
    trials = table.cells[row].trials if row < len(table.cells) else ()
    return [(anchors[trial.key], f"seed {trial.seed}") for trial in trials if trial.key in anchors]


def _paper_view(paper: PaperTable | None, table: SweepTable, anchors: Mapping[str, str]) -> PaperView | None:
    if paper is None:
        return None
    shown = paper_display(paper)
    rows = []
    for row, (name, *texts) in zip(paper.rows, shown.rows[: len(paper.rows)], strict=True):
        entries = [paper.entry(row, column) for column in paper.columns]
        cells = tuple(
            PaperCell(
                lines=tuple(text.split(BREAK)),
                kind=_KINDS[entry.verdict.word] if entry.verdict is not None else "",
                runs=tuple(_run_of(trial, table.name, anchors) for trial in entry.trials),
            )
            for text, entry in zip(texts, entries, strict=True)
        )
        rows.append((name, any(entry.planned for entry in entries), cells))
    trends = [
        (name, True, tuple(PaperCell(tuple(text.split(BREAK)), "", ()) for text in texts))
        for name, *texts in shown.rows[len(paper.rows) :]
    ]
    # What was run stands first: a reader of the page looks for it.
    rows.sort(key=lambda each: not each[1])
    return PaperView(
        title=shown.title,
        columns=tuple(one_line(column) for column in shown.columns),
        rows=(*trends, *rows),
        notes=tuple(note for note in shown.notes if not note.startswith("!")),
        remarks=tuple(note.removeprefix("! ") for note in shown.notes if note.startswith("!")),
    )


def _run_of(trial: str, sweep: str, anchors: Mapping[str, str]) -> tuple[str, str]:
    where, _, key = trial.partition("/")
    return (anchors.get(key, ""), key) if where == sweep else ("", trial)


def _importance(table: SweepTable) -> Markup | None:
    shares = importances(table)
    rows = [svg.Interval(each.label, each.share, each.low, each.high, (), f"{each.share:.0f} %", 0) for each in shares]
    title = "importance of each searched parameter, in percent of the whole"
    return svg.intervals(title, rows, "share of the importance, %", level=90) if rows else None


def _parallel(table: SweepTable) -> Markup | None:
    found = parallel(table) if table.search == "optuna" else None
    return None if found is None else svg.parallel("all trials across the searched parameters", found)


def _differences(table: SweepTable, names: Sequence[str]) -> Markup | None:
    """Each comparison with its interval: the main picture."""
    rows = []
    for asked in table.judgement.asked if table.judgement is not None else ():
        verdict = asked.verdict
        if verdict is None:
            continue
        d = verdict.difference
        points = tuple((f"pair of seeds {n}", 100 * value) for n, value in enumerate(d.per_seed, 1))
        # A trend is of no single cell: it has a colour of its own, and no filter hides it.
        label, series = (names[asked.arm], asked.arm) if asked.arm is not None else (asked.question.name, len(names))
        low, high = 100 * d.interval.low, 100 * d.interval.high
        word = "≤ margin" if verdict.word is Word.NO_DIFFERENCE else str(verdict.word)
        rows.append(svg.Interval(label, 100 * d.estimate, low, high, points, word, series))
    if not rows or table.judgement is None:
        return None
    title = "difference of each cell to what it is compared with, in points, with its 95 % interval; dots are seeds"
    return svg.intervals(title, rows, "difference in points", zero=True, margin=100 * table.judgement.margin.size)


def _accuracies(table: SweepTable, names: Sequence[str]) -> Markup | None:
    rows = []
    for index, cell in enumerate(table.cells):
        points = tuple((f"seed {t.seed}", 100 * float(t.row["accuracy"])) for t in cell.finished)
        interval = cell.accuracy.interval if cell.accuracy is not None else None
        note = f"{len(cell.finished)} of {len(cell.trials)}" if cell.finished else "nothing finished"
        rows.append(
            svg.Interval(
                names[index],
                None if cell.last is None else 100 * cell.last.mean,
                None if interval is None else 100 * interval.low,
                None if interval is None else 100 * interval.high,
                points,
                note,
                index,
            )
        )
    if not any(row.value is not None for row in rows):
        return None
    return svg.intervals("accuracy of each cell in percent; dots are seeds", rows, "accuracy after the last epoch, %")


def _learning(table: SweepTable, names: Sequence[str], series: Mapping[str, int]) -> Markup | None:
    lines = []
    for trial in table.trials:
        values = _values(_history(trial), "accuracy", 100.0)
        if values and trial.key in series:
            number = series[trial.key]
            label = f"{names[number]}, seed {trial.seed}" if table.search == "grid" else _searched(trial, table)
            lines.append(svg.Curve(label, svg.thinned(values), number))
    found = svg.curves("accuracy against epochs, one line per trial", lines, "accuracy, %")
    return found or None


def _searched(trial: TrialState, table: SweepTable) -> str:
    """A search's trial by its number and values."""
    names = short_names(table.parameters)
    values = ", ".join(f"{name} {value_text(trial.parameters.get(key))}" for key, name in names.items())
    return f"trial {trial_number(trial.key)}: {values}"


def _history(trial: TrialState) -> list[EpochRow]:
    try:
        return read_history(RunFolder(trial.folder).history)
    except UserError:  # ``_missing`` names it
        return []


def _values(rows: Sequence[EpochRow], name: str, factor: float = 1.0) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for row in rows:
        value = row.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            found.append((float(row["epoch"]), factor * float(value)))
    return found


def _trials(table: SweepTable, directory: Path, names: Sequence[str], series: Mapping[str, int]) -> list[TrialView]:
    sources = provenance(table, directory)
    out = []
    for number, trial in enumerate(table.trials, 1):
        rows, source = _history(trial), sources[trial.key]
        own = series.get(trial.key, 0)
        lines = [
            svg.Curve("training accuracy, %", svg.thinned(_values(rows, "train_accuracy", 100.0), 60), 7),
            svg.Curve("accuracy, %", svg.thinned(_values(rows, "accuracy", 100.0), 60), own),
        ]
        loss = [svg.Curve("loss", svg.thinned(_values(rows, "loss"), 60), own)]
        curves = svg.sparkline("accuracy over epochs", lines) + svg.sparkline("loss over epochs", loss)
        published = source.from_published
        out.append(
            TrialView(
                anchor=f"trial-{number}",
                name=trial.key,
                cell=(names[own] if table.search == "grid" else _searched(trial, table)) if trial.key in series else "",
                series=own,
                state=trial.state,
                seed=trial.seed,
                accuracy=f"{100 * float(trial.row['accuracy']):.2f}" if "accuracy" in trial.row else NOTHING,
                epochs=str(trial.epochs_done),
                duration=_duration(trial.row.get("total_seconds")),
                memory=f"{float(trial.row['peak_memory_mib']):,.0f} MiB" if "peak_memory_mib" in trial.row else NOTHING,
                error=str(trial.row.get("error") or ""),
                curves=curves,
                last=_last(rows),
                from_reference=_pairs(source.from_reference),
                reference=source.reference,
                from_published=None if published is None else _pairs(published),
                provenance=source,
                command=str(trial.row.get("command") or ""),
            )
        )
    return out


def _pairs(differing: Mapping[str, tuple[Any, Any]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((key, value_text(ours), value_text(theirs)) for key, (ours, theirs) in differing.items())


def _last(rows: Sequence[EpochRow]) -> tuple[tuple[str, str], ...]:
    """The numbers of the last epoch."""
    if not rows:
        return ()
    return tuple((name, value_text(value)) for name, value in rows[-1].items() if isinstance(value, int | float))


def _duration(seconds: Any) -> str:
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(round(float(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _missing(table: SweepTable) -> list[str]:
    """What would have to be run or written for the page to be complete; failed trials are among the remarks."""
    out = []
    for state in ("not started", *UNFINISHED):
        keys = [trial.key for trial in table.trials if trial.state == state]
        if keys:
            out.append(f"{len(keys)} {state}: {', '.join(keys[:10])}{' and more' if len(keys) > 10 else ''}")
    for trial in table.trials:
        try:
            read_history(RunFolder(trial.folder).history)
        except UserError as error:
            out.append(f"curves left out: {error}")
    if table.answers.missing:
        keys = list(table.answers.missing)
        more = " and more" if len(keys) > 10 else ""
        out.append(
            f"{len(keys)} without scores per sequence (stdcl evaluate writes them): {', '.join(keys[:10])}{more}"
        )
    return out

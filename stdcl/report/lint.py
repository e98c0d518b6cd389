"""What a referee would say of a table of accuracies: rules on its numbers alone.

Reads the columns of the shipped ``reported_results.csv``, of ``table_<name>.csv`` (``stdcl report``; the paper's
numbers and ours are looked at apart), of a sweep's ``table.csv``, and numbers typed from a paper with its own words for
datasets, settings and streams.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stdcl.errors import UserError
from stdcl.report.published import benchmark_test_sequences, reported_results

ACCURACY = "top1_acc_percent"
_EQUAL_CELLS = 4
"""So many equal cells of two methods are no coincidence: one in ten values of a table agrees by chance."""
_PROPOSED = re.compile(r"std-cl|\bours\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A cell of a table.

    Attributes:
        line: in the file, from 1.
        source: which table; cells are compared within one, and re-runs across all.
        method, encoder, arm, dataset, protocol, stream, parameter: as in the shipped numbers.
        text: the number as printed; empty for an empty cell.
        metric: what it is.
        note: what the file says of it.
        sequences: test sequences; None where they are not known.
    """

    line: int
    source: str
    method: str
    encoder: str
    arm: str
    dataset: str
    protocol: str
    stream: str
    parameter: str
    text: str
    metric: str
    note: str
    sequences: int | None

    @property
    def value(self) -> float | None:
        """The number; None for an empty cell."""
        return float(self.text) if self.text else None

    @property
    def column(self) -> tuple[str, str, str, str]:
        """What it is measured on."""
        return self.dataset, self.protocol, self.stream, self.metric

    @property
    def where(self) -> str:
        """For messages."""
        return " ".join(filter(None, (self.method, self.dataset, self.protocol, self.stream)))

    @property
    def plain(self) -> str:
        """The method without what was added to it or said of it: ``CTR-GCN w/STD-CL``, ``CTR-GCN (re-run)``."""
        return re.sub(r"\s*(w/.*|\(.*)$", "", self.method).strip()

    @property
    def proposed(self) -> bool:
        """Whether it is of the method that the table argues for."""
        return self.arm == "std-cl" or (not self.arm and bool(_PROPOSED.search(self.method)))


@dataclass(frozen=True)
class Finding:
    """What a rule has to say.

    Attributes:
        rule: its name.
        source: the table.
        text: the cells and what is suspect.
    """

    rule: str
    source: str
    text: str


def lint(numbers: Sequence[Number]) -> list[Finding]:
    """Apply every rule; findings in the order of the rules."""
    tables: dict[str, list[Number]] = {}
    for number in numbers:
        tables.setdefault(number.source, []).append(number)
    out = []
    for rule, check in _RULES.items():
        for source, table in tables.items():
            out += [Finding(rule, source, text) for text in check(table)]
    out += [Finding("baseline above re-runs", source, text) for source, text in _reruns(numbers)]
    return out


def read_numbers(path: Path) -> list[Number]:
    """Read a CSV file of one of the four kinds.

    Raises:
        UserError: no such file, no such columns, or a cell that is no number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte order mark first
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or ())
            # A trend is a question about several cells, and no number of its own.
            rows = [(line, row) for line, row in enumerate(reader, 2) if row.get("arm") != "trend"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None
    for line, row in rows:
        if None in row.values() or any(row.get(None, ())):
            found = sum(row[name] is not None for name in header) + len(row.get(None, ()))
            raise UserError(f"{path}, line {line}: {found} values for {len(header)} columns")
    if {"method", "reported", "dataset", "protocol", "stream"} <= set(header):
        out = [_number(path, line, row, "reported", row.get("source") or path.stem) for line, row in rows]
        if "ours" in header:
            out += [_number(path, line, row, "ours", f"{path.stem}, ours") for line, row in rows if row["ours"]]
        return out
    if {"method", "accuracy", "dataset", "setting", "stream"} <= set(header):
        return [_as_printed(path, line, row) for line, row in rows]
    if {"arm", "accuracy_mean", "num_test"} <= set(header):
        return [_of_sweep(path, line, row) for line, row in rows]
    raise UserError(
        f"{path}: not a table of results; expected the columns method, dataset, protocol, stream and reported (as in "
        "reported_results.csv), method, dataset, setting, stream and accuracy, or a sweep's table.csv"
    )


def _number(path: Path, line: int, row: Mapping[str, str], column: str, source: str) -> Number:
    dataset, protocol = row["dataset"], row["protocol"]
    return Number(
        line=line,
        source=source,
        method=row["method"],
        encoder=row.get("encoder") or "",
        arm=row.get("arm") or "",
        dataset=dataset,
        protocol=protocol,
        stream=row["stream"],
        parameter=row.get("parameter") or "",
        text=_checked(path, line, row[column] or ""),
        metric=row.get("metric") or ACCURACY,
        note=row.get("note") or "",
        sequences=benchmark_test_sequences(dataset, protocol),
    )


_PRINTED_STREAMS = {"J": "joint", "B": "bone", "JM": "joint-motion", "BM": "bone-motion"}


def _as_printed(path: Path, line: int, row: Mapping[str, str]) -> Number:
    """A number of a file that has a paper's own words: ``NTU120, X-Sub, J`` for ``ntu120, x-sub, joint``."""
    encoder, arm = _methods_of_the_paper().get(row["method"], ("", ""))
    plain = {
        "encoder": encoder,
        "arm": arm,
        "dataset": (row["dataset"] or "").lower(),
        "protocol": (row["setting"] or "").lower(),
        "stream": _PRINTED_STREAMS.get(row["stream"], row["stream"] or ""),
    }
    return _number(path, line, {**row, **plain}, "accuracy", row.get("source") or path.stem)


@cache
def _methods_of_the_paper() -> Mapping[str, tuple[str, str]]:
    """Method as printed -> encoder and arm, of those that are one of ours."""
    return {each.method: (each.encoder, each.arm) for each in reported_results() if each.encoder}


def _of_sweep(path: Path, line: int, row: Mapping[str, str]) -> Number:
    baseline = row["arm"] == "baseline"
    values = [f"{key} {value}" for key, value in row.items() if "." in key and value]
    return Number(
        line=line,
        source=path.stem,
        method=", ".join([row["arm"] if baseline or not values else "", *values]).strip(", "),
        encoder=row.get("encoder") or "",
        arm="baseline" if baseline else "std-cl",
        dataset=row.get("dataset") or "",
        protocol=row.get("protocol") or "",
        stream=row.get("stream") or "",
        parameter="",
        text=_checked(path, line, row["accuracy_mean"] or ""),
        metric=ACCURACY,
        note="",
        sequences=int(float(row["num_test"])) if row["num_test"] else None,
    )


def _checked(path: Path, line: int, text: str) -> str:
    try:
        if text and not math.isfinite(float(text)):
            raise ValueError
    except ValueError:
        raise UserError(f"{path}, line {line}: '{text}' is not a number") from None
    return text


def _identical_rows(table: Sequence[Number]) -> Iterable[str]:
    """Two methods whose numbers on one data set are all the same."""
    rows: dict[tuple[str, str], dict[tuple[str, ...], str]] = {}
    for number in table:
        if number.text:
            rows.setdefault((number.method, number.dataset), {})[(*number.column, number.parameter)] = number.text
    keys = list(rows)
    for index, one in enumerate(keys):
        for other in keys[index + 1 :]:
            same = len(rows[one])
            if one[1] == other[1] and rows[one] == rows[other] and same >= _EQUAL_CELLS:
                yield f"{one[0]} and {other[0]}: all {same} numbers on {one[1]} are the same"


def _pairs(table: Sequence[Number]) -> Iterable[tuple[Number, Number]]:
    """Each proposed number with its baseline of the same column."""
    known: dict[tuple[str, ...], Number] = {}
    for number in table:
        if number.value is not None and not number.proposed and number.arm in ("", "baseline"):
            known.setdefault((number.encoder or number.plain, *number.column), number)
    for number in table:
        if number.value is not None and number.proposed:
            base = known.get((number.encoder or number.plain, *number.column))
            if base is not None:
                yield base, number


def _copied(table: Sequence[Number]) -> Iterable[str]:
    """A proposed number that is the baseline's."""
    for base, number in _pairs(table):
        if number.value == base.value:
            yield f"{number.where}: {number.text} is the baseline's number"


def _losses(table: Sequence[Number]) -> Iterable[str]:
    """A proposed number below the baseline's."""
    for base, number in _pairs(table):
        assert base.value is not None
        assert number.value is not None
        if number.value < base.value:
            yield f"{number.where}: {number.text} is below the baseline's {base.text}: not every setting improves"


def _small_gains(table: Sequence[Number]) -> Iterable[str]:
    """A gain below one test sequence, or within what other sequences would change."""
    within: dict[tuple[str, str], list[tuple[Number, float, float]]] = {}
    counted: dict[tuple[str, str], int] = {}
    for base, number in _pairs(table):
        n = number.sequences or base.sequences
        assert base.value is not None
        assert number.value is not None
        gain = number.value - base.value
        if number.metric != ACCURACY or not n or gain <= 0:
            continue
        place = (number.dataset, number.protocol)
        counted[place] = counted.get(place, 0) + 1
        if gain < 100.0 / n - 1e-9:
            yield f"{number.where}: a gain of {gain:.2g} points is below one of {n:,} test sequences ({100 / n:.2g})"
        share = base.value / 100.0
        error = 100.0 * math.sqrt(max(0.0, share * (1.0 - share)) / n)
        if gain <= error:
            within.setdefault(place, []).append((number, gain, error))
    for place, found in within.items():
        listed = ", ".join(f"{number.plain} {number.stream} {gain:.2g}" for number, gain, _ in found[:8])
        more = " and more" if len(found) > 8 else ""
        worst = max(error for *_, error in found)
        yield (
            f"{' '.join(place)}: {len(found)} of {counted[place]} gains are within one binomial standard error "
            f"(up to {worst:.2g} points): {listed}{more}"
        )


def _fewer_streams(table: Sequence[Number]) -> Iterable[str]:
    """More streams, fewer points."""
    found: dict[tuple[str, str, str], dict[str, Number]] = {}
    for number in table:
        if number.value is not None and number.metric == ACCURACY and not number.parameter:
            found.setdefault((number.method, number.dataset, number.protocol), {})[number.stream] = number
    for streams in found.values():
        four, two = streams.get("4S"), streams.get("2S")
        single = [streams[name] for name in ("joint", "bone") if name in streams]
        for more, fewer in [(four, two), *((two, each) for each in single), *((four, each) for each in single)]:
            if more is None or fewer is None or more.value is None or fewer.value is None:
                continue
            if more.value < fewer.value:
                yield f"{more.where}: {more.text} is below its own {fewer.stream}, {fewer.text}"


def _impossible(table: Sequence[Number]) -> Iterable[str]:
    """A number that no count of test sequences rounds to."""
    for number in table:
        if number.value is None or number.metric != ACCURACY or not number.sequences:
            continue
        decimals = len(number.text.partition(".")[2])
        if decimals > 4:  # a mean over seeds
            continue
        n = number.sequences
        near = round(number.value / 100.0 * n)
        half = 0.5 * 10.0**-decimals + 1e-9
        possible = any(abs(100.0 * count / n - number.value) <= half for count in (near - 1, near, near + 1))
        if not possible:
            closest = min((near - 1, near, near + 1), key=lambda count: abs(100.0 * count / n - float(number.text)))
            yield f"{number.where}: {number.text} is no number of {n} sequences ({closest} are {100 * closest / n:.2f})"


def _not_the_best(table: Sequence[Number]) -> Iterable[str]:
    """The proposed method beside others on the same encoder, where the table is one of methods."""
    others = [n for n in table if n.value is not None and n.arm not in ("", "baseline", "std-cl")]
    encoders = {n.encoder for n in others}
    if len(encoders) != 1:
        return
    # A method without an encoder of its own stands on the one that the table compares methods on.
    rivals = [*others, *(n for n in table if n.value is not None and not n.encoder and not n.proposed)]
    for number in table:
        if not number.proposed or number.value is None or "(" in number.method or number.encoder not in ("", *encoders):
            continue
        same = [r for r in rivals if r.column == number.column and r.value is not None]
        ties = [r.method for r in same if r.value == number.value]
        above = [f"{r.method} {r.text}" for r in same if r.value is not None and r.value > number.value]
        if ties:
            yield f"{number.where}: {number.text} is tied with {', '.join(ties)}"
        if above:
            yield f"{number.where}: {number.text} is below {', '.join(above)}"


def _empty(table: Sequence[Number]) -> Iterable[str]:
    """A table whose own rows are mostly empty."""
    with_partner = {n.plain for n in table if n.proposed}
    own = [n for n in table if n.proposed or n.parameter or (n.plain in with_partner)]
    empty = sum(not n.text for n in own)
    if len(own) > 2 and 2 * empty >= len(own):
        yield f"{empty} of the {len(own)} cells of its own rows are empty: a draft"


def _unlabelled(table: Sequence[Number]) -> Iterable[str]:
    """What is measured is not said."""
    found = [n for n in table if n.text and ("stream not stated" in n.note or "stream inferred" in n.note)]
    found += [n for n in table if n.text and n.metric == ACCURACY and not n.stream and n not in found]
    if found:
        streams = "; ".join(dict.fromkeys(n.stream for n in found if n.stream and ":" not in n.stream))
        taken = f"; by their values they are of the stream {streams}" if streams else ""
        yield f"{len(found)} numbers do not say of which stream they are{taken}"


def _groups(table: Sequence[Number]) -> Iterable[str]:
    """Rows that are not of the same sequences or classes."""
    levels = [n for n in table if n.stream.startswith("level:") and n.text]
    if levels:
        yield (
            "levels of difficulty: where each row groups classes by its own results, classes move between rows, and "
            "rows cannot be compared"
        )
    sizes: dict[tuple[str, str], set[int]] = {}
    for number in table:
        if number.sequences:
            sizes.setdefault((number.dataset, number.protocol), set()).add(number.sequences)
    for place, found in sizes.items():
        if len(found) > 1:
            yield f"{' '.join(place)}: rows are of {' and '.join(map(str, sorted(found)))} test sequences"


def _is_rerun(number: Number) -> bool:
    """Whether it is somebody's run of a published method, by its recipe; or one of ours."""
    if number.source.endswith(", ours"):
        return number.arm == "baseline"
    return "(" in number.method and "original paper" not in number.method and "another data pipeline" not in number.note


def _reruns(numbers: Sequence[Number]) -> Iterable[tuple[str, str]]:
    """A baseline that others could not reach, or that our own runs exceed."""

    def place(number: Number) -> tuple[str, ...]:
        return number.plain, *number.column

    again: dict[tuple[str, ...], list[Number]] = {}
    for number in numbers:
        if number.value is not None and _is_rerun(number):
            again.setdefault(place(number), []).append(number)
    for number in numbers:
        published = number.arm == "baseline" and not number.parameter and not number.source.endswith(", ours")
        published = published or "original paper" in number.method
        others = again.get(place(number), []) if published and number.value is not None else []
        values = [each.value for each in others if each.value is not None]
        if not values or number.value is None:
            continue
        low, high = min(values), max(values)
        said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        if number.value > high:
            yield (
                number.source,
                f"{number.where}: {number.text}, but {len(values)} run(s) by others or by us give {said}",
            )
        elif number.value < low and any(each.source.endswith(", ours") for each in others):
            yield number.source, f"{number.where}: our baseline is better than published: {said} against {number.text}"


_RULES: Mapping[str, Callable[[Sequence[Number]], Iterable[str]]] = {
    "identical rows": _identical_rows,
    "baseline's number": _copied,
    "loss": _losses,
    "small gain": _small_gains,
    "fewer streams are better": _fewer_streams,
    "impossible number": _impossible,
    "not the best": _not_the_best,
    "mostly empty": _empty,
    "unlabelled": _unlabelled,
    "different groups": _groups,
}

"""The rows of the paper's tables: those that are printed, those that runs add, and which line belongs to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stdcl import specs
from stdcl.config.model import is_of_method
from stdcl.report.labels import short_names, value_text
from stdcl.report.lines import Line, varied
from stdcl.report.published import Place, Reported

SOURCES = {
    "1": "STD-CL paper Table 1",
    "2": "STD-CL paper Table 2",
    "3": "STD-CL paper Table 3",
    **{f"4{letter}": f"STD-CL paper Table 4({letter})" for letter in "abcde"},
}
"""A sweep file's ``table`` -> the source of its numbers; any other name is a table that the paper does not have."""
_ARMS = {"GAP": "gap", "STD-CL": "std-cl"}
"""What rows of Table 3 are, where the shipped numbers do not say: there they stand beside runs of their own."""
_ENCODER_OF_TABLE_3 = "CTR-GCN"
"""The title of the encoder of its rows that name none in brackets."""


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: the paper's, or what the runs are.
        encoder, arm: of its runs; empty where the paper alone has it.
        parameter, value: the ablated key and its value, as text; empty without one.
        printed: whether the paper has the row.
        named: keys whose values its name says.
    """

    name: str
    encoder: str = ""
    arm: str = ""
    parameter: str = ""
    value: str = ""
    printed: bool = False
    named: tuple[str, ...] = ()


def rows_of(name: str, printed: Sequence[Reported], lines: Sequence[Line]) -> tuple[tuple[Row, ...], dict[int, Row]]:
    """The rows, and the row of each line by the line's ``id``."""
    rows: dict[str, Row] = {}
    for each in printed:
        encoder, arm = _identity(each)
        named = (each.parameter,) if each.parameter else ()
        row = Row(each.method, encoder, arm, each.parameter, each.value, printed=True, named=named)
        rows.setdefault(each.method, row)
    by_parameter = next((row.parameter for row in rows.values() if row.parameter), "")
    keys = _naming(lines)
    where: dict[int, Row] = {}
    for line in lines:
        value = value_text(line.settings.get(by_parameter)) if by_parameter and line.place.arm != "baseline" else ""
        fits = [
            row
            for row in rows.values()
            # Of a row that was made for another line, the name says that line's setting.
            if row.printed
            and (row.encoder, row.arm) == (line.place.encoder, line.place.arm)
            and (not row.parameter or row.value == value)
            and bool(row.parameter) == bool(by_parameter and line.place.arm != "baseline")
        ]
        if fits and name in SOURCES:
            where[id(line)] = fits[0]
        else:
            # Of a baseline, the method's own keys say nothing.
            own = [k for k in keys if k in line.settings and not (line.place.arm == "baseline" and is_of_method(k))]
            label = _label(line, own, short_names(keys))
            where[id(line)] = rows.setdefault(label, Row(label, line.place.encoder, line.place.arm, named=tuple(own)))
    return tuple(rows.values()), where


def _naming(lines: Sequence[Line]) -> list[str]:
    """The keys that name rows: in which lines of one encoder and arm differ within a column, or as a sweep asks.

    What a recipe has otherwise for another dataset is no difference between rows.
    """
    alike: dict[tuple[str, str], list[Line]] = {}
    of_a_column: dict[Place, list[Line]] = {}
    for line in lines:
        alike.setdefault((line.place.encoder, line.place.arm), []).append(line)
        of_a_column.setdefault(line.place, []).append(line)
    asked = {key for line in lines for trial in line.trials for key in (*trial.parameters, *trial.stated)}
    asked |= {key for group in of_a_column.values() for key in varied(group)}
    differing = dict.fromkeys(key for group in alike.values() for key in varied(group))
    return [key for key in differing if key in asked and not key.startswith(("data.", "encoder."))]


def _identity(printed: Reported) -> tuple[str, str]:
    """Encoder and arm of a printed row; empty where no run can be one."""
    if printed.encoder:
        return printed.encoder, printed.arm
    if printed.source == SOURCES["3"]:
        method, _, named = printed.method.partition("(")
        title = named.rstrip(")") or _ENCODER_OF_TABLE_3
        found = next((name for name, spec in specs.encoders().items() if spec.title == title), "")
        return (found, _ARMS[method]) if found and method in _ARMS else ("", "")
    # Tables 4(d) and 4(e) name encoders as they are printed.
    plain = printed.method.removesuffix(" w/ours")
    for encoder, spec in specs.encoders().items():
        if plain in (spec.paper_name, spec.title):
            return encoder, "std-cl" if plain != printed.method else "baseline"
    return "", ""


def _label(line: Line, keys: Sequence[str], names: Mapping[str, str]) -> str:
    """What a row that the paper does not have is called."""
    values = [f"{names[key]} {value_text(line.settings[key])}" for key in keys]
    encoder = specs.encoders().get(line.place.encoder)
    named = encoder.title if encoder is not None else line.place.encoder
    arm = "" if line.place.arm == "baseline" else f" w/{'STD-CL' if line.place.arm == 'std-cl' else line.place.arm}"
    return f"{named}{arm}{': ' if values else ''}{', '.join(values)}"

"""A run's history: one row per epoch, on the disk before training continues."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stdcl.atomic import append_line, write_bytes
from stdcl.errors import UserError
from stdcl.results.row import EpochRow, from_file, to_file

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class HistoryFile:
    """The writer of a history: one JSON object per line and epoch.

    Values that JSON cannot say are written as the strings ``NaN``, ``Infinity`` and ``-Infinity``, so that every
    line is standard JSON; ``read_history`` turns them back into numbers. A row that could not be written whole
    (a full disk) leaves nothing of itself behind.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate(self, epochs: int) -> None:
        """Keep the rows of the first ``epochs`` epochs and drop the others, atomically."""
        kept = [row for row in read_history(self.path) if row["epoch"] <= epochs]
        write_bytes(self.path, b"".join(_line(row) + b"\n" for row in kept))

    def append(self, row: EpochRow) -> None:
        """Append one row and flush it to the disk."""
        append_line(self.path, _line(row))


def read_history(path: Path) -> list[EpochRow]:
    """Read a history file, of this release or an earlier one: one row per epoch, in order; none without a file.

    A truncated last line (a kill in the middle of a write) is left out. Where an epoch occurs more than once, the
    later line holds.

    Raises:
        UserError: a line other than the last is not a JSON object with an integer ``epoch``, or the file cannot be
            read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    rows: dict[int, EpochRow] = {}
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in numbered:
        try:
            row = from_file(_with_numbers(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):  # without its line feed: the write of this line was cut off
                continue
            raise UserError(
                f"{path}, line {number}: not a row of a history ({error}); each line is a JSON object with an"
                " integer 'epoch'"
            ) from None
        rows[row["epoch"]] = row
    return [rows[epoch] for epoch in sorted(rows)]


def _line(row: EpochRow) -> bytes:
    return json.dumps({name: _plain(value) for name, value in to_file(row).items()}, allow_nan=False).encode()


def _with_numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in content.items()}


def _plain(value: Any) -> Any:
    """A Python value of a scalar (also a NumPy scalar or a 0-d tensor), non-finite numbers as their names."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value

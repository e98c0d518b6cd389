"""The contract of a sink, several sinks as one, and the durable per-epoch history file.

Only rank 0 holds sinks. The order of calls is ``start``, any number of ``log_epoch`` with growing epochs, ``finish``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from stdcl.atomic import sync_directory, write_bytes
from stdcl.errors import UserError

NOTICES = "notices"
"""Key of a row on its way to the driver, not of the history: sentences for the user."""

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Sink(Protocol):
    """Something that receives a trial's numbers.

    A sink bounds its own waiting and need not guard against its own errors: ``Sinks`` does. Since a call after a
    failed one is possible, also after a failed ``start``, each method must be harmless then.
    """

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Begin an attempt.

        Args:
            config: the resolved configuration, nested, of plain values; it holds no secret.
            info: facts about the attempt that are not configuration (sweep, trial key, seed, fingerprint, code
                version, data hash, ...). ``resume_epoch`` (int, default 0) is the first epoch that this attempt will
                log; what an earlier attempt logged from that epoch on is void.
        """
        ...

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        """Record the numbers of one finished epoch (0-based)."""
        ...

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """End the attempt; ``status`` is ``finished``, ``failed`` or ``pruned``."""
        ...

    def take_notices(self) -> list[str]:
        """Return what the user should be told since the last call: a sentence each, in any process's log unseen."""
        ...


class Sinks:
    """Several sinks as one: a sink that fails is reported once and never stops the training or the other sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._failures: dict[int, int] = {}
        self._notices: list[str] = []

    @property
    def failures(self) -> dict[str, int]:
        """Failed calls by sink class, of the sinks that failed."""
        return {type(self._sinks[index]).__name__: count for index, count in self._failures.items()}

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """See ``Sink.start``."""
        self._each("start", lambda sink: sink.start(config, info))

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        """See ``Sink.log_epoch``."""
        self._each(f"epoch {epoch}", lambda sink: sink.log_epoch(row, epoch))

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """See ``Sink.finish``."""
        self._each("finish", lambda sink: sink.finish(summary, status))

    def take_notices(self) -> list[str]:
        """Return every sink's notices and this object's own."""
        own, self._notices = self._notices, []
        return [*own, *(text for sink in self._sinks for text in sink.take_notices())]

    def _each(self, moment: str, call: Callable[[Sink], None]) -> None:
        for index, sink in enumerate(self._sinks):
            try:
                call(sink)
            except Exception as error:
                if index not in self._failures:
                    self._notices.append(
                        f"{type(sink).__name__} failed at {moment} ({type(error).__name__}: {error}); training "
                        "continues, and further failures of it are not reported"
                    )
                self._failures[index] = self._failures.get(index, 0) + 1


class JsonLines:
    """The durable history: one JSON object a line and epoch in one file, on the disk before ``log_epoch`` returns.

    Values that JSON cannot say are written as the strings ``NaN``, ``Infinity`` and ``-Infinity``, so that every
    line is standard JSON; ``read_history`` turns them back into numbers. A row that could not be written whole
    (a full disk) leaves nothing of itself behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Keep the rows of epochs before ``info["resume_epoch"]`` and drop the others, atomically."""
        first = int(info.get("resume_epoch", 0))
        kept = [row for row in read_history(self.path) if row["epoch"] < first] if self.path.exists() else []
        write_bytes(self.path, b"".join(_line(row) for row in kept))

    def log_epoch(self, row: Mapping[str, float | int], epoch: int) -> None:
        """Append one row and flush it to the disk."""
        line = _line({"epoch": epoch, **{name: value for name, value in row.items() if name != "epoch"}})
        created = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            end = _end_of_whole_lines(descriptor)
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        if created:
            sync_directory(self.path.parent)

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Nothing: every row is on the disk already, and the result has its own file."""

    def take_notices(self) -> list[str]:
        """Nothing: an error here ends the training instead."""
        return []


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read a history file: one dict an epoch, in the order of epochs.

    A truncated last line (a kill in the middle of a write) is left out. Where an epoch occurs more than once, the
    later line holds.

    Raises:
        UserError: the file does not exist, or a line other than the last is not a JSON object with an integer
            ``epoch``.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such history file") from None
    rows: dict[int, dict[str, Any]] = {}
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in numbered:
        try:
            row = json.loads(line)
            epoch = row["epoch"]
            if not isinstance(epoch, int) or isinstance(epoch, bool):
                raise TypeError("epoch is not an integer")
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):  # without its line feed: the write of this line was cut off
                continue
            raise UserError(
                f"{path}, line {number}: not a row of a history ({error}); each line is a JSON object with an"
                " integer 'epoch'"
            ) from None
        rows[epoch] = {
            name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in row.items()
        }
    return [rows[epoch] for epoch in sorted(rows)]


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    """A Python value of a scalar (also a NumPy scalar or a 0-d tensor), non-finite numbers as their names."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _end_of_whole_lines(descriptor: int) -> int:
    """Length of the file without a last line that was cut off."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

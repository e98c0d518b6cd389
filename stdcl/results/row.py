"""An epoch's numbers, from the loop to the table: one name, one unit and one way of counting for each.

Epochs count from 1 in every row, file, table and line of output. (Inside the loop, ``epoch`` is an index from 0.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

SCHEMA = "schema"
SCHEMA_VERSION = 2
"""Of rows in files. Rows of release 0.1 have none: their epochs count from 0, and memory was called ``memory_mb``."""

TERM_PREFIX = "loss_"


class EpochRow(TypedDict, total=False):
    """The numbers of one epoch, equal on every rank.

    Beside these it has, as numbers, ``loss_<term>`` for each term of the method (before its weight), the encoder's own
    loss terms as ``own/<term>``, the method's figures as ``<method>/<figure>``, and after an evaluation each
    metric as ``metric/<name>``.
    """

    epoch: int
    """From 1; also the number of complete epochs."""
    loss: float
    """The weighted total, a mean over the epoch."""
    ce: float
    """Cross-entropy, a mean over the epoch."""
    train_accuracy: float
    """Fraction of the training items, while they were trained on."""
    learning_rate: float
    """A mean over the epoch's steps."""
    accuracy: float
    """Fraction of the evaluated sequences, after this epoch; absent where it was not evaluated."""
    correct: int
    """Evaluated sequences that were classified correctly."""
    num_test: int
    """Evaluated sequences, each counted once."""
    best_accuracy: float
    """The highest accuracy so far, chosen on the evaluated sequences themselves."""
    best_epoch: int
    """Its epoch, from 1."""
    seconds: float
    """Of this epoch, evaluation included."""
    total_seconds: float
    """Of all epochs so far, in all attempts."""
    train_seconds: float
    """Of this epoch, without evaluation."""
    sequences_per_second: float
    """Training sequences per second, all workers together."""
    peak_memory_mib: float
    """The largest peak of a rank during the attempt: GPU memory on CUDA, resident memory elsewhere (2^20 bytes)."""
    done: bool
    """Whether it is the run's last; on the way to the driver only, as the next."""
    notices: list[str]
    """Sentences for the user."""


SUMMARY = ("epoch", "accuracy", "best_accuracy", "best_epoch", "num_test", "total_seconds", "peak_memory_mib")
"""The numbers that sum an attempt up."""


def add_figures(row: EpochRow, figures: Mapping[str, float]) -> None:
    """Add numbers whose names are known at run time alone: loss terms, a method's figures."""
    cast(dict[str, Any], row).update(figures)


def terms(row: Mapping[str, Any]) -> dict[str, float]:
    """Return a row's loss terms of the method, by name."""
    found = {name.removeprefix(TERM_PREFIX): value for name, value in row.items() if name.startswith(TERM_PREFIX)}
    return {name: float(found[name]) for name in sorted(found)}


def to_file(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as files hold it."""
    return {SCHEMA: SCHEMA_VERSION, **row}


def from_file(content: Mapping[str, Any]) -> EpochRow:
    """Return a row of a file, of this release or an earlier one.

    Raises:
        TypeError: ``epoch`` is no integer.
        ValueError: the file was written by a newer release.
        KeyError: there is no ``epoch``.
    """
    row = dict(content)
    version = row.pop(SCHEMA, 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(f"a row of schema {version!r}; this version of stdcl reads up to {SCHEMA_VERSION}")
    if not isinstance(row["epoch"], int) or isinstance(row["epoch"], bool):
        raise TypeError("'epoch' is not an integer")
    if version == 1:
        row["epoch"] += 1
        if "best_epoch" in row:
            row["best_epoch"] += 1
        if "memory_mb" in row:
            row["peak_memory_mib"] = row.pop("memory_mb")
    return cast(EpochRow, row)

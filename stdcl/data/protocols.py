"""Which sequences train and which test: the benchmarks' splits, splits of one's own, and a validation split
for searches.

A split is a rule on a column of the store (subject, view, setup, replication or id), so that it can be
printed, stored in a manifest and checked. Rows come out sorted by sequence id, so the order of the items -
and with it every bank slot - depends on the content of a store and never on the order in which it was
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stdcl import specs
from stdcl.errors import UserError, nearest
from stdcl.seeding import generator

COLUMNS = ("subject", "view", "setup", "replication", "id")

IntArray = NDArray[np.int64]


class Columns(Protocol):
    """What a rule needs of a store: its columns as arrays, one entry per row."""

    @property
    def ids(self) -> Sequence[str]:
        """Sequence ids."""

    @property
    def labels(self) -> IntArray:
        """Class indices."""

    def column(self, name: str) -> IntArray:
        """An integer column by name."""


@dataclass(frozen=True)
class SplitRule:
    """Train and test by the values of one column.

    Attributes:
        column: ``subject``, ``view``, ``setup``, ``replication`` or ``id``.
        train: the values that train.
        test: the values that test; None means every other value. Rows in neither are left out.
    """

    column: str
    train: frozenset[Any]
    test: frozenset[Any] | None = None

    def __post_init__(self) -> None:
        if self.column not in COLUMNS:
            raise UserError(
                f"split rule: column '{self.column}' is not one of {', '.join(COLUMNS)}{nearest(self.column, COLUMNS)}"
            )
        if not self.train:
            raise UserError(f"split rule on '{self.column}': no training value given")
        both = set(self.train) & set(self.test or ())
        if both:
            raise UserError(
                f"split rule on '{self.column}': {sorted(both)[:5]} are in both the training and the test part"
            )

    def masks(self, columns: Columns) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return (train, test) boolean masks over the rows."""
        values: NDArray[Any] = np.asarray(columns.ids) if self.column == "id" else columns.column(self.column)
        train = np.isin(values, sorted(self.train))
        test = ~train if self.test is None else np.isin(values, sorted(self.test))
        return train, test

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain data; :func:`rule_from_json` reads it back."""
        return {
            "column": self.column,
            "train": sorted(self.train),
            "test": None if self.test is None else sorted(self.test),
        }


def rule_from_json(value: Mapping[str, Any]) -> SplitRule:
    """Return the rule that :meth:`SplitRule.to_json` wrote."""
    test = value.get("test")
    return SplitRule(
        column=value["column"],
        train=frozenset(value["train"]),
        test=None if test is None else frozenset(test),
    )


def official_rules(dataset: str) -> dict[str, SplitRule]:
    """Return a dataset's official protocols by name, the default first; none for one that is not known."""
    spec = specs.datasets().get(dataset)
    protocols = spec.protocols if spec is not None else {}
    return {name: SplitRule(part.column, part.train, part.test) for name, part in protocols.items()}


@dataclass(frozen=True)
class Split:
    """Rows of a store, each part sorted by sequence id.

    Attributes:
        train: (num_train,) row numbers.
        test: (num_test,) row numbers.
    """

    train: IntArray
    test: IntArray


def class_counts(columns: Columns, rule: SplitRule, num_classes: int) -> dict[str, list[int]]:
    """Return sequences a class in each part of a split, as ``{"train": [...], "test": [...]}``."""
    return {
        part: np.bincount(columns.labels[mask], minlength=num_classes).tolist()
        for part, mask in zip(("train", "test"), rule.masks(columns), strict=True)
    }


def sorted_rows(columns: Columns, mask: NDArray[np.bool_]) -> IntArray:
    """Return the row numbers where ``mask`` holds, in the order of their ids."""
    rows = np.flatnonzero(mask)
    ids = np.asarray(columns.ids)[rows]
    return rows[np.argsort(ids, kind="stable")].astype(np.int64)


def split(columns: Columns, rules: Mapping[str, SplitRule], protocol: str, dataset: str) -> Split:
    """Return the rows of a protocol.

    Args:
        columns: the store.
        rules: the store's protocols by name (``store.rules``).
        protocol: the protocol's name.
        dataset: the dataset's name, for messages.

    Raises:
        UserError: the protocol is unknown, or one of its parts is empty.
    """
    if protocol not in rules:
        raise UserError(
            f"data.protocol: dataset '{dataset}' has no protocol '{protocol}'{nearest(protocol, rules)};"
            f" allowed are {', '.join(rules)}"
        )
    train, test = rules[protocol].masks(columns)
    for part, mask in (("training", train), ("test", test)):
        if not mask.any():
            raise UserError(
                f"dataset '{dataset}', protocol '{protocol}': the {part} part has no sequence in this store"
            )
    return Split(train=sorted_rows(columns, train), test=sorted_rows(columns, test))


@dataclass(frozen=True)
class Validation:
    """A split of the TRAINING part, by subject, for searches: the test part is not touched.

    Attributes:
        train: rows left for training, sorted by id.
        test: rows to validate on, sorted by id (named as in :class:`Split`, so that the two interchange).
        subjects: the subjects held out.
    """

    train: IntArray
    test: IntArray
    subjects: tuple[int, ...]


def validation_split(
    columns: Columns,
    rows: IntArray,
    *,
    fraction: float = 0.2,
    seed: int = 0,
    subjects: Iterable[int] | None = None,
) -> Validation:
    """Hold out some subjects of the training rows.

    The held-out subjects are the same for every configuration of a search: they depend on the set of training
    subjects, ``fraction`` and ``seed`` alone. Whole subjects are held out, because clips of one performance
    seen by two cameras, or of one person, on both sides would make the validation accuracy a memory test.

    Args:
        columns: the store.
        rows: the training rows.
        fraction: share of the subjects to hold out, above 0 and below 1; at least one is held out and at
            least one is left.
        seed: draws the subjects.
        subjects: the held-out subjects by number, instead of a draw.

    Raises:
        UserError: there is a single training subject, or a subject named is not among them, or all are.
    """
    owner = columns.column("subject")[rows]
    known = np.unique(owner)
    if subjects is None:
        if not 0.0 < fraction < 1.0:
            raise UserError(f"validation fraction is {fraction}; it must lie between 0 and 1")
        if len(known) < 2:
            raise UserError(
                f"validation split: the training part has {len(known)} subject(s);"
                " at least 2 are needed to hold one out"
            )
        count = min(max(round(fraction * len(known)), 1), len(known) - 1)
        held = np.sort(generator(seed, "validation-subjects").permutation(known)[:count])
    else:
        held = np.unique(np.asarray(list(subjects), dtype=np.int64))
        missing = np.setdiff1d(held, known)
        if len(missing):
            raise UserError(
                f"validation split: subjects {missing.tolist()} are not among the training subjects {known.tolist()}"
            )
        if len(held) in (0, len(known)):
            raise UserError(
                f"validation split: {len(held)} of {len(known)} training subjects named;"
                " at least one must be held out and one left"
            )
    out = np.isin(owner, held)
    return Validation(train=rows[~out], test=rows[out], subjects=tuple(int(s) for s in held))

"""Check and align what every method here reads: which sequences each run of an arm classifies rightly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stdcl.errors import UserError


def checked_answers(values: np.ndarray, where: str) -> np.ndarray:
    """Return correctness as float64, or refuse it.

    Args:
        values: (S, N) or (N,) booleans or numbers 0 and 1; one row per seed, one column per test sequence.
        where: what the values are, for the message.

    Returns:
        (S, N) float64.

    Raises:
        UserError: another shape, no seed, no sequence, NaN, or a value that is neither 0 nor 1.
    """
    array = np.asarray(values)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"{where}: answers of shape {np.shape(values)}; expected (seeds, sequences), at least one of each"
        )
    numbers = array.astype(np.float64)
    if np.isnan(numbers).any():
        raise UserError(f"{where}: {int(np.isnan(numbers).sum())} answers are NaN; expected 1 (right) or 0 (wrong)")
    odd = (numbers != 0.0) & (numbers != 1.0)
    if odd.any():
        raise UserError(f"{where}: an answer is {numbers[odd][0]:g}; expected 1 (right) or 0 (wrong)")
    return numbers


def checked_subjects(subjects: np.ndarray | Sequence[object] | None, sequences: int) -> np.ndarray | None:
    """Return the subject of each sequence as indices 0 .. G - 1, or None.

    Args:
        subjects: (N,) names or numbers; None where the data have no subjects. A single subject says nothing about
            other people, and is treated as none.
        sequences: N.

    Raises:
        UserError: another number of entries than N.
    """
    if subjects is None:
        return None
    names = np.asarray(subjects)
    if names.shape != (sequences,):
        raise UserError(f"subjects: shape {names.shape} for {sequences} sequences; expected one subject per sequence")
    unique, indices = np.unique(names, return_inverse=True)
    return indices.astype(np.int64) if len(unique) > 1 else None


def without(ids: Sequence[str] | np.ndarray, left_out: Iterable[str]) -> np.ndarray:
    """(N,) bool: which sequences remain when some are left out, such as copies of training sequences.

    Args:
        ids: (N,) sequence ids.
        left_out: ids to leave out.

    Raises:
        UserError: an id to leave out is not among ``ids``, or none would remain.
    """
    known = np.asarray(ids)
    unwanted = np.asarray(sorted(set(left_out)), dtype=known.dtype if known.size else None)
    unknown = unwanted[~np.isin(unwanted, known)]
    if unknown.size:
        raise UserError(
            f"sequences to leave out: {unknown.size} of {unwanted.size} are not among the {known.size} evaluated ones, "
            f"first '{unknown[0]}'"
        )
    kept: np.ndarray = ~np.isin(known, unwanted)
    if not kept.any():
        raise UserError(f"sequences to leave out: all {known.size} evaluated ones")
    return kept


def common_seeds(arms: Mapping[str, Mapping[int, np.ndarray]]) -> tuple[tuple[int, ...], dict[str, np.ndarray]]:
    """Keep the seeds that every arm has finished: only these are paired.

    Args:
        arms: per arm, the (N,) answers per seed.

    Returns:
        The common seeds in ascending order, and per arm the (S, N) answers in this order.

    Raises:
        UserError: no arm, no common seed, or another number of sequences in some run.
    """
    if not arms:
        raise UserError("comparison: no arm")
    seeds = tuple(sorted(set.intersection(*(set(runs) for runs in arms.values()))))
    if not seeds:
        found = "; ".join(f"{name}: {', '.join(map(str, sorted(runs))) or 'none'}" for name, runs in arms.items())
        raise UserError(f"comparison: no seed is finished in every arm ({found})")
    lengths = {np.shape(runs[seed]) for runs in arms.values() for seed in seeds}
    if len(lengths) > 1 or len(next(iter(lengths))) != 1:
        raise UserError(
            f"comparison: answers of shapes {sorted(lengths)}; expected the same (N,) sequences in every run"
        )
    return seeds, {
        name: checked_answers(np.stack([np.asarray(runs[seed], dtype=np.float64) for seed in seeds]), name)
        for name, runs in arms.items()
    }

"""Fusion of streams: the weighted sum of several runs' raw logits, joined by sequence id.

Raw logits are added, as the public projects do, and not probabilities: the two differ (FR-Head's published NW-UCLA
scores give 96.77 % from logits and 95.69 % from probabilities, with the same weights).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stdcl.errors import UserError, nearest
from stdcl.results.scores import Scores, per_class_accuracy

STREAMS = ("joint", "bone", "joint-motion", "bone-motion")
"""The four streams, in the order in which weights are quoted: J, B, JM, BM."""
SYMBOLS = dict(zip(STREAMS, ("J", "B", "JM", "BM"), strict=True))

_SHOWN = 10  # ids named in a refusal; the rest is counted


@dataclass(frozen=True)
class Fused:
    """Fused scores.

    Attributes:
        name: ``2S`` or ``4S`` for these sets of streams, else the streams' symbols joined by ``+``.
        parts: the runs, in the order J, B, JM, BM.
        weights: one a part.
        scores: the weighted sum; its ids are in the order of the first part.
        per_class: (K,) accuracy of each class, NaN for a class without sequences.
    """

    name: str
    parts: tuple[Scores, ...]
    weights: tuple[float, ...]
    scores: Scores
    per_class: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of sequences that the fused scores classify rightly."""
        return self.scores.accuracy

    @property
    def num_test(self) -> int:
        """Number of sequences."""
        return len(self.scores.ids)


def _symbol(stream: str) -> str:
    return SYMBOLS.get(stream, stream)


def _no_preset(name: str, what: str) -> UserError:
    return UserError(f"the weights '{name}' {what}; give numbers, one a run in the order of the runs")


def _by_stream(name: str, sets: dict[int, tuple[float, ...]]) -> Callable[[Sequence[Scores]], tuple[float, ...]]:
    """Weights that are quoted for the first 1, 2, 3 or 4 of the streams J, B, JM, BM."""

    def weights(parts: Sequence[Scores]) -> tuple[float, ...]:
        streams = tuple(part.stream for part in parts)
        quoted = sets.get(len(parts))
        if quoted is None or streams != STREAMS[: len(parts)]:
            known = " and ".join("+".join(SYMBOLS[each] for each in STREAMS[:n]) for n in sorted(sets))
            raise _no_preset(name, f"are quoted for {known}, not for {'+'.join(map(_symbol, streams))}")
        return quoted

    return weights


def _hyperformer(parts: Sequence[Scores]) -> tuple[float, ...]:
    four = (0.4, 0.4, 0.3, 0.2) if parts[0].dataset == "nw-ucla" else (0.4, 0.6, 0.2, 0.2)
    return _by_stream("hyperformer", {4: four})(parts)


def _fr_head(parts: Sequence[Scores]) -> tuple[float, ...]:
    first = parts[0]
    if first.dataset == "ntu120":
        four = (0.6, 0.75, 0.3, 0.15)
    elif first.dataset == "ntu60" and first.protocol == "x-sub":
        four = (2.0, 2.0, 1.0, 1.0)
    else:
        four = (0.6, 0.6, 0.4, 0.4)
    return _by_stream("fr-head", {2: (1.0, 1.0), 4: four})(parts)


def _infogcn(parts: Sequence[Scores]) -> tuple[float, ...]:
    return tuple(1.0 if part.stream.endswith("motion") else 1.5 for part in parts)


PRESETS: dict[str, Callable[[Sequence[Scores]], tuple[float, ...]]] = {
    "default": _by_stream("default", {2: (1.0, 1.0), 4: (0.6, 0.6, 0.4, 0.4)}),
    "2s-agcn": _by_stream("2s-agcn", {2: (1.0, 1.0)}),
    "ctr-gcn": _by_stream("ctr-gcn", {2: (1.0, 1.0), 3: (0.6, 0.6, 0.4), 4: (0.6, 0.6, 0.4, 0.4)}),
    "hyperformer": _hyperformer,
    "infogcn": _infogcn,
    "fr-head": _fr_head,
    "gap": _by_stream("gap", {2: (1.0, 1.0), 4: (0.8, 0.8, 0.2, 0.2)}),
    "pyskl": _by_stream("pyskl", {2: (1.0, 1.0), 4: (2.0, 2.0, 1.0, 1.0)}),
}
"""Weights by the public project that uses them; ``default`` is the same for every encoder and data set."""


def fuse(runs: Sequence[Scores], weights: str | Sequence[float] = "default") -> Fused:
    """Fuse runs by sequence id.

    Args:
        runs: two runs or more, of the same sequences, in any order.
        weights: numbers, one a run in the order of ``runs``; or a preset's name (see ``PRESETS``), whose weights go
            by stream, whatever the order of ``runs``.

    Raises:
        UserError: the runs are of different data sets, protocols, data hashes, classes or labels, lack one another's
            sequences (with their ids), a preset does not cover the streams or has two runs of one stream, or the
            weights are unknown, not finite, all zero, or of another number.
    """
    if len(runs) < 2:
        raise UserError(f"fusion needs at least two runs; got {len(runs)}")
    check_same_sequences(runs)
    order = sorted(range(len(runs)), key=lambda index: _stream_order(runs[index].stream))
    parts = tuple(runs[index] for index in order)
    if isinstance(weights, str):
        chosen = _preset(weights, parts)
    else:
        given = tuple(float(each) for each in weights)
        if len(given) != len(runs):
            raise UserError(f"{len(given)} weights for {len(runs)} runs; give one a run, in the order of the runs")
        if not np.isfinite(given).all() or not any(given):
            raise UserError(f"the weights {list(given)} must be finite numbers, and not all zero")
        chosen = tuple(given[index] for index in order)

    first = parts[0]
    total = np.zeros(first.logits.shape, np.float64)
    for part, weight in zip(parts, chosen, strict=True):
        total += weight * part.logits[_rows_in_order(part.ids, first.ids)].astype(np.float64)
    streams = tuple(part.stream for part in parts)
    name = {STREAMS[:2]: "2S", STREAMS: "4S"}.get(streams, "+".join(map(_symbol, streams)))
    encoders = dict.fromkeys(part.encoder for part in parts)
    fused = replace(first, logits=total, stream=name, encoder="+".join(encoders), run=name)
    return Fused(name, parts, chosen, fused, per_class_accuracy(fused))


def fuse_all(runs: Sequence[Scores], weights: str | Sequence[float] = "default") -> tuple[Fused, ...]:
    """What the runs allow: 2S where there are joint and bone, then all of them together (4S for the four streams).

    With numbers as weights, only all of them together. Raises as ``fuse``.
    """
    whole = fuse(runs, weights)
    pair = [run for stream in STREAMS[:2] for run in runs if run.stream == stream]
    if not isinstance(weights, str) or len(runs) == 2 or tuple(run.stream for run in pair) != STREAMS[:2]:
        return (whole,)
    try:
        return (fuse(pair, weights), whole)
    except UserError:  # a preset without weights for two streams
        return (whole,)


def render_fused(fused: Sequence[Fused]) -> str:
    """The accuracies of the single runs and of what ``fuse_all`` made of them, then those of each class."""
    parts = list({id(part): part for each in fused for part in each.parts}.values())
    parts.sort(key=lambda part: _stream_order(part.stream))
    first = parts[0]
    lines = [f"{first.dataset}, {first.protocol}, {first.evaluated_on}: {len(first.ids)} sequences", ""]
    names = [_symbol(part.stream) for part in parts] + [each.name for each in fused]
    width = max(map(len, names))
    for part in parts:
        lines.append(f"{_symbol(part.stream):{width}}  {100 * part.accuracy:6.2f} %  {part.encoder}  {part.run}")
    for each in fused:
        weights = " + ".join(
            f"{weight:g} {_symbol(part.stream)}" for part, weight in zip(each.parts, each.weights, strict=True)
        )
        lines.append(f"{each.name:{width}}  {100 * each.accuracy:6.2f} %  {weights}")
    last = fused[-1]
    lines += ["", f"accuracy of each class, {last.name} ({', '.join(_symbol(part.stream) for part in parts)} alone):"]
    single = [per_class_accuracy(part) for part in parts]
    counts = np.bincount(last.scores.labels, minlength=len(last.per_class))
    for label, accuracy in enumerate(last.per_class):
        alone = ", ".join(_percent(each[label]) for each in single)
        lines.append(f"  {label:3d}  {_percent(accuracy)}  ({alone})  of {counts[label]}")
    return "\n".join(lines)


def _percent(accuracy: float) -> str:
    return "     –" if np.isnan(accuracy) else f"{100 * accuracy:6.2f}"


def parse_weights(text: str) -> str | tuple[float, ...]:
    """Read ``--weights``: a preset's name, or numbers separated by commas or spaces.

    Raises:
        UserError: it is neither.
    """
    words = text.replace(",", " ").split()
    if len(words) == 1 and words[0].lower() in PRESETS:
        return words[0].lower()
    try:
        return tuple(float(word) for word in words) if words else _unknown_preset(text)
    except ValueError:
        return _unknown_preset(text)


def _unknown_preset(name: str) -> str:
    raise UserError(
        f"unknown weights '{name}'{nearest(name.lower(), PRESETS)}; allowed: numbers (0.6,0.4), or one of "
        f"{', '.join(PRESETS)}"
    )


def _preset(name: str, parts: Sequence[Scores]) -> tuple[float, ...]:
    if name not in PRESETS:
        _unknown_preset(name)
    seen: dict[str, str] = {}
    for part in parts:
        if part.stream in seen:
            raise _no_preset(name, f"go by stream, and both {seen[part.stream]} and {part.run} are of '{part.stream}'")
        seen[part.stream] = part.run
    return PRESETS[name](parts)


def _stream_order(stream: str) -> tuple[int, str]:
    return (STREAMS.index(stream), "") if stream in STREAMS else (len(STREAMS), stream)


def check_same_sequences(runs: Sequence[Scores]) -> None:
    """Check that runs scored the same sequences of the same data.

    Raises:
        UserError: naming what differs, or the ids that are lacking.
    """
    first = runs[0]
    for other in runs[1:]:
        for fact in ("dataset", "protocol", "evaluated_on", "data_hash"):
            one, two = getattr(first, fact), getattr(other, fact)
            if one != two:
                raise UserError(
                    f"{first.run} and {other.run} do not belong together: their {fact.replace('_', ' ')} differ"
                    f" ('{one}' and '{two}')"
                )
        if first.logits.shape[1] != other.logits.shape[1]:
            raise UserError(f"{first.run} has {first.logits.shape[1]} classes, {other.run} has {other.logits.shape[1]}")
    everything = set().union(*(run.ids.tolist() for run in runs))
    lacking = {
        run.run or f"run {number}": sorted(everything.difference(run.ids.tolist()))
        for number, run in enumerate(runs, 1)
        if len(run.ids) < len(everything)
    }
    if lacking:
        lines = "\n".join(
            f"  {name} lacks {len(ids)}: {', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''}"
            for name, ids in lacking.items()
        )
        raise UserError(f"the runs do not have the same sequences ({len(everything)} in all):\n{lines}")
    for other in runs[1:]:
        differ = other.labels[_rows_in_order(other.ids, first.ids)] != first.labels
        if differ.any():
            ids = [str(each) for each in first.ids[differ]]
            raise UserError(
                f"{first.run} and {other.run} have different labels for {len(ids)} sequences: {', '.join(ids[:_SHOWN])}"
            )


def _rows_in_order(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) rows of ``ids`` such that ``ids[rows] == wanted``."""
    row = {each: index for index, each in enumerate(ids.tolist())}
    return np.fromiter((row[each] for each in wanted.tolist()), np.int64, len(wanted))

"""Fusion of streams: the weighted sum of several runs' raw logits, joined by sequence id.

Raw logits are added, as the public projects do, and not probabilities: the two differ (FR-Head's published NW-UCLA
scores give 96.77 % from logits and 95.69 % from probabilities, with the same weights).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from stdcl import specs
from stdcl.config.contrast import Strategy
from stdcl.config.model import METHOD_NAME, is_of_method
from stdcl.errors import UserError, nearest
from stdcl.results.scores import Scores, per_class_accuracy
from stdcl.specs import FusionWeights

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
        weights: one per part.
        scores: the weighted sum; its ids are in the order of the first part.
        per_class: (K,) accuracy of each class, NaN for a class without sequences.
        remarks: in what the runs differ apart from their streams.
    """

    name: str
    parts: tuple[Scores, ...]
    weights: tuple[float, ...]
    scores: Scores
    per_class: np.ndarray
    remarks: tuple[str, ...] = ()

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
    return UserError(f"the weights '{name}' {what}; give numbers, one per run in the order of the runs")


_PROJECTS = (
    # The same for every encoder and dataset.
    FusionWeights("default", {2: (1.0, 1.0), 4: (0.6, 0.6, 0.4, 0.4)}),
    FusionWeights("pyskl", {2: (1.0, 1.0), 4: (2.0, 2.0, 1.0, 1.0)}),
)


def presets() -> dict[str, FusionWeights]:
    """Return the weights by the public project that uses them, those of encoders and methods among them."""
    described = [spec.fusion for spec in specs.encoders().values()]
    described += [spec.fusion for spec in specs.methods().values()]
    known = {weights.name: weights for weights in _PROJECTS}
    return known | {weights.name: weights for weights in described if weights is not None}


def _weights_of(preset: FusionWeights, parts: Sequence[Scores]) -> tuple[float, ...]:
    """Return a preset's weight of each part; ``parts`` are in the order J, B, JM, BM."""
    if preset.by_kind is not None:
        position, motion = preset.by_kind
        return tuple(motion if part.stream.endswith("motion") else position for part in parts)
    first, streams = parts[0], tuple(part.stream for part in parts)
    places = (f"{first.dataset}/{first.protocol}", first.dataset)
    quoted = next((preset.exceptions[place] for place in places if place in preset.exceptions), preset.quoted)
    if len(parts) not in quoted or streams != STREAMS[: len(parts)]:
        known = " and ".join("+".join(SYMBOLS[each] for each in STREAMS[:n]) for n in sorted(quoted))
        raise _no_preset(preset.name, f"are quoted for {known}, not for {'+'.join(map(_symbol, streams))}")
    return quoted[len(parts)]


def fuse(runs: Sequence[Scores], weights: str | Sequence[float] = "default", *, mixed: bool = False) -> Fused:
    """Fuse runs by sequence id.

    Args:
        runs: two runs or more, of the same sequences, in any order.
        weights: numbers, one per run in the order of ``runs``; or a preset's name (see ``presets``), whose weights go
            by stream, whatever the order of ``runs``.
        mixed: whether the runs may be of different arms (other keys of the contrast).

    Raises:
        UserError: the runs are of one training, of different arms, data sets, protocols, data hashes, classes or
            labels, lack one another's sequences (with their ids), a preset does not cover the streams or has two runs
            of one stream, or the weights are unknown, not finite, all zero, or of another number.
    """
    if len(runs) < 2:
        raise UserError(f"fusion needs at least two runs; got {len(runs)}")
    check_same_sequences(runs)
    _check_no_run_twice(runs)
    if not mixed:
        _check_one_arm(runs)
    order = sorted(range(len(runs)), key=lambda index: _stream_order(runs[index].stream))
    parts = tuple(runs[index] for index in order)
    if isinstance(weights, str):
        chosen = _preset(weights, parts)
    else:
        given = tuple(float(each) for each in weights)
        if len(given) != len(runs):
            raise UserError(f"{len(given)} weights for {len(runs)} runs; give one per run, in the order of the runs")
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
    seeds, arms = {part.seed for part in parts}, {part.arm for part in parts}
    fused = replace(
        first, logits=total, stream=name, encoder="+".join(encoders), run=name, fingerprint="", checkpoint="",
        seed=first.seed if len(seeds) == 1 else None, arm=first.arm if len(arms) == 1 else "", settings={},
    )  # fmt: skip
    return Fused(name, parts, chosen, fused, per_class_accuracy(fused), tuple(_remarks(parts)))


def fuse_all(
    runs: Sequence[Scores], weights: str | Sequence[float] = "default", *, mixed: bool = False
) -> tuple[Fused, ...]:
    """What the runs allow: 2S where there are joint and bone, then all of them together (4S for the four streams).

    With numbers as weights, only all of them together. Raises as ``fuse``.
    """
    whole = fuse(runs, weights, mixed=mixed)
    pair = [run for stream in STREAMS[:2] for run in runs if run.stream == stream]
    if not isinstance(weights, str) or len(runs) == 2 or tuple(run.stream for run in pair) != STREAMS[:2]:
        return (whole,)
    try:
        return (fuse(pair, weights, mixed=mixed), whole)
    except UserError:  # a preset without weights for two streams
        return (whole,)


def arm_keys(run: Scores) -> dict[str, Any]:
    """Keys of the contrast, which decide a run's arm; empty where its file does not say them."""
    return {key: value for key, value in run.settings.items() if is_of_method(key)} or (
        {("contrast.strategy" if run.arm in get_args(Strategy) else METHOD_NAME): run.arm} if run.arm else {}
    )


def _check_no_run_twice(runs: Sequence[Scores]) -> None:
    seen: dict[str, str] = {}
    for run in runs:
        if run.fingerprint in seen:
            raise UserError(
                f"{seen[run.fingerprint]} and {run.run} are the same configuration and seed (fingerprint "
                f"{run.fingerprint}); give each training once"
            )
        if run.fingerprint:
            seen[run.fingerprint] = run.run
    for number, run in enumerate(runs):
        for other in runs[:number]:
            # Files of earlier versions do not say what they are scores of.
            if not run.fingerprint and run.stream == other.stream and _same_scores(run, other):
                raise UserError(f"{other.run} and {run.run} hold the same scores; give each training once")


def _same_scores(one: Scores, two: Scores) -> bool:
    return np.array_equal(one.ids, two.ids) and np.array_equal(one.logits, two.logits)


def _check_one_arm(runs: Sequence[Scores]) -> None:
    differing = _differing(runs, arm_keys)
    if differing:
        lines = "\n".join(f"  {line}" for line in differing)
        raise UserError(
            f"the runs are of different arms:\n{lines}\nfuse the streams of one arm, or say that the arms may be mixed "
            "(--mixed)"
        )


# What belongs to a stream, or has a remark of its own.
_OF_THE_STREAM = ("data.stream", "data.convention", "data.orientation", "encoder.", "training.seed")


def _remarks(parts: Sequence[Scores]) -> list[str]:
    out = [f"different {line}" for line in _differing(parts, lambda part: {"seeds": part.seed} if part.seed else {})]
    out += [f"different arms: {line}" for line in _differing(parts, arm_keys)]
    if len({part.encoder for part in parts}) == 1:
        # Encoders have recipes of their own.
        out += [f"different settings: {line}" for line in _differing(parts, _other_keys)]
    unknown = [part.run for part in parts if not part.settings]
    if unknown and len(unknown) < len(parts):
        out.append(f"which arm is not known (scores of an earlier version; evaluate again): {', '.join(unknown)}")
    return out


def _other_keys(part: Scores) -> dict[str, Any]:
    return {key: v for key, v in part.settings.items() if not is_of_method(key) and not key.startswith(_OF_THE_STREAM)}


def _differing(runs: Sequence[Scores], keys_of: Callable[[Scores], Mapping[str, Any]]) -> list[str]:
    """``key: value (runs), value (runs)`` for each key that is not the same in all runs that say it."""
    known = {run.run or f"run {number}": keys_of(run) for number, run in enumerate(runs, 1)}
    known = {name: keys for name, keys in known.items() if keys}
    lines = []
    for key in dict.fromkeys(key for keys in known.values() for key in keys):
        by_value: dict[str, list[str]] = {}
        for name, keys in known.items():
            by_value.setdefault(str(keys.get(key, "none")), []).append(name)
        if len(by_value) > 1:
            lines.append(f"{key}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items()))
    return lines


def render_fused(fused: Sequence[Fused]) -> str:
    """The accuracies of the single runs and of what ``fuse_all`` made of them, then those of each class."""
    parts = list({id(part): part for each in fused for part in each.parts}.values())
    parts.sort(key=lambda part: _stream_order(part.stream))
    first = parts[0]
    lines = [f"{first.dataset}, {first.protocol}, {first.evaluated_on}: {len(first.ids)} sequences", ""]
    names = [_symbol(part.stream) for part in parts] + [each.name for each in fused]
    width = max(map(len, names))
    for part in parts:
        known = [part.encoder, part.arm and f"contrast {part.arm}", "" if part.seed is None else f"seed {part.seed}"]
        what = ", ".join(filter(None, known))
        lines.append(f"{_symbol(part.stream):{width}}  {100 * part.accuracy:6.2f} %  {what}  {part.run}")
    for each in fused:
        weights = " + ".join(
            f"{weight:g} {_symbol(part.stream)}" for part, weight in zip(each.parts, each.weights, strict=True)
        )
        lines.append(f"{each.name:{width}}  {100 * each.accuracy:6.2f} %  {weights}")
    last = fused[-1]
    lines += _without_copies([*parts, *(each.scores for each in fused)], names)
    lines += [f"! {remark}" for remark in last.remarks]
    lines += ["", f"accuracy of each class, {last.name} ({', '.join(_symbol(part.stream) for part in parts)} alone):"]
    single = [per_class_accuracy(part) for part in parts]
    counts = np.bincount(last.scores.labels, minlength=len(last.per_class))
    classes = last.scores.classes or tuple(f"{label:3d}" for label in range(len(last.per_class)))
    width = max(map(len, classes))
    for name, accuracy, alone, count in zip(classes, last.per_class, zip(*single, strict=True), counts, strict=True):
        lines.append(f"  {name:<{width}}  {_percent(accuracy)}  ({', '.join(map(_percent, alone))})  of {count}")
    return "\n".join(lines)


def _without_copies(scores: Sequence[Scores], names: Sequence[str]) -> list[str]:
    """The same accuracies over the sequences that are no copies of training sequences, where there are copies."""
    found = [each.accuracy_without_copies for each in scores]
    numbers = [f"{name} {100 * each[0]:.2f} %" for name, each in zip(names, found, strict=True) if each]
    if len(numbers) < len(scores):
        return []
    total, kept = len(scores[0].ids), found[0][1] if found[0] else 0
    return ["", f"without the {total - kept} copies of training sequences ({kept} left): {', '.join(numbers)}"]


def _percent(accuracy: float) -> str:
    return "     –" if np.isnan(accuracy) else f"{100 * accuracy:6.2f}"


def parse_weights(text: str) -> str | tuple[float, ...]:
    """Read ``--weights``: a preset's name, or numbers separated by commas or spaces.

    Raises:
        UserError: it is neither.
    """
    words = text.replace(",", " ").split()
    if len(words) == 1 and words[0].lower() in presets():
        return words[0].lower()
    try:
        return tuple(float(word) for word in words) if words else _unknown_preset(text)
    except ValueError:
        return _unknown_preset(text)


def _unknown_preset(name: str) -> str:
    raise UserError(
        f"unknown weights '{name}'{nearest(name.lower(), presets())}; allowed: numbers (0.6,0.4), or one of "
        f"{', '.join(presets())}"
    )


def _preset(name: str, parts: Sequence[Scores]) -> tuple[float, ...]:
    known = presets()
    if name not in known:
        _unknown_preset(name)
    seen: dict[str, str] = {}
    for part in parts:
        if part.stream in seen:
            raise _no_preset(name, f"go by stream, and both {seen[part.stream]} and {part.run} are of '{part.stream}'")
        seen[part.stream] = part.run
    return _weights_of(known[name], parts)


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

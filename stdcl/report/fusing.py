"""Which lines of a table are fused, the streams of one configuration, and what comes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stdcl import specs
from stdcl.errors import UserError
from stdcl.report.answers import SweepAnswers
from stdcl.report.labels import value_text
from stdcl.report.lines import Line, varied
from stdcl.results.fusion import fuse
from stdcl.results.layout import RunFolder
from stdcl.results.scores import Scores, read_scores

_STREAM = "data.stream"
_OWN = "the encoder's own of the stream"
NO_SEED = "no common seed"
"""In place of states, where no seed is in all streams."""


@dataclass(frozen=True)
class Fusion:
    """Lines that are fused.

    Attributes:
        parts: one per stream, in the order of the streams; where it is not known which, the first of each.
        choices: combinations that it would be; more than one where no setting is common to all streams.
        differing: keys in which these differ.
        trials: ``sweep/trial`` of the trials of all of them.
        note: options of the parts, where they are not the same, or other lines were passed over; else empty.
    """

    parts: tuple[Line, ...]
    choices: int = 1
    differing: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()
    note: str = ""

    @property
    def line(self) -> Line:
        """As what it is compared: the first part, with what the others have otherwise beside its settings."""
        first = self.parts[0]
        beside = _beside(self.parts, _mixed(self.parts))
        return replace(
            first,
            settings={**first.settings, **_beside(self.parts, _apart(self.parts))},
            cells=tuple(replace(cell, parameters={**cell.parameters, **beside}) for cell in first.cells),
        )

    @property
    def planned(self) -> tuple[int, ...]:
        """The seeds that were planned in all streams."""
        first, *others = self.parts
        return tuple(seed for seed in first.planned if all(seed in part.planned for part in others))

    @property
    def states(self) -> dict[int, str]:
        """Seed that all streams have -> finished where it is in all of them, else what it is in those where not."""
        first, *others = ({trial.seed: trial.state for trial in part.trials} for part in self.parts)
        return {
            seed: _of_all([state, *(each[seed] for each in others)])
            for seed, state in first.items()
            if all(seed in each for each in others)
        }


def _of_all(states: Sequence[str]) -> str:
    waiting = [state for state in states if state != "finished"]
    return "failed" if "failed" in waiting else next(iter(waiting), "finished")


def fusions(lines: Sequence[Line], needed: Sequence[str]) -> list[Fusion]:
    """What can be fused of lines.

    Lines belong together that differ in their streams alone. Where a stream has several lines, with other options of
    the encoder, those with the same options do: the same values, or in each stream what its encoder chooses for it.

    Args:
        lines: of any streams and configurations.
        needed: the streams, in order.
    """
    groups: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        groups.setdefault(line.apart_from_stream, {}).setdefault(line.place.stream, []).append(line)
    return [
        fusion
        for streams in groups.values()
        if all(stream in streams for stream in needed)
        for fusion in _of_group([streams[stream] for stream in needed])
    ]


def _of_group(streams: Sequence[Sequence[Line]]) -> list[Fusion]:
    keys = tuple(dict.fromkeys(key for lines in streams for key in varied(lines)))
    alike = [*_alike(streams, keys, _given), *_alike(streams, keys, _chosen)]
    found = list({tuple(map(id, parts)): parts for parts in alike}.values())
    if not found:
        return [
            Fusion(
                parts=tuple(lines[0] for lines in streams),
                choices=math.prod(map(len, streams)),
                differing=keys,
                trials=tuple(name for lines in streams for line in lines for name in line.names),
            )
        ]
    passed_over = keys if len(found) == 1 else ()
    return [
        Fusion(parts, trials=tuple(name for part in parts for name in part.names), note=_note(parts, passed_over))
        for parts in found
    ]


def _alike(
    streams: Sequence[Sequence[Line]], keys: Sequence[str], value: Callable[[Line, str], Any]
) -> list[tuple[Line, ...]]:
    """Lines, one per stream, with equal values of keys."""
    first, *others = ({json.dumps([value(line, key) for key in keys]): line for line in lines} for lines in streams)
    return [(line, *(each[same] for each in others)) for same, line in first.items() if all(same in o for o in others)]


def _given(line: Line, key: str) -> Any:
    return line.settings.get(key)


def _chosen(line: Line, key: str) -> Any:
    """An option's value; one text for all that encoders choose by the stream."""
    kind = specs.encoders().get(line.place.encoder)
    option = key.removeprefix("encoder.")
    if kind is not None and option != key:
        data = {name.removeprefix("data."): value for name, value in line.settings.items() if name.startswith("data.")}
        own = kind.settle({"name": line.place.encoder}, data)
        if option in own and own[option] == _given(line, key):
            return _OWN
    return _given(line, key)


def _note(parts: Sequence[Line], passed_over: Sequence[str]) -> str:
    keys = dict.fromkeys([*passed_over, *_mixed(parts)])
    if not keys:
        return ""
    said = [
        f"{part.place.stream} with {', '.join(f'{key} {value_text(_given(part, key))}' for key in keys)}"
        for part in parts
    ]
    return f"fused of {' and '.join(said)}{'; no other of their lines belong together' if passed_over else ''}"


def _beside(parts: Sequence[Line], keys: Sequence[str]) -> dict[str, Any]:
    return {f"{part.place.stream}: {key}": _given(part, key) for part in parts[1:] for key in keys}


def _mixed(parts: Sequence[Line]) -> tuple[str, ...]:
    """Options that are neither the same in all parts nor the encoder's own for each stream."""
    return tuple(key for key in _apart(parts) if not all(_chosen(part, key) == _OWN for part in parts))


def _apart(parts: Sequence[Line]) -> tuple[str, ...]:
    return tuple(key for key in varied(parts) if key != _STREAM)


def fused_scores(fusion: Fusion, answers: SweepAnswers) -> tuple[dict[int, Scores], list[str]]:
    """Fuse the scores of each seed that is finished in all streams.

    Args:
        fusion: whose.
        answers: of the table's trials; what is not among them has no usable scores.

    Returns:
        Seed -> scores; and what was left out and why.
    """
    found: dict[int, Scores] = {}
    left_out: list[str] = []
    for seed in sorted(seed for seed, state in fusion.states.items() if state == "finished"):
        trials = [trial for part in fusion.parts for trial in part.finished if trial.seed == seed]
        without = [trial.key for trial in trials if trial.key not in answers.by_trial]
        if without:
            left_out.append(f"seed {seed} left out: no usable scores of {', '.join(without)}")
            continue
        try:
            found[seed] = fuse([read_scores(RunFolder(trial.folder).scores()) for trial in trials]).scores
        except UserError as error:
            left_out.append(f"seed {seed} left out: {error}")
    return found, left_out

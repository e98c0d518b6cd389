"""Arms: the lines of a sweep's comparison, and which trials may be compared with each other.

An arm is a name and the dotted keys that make its runs differ from the sweep's base. A sweep file states its arms, or
they are what its runs are trained with: a method's name, ``baseline`` for cross-entropy alone. Arms multiply with the
other axes (encoder, dataset, protocol, stream and any key of the grid) and with the seeds.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from stdcl.config.contrast import Strategy
from stdcl.config.model import METHOD, METHOD_NAME, NO_METHOD, STDCL, RunConfig, is_baseline, is_treatment
from stdcl.errors import UserError, nearest

BASELINE = "baseline"
"""The arm of cross-entropy alone, where a file states no arms."""
ARM = "arm"
SEED = "seed"
AXES: Mapping[str, str] = MappingProxyType(
    {
        "encoder": "encoder.name",
        "dataset": "data.dataset",
        "protocol": "data.protocol",
        "stream": "data.stream",
    }
)
"""Short name of an axis in ``grid``, ``cells`` and ``exclude`` -> the dotted key that it varies."""
DATASET = AXES["dataset"]

Cell = Mapping[str, Any]
"""Dotted key -> value, of what a sweep varies beside its arms."""


@dataclass(frozen=True)
class Arm:
    """A line of a comparison.

    Attributes:
        name: it.
        settings: dotted key -> value, put over the sweep's base.
        method: what is trained with beside cross-entropy: a method's name, empty for nothing.
    """

    name: str
    settings: Mapping[str, Any]
    method: str

    @property
    def plain(self) -> bool:
        """Whether it is trained with cross-entropy alone."""
        return not self.method

    def own(self, cell: Cell) -> dict[str, Any]:
        """Return what of a cell the arm reads: without STD-CL that is no ``contrast.temperature``."""
        method = _method_of_cell(cell, self.method)
        return {key: value for key, value in cell.items() if key == METHOD_NAME or _reads(method, key)}


def arm_of(config: RunConfig) -> str:
    """Return the name of a run's arm where its sweep states none: its method's name, or ``baseline``."""
    return config.method_name or BASELINE


def method_of(raw: Mapping[str, Any]) -> str:
    """Return what a raw configuration is trained with beside cross-entropy; empty for nothing."""
    method, contrast = raw.get(METHOD), raw.get("contrast")
    name = method.get("name") if isinstance(method, Mapping) else None
    if name not in (None, STDCL):
        return "" if name == NO_METHOD else str(name)
    strategy = contrast.get("strategy") if isinstance(contrast, Mapping) else None
    return "" if strategy == "none" else STDCL


def _method_of_cell(cell: Cell, otherwise: str) -> str:
    if is_baseline(cell):
        return ""
    return str(cell.get(METHOD_NAME, otherwise))


def _reads(method: str, key: str) -> bool:
    """Whether a run with a method can read a key at all (of STD-CL's own keys, see ``config.unread``)."""
    if key.startswith("contrast."):
        return method == STDCL
    if key.startswith(f"{METHOD}."):
        return method not in ("", STDCL)
    return bool(method) or not is_treatment(key)


def shared(cell: Cell) -> dict[str, Any]:
    """Return what of a cell says in which setting it is, and nothing about what is trained with."""
    return {key: value for key, value in cell.items() if not is_treatment(key)}


def setting(parameters: Cell) -> str:
    """Return a text, equal for cells that may be compared across arms: they differ in what is trained with alone.

    Encoder, dataset, protocol, stream and every other varied key are the same. Whether two *results* are of the same
    sequences of the same data is ``report.answers.SweepAnswers.common``'s question.
    """
    return json.dumps(shared(parameters), sort_keys=True)


# ---- the product ---------------------------------------------------------------------------------------------------


def product(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of a grid's values; none for an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []


def excluded(rules: Iterable[Mapping[str, Any]], cell: Cell, arm: str = "") -> bool:
    """Whether one of the rules names a cell: every key of the rule has the cell's value, or one of several."""
    return any(_fits(rule, {**cell, ARM: arm}) for rule in rules)


def _fits(rule: Mapping[str, Any], cell: Cell) -> bool:
    return all(key in cell and cell[key] in _values(value) for key, value in rule.items())


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def exclusion_faults(rules: Sequence[Mapping[str, Any]], axes: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield what is wrong with rules of ``exclude``.

    Args:
        rules: them.
        axes: what is varied -> its values; ``arm`` among them where arms are stated.
    """
    for number, rule in enumerate(rules, 1):
        where = f"exclude, rule {number}"
        if not rule:
            yield f"{where}: it names no key, and so every cell"
        for key, value in rule.items():
            if key == SEED:
                yield f"{where}: '{SEED}' is no key of a cell; every cell is trained with the same seeds"
            elif key not in axes:
                hint = "" if key != ARM else "; name arms under 'arms'"
                yield f"{where}: '{key}' is not varied{nearest(key, axes) or hint}; varied: {', '.join(axes)}"
            else:
                for each in _values(value):
                    if each not in axes[key]:
                        known = [str(one) for one in axes[key]]
                        near = nearest(str(each), known)
                        yield f"{where}: '{key}' has no value {each!r}{near}; values: {', '.join(known)}"


def unique(cells: Iterable[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return (arm, cell) pairs without repeats, in their order."""
    return list({f"{arm} {json.dumps(cell, sort_keys=True)}": (arm, cell) for arm, cell in cells}.values())


# ---- names -----------------------------------------------------------------------------------------------------------

ARM_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


def name_fault(name: str) -> str:
    """Return what is wrong with an arm's name; empty if nothing is."""
    if not ARM_PATTERN.fullmatch(name):
        return f"'{name}': at most 40 letters, digits and _ . + - are expected, the first a letter or a digit"
    return f"'{name}' was what release 0.1 called every arm; give another name" if name == FORMER else ""


FORMER = "grid"
"""What release 0.1 wrote for every arm that was not the baseline."""


def present_name(arm: str, parameters: Cell, strategy: str = "") -> str:
    """Return today's name of an arm that a folder of any release holds.

    Args:
        arm: as it is there.
        parameters: what the sweep varies.
        strategy: of the contrast, or the method's name, where it is known; release 0.1 knew STD-CL alone.
    """
    if arm != FORMER:
        return arm
    if strategy == "none" or is_baseline(parameters):
        return BASELINE
    return strategy if strategy and strategy not in get_args(Strategy) else str(parameters.get(METHOD_NAME, STDCL))


def trial_key(first: str, parameters: Cell, seed: int, fingerprint: str) -> str:
    """Return a trial's name: ``arm=stdcl,stream=joint,seed=1,01234567``.

    Args:
        first: ``arm=`` and a stated arm's name, or ``baseline`` of ``baseline: true``; empty where parameters say it.
        parameters: what is varied.
        seed: of the training.
        fingerprint: of the configuration.
    """
    parts = [f"{key.split('.')[0 if key.endswith('.name') else -1]}={_slug(v)}" for key, v in parameters.items()]
    if first:
        parts.insert(0, first)
    return f"{','.join(parts)[:96]},{SEED}={seed},{fingerprint[:8]}"


def stated_arm(key: str) -> str:
    """Return the stated arm in a trial's name; empty where its sweep states none."""
    first = key.split(",", 1)[0]
    return first.removeprefix(f"{ARM}=") if first.startswith(f"{ARM}=") else ""


def _slug(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-")


# ---- the reference ---------------------------------------------------------------------------------------------------


def reference_of(arms: Sequence[Arm], named: str | None) -> str:
    """Return the arm that the others are compared with: the named one, else cross-entropy alone, else the first.

    Raises:
        UserError: there is no arm of that name.
    """
    names = [arm.name for arm in arms]
    if named is not None:
        if named not in names:
            raise UserError(f"'reference' is '{named}'{nearest(named, names)}; arms are {', '.join(names)}")
        return named
    return next((arm.name for arm in arms if arm.plain), names[0])


@dataclass(frozen=True)
class References:
    """What the cells of a sweep are compared with.

    Attributes:
        of: per cell the index of its reference; None for a reference itself, and for a cell without one.
        unclear: the cells that have none because several cells of the reference's arm fit alike.
    """

    of: tuple[int | None, ...]
    unclear: tuple[int, ...]


def references_of(cells: Sequence[tuple[str, Cell]], reference: str) -> References:
    """Pair the cells of a sweep with those of its reference.

    A cell's reference is in the same setting, and has the same value of every varied key that both read: with arms that
    are trained with STD-CL alike, each temperature is compared with the same one. A reference that has one cell in a
    setting is what all others of the setting are compared with.

    Args:
        cells: name of the arm, and what is varied beside it, each once.
        reference: name of the arm that the others are compared with.
    """
    found: dict[str, list[int]] = {}
    for index, (arm, cell) in enumerate(cells):
        if arm == reference:
            found.setdefault(setting(cell), []).append(index)
    of: list[int | None] = []
    unclear: list[int] = []
    for index, (arm, cell) in enumerate(cells):
        fitting = [] if arm == reference else found.get(setting(cell), [])
        if len(fitting) > 1:
            fitting = [other for other in fitting if _agree(cell, cells[other][1])]
            if len(fitting) > 1:
                unclear.append(index)
        of.append(fitting[0] if len(fitting) == 1 else None)
    return References(tuple(of), tuple(unclear))


def _agree(one: Cell, other: Cell) -> bool:
    return all(other[key] == value for key, value in one.items() if key in other)

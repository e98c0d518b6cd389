"""The shape of a sweep file: one question, asked by many trainings.

A sweep is a base configuration plus either a grid (every combination, for ablations) or a search space (sampled by
Optuna, judged on held-out training subjects). Its trials are listed, named and checked before anything starts.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stdcl.config import arms as arm_rules
from stdcl.config.arms import ARM, BASELINE, DATASET, Arm, method_of, trial_key
from stdcl.config.checkpoints import CHECKPOINTS, SweepCheckpointsConfig
from stdcl.config.compare import CompareConfig
from stdcl.config.confirms import ConfirmsConfig
from stdcl.config.explain import Origin
from stdcl.config.fingerprint import fingerprint
from stdcl.config.keys import check_path, is_section
from stdcl.config.load import (
    Raw,
    check_kind,
    long_spelling,
    meet_plugins,
    merge,
    override,
    put,
    read_located,
    read_mapping,
    resolve,
    validate_fragment,
)
from stdcl.config.model import (
    METHOD,
    METHOD_NAME,
    NO_METHOD,
    STDCL,
    ResourcesConfig,
    RunConfig,
    is_baseline,
)
from stdcl.config.paths import SINGLE_RUNS
from stdcl.config.section import Natural, Positive, Section, Seed
from stdcl.config.space import Choices, OptunaConfig, Parameter, corners
from stdcl.config.space import faults as space_faults
from stdcl.config.unread import leaves, replaced, unread
from stdcl.config.yaml_text import show
from stdcl.errors import UserError, nearest

ENCODER_NAME = "encoder.name"


class SweepConfig(Section):
    """A sweep file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Names the sweep's folder, its study and its W&B group."""
    question: str = Field(min_length=1)
    """What the sweep is to answer, in a sentence."""
    base: dict[str, Any]
    """The run configuration that all trials share (as in a run file, without resources and checkpoints)."""
    search: Literal["grid", "optuna"] = "grid"
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """Dotted key, or encoder, dataset, protocol, stream -> values; every combination is a cell."""
    cells: list[dict[str, Any]] = Field(default_factory=list)
    """Instead of a grid: the cells one by one, each with a value for the same keys."""
    paths: dict[str, str] = Field(default_factory=dict)
    """Dataset -> path of its store, where the sweep varies the dataset; by default its name, under $STDCL_DATA."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Rules that take cells out of the product: each names keys of the grid, or arm, with a value or several."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name -> dotted keys over the base: the lines of the comparison. They multiply with grid, cells and seeds; an arm
    is trained once where it does not read what a cell varies. Without, arms are named by their method."""
    reference: str | None = None
    """The arm that the others are compared with; null: the one of cross-entropy alone, else the first."""
    baseline: bool = False
    """Without arms: also train without contrast, once for each value of the other keys."""
    space: dict[str, Parameter] = Field(default_factory=dict)
    """Dotted key -> range or choices, for search: optuna."""
    optuna: OptunaConfig | None = None
    warm_start: list[str] = Field(default_factory=list)
    """Of a search: earlier sweeps (names, or folders) whose comparable results its history begins with."""
    seeds: list[Seed] = Field(default_factory=lambda: [1], min_length=1)
    """Each cell is trained once with each. Seeds that are added after a result make a table exploratory, unless looks
    are named."""
    table: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The paper's table that the sweep fills: 1, 2, 3, 4a, 4b, 4c, 4d or 4e, or a name of one's own."""
    compare: CompareConfig | None = None
    """The questions of the table, one family of tests: to baseline, {to value: 8}, trend, {trend: log}, nothing. By
    default every cell is compared with its baseline, if there is one."""
    margin: float | None = Field(default=None, gt=0, lt=100)
    """Points of accuracy that count as no difference in practice; by default the dataset's (docs/statistics.md)."""
    looks: list[Positive] | None = None
    """Numbers of seeds after which the table may be judged, for example [3, 5, 10]; the last is the number of seeds."""
    spending: Literal["obrien-fleming", "pocock"] | None = None
    """How the looks share the error; null: obrien-fleming, little of it at first."""
    confirms: ConfirmsConfig | None = None
    """The search whose best configurations are trained again here; `stdcl confirm` writes it."""
    resources: ResourcesConfig = ResourcesConfig()
    """What each trial gets."""
    checkpoints: SweepCheckpointsConfig = SweepCheckpointsConfig()
    """What the trials' checkpoints may take of the disk."""
    max_concurrent_trials: Positive | Literal["auto"] = "auto"
    """auto: as many as the cluster holds."""
    alone: bool = False
    """One trial at a time, each in a process of its own, none taken over from another sweep: for memory and times."""
    retries: Natural = 1
    """How often a trial whose driver died is started again."""

    @field_validator("table", mode="before")
    @classmethod
    def _number_of_a_table(cls, value: Any) -> Any:
        """Tables 1 to 3 need no quotes."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_kind(self) -> SweepConfig:
        if self.search == "grid":
            if self.space or self.optuna or self.warm_start:
                raise ValueError(
                    "'space', 'optuna' and 'warm_start' belong to search: optuna; a grid lists its values under 'grid'"
                )
            if self.grid and self.cells:
                raise ValueError("'grid' and 'cells' both list cells; give one of them")
            if len({tuple(sorted(cell)) for cell in self.cells}) > 1 or {} in self.cells:
                raise ValueError("each of 'cells' must give a value for the same keys")
            if not self.grid and not self.cells and not self.baseline and not self.arms:
                raise ValueError("'grid' names no key to vary; give one, for example contrast.temperature: [0.5, 0.8]")
        else:
            if self.grid or self.cells or self.baseline or self.arms or self.exclude:
                raise ValueError(
                    "'grid', 'cells', 'exclude', 'arms' and 'baseline' belong to search: grid; a search lists ranges "
                    "under 'space'"
                )
            if not self.space:
                raise ValueError("'space' names no key to search")
            if fault := next(space_faults(self.space), ""):
                raise ValueError(fault)
            if self.compare or self.margin or self.looks:
                raise ValueError("'compare', 'margin' and 'looks' belong to search: grid; a search proves nothing")
            if len(self.seeds) != 1:
                raise ValueError("a search trains each sample once; give one seed, then `stdcl confirm` its best")
        if self.alone and self.max_concurrent_trials not in ("auto", 1):
            raise ValueError(
                f"alone: true runs one trial at a time, but max_concurrent_trials is {self.max_concurrent_trials}; "
                "leave one of them out"
            )
        if self.name == SINGLE_RUNS:
            raise ValueError(f"the name '{self.name}' is that of the folder of single runs; choose another")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat")
        self._check_arms()
        self._check_questions()
        self._check_confirms()
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid '{key}' has no values")
            if len({json.dumps(v, sort_keys=True) for v in values}) != len(values):
                raise ValueError(f"grid '{key}' repeats a value: {values}")
        return self

    def _check_arms(self) -> None:
        if self.arms and self.baseline:
            raise ValueError(
                f"'baseline' adds an arm to a file without arms; state it under 'arms', as in "
                f"{BASELINE}: {{{METHOD_NAME}: {NO_METHOD}}}"
            )
        if self.reference is not None and not self.arms:
            raise ValueError("'reference' names one of 'arms', which are not given")
        for name, settings in self.arms.items():
            if fault := arm_rules.name_fault(name):
                raise ValueError(f"arms: {fault}")
            both = [key for key in settings if key in self.values()]
            if both:
                raise ValueError(
                    f"the arm '{name}' sets '{both[0]}', which the cells vary; leave it out of one of them"
                )
        if self.exclude and self.cells:
            raise ValueError("'exclude' takes cells out of a grid's product; of 'cells', leave them out")
        axes = {**self.grid, **({ARM: list(self.arms)} if self.arms else {})}
        faults = list(arm_rules.exclusion_faults(self.exclude, axes))
        if faults:
            raise ValueError(faults[0])

    def _check_questions(self) -> None:
        kind = self.compare.kind if self.compare else "nothing"
        has_baseline = any(is_baseline({key: value}) for key, values in self.values().items() for value in values)
        if kind == "to baseline" and not self.baseline and not has_baseline and len(self.arms) < 2:
            raise ValueError("compare: to baseline, but there is none; set baseline: true, or state arms")
        if kind == "to value" and self.compare and not self.compared_keys():
            raise ValueError(f"compare: to value: {self.compare.value}, which no key of the grid has")
        if kind == "trend" and not self.compared_keys():
            raise ValueError("compare: trend, but no key of the grid has three numbers or more")
        if len(self.compared_keys()) > 1:
            keys = " and ".join(self.compared_keys())
            raise ValueError(f"compare: {kind} can be a question about {keys}; vary one of them in a sweep of its own")
        looks = self.looks or []
        if looks and (looks != sorted(set(looks)) or looks[0] < 2 or looks[-1] != len(self.seeds)):
            raise ValueError(
                f"looks {looks}: ascending numbers of seeds are expected, the first at least 2 and the last all "
                f"{len(self.seeds)}"
            )

    def _check_confirms(self) -> None:
        if self.confirms is None:
            return
        unknown = [arm for arm in self.confirms.arms if arm not in self.arms]
        if unknown:
            raise ValueError(f"confirms: '{unknown[0]}' is none of the arms{nearest(unknown[0], self.arms)}")
        used = sorted(set(self.seeds) & set(self.confirms.seeds))
        if used:
            raise ValueError(f"confirms: the search has used the seed {used[0]}; fresh seeds are needed")

    @property
    def search_settings(self) -> OptunaConfig:
        """The section ``optuna``, with its defaults where it is left out."""
        return self.optuna or OptunaConfig()

    def at_once(self, room: int) -> int:
        """Return how many trials run at once where ``room`` of them fit."""
        if self.alone:
            return min(1, room)
        return room if self.max_concurrent_trials == "auto" else min(self.max_concurrent_trials, room)

    def compared_keys(self) -> list[str]:
        """Return the keys that ``compare`` can mean: with the value, or of a trend."""
        if self.compare is None or self.compare.kind not in ("to value", "trend"):
            return []
        if self.compare.kind == "to value":
            return [key for key, values in self.values().items() if self.compare.value in values]
        return [
            key
            for key, values in self.values().items()
            if len(values) > 2 and all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
        ]

    def values(self) -> dict[str, list[Any]]:
        """Return the values of each key that a grid or cells vary, or choices of a search."""
        values = {key: list(each) for key, each in self.grid.items()}
        values |= {key: list(each.values) for key, each in self.space.items() if isinstance(each, Choices)}
        for cell in self.cells:
            for key, value in cell.items():
                known = values.setdefault(key, [])
                known += [] if value in known else [value]
        return values


@dataclass(frozen=True)
class Trial:
    """One configuration and one seed. ``key`` names its folder, from its content, so a restart finds it."""

    key: str
    arm: str
    parameters: dict[str, Any]
    seed: int
    config: RunConfig
    fingerprint: str


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: its file's content and the base it resolves to.

    Attributes:
        config: the file's content.
        base: what its trials share.
        origin: where each key was written.
        paths: dataset -> path of its store, where the base gives none and they are settled.
    """

    config: SweepConfig
    base: Raw
    origin: Origin
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The sweep file's name."""
        return self.origin.file

    @property
    def parameters(self) -> tuple[str, ...]:
        """The varied keys."""
        first = self.config.cells[0] if self.config.cells else {}
        return tuple(self.config.grid or self.config.space or first)

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that the file states."""
        return tuple(Arm(name, settings, method_of(self._raw(settings))) for name, settings in self.config.arms.items())

    @property
    def reference(self) -> str:
        """The arm that the others are compared with; a file that states none may have no such arm."""
        return arm_rules.reference_of(self.arms, self.config.reference) if self.arms else BASELINE

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of its trials."""
        varied = self.config.values().get(DATASET, [])
        stated = [settings[DATASET] for settings in self.config.arms.values() if DATASET in settings]
        return tuple(dict.fromkeys([*varied, *stated, *filter(None, [self.base_value(DATASET)])]))

    def base_value(self, path: str) -> Any:
        """Return what the base says at a dotted path; None if nothing."""
        at: Any = self.base
        for name in path.split("."):
            at = at.get(name) if isinstance(at, Mapping) else None
        return at

    def settings_of(self, arm: str) -> Mapping[str, Any]:
        """Return what an arm puts over the base: dotted key -> value."""
        if self.config.arms:
            return self.config.arms.get(arm, {})
        return {METHOD_NAME: NO_METHOD} if arm == BASELINE and self.config.baseline else {}

    def make_trial(self, arm: str, parameters: dict[str, Any], seed: int) -> Trial:
        """Resolve one trial; UserError names the cell if it is impossible.

        Args:
            arm: a stated one, or ``baseline``; any other text where the file states none.
            parameters: dotted key -> value, of what is varied.
            seed: of the training.
        """
        try:
            return self._resolve(arm, parameters, seed)
        except UserError as error:
            cell = cell_name(arm, parameters, stated=bool(self.config.arms))
            raise UserError("\n".join(f"{line} (in {cell})" for line in str(error).splitlines())) from None

    def _raw(self, given: Mapping[str, Any]) -> Raw:
        """The base with dotted keys put over it."""
        raw = merge(self.base, {})
        # Names first: another encoder or method has other options, so none of the base's survive.
        for key, value in sorted(given.items(), key=lambda pair: pair[0] not in (ENCODER_NAME, METHOD_NAME)):
            if key == ENCODER_NAME:
                raw["encoder"] = {"name": value}
            elif key == METHOD_NAME:
                _put_method(raw, value)
            else:
                put(raw, key, value)
        return raw

    def _resolve(self, arm: str, parameters: dict[str, Any], seed: int) -> Trial:
        settings = self.settings_of(arm)
        raw = self._raw({**settings, **parameters})
        put(raw, "training.seed", seed)
        data = raw.get("data")
        if isinstance(data, dict) and not {"path", "synthetic"} & data.keys() and data.get("dataset") in self.paths:
            data["path"] = self.paths[data["dataset"]]
        stated = bool(self.config.arms)
        config = resolve(raw, self._origin_of(tuple(parameters), arm if stated else ""))
        if stated:
            first = f"{ARM}={arm}"
        else:
            first, arm = (BASELINE if settings else ""), arm_rules.arm_of(config)
        digest = fingerprint(config)
        return Trial(trial_key(first, parameters, seed, digest), arm, parameters, seed, config, digest)

    def _origin_of(self, parameters: tuple[str, ...], arm: str) -> Origin:
        """Where the keys of a cell stand; all cells of an arm with the same parameters share one."""
        if (arm, parameters) not in self._origins:
            self._origins[arm, parameters] = self.origin.of_cell(parameters, arm)
        return self._origins[arm, parameters]

    @cached_property
    def _origins(self) -> dict[tuple[str, tuple[str, ...]], Origin]:
        return {}

    def make_trials(self, cells: Sequence[tuple[str, dict[str, Any]]], seeds: Sequence[int]) -> list[Trial]:
        """Resolve every cell (arm, parameters) with every seed; UserError has a line for each fault of any cell."""
        out: list[Trial] = []
        faults: dict[str, dict[str, None]] = {}
        # Seeds outermost: an interrupted sweep has compared every cell before it repeats one.
        for seed in seeds:
            for arm, parameters in cells:
                try:
                    out.append(self._resolve(arm, parameters, seed))
                except UserError as error:
                    for line in str(error).splitlines():
                        cell = cell_name(arm, parameters, stated=bool(self.config.arms))
                        faults.setdefault(line, {})[cell] = None
        if faults:
            raise UserError("\n".join(with_cells(line, list(which), len(cells)) for line, which in faults.items()))
        return out

    def trials(self) -> list[Trial]:
        """Return every trial of a grid, by seed and cell; empty for a search, whose trials are not known beforehand."""
        return list(self._trials)

    def boundary_trials(self) -> list[Trial]:
        """Return trials that touch both ends of every range of a search space, and each of its choices."""
        return list(self._boundary_trials)

    @cached_property
    def _boundary_trials(self) -> Sequence[Trial]:
        cells = corners(self.config.space)
        return self.make_trials([("", cell) for cell in cells], self.config.seeds)

    def cells(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the cells of a grid, each as an arm's name (empty for one that the cell itself decides) and a cell.

        Raises:
            UserError: a rule of ``exclude`` takes out no cell, or all are taken out.
        """
        config = self.config
        whole = arm_rules.product(config.grid) + config.cells
        if config.arms:
            pairs = [(arm, cell) for cell in whole or [{}] for arm in self.arms]
            kept = [(arm, cell) for arm, cell in pairs if not arm_rules.excluded(config.exclude, cell, arm.name)]
            in_vain = [r for r in config.exclude if not any(arm_rules.excluded([r], c, a.name) for a, c in pairs)]
            out = arm_rules.unique((arm.name, arm.own(cell)) for arm, cell in kept)
        else:
            remaining = [cell for cell in whole if not arm_rules.excluded(config.exclude, cell)]
            in_vain = [r for r in config.exclude if not any(arm_rules.excluded([r], cell) for cell in whole)]
            # A baseline differs along the keys that are not a method's: those have no meaning in it.
            baselines = [(BASELINE, arm_rules.shared(cell)) for cell in remaining or [{}] if config.baseline]
            out = arm_rules.unique(baselines) + [("", cell) for cell in remaining]
        where = self.origin.at(("exclude",))
        if in_vain:
            raise UserError(f"{where}: the rule {in_vain[0]} takes out no cell; leave it out")
        if not out or (config.exclude and all(arm == BASELINE and not cell for arm, cell in out)):
            raise UserError(f"{where}: every cell is taken out; leave a rule out")
        return out

    @cached_property
    def _trials(self) -> Sequence[Trial]:
        if self.config.search != "grid":
            return []
        out = self.make_trials(self.cells(), self.config.seeds)
        seen: dict[str, Trial] = {}
        for trial in out:
            twin = seen.setdefault(trial.fingerprint, trial)
            if twin is not trial:
                raise UserError(self._twins(twin, trial))
        return out

    def _twins(self, one: Trial, other: Trial) -> str:
        given = {**self.settings_of(other.arm), **other.parameters}
        reasons = [f"; {why}" for key, why in unread(other.config).items() if key in given]
        what = f"the same configuration (seed {other.seed}){''.join(reasons)}; remove one"
        if one.arm != other.arm:
            cell = f" in {cell_name('', other.parameters)}" if other.parameters else ""
            return f"{self.where}: the arms '{one.arm}' and '{other.arm}' are{cell} {what}"
        names = (trial.parameters or trial.arm for trial in (one, other))
        return f"{self.where}: the cells {' and '.join(map(str, names))} are {what}"


def _put_method(raw: Raw, name: Any) -> None:
    """Let a run be trained with a method; another one has other options, so none of the base's survive."""
    if name != STDCL:
        raw.pop("contrast", None)
    raw[METHOD] = {"name": name}


def cell_name(arm: str, parameters: Mapping[str, Any], *, stated: bool = False) -> str:
    """Return how a message names a cell: what it varies, else its arm; both where the sweep states its arms."""
    varied = [f"{key}={value}" for key, value in parameters.items()]
    return ", ".join([f"{ARM}={arm}", *varied] if stated else varied) or arm


def with_cells(line: str, which: Sequence[str], cells: int) -> str:
    """Say in which cells a fault is, unless it is in all of several: then it is not the cell's."""
    if len(which) == cells > 1:
        return line
    more = f" and {len(which) - 1} more" if len(which) > 1 else ""
    return f"{line} (in {which[0]}{more})"


def _as_it_is(base: Raw) -> Raw:
    return base


def load_sweep(
    path: Path, overrides: Sequence[str] = (), *, saved: bool = False, settle: Callable[[Raw], Raw] = _as_it_is
) -> Sweep:
    """Read and check a sweep file, every trial of a grid included.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` texts; a path is one of the sweep's own keys (``seeds``, ``resources.workers``,
            ``optuna.trials``, ``base.training.epochs``) or of a run (``training.epochs``, short for ``base....``).
        saved: the file is a sweep folder's own, perhaps of an earlier version: its trials were checked when it was
            written, and are resolved where they are asked for.
        settle: gives the base that trials are made of from the file's; each trial is resolved once.

    Raises:
        UserError: with a line for each fault.
    """
    raw, origin = read_located(path)
    check_kind(raw, path, "a sweep file", overrides)
    raw = _extended(raw, path, origin)
    if isinstance(raw.get("base"), Mapping):
        meet_plugins(raw["base"])
    given, faults = override(raw, overrides, _sweep_path)
    raw = long_spelling(raw)
    origin = replace(origin, overrides=given)
    try:
        config: SweepConfig = validate_fragment(SweepConfig, raw, origin)
    except UserError as error:
        raise UserError("\n".join([*faults, str(error)])) from None
    varied: list[tuple[tuple[Any, ...], str]] = [
        *((("grid", key), key) for key in config.grid),
        *((("space", key), key) for key in config.space),
        *((("cells", index, key), key) for index, cell in enumerate(config.cells) for key in cell),
        *((("arms", name, key), key) for name, settings in config.arms.items() for key in settings),
    ]
    for place, key in varied:
        try:
            _check_varied(key, f"{origin.at(place)}: '{place[0]}'", config.search)
        except UserError as error:
            faults.append(str(error))
    for section in ("resources", CHECKPOINTS):
        if section in config.base:
            faults.append(
                f"{origin.at(('base', section))}: 'base.{section}': {section} stand once, at the top of a sweep file, "
                "not in 'base'"
            )
    faults += _path_faults(config, origin)
    base = merge(
        config.base,
        {
            "resources": config.resources.model_dump(mode="json"),
            CHECKPOINTS: {"keep": config.checkpoints.keep},
        },
    )
    if config.search == "optuna" and isinstance(base.setdefault("data", {}), dict):
        if base["data"].get("evaluate_on", "validation") == "test":
            faults.append(
                f"{origin.at(('base', 'data', 'evaluate_on'))}: 'base.data.evaluate_on' is 'test', but a search may "
                "not see the test set; leave it out or set it to validation, then `stdcl confirm` the best"
            )
        put(base, "data.evaluate_on", "validation")
    if faults:
        raise UserError("\n".join(faults))
    sweep = Sweep(config, settle(base), origin)
    if sweep.base_value("data.path") is None:
        paths = {name: settle({"data": {"path": config.paths.get(name, name)}}) for name in sweep.datasets}
        sweep = replace(sweep, paths={name: each["data"]["path"] for name, each in paths.items()})
    if saved:
        return sweep
    if config.arms:
        try:
            arm_rules.reference_of(sweep.arms, config.reference)
        except UserError as error:
            raise UserError(f"{origin.at(('reference',))}: {error}") from None
    trials = sweep.trials() or sweep.boundary_trials()
    faults = [*_given_in_vain(sweep, trials), *_varied_in_vain(sweep, trials), *_stated_in_vain(sweep, trials)]
    if faults:
        raise UserError("\n".join(faults))
    return sweep


def _extended(raw: Raw, path: Path, origin: Origin) -> Raw:
    """Put the sweep file that ``extends`` names, relative to ``path``, under this one; what varies is not mixed."""
    if "extends" not in raw:
        return raw
    where, named = f"{origin.at(('extends',))}: 'extends'", raw["extends"]
    if not isinstance(named, str) or not named:
        raise UserError(f"{where} is {show(named)}; the path of a sweep file beside this one is expected")
    if "name" not in raw or "question" not in raw:
        raise UserError(f"{where}: a sweep that extends another needs a 'name' and a 'question' of its own")
    shared = read_mapping(path.parent / named)
    check_kind(shared, path.parent / named, "a sweep file")
    if "extends" in shared:
        raise UserError(f"{where} is '{named}', which extends another file itself; one level is allowed")
    own = {key: value for key, value in raw.items() if key != "extends"}
    for keys in (_VARIES, _ARMS):
        if not keys.isdisjoint(own):
            shared = {key: value for key, value in shared.items() if key not in keys}
    return merge(shared, own)


_VARIES = frozenset({"grid", "cells", "space", "exclude"})
"""Keys of a sweep file that list what varies."""
_ARMS = frozenset({"arms", "reference", "baseline"})
"""Keys of a sweep file that list its arms."""
_NEVER_VARIED = ("resources", CHECKPOINTS, "tracking", "recipe")
"""Sections of a run that are no question."""


def _path_faults(config: SweepConfig, origin: Origin) -> Iterator[str]:
    """Yield what is wrong with where the data are: one path cannot hold several datasets."""
    given, varied = config.base.get("data"), config.values().get(DATASET, [])
    varied += [settings[DATASET] for settings in config.arms.values() if DATASET in settings]
    has_path = isinstance(given, Mapping) and "path" in given
    if varied and has_path:
        yield (
            f"{origin.at(('base', 'data', 'path'))}: 'base.data.path' is one path, but the dataset is varied; leave it "
            "out (each dataset is looked for under its name), or give 'paths', as in paths: {ntu60: /data/ntu60}"
        )
    for name in config.paths:
        if name not in varied:
            where = origin.at(("paths", name))
            yield f"{where}: 'paths.{name}' is the path of no dataset that the sweep varies{nearest(name, varied)}"


def _check_varied(key: str, where: str, search: str) -> None:
    check_path(key, where)
    if is_section(key):
        raise UserError(
            f"{where}: '{key}' is a section; vary its keys, as in {key}.KEY; those that change together, in 'cells'"
        )
    if key in ("training.seed", "data.path") or key.split(".")[0] in _NEVER_VARIED:
        raise UserError(f"{where}: '{key}' cannot be varied; seeds stand under 'seeds', the rest is not a question")
    if search == "optuna" and key == "data.evaluate_on":
        raise UserError(f"{where}: '{key}' cannot be varied: a search may not see the test set")


def _given_in_vain(sweep: Sweep, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a line for each key of the base that no trial reads.

    A file may repeat a varied key in its base, with one of the values that are trained or where ``--set`` replaces
    what varies; ``--set`` may not.
    """
    varied = sweep.config.values()
    given = sweep.origin.overrides
    replaced_here = {key for key in sweep.parameters if any(at[0] in _VARIES | _ARMS for at in given)}

    def repeats(path: str) -> bool:
        return path in replaced_here or sweep.base_value(path) in varied.get(path, ())

    in_vain = {
        path: "" for path in leaves(sweep.config.base) if ("base", *path.split(".")) in given or not repeats(path)
    }
    for trial in trials:
        if not in_vain:
            return
        not_read = unread(trial.config)
        because = {
            path: replaced(path, {**sweep.settings_of(trial.arm), **trial.parameters}) or not_read.get(path, "")
            for path in in_vain
        }
        in_vain = {path: reason for path, reason in because.items() if reason}
    for path, reason in in_vain.items():
        at = ("base", *path.split("."))
        said = reason.removeprefix(f"'{path}' ")
        yield f"{sweep.origin.at(at)}: no trial would read '{path}': it {said}{_instead(sweep, path)}"


def _instead(sweep: Sweep, path: str) -> str:
    """What to type where a key of the base is not read because the sweep itself gives it."""
    config = sweep.config
    value = sweep.base_value(path)
    if path == "training.seed":
        return f"; type seeds: [{show(value)}], or --set 'seeds=[{show(value)}]'"
    if path in config.grid:
        values = {key: [value] if key == path else each for key, each in config.grid.items()}
        typed = shlex.quote(f"grid={json.dumps(values)}")
        return f" under 'grid'; leave it out, or change its values there, as in --set {typed}"
    if path in sweep.parameters:
        return f" under '{'space' if config.space else 'cells'}'; leave it out, or change it there"
    if any(path in settings for settings in config.arms.values()):
        return " by every arm that reads it; leave it out, or change it under 'arms'"
    return "; leave it out"


def _varied_in_vain(sweep: Sweep, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a line for each varied key that no trial reads, though it differs between them."""
    table = "grid" if sweep.config.grid else "space" if sweep.config.space else "cells"
    in_vain = dict.fromkeys(sweep.parameters, "")
    for trial in trials:
        if not in_vain:
            return
        not_read = unread(trial.config)
        in_vain = {key: not_read.get(key, "") for key in in_vain if key in not_read or key not in trial.parameters}
    for key, reason in in_vain.items():
        place = (table, 0, key) if table == "cells" else (table, key)
        yield f"{sweep.origin.at(place)}: '{table}': {reason}; leave it out"


def _stated_in_vain(sweep: Sweep, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a line for each key of a stated arm that none of its trials reads."""
    for arm in sweep.arms:
        in_vain = dict.fromkeys(arm.settings, "")
        for trial in (trial for trial in trials if trial.arm == arm.name):
            not_read = unread(trial.config)
            in_vain = {key: not_read[key] for key in in_vain if key in not_read}
        for key, reason in in_vain.items():
            yield f"{sweep.origin.at(('arms', arm.name, key))}: the arm '{arm.name}': {reason}; leave it out"


def _sweep_path(key: str, where: str) -> str:
    head = key.split(".")[0]
    if head in SweepConfig.model_fields:
        if head == "base":
            check_path(key.removeprefix("base."), where)
        elif head not in ("grid", "space", "cells", "arms", "exclude", "paths"):
            check_path(key, where, SweepConfig)
        elif head != key:
            # 'grid.contrast.temperature' names one entry whose key itself has dots: only whole replacement is clear.
            raise UserError(
                f"{where}: give the whole of '{head}', for example --set '{head}={{contrast.temperature: [0.5]}}'"
            )
        return key
    if head not in RunConfig.model_fields:
        allowed = [*SweepConfig.model_fields, *RunConfig.model_fields]
        raise UserError(
            f"{where}: unknown key '{key}'{nearest(head, allowed)}; allowed: {', '.join(sorted(set(allowed)))}"
        )
    check_path(key, where)
    return f"base.{key}"

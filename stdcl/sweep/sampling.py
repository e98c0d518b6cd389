"""Proposals that are a function of the study's history and the seed, whatever process makes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from stdcl.config.contrast import long_keys, short_key
from stdcl.config.space import Choices, Condition, FloatRange, OptunaConfig, Parameter, applies, ordered
from stdcl.seeding import generator


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Return Optuna's form of a search space: name in the study -> distribution.

    A key's name there is its short spelling, which studies of release 0.1 have.
    """
    out: dict[str, BaseDistribution] = {}
    for key, parameter in ((short_key(path), each) for path, each in space.items()):
        if isinstance(parameter, Choices):
            out[key] = CategoricalDistribution(parameter.values)
        elif isinstance(parameter, FloatRange):
            out[key] = FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        else:
            out[key] = IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return out


@dataclass(frozen=True)
class Space:
    """A search space as the study knows it.

    Attributes:
        distributions: name in the study -> distribution, those that others depend on first.
        conditions: name -> names of choices, with the values under which it is proposed; empty for always.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, Condition]

    def applies(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a parameter is proposed beside these values."""
        return applies(self.conditions[name], values)

    def complete(self, values: Mapping[str, Any]) -> bool:
        """Whether a trial has a value of each parameter that applies to it, and of no other."""
        return set(values) == {name for name in self.distributions if self.applies(name, values)}


def study_space(space: Mapping[str, Parameter]) -> Space:
    """Return a search space as the study knows it."""
    found, keys = distributions(space), ordered(space)
    conditions = {short_key(key): {short_key(k): v for k, v in space[key].condition.items()} for key in keys}
    return Space({short_key(key): found[short_key(key)] for key in keys}, conditions)


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Let a trial take a value of each parameter that applies to it; those that it has already stay.

    Returns:
        Dotted key -> value.

    Raises:
        ValueError: it was queued with a value that is not in the space.
    """
    values: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Of a queued value beyond the ends, which Optuna takes: refused below.
        warnings.filterwarnings("ignore", message="Fixed parameter")
        for name, distribution in space.distributions.items():
            if space.applies(name, values):
                values[name] = _suggest(trial, name, distribution)
    return long_keys(values)


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        value: Any = trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, FloatDistribution):
        value = trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    else:
        assert isinstance(distribution, IntDistribution)
        value = trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if not isinstance(distribution, CategoricalDistribution) and not distribution.low <= value <= distribution.high:
        raise ValueError(f"{value} is not between {distribution.low} and {distribution.high}")
    return value


class SeededSampler(BaseSampler):  # type: ignore[misc]
    """A sampler that is made anew for each draw, seeded by (seed, number of the trial, parameter).

    A sampler of Optuna carries the state of its generator from trial to trial, which a new process does not have: it
    would begin again, or elsewhere. Here a draw depends on what the study holds alone, so a search that is stopped
    anywhere and continued proposes what it would have proposed. With several trials at a time that holds for the
    history in which their ends came; TPE and GP also see the parameters of those that run.

    Args:
        make: makes the sampler with a seed of 32 bits.
        seed: of the search.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._space = make(0)  # knows which parameters past trials share; draws nothing

    def _sampler(self, trial: FrozenTrial, name: str = "") -> BaseSampler:
        stream = generator(self._seed, "search", trial.number, crc32(name.encode()))
        return self._make(int(stream.integers(2**32)))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return dict(self._space.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        with _quiet():
            return dict(self._sampler(trial).sample_relative(_without(study, trial), trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna."""
        with _quiet():
            sampler = self._sampler(trial, param_name)
            return sampler.sample_independent(_without(study, trial), trial, param_name, param_distribution)


def _without(study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
    """The study as it is without a trial: a model may not take what it proposed itself, and lost, for another's."""
    seen = copy(study)
    everything = study._get_trials

    def others(*args: Any, **options: Any) -> list[FrozenTrial]:
        return [each for each in everything(*args, **options) if each.number != trial.number]

    seen._get_trials = others
    return seen


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says each time: a sampler is experimental, a conditional parameter is drawn alone."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def make_sampler(config: OptunaConfig) -> SeededSampler:
    """Return the sampler that a sweep's file names."""

    def make(seed: int) -> BaseSampler:
        if config.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        kind = optuna.samplers.GPSampler if config.sampler == "gp" else optuna.samplers.TPESampler
        return kind(seed=seed, n_startup_trials=config.startup_trials)

    with _quiet():
        return SeededSampler(make, config.seed)

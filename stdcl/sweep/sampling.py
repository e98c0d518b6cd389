"""Proposals that are a function of the study's history and the seed, whatever process makes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from stdcl.config.contrast import long_keys, short_key
from stdcl.config.sweep import Choices, FloatRange, Parameter
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


def suggest(trial: optuna.Trial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Let a trial take a value of each parameter; those that it has already stay. Returns dotted key -> value.

    Raises:
        ValueError: it was queued with a value that is not in the space.
    """
    with warnings.catch_warnings():
        # Of a queued value beyond the ends, which Optuna takes: refused below.
        warnings.filterwarnings("ignore", message="Fixed parameter")
        return long_keys({name: _suggest(trial, name, distribution) for name, distribution in space.items()})


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
    history in which their ends came; TPE also sees the parameters of those that run.

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
        return dict(self._sampler(trial).sample_relative(study, trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna."""
        return self._sampler(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

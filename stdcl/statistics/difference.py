"""The difference of two arms, or any contrast of several, with one interval per kind of chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from stdcl.errors import UserError
from stdcl.statistics.answers import checked_answers, checked_subjects
from stdcl.statistics.components import Components, estimate_components
from stdcl.statistics.crossed import Spread, cells_of, over_both, over_clusters, over_seeds, spread
from stdcl.statistics.significance import McNemar, mcnemar, two_sided_p

LEVEL = 0.95


class Population(StrEnum):
    """What an interval speaks of, besides these runs."""

    THESE_SEQUENCES = "these sequences"
    OTHER_SEQUENCES = "other sequences"
    OTHER_PEOPLE = "other people"


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the population that it covers.

    Attributes:
        low, high: its ends, fractions.
        error: standard error.
        freedom: degrees of freedom of Student's t.
        level: confidence, such as 0.95.
        population: test sequences that it speaks of.
        trained_again: whether it covers further trainings; otherwise it speaks of these trained models.
        independent: whether it counts sequences as drawn one by one, where those of one person may be alike.
    """

    low: float
    high: float
    error: float
    freedom: float
    level: float
    population: Population
    trained_again: bool
    independent: bool = False

    @property
    def covers(self) -> str:
        """The population in words."""
        models = "trained again" if self.trained_again else "these trained models"
        drawn = ", each counted as independent" if self.independent else ""
        return f"{self.population}{drawn}; {models}"


@dataclass(frozen=True)
class Difference:
    """Arm minus baseline over paired seeds and sequences (or another contrast of arms).

    Attributes:
        estimate: mean difference of accuracy, a fraction.
        per_seed: the difference of each seed.
        sequences: N.
        clusters: sequences per subject; None where the data have no subjects.
        interval: the headline, and the one by which verdicts are made. Two seeds or more: over seeds and subjects
            (other people, trained again); without subjects over seeds and sequences, for these sequences only. One
            seed: over subjects or sequences, for these trained models only.
        over_seeds: training again on these sequences; None for one seed and where all seeds agree exactly (to see no
            spread is not to know that there is none).
        over_sequences: other people, or without subjects other sequences, for these trained models.
        same_people: other sequences of the same people, trained again; None without subjects and for one seed.
        p: two-sided p of "no difference" for the headline's population. One seed: the larger of this and of McNemar's.
        test: name of the test that gave ``p``.
        mcnemar: exact test on the sequences of one seed; None for several seeds and for other contrasts.
        components: variance components, to plan a further study; None for one seed.
        identical: no answer differs between the arms.
    """

    estimate: float
    per_seed: tuple[float, ...]
    sequences: int
    clusters: tuple[int, ...] | None
    interval: Interval
    over_seeds: Interval | None
    over_sequences: Interval
    same_people: Interval | None
    p: float
    test: str
    mcnemar: McNemar | None
    components: Components | None
    identical: bool

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.per_seed)

    @property
    def subjects(self) -> int | None:
        """Number of subjects; None without."""
        return None if self.clusters is None else len(self.clusters)

    @property
    def signs(self) -> tuple[int, int, int]:
        """Number of seeds above, equal to and below zero."""
        above = sum(d > 0 for d in self.per_seed)
        below = sum(d < 0 for d in self.per_seed)
        return above, self.seeds - above - below, below


def compare(
    baseline: np.ndarray, arm: np.ndarray, subjects: np.ndarray | None = None, *, level: float = LEVEL
) -> Difference:
    """Compare two arms over paired seeds on the same sequences.

    Args:
        baseline, arm: (S, N) answers, 1 right and 0 wrong; row s of both is trained with the same seed.
        subjects: (N,) subject per sequence; None where the data have none.
        level: of the intervals.

    Raises:
        UserError: shapes differ, or answers are not 0 or 1, or there is a single sequence.
    """
    return contrast({"baseline": baseline, "arm": arm}, {"baseline": -1.0, "arm": 1.0}, subjects, level=level)


def contrast(
    arms: Mapping[str, np.ndarray],
    coefficients: Mapping[str, float],
    subjects: np.ndarray | None = None,
    *,
    level: float = LEVEL,
) -> Difference:
    """Estimate ``sum over arms of coefficient * accuracy``, with coefficients that sum to zero.

    Args:
        arms: per arm (S, N) answers; arms without a coefficient are not read.
        coefficients: per arm; see ``questions.py``.
        subjects, level: as in ``compare``.

    Raises:
        UserError: see ``compare``; also a coefficient of an unknown arm, or a sum that is not zero.
    """
    missing = [name for name in coefficients if name not in arms]
    if missing:
        raise UserError(f"contrast: no answers of arm '{missing[0]}'; there are {', '.join(arms)}")
    if not coefficients or abs(math.fsum(coefficients.values())) > 1e-9:
        raise UserError(f"contrast: coefficients sum to {math.fsum(coefficients.values()):g}; they must sum to 0")
    if not 0.0 < level < 1.0:
        raise UserError(f"contrast: confidence level {level:g}; it must be between 0 and 1, such as 0.95")
    answers = {name: checked_answers(arms[name], name) for name in coefficients}
    shapes = {name: each.shape for name, each in answers.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(
            f"contrast: (seeds, sequences) differ: {listed}; arms are compared on common seeds and sequences"
        )
    values: np.ndarray = np.sum([c * answers[name] for name, c in coefficients.items()], axis=0)
    largest = math.fsum(abs(c) for c in coefficients.values()) / 2.0
    s, n = values.shape
    if n < 2:
        raise UserError("contrast: one test sequence; at least two are needed")
    who = checked_subjects(subjects, n)
    by_cluster = spread(cells_of(values, who, largest))
    pair = sorted(coefficients.values()) == [-1.0, 1.0]
    low = next(name for name, c in coefficients.items() if c == min(coefficients.values()))
    high = next(name for name, c in coefficients.items() if c == max(coefficients.values()))
    exact = mcnemar(answers[low][0], answers[high][0]) if pair and s == 1 else None
    found = _intervals(by_cluster, values, who, level, largest)
    headline = found["both"] or found["sequences"]
    assert headline is not None
    p = two_sided_p(float(by_cluster.mean), headline.error, headline.freedom)
    name = "paired t over seeds and " if s > 1 else "paired t over "
    name += "subjects" if who is not None else "sequences"
    if exact is not None:
        p, name = max(p, exact.p), f"exact McNemar, and {name}"
    assert found["sequences"] is not None
    return Difference(
        estimate=float(by_cluster.mean),
        per_seed=tuple(float(v) for v in values.mean(axis=1)),
        sequences=n,
        clusters=None if who is None else tuple(int(c) for c in np.bincount(who)),
        interval=headline,
        over_seeds=found["seeds"],
        over_sequences=found["sequences"],
        same_people=found["same people"],
        p=p,
        test=name,
        mcnemar=exact,
        components=_components(values, who),
        identical=not values.any(),
    )


def _components(values: np.ndarray, who: np.ndarray | None) -> Components | None:
    s, n = values.shape
    if s < 2 or (who is not None and n <= int(who.max()) + 1):
        return None
    return estimate_components(values, who)


def _intervals(
    by_cluster: Spread, values: np.ndarray, who: np.ndarray | None, level: float, largest: float
) -> dict[str, Interval | None]:
    mean = float(by_cluster.mean)
    people = who is not None

    def interval(
        of: tuple[np.ndarray, np.ndarray], population: Population, trained_again: bool, independent: bool
    ) -> Interval | None:
        variance, freedom = float(of[0]), float(of[1])
        if not variance > 0.0:
            return None
        error = math.sqrt(variance)
        half = float(stats.t.ppf(0.5 + level / 2.0, freedom)) * error
        return Interval(
            max(mean - half, -largest), min(mean + half, largest), error, freedom, level,
            population, trained_again, independent,
        )  # fmt: skip

    each = spread(cells_of(values, None, largest)) if people else by_cluster
    others = Population.OTHER_PEOPLE if people else Population.OTHER_SEQUENCES
    return {
        "both": interval(
            over_both(by_cluster), others if people else Population.THESE_SEQUENCES, True, independent=not people
        ),
        "seeds": interval(over_seeds(by_cluster), Population.THESE_SEQUENCES, True, False),
        "sequences": interval(over_clusters(by_cluster), others, False, independent=not people),
        "same people": interval(over_both(each), Population.OTHER_SEQUENCES, True, True) if people else None,
    }

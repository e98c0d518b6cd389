"""Adding seeds after a look: group-sequential tests with alpha spending (Lan and DeMets 1983).

A sweep file names the looks beforehand, such as after 3, 5 and 10 seeds, and how much of the error each may spend.
Information is counted in seeds: estimates after S1 < S2 seeds correlate with at least sqrt(S1 / S2), and with more
where the same test sequences add a part that further seeds do not change. A larger correlation can only lower the
chance of crossing some bound, so the bounds err to the safe side.

Every p value is turned into a sequential p value, the smallest level at which the rule would have rejected by now
(Liu and Anderson 2008). These are corrected over questions by Holm as usual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import optimize, special

from stdcl.errors import UserError, nearest

_GRID = 401
"""Points of the numerical integration (Simpson); bounds are right to four digits and more."""


class Spending(StrEnum):
    """How the error is spent over the looks."""

    OBRIEN_FLEMING = "obrien-fleming"
    """Little at first: early claims need strong evidence, the last look is nearly an ordinary test."""
    POCOCK = "pocock"
    """About equally at every look: better where early claims matter most."""


@dataclass(frozen=True)
class SequentialRule:
    """Looks at growing numbers of seeds, fixed before the first.

    Attributes:
        looks: ascending numbers of seeds, each at least 2.
        spending: how the error is spent.
    """

    looks: tuple[int, ...]
    spending: Spending = Spending.OBRIEN_FLEMING

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 2:
            raise UserError(
                f"looks: {list(self.looks)}; expected ascending numbers of seeds, each at least 2, such as [3, 5, 10]"
            )
        try:
            object.__setattr__(self, "spending", Spending(self.spending))
        except ValueError:
            allowed = [each.value for each in Spending]
            raise UserError(
                f"spending: '{self.spending}'; allowed: {', '.join(allowed)}{nearest(str(self.spending), allowed)}"
            ) from None

    @property
    def times(self) -> tuple[float, ...]:
        """Share of the information at each look."""
        return tuple(look / self.looks[-1] for look in self.looks)

    def look_of(self, seeds: int) -> int | None:
        """Index of the look that is taken with this number of seeds; None if the rule has no such look."""
        return self.looks.index(seeds) if seeds in self.looks else None


class Stage(StrEnum):
    """What a table may say of its seeds."""

    FINAL = "final"
    """All planned seeds have finished."""
    LOOK = "look"
    """A look that the sweep file named beforehand."""
    INCOMPLETE = "incomplete"
    """Planned seeds are missing, and no look was named here: no verdict yet."""
    EXPLORATORY = "exploratory"
    """Seeds were added that the file did not plan: whatever is found needs a fresh study."""


def stage_of(planned: Sequence[int], finished: Sequence[int], rule: SequentialRule | None = None) -> Stage:
    """Compare finished seeds with the plan.

    Args:
        planned: seeds of the sweep file, in their order, as they were before the first result.
        finished: seeds that every arm of the question has finished.
        rule: looks of the sweep file, if it names any; the k-th look is at the first so many seeds of ``planned``.
    """
    if set(finished) - set(planned):
        return Stage.EXPLORATORY
    if set(finished) == set(planned):
        return Stage.FINAL
    count = len(set(finished))
    if rule is not None and rule.look_of(count) is not None and set(finished) == set(planned[:count]):
        return Stage.LOOK
    return Stage.INCOMPLETE


def spent(alpha: float, time: float, spending: Spending) -> float:
    """Error that may be spent up to a share of the information.

    Args:
        alpha: two-sided level of the whole.
        time: share, above 0 and at most 1.
        spending: O'Brien-Fleming-type or Pocock-type function of Lan and DeMets (1983), half of alpha on either side.
    """
    if spending is Spending.POCOCK:
        return alpha * math.log1p((math.e - 1.0) * time)
    return float(4.0 * special.ndtr(special.ndtri(alpha / 4.0) / math.sqrt(time)))


def nominal_levels(times: Sequence[float], alpha: float, spending: Spending) -> tuple[float, ...]:
    """Two-sided level at which each look tests, so that all looks together reject with probability alpha.

    The recursion of Armitage, McPherson and Rowe (1969): the density of the score among studies that continue is
    carried from look to look, and each bound is placed so that the look spends its share.

    Args:
        times: ascending shares of the information, the last usually 1.
        alpha: two-sided level of the whole.
        spending: see ``spent``.
    """
    levels: list[float] = []
    before = 0.0
    points = weights = density = np.empty(0)
    for index, time in enumerate(times):
        total = spent(alpha, time, spending)
        share = total - before
        before = total
        if index == 0:
            bound = float(-special.ndtri(share / 2.0))
        else:
            step = math.sqrt(time - times[index - 1])
            mass = weights * density

            def crossing(z: float, step: float = step, time: float = time, mass: np.ndarray = mass,
                         points: np.ndarray = points, share: float = share) -> float:  # fmt: skip
                limit = z * math.sqrt(time)
                tails = special.ndtr((points - limit) / step) + special.ndtr((-limit - points) / step)
                return float((mass * tails).sum()) - share

            bound = 8.0 if crossing(8.0) >= 0.0 else float(optimize.brentq(crossing, 0.0, 8.0, xtol=1e-10))
        levels.append(float(2.0 * special.ndtr(-bound)))
        limit = bound * math.sqrt(time)
        new = np.linspace(-limit, limit, _GRID)
        if index == 0:
            density = _normal(new / math.sqrt(time)) / math.sqrt(time)
        else:
            step = math.sqrt(time - times[index - 1])
            density = _normal((new[:, None] - points[None, :]) / step) @ (weights * density) / step
        points = new
        weights = _simpson(_GRID) * (2.0 * limit / (_GRID - 1))
    return tuple(levels)


def sequential_p(p_values: Sequence[float], rule: SequentialRule) -> float:
    """Smallest level at which the rule rejects at one of the looks so far.

    Args:
        p_values: two-sided p of each look taken, in order; a look without a test is NaN.
        rule: the looks as planned; fewer p values than looks may be given.

    Raises:
        UserError: more p values than looks.
    """
    if len(p_values) > len(rule.looks):
        raise UserError(f"looks: {len(p_values)} p values for the {len(rule.looks)} looks {list(rule.looks)}")
    taken = [(index, p) for index, p in enumerate(p_values) if not math.isnan(p)]
    if not taken:
        return float("nan")
    times = rule.times[: len(p_values)]

    def margin(level: float) -> float:
        levels = nominal_levels(times, level, rule.spending)
        return max(math.log(levels[i]) - math.log(max(p, 1e-300)) for i, p in taken)

    low, high = 1e-8, 0.9999
    if margin(high) < 0.0:
        return 1.0
    if margin(low) >= 0.0:
        return low
    return float(10.0 ** optimize.brentq(lambda x: margin(10.0**x), math.log10(low), math.log10(high), xtol=1e-5))


def _normal(z: np.ndarray) -> np.ndarray:
    density: np.ndarray = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return density


def _simpson(points: int) -> np.ndarray:
    weights = np.ones(points)
    weights[1:-1:2] = 4.0
    weights[2:-1:2] = 2.0
    return weights / 3.0

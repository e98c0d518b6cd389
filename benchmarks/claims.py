"""How often the verdicts of a table are wrong: simulated studies with a known truth.

    python benchmarks/claims.py [--out docs/results/statistics_simulation.md] [--repetitions 10000 2000] [--seed 1]

Two numbers of repetitions: for a test set as NW-UCLA's (464 sequences of its ten subjects) and as NTU120 X-Sub's
(50,919 of 53). Every study has 1 to 5 seeds, which are the first of the same five. An answer is right where

    threshold of the arm + shared difficulty of the sequence and the person
    + arm x person + arm x seed + arm x seed x person + arm x sequence + rest  >  0

with independent normal effects whose variances sum to 1, so that an arm's true accuracy over other people, other
sequences and further trainings is known exactly: the normal distribution function of its threshold. Judged by
``stdcl.statistics``, in batches; the first study of each batch is also judged by ``difference.contrast``, and must
agree.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from stdcl.atomic import write_text
from stdcl.statistics.components import Components, estimate_components
from stdcl.statistics.crossed import Cells, Spread, over_both, over_clusters, spread
from stdcl.statistics.difference import contrast
from stdcl.statistics.margins import default_margin
from stdcl.statistics.power import ALPHA
from stdcl.statistics.sequential import SequentialRule, Spending, nominal_levels
from stdcl.statistics.significance import holm

SEEDS = 5
BATCH = 4_000_000
"""Answers that are drawn at a time."""


@dataclass(frozen=True)
class Shape:
    """A test set.

    Attributes:
        name: in the table.
        dataset: for the margin.
        counts: sequences of each subject.
    """

    name: str
    dataset: str
    counts: tuple[int, ...]

    @property
    def subjects(self) -> np.ndarray:
        """(N,) subject of each sequence."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


NW_UCLA = Shape("NW-UCLA: 464 sequences, 10 subjects", "nw-ucla", (54, 50, 55, 50, 10, 46, 51, 52, 48, 48))
"""As counted in its files of camera 3."""


def ntu120() -> Shape:
    """As NTU120 X-Sub. Its counts per subject are assumed: the largest subject has six times the smallest's."""
    relative = np.geomspace(1.0, 6.0, 53)
    counts = np.floor(relative / relative.sum() * 50_919).astype(int)
    counts[-1] += 50_919 - counts.sum()
    return Shape("NTU120 X-Sub: 50,919 sequences, 53 subjects", "ntu120", tuple(int(c) for c in counts))


@dataclass(frozen=True)
class World:
    """What is true of two arms, besides their difference.

    Attributes:
        name: in the table.
        accuracy: of the baseline.
        differing: share of the answers that differ between two arms without a true difference, roughly.
        lasting: share of the variance that makes them differ which is the same in every training.
        person: standard deviation, in points, of the arms' difference from person to person.
        training: from training to training.
        training_person: from training to training, for each person apart.
    """

    name: str
    accuracy: float = 0.9
    differing: float = 0.1
    lasting: float = 0.1
    person: float = 0.0
    training: float = 0.0
    training_person: float = 0.0


NW_WORLDS = (
    World("as measured: HCN, lite", 0.76, 0.095, 0.0, training_person=4.3),
    World("sequences only"),
    World("half of it in every training", lasting=0.5),
    World("trainings differ by 1 point", training=1.0),
    World("people differ by 2 points", person=2.0),
    World("all of it", lasting=0.3, person=2.0, training=1.0, training_person=3.0),
    World("97 % right, 3 % differ", 0.97, 0.03),
    World("weak: 60 % right, 30 % differ", 0.6, 0.3, training=2.0),
)
NTU_WORLDS = (
    World("sequences only", 0.85),
    World("half of it in every training", 0.85, lasting=0.5),
    World("trainings differ by 0.2 points", 0.85, training=0.2),
    World("people differ by 1 point", 0.85, person=1.0),
    World("all of it", 0.85, lasting=0.3, person=1.0, training=0.2, training_person=1.0),
)


@dataclass(frozen=True)
class Effects:
    """A world as standard deviations on the normal scale; the variances sum to 1."""

    difficulty: float
    person_difficulty: float
    person: float
    training: float
    training_person: float
    sequence: float
    rest: float


def effects_of(world: World) -> Effects:
    """Solve for the shared variance that gives the world's share of differing answers."""
    threshold = float(stats.norm.ppf(world.accuracy))
    # Two arms have an effect each, so that their difference has twice its variance.
    scale = 0.01 / (math.sqrt(2.0) * float(stats.norm.pdf(threshold)))
    person, training, both = (scale * v for v in (world.person, world.training, world.training_person))

    def differing(shared: float) -> float:
        right = stats.multivariate_normal.cdf([threshold, threshold], cov=[[1.0, shared], [shared, 1.0]])
        return 2.0 * (world.accuracy - float(right))

    shared = float(optimize.brentq(lambda v: differing(v) - world.differing, 0.0, 0.99999))
    left = 1.0 - shared - person**2 - training**2 - both**2
    if left <= 0:
        raise ValueError(f"{world.name}: the effects exceed what differs")
    return Effects(
        difficulty=math.sqrt(0.9 * shared),
        person_difficulty=math.sqrt(0.1 * shared),
        person=person,
        training=training,
        training_person=both,
        sequence=math.sqrt(left * world.lasting),
        rest=math.sqrt(left * (1.0 - world.lasting)),
    )


@dataclass(frozen=True)
class Draw:
    """A batch of studies before thresholds are applied.

    Attributes:
        scores: per arm (B, S, N); an answer is right where it exceeds minus the arm's threshold.
        training: per arm (B, S), the part of the scores that is the same for one trained model.
        lasting: per arm (B, N), the part that is the same for one sequence.
    """

    scores: list[np.ndarray]
    training: list[np.ndarray]
    lasting: list[np.ndarray]


def draw(shape: Shape, effects: Effects, arms: int, batch: int, chance: np.random.Generator) -> Draw:
    """Draw a batch of studies."""
    who, n, g = shape.subjects, sum(shape.counts), len(shape.counts)

    def normal(deviation: float, *size: int) -> np.ndarray:
        if deviation == 0.0:
            return np.zeros(size, dtype=np.float32)
        return chance.standard_normal(size, dtype=np.float32) * np.float32(deviation)

    shared = normal(effects.difficulty, batch, n) + normal(effects.person_difficulty, batch, g)[:, who]
    out = Draw([], [], [])
    for _ in range(arms):
        lasting = shared + normal(effects.person, batch, g)[:, who] + normal(effects.sequence, batch, n)
        training = normal(effects.training, batch, SEEDS)
        scores = normal(effects.rest, batch, SEEDS, n)
        scores += lasting[:, None, :] + training[:, :, None]
        if effects.training_person:
            scores += normal(effects.training_person, batch, SEEDS, g)[:, :, who]
        out.scores.append(scores)
        out.training.append(training)
        out.lasting.append(lasting)
    return out


@dataclass(frozen=True)
class Studies:
    """A batch of differences, by number of seeds (1 to 5: index 0 to 4).

    Attributes:
        estimate, error, freedom, p: per number of seeds (B,).
        seeds_alone, pooled: p of the paired t test over seeds, and of McNemar's on all answers as if independent.
    """

    estimate: list[np.ndarray]
    error: list[np.ndarray]
    freedom: list[np.ndarray]
    p: list[np.ndarray]
    seeds_alone: list[np.ndarray]
    pooled: list[np.ndarray]


def judged(values: np.ndarray, counts: Sequence[int] | None) -> Studies:
    """Judge (B, S, N) differences of answers; ``counts`` None takes every sequence as its own cluster."""
    n = values.shape[-1]
    totals = np.ones(n) if counts is None else np.asarray(counts, dtype=np.float64)
    starts = np.concatenate(([0], np.cumsum(totals)[:-1])).astype(int)
    sums = values if counts is None else np.add.reduceat(values, starts, axis=-1, dtype=np.int32)
    gained, lost = (values > 0).sum(axis=-1), (values < 0).sum(axis=-1)
    out = Studies([], [], [], [], [], [])
    over_seeds = np.zeros(values.shape[::2], dtype=np.int16)
    for s in range(1, SEEDS + 1):
        over_seeds += values[:, s - 1]
        wins, losses = gained[:, :s].sum(axis=-1), lost[:, :s].sum(axis=-1)
        squares = (wins + losses).astype(np.float64) * s
        lasting = (over_seeds.astype(np.float64) ** 2).sum(axis=-1)
        persistence = np.divide(lasting, squares, out=np.ones_like(squares), where=squares > 0)
        found = spread(Cells(sums[:, :s].astype(np.float64), totals, 1.0, np.maximum(persistence, 1.0 / s)))
        variance, freedom = over_both(found) if s > 1 else over_clusters(found)
        error = np.sqrt(variance)
        p = 2.0 * stats.t.sf(np.abs(found.mean) / error, freedom)
        exact = mcnemar_p(wins, losses)
        out.estimate.append(found.mean)
        out.error.append(error)
        out.freedom.append(freedom)
        out.p.append(np.maximum(p, exact) if s == 1 else p)
        out.seeds_alone.append(seeds_p(found))
        out.pooled.append(exact)
    return out


def mcnemar_p(gained: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Exact two-sided p of McNemar's test, for batches."""
    p: np.ndarray = np.minimum(1.0, 2.0 * stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5))
    return p


def seeds_p(found: Spread) -> np.ndarray:
    """p of the paired t test over seeds; 1 where it does not exist."""
    if found.num_seeds < 2:
        return np.ones_like(found.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(found.mean) / np.sqrt(found.seeds)
    p: np.ndarray = np.where(found.seeds > 0, 2.0 * stats.t.sf(t, found.num_seeds - 1), 1.0)
    return p


def check(values: np.ndarray, studies: Studies, subjects: np.ndarray | None) -> None:
    """Hold the first study of a batch against what a table would print."""
    for s in (1, 2, SEEDS):
        first = values[0, :s]
        found = contrast({"a": first < 0, "b": first > 0}, {"a": -1.0, "b": 1.0}, subjects)
        mine = studies.estimate[s - 1][0], studies.error[s - 1][0], studies.p[s - 1][0]
        theirs = found.estimate, found.interval.error, found.p
        if not np.allclose(mine, theirs, rtol=1e-9, atol=1e-12):
            raise AssertionError(f"batch {mine}, contrast {theirs}")


class Counts:
    """Shares of studies, by name and number of seeds."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], float] = {}
        self._totals: dict[tuple[str, int], int] = {}

    def add(self, name: str, seeds: int, happened: np.ndarray) -> None:
        """Count a batch."""
        key = name, seeds
        self._sums[key] = self._sums.get(key, 0.0) + float(happened.sum())
        self._totals[key] = self._totals.get(key, 0) + len(happened)

    def share(self, name: str, seeds: int) -> float:
        """Share of the studies in which it happened."""
        return self._sums[name, seeds] / self._totals[name, seeds]


def simulate(shape: Shape, world: World, repetitions: int, chance: np.random.Generator) -> tuple[Counts, Components]:
    """Simulate two arms in one world."""
    effects = effects_of(world)
    margin = default_margin(shape.dataset).size
    base = float(stats.norm.ppf(world.accuracy))
    out = Counts()
    components: list[Components] = []
    size = max(1, BATCH // (2 * SEEDS * sum(shape.counts)))
    rest = math.sqrt(1.0 - effects.training**2)
    remaining = math.sqrt(effects.training**2 + effects.training_person**2 + effects.rest**2)
    for start in range(0, repetitions, size):
        found = draw(shape, effects, 2, min(size, repetitions - start), chance)
        first = (found.scores[0] > -base).view(np.int8)
        for difference in (0.0, margin, 0.006, 0.015, 0.03):
            if world.accuracy + difference >= 1.0:
                continue
            top = float(stats.norm.ppf(world.accuracy + difference))
            values = (found.scores[1] > -top).view(np.int8) - first
            studies = judged(values, shape.counts)
            if difference == 0.0:
                check(values, studies, shape.subjects)
                if len(components) < 400:
                    components.append(estimate_components(values[0].astype(np.float64), shape.subjects))
            # One seed speaks of the two models that it trained.
            models = stats.norm.cdf((top + found.training[1][:, 0]) / rest)
            models -= stats.norm.cdf((base + found.training[0][:, 0]) / rest)
            for s in range(1, SEEDS + 1):
                truth = models if s == 1 else difference
                p, error, freedom = studies.p[s - 1], studies.error[s - 1], studies.freedom[s - 1]
                off = np.abs(studies.estimate[s - 1] - truth)
                covered = off <= stats.t.ppf(0.975, freedom) * error
                if difference == 0.0:
                    out.add("false", s, (p <= ALPHA) & (~covered if s == 1 else True))
                    out.add("seeds alone", s, studies.seeds_alone[s - 1] <= ALPHA)
                    out.add("pooled", s, studies.pooled[s - 1] <= ALPHA)
                if difference in (0.0, 0.015):
                    out.add("covered", s, covered)
                if difference == margin:
                    away = stats.t.sf((margin - np.abs(studies.estimate[s - 1])) / error, freedom)
                    out.add("no difference", s, (away <= ALPHA) & (np.abs(truth) >= margin))
                else:
                    out.add(f"power {difference:g}", s, p <= ALPHA)
        if shape is NW_UCLA:
            values = (found.scores[1] > -base).view(np.int8) - first
            studies = judged(values, None)
            check(values, studies, None)
            lasting = [stats.norm.cdf((base + each) / remaining).mean(axis=-1) for each in found.lasting]
            for s in range(2, SEEDS + 1):
                half = stats.t.ppf(0.975, studies.freedom[s - 1]) * studies.error[s - 1]
                out.add("these sequences", s, np.abs(studies.estimate[s - 1] - (lasting[1] - lasting[0])) <= half)
    mean = np.mean([[c.seed, c.subject, c.seed_subject, c.sequence, c.rest] for c in components], axis=0)
    return out, Components(*map(float, mean))


def families(shape: Shape, world: World, repetitions: int, chance: np.random.Generator) -> Counts:
    """Three questions to one baseline, without any difference and with one arm that is 3 points better."""
    effects = effects_of(world)
    base = float(stats.norm.ppf(world.accuracy))
    better = float(stats.norm.ppf(min(0.999, world.accuracy + 0.03)))
    out = Counts()
    size = max(1, BATCH // (4 * SEEDS * sum(shape.counts)))
    for start in range(0, repetitions, size):
        found = draw(shape, effects, 4, min(size, repetitions - start), chance)
        first = (found.scores[0] > -base).view(np.int8)
        null = [judged((each > -base).view(np.int8) - first, shape.counts) for each in found.scores[1:]]
        one = judged((found.scores[1] > -better).view(np.int8) - first, shape.counts)
        for s in range(2, SEEDS + 1):
            p = np.stack([each.p[s - 1] for each in null])
            adjusted = holm_of_batch(p)
            out.add("none", s, (adjusted <= ALPHA).any(axis=0))
            p[0] = one.p[s - 1]
            adjusted = holm_of_batch(p)
            out.add("one", s, (adjusted[1:] <= ALPHA).any(axis=0))
            out.add("found", s, adjusted[0] <= ALPHA)
    return out


def holm_of_batch(p: np.ndarray) -> np.ndarray:
    """Adjust (questions, B) p values by Holm's method; the first study is held against ``significance.holm``."""
    order = np.argsort(p, axis=0)
    factors = np.arange(len(p), 0, -1)[:, None]
    ranked = np.minimum(1.0, np.maximum.accumulate(factors * np.take_along_axis(p, order, axis=0), axis=0))
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, ranked, axis=0)
    if not np.allclose(adjusted[:, 0], holm(list(p[:, 0]))):
        raise AssertionError(f"batch {adjusted[:, 0]}, holm {holm(list(p[:, 0]))}")
    return adjusted


LOOKS = ((3, 5), (2, 3, 4, 5))


def looks(shape: Shape, world: World, repetitions: int, chance: np.random.Generator) -> dict[str, float]:
    """Seeds that are added until there is a difference, by a rule named beforehand and without one."""
    effects = effects_of(world)
    base = float(stats.norm.ppf(world.accuracy))
    sums: dict[str, float] = {}
    size = max(1, BATCH // (2 * SEEDS * sum(shape.counts)))
    for start in range(0, repetitions, size):
        found = draw(shape, effects, 2, min(size, repetitions - start), chance)
        values = (found.scores[1] > -base).view(np.int8) - (found.scores[0] > -base).view(np.int8)
        studies = judged(values, shape.counts)
        for when in LOOKS:
            p = np.stack([studies.p[s - 1] for s in when])
            listed = ", ".join(map(str, when))
            sums[f"{listed}: no rule"] = sums.get(f"{listed}: no rule", 0.0) + (p <= ALPHA).any(axis=0).sum()
            for spending in Spending:
                levels = nominal_levels(SequentialRule(when, spending).times, ALPHA, spending)
                key = f"{listed}: {spending}"
                sums[key] = sums.get(key, 0.0) + (p <= np.array(levels)[:, None]).any(axis=0).sum()
    return {name: value / repetitions for name, value in sums.items()}


def allowed(repetitions: int) -> float:
    """The largest share of false claims that a rule with 5 % gives in so many studies: two standard errors more."""
    return ALPHA + 2.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / repetitions)


def percent(value: float, bad: bool) -> str:
    """A share in percent, in bold where it is outside of what is promised."""
    return f"**{100 * value:.1f}**" if bad else f"{100 * value:.1f}"


def line(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def section(
    shape: Shape, results: dict[str, tuple[Counts, Components]], repetitions: int, exceptions: list[str]
) -> list[str]:
    """The tables of one test set."""
    most = allowed(repetitions)
    slack = 2.0 * math.sqrt(0.95 * 0.05 / repetitions)
    margin = 100 * default_margin(shape.dataset).size
    seeds = list(range(1, SEEDS + 1))
    out = [f"## {shape.name}", "", f"{repetitions:,} studies a line; columns are numbers of seeds.", ""]

    def table(title: str, name: str, columns: Sequence[int], bad: object, promise: str) -> None:
        out.extend([f"**{title}** ({promise})", "", line("world", *map(str, columns))])
        out.append(line(":---", *["---:"] * len(columns)))
        for world, (counts, _) in results.items():
            cells = []
            for s in columns:
                share = counts.share(name, s)
                wrong = callable(bad) and bool(bad(share, s))
                if wrong:
                    wide = " (wider than it need be)" if "overage" in title and share > 0.95 else ""
                    number = f"{s} seed{'' if s == 1 else 's'}"
                    said = f"{title[0].lower()}{title[1:]} {100 * share:.1f} %{wide}"
                    exceptions.append(f"{shape.name.split(':')[0]}, {world}, {number}: {said}")
                cells.append(percent(share, wrong))
            out.append(line(world, *cells))
        out.append("")

    table("False claims of a difference", "false", seeds, lambda v, s: v > most, f"at most {100 * most:.1f} %")
    table(
        "Coverage of the 95 % interval", "covered", seeds,
        lambda v, s: s >= 3 and not 0.93 - slack <= v <= 0.97 + slack, "93 to 97 % from three seeds on",
    )  # fmt: skip
    table(
        "False claims of no difference", "no difference", seeds, lambda v, s: v > most,
        f"the true difference is the margin of {margin:g} points; at most {100 * most:.1f} %",
    )  # fmt: skip
    for points in (0.6, 1.5, 3.0):
        shown = {w: r for w, r in results.items() if (f"power {points / 100:g}", 1) in r[0]._sums}
        if not shown:
            continue
        everything = results
        results = shown
        table(f"Power at {points:g} points", f"power {points / 100:g}", seeds, None, "share of studies that claim it")
        results = everything
    if shape is NW_UCLA:
        table(
            "Coverage for these sequences only, subjects unknown", "these sequences", seeds[1:],
            lambda v, s: s >= 3 and v < 0.93 - slack, "at least 93 % from three seeds on",
        )  # fmt: skip
    table("False claims of a paired t test over seeds alone", "seeds alone", seeds[1:], None, "for comparison")
    table("False claims of McNemar's test on pooled answers", "pooled", seeds, None, "for comparison")
    out += ["**What the worlds are**: variance components of the difference, as standard deviations in points", ""]
    out.append(line("world", "training", "person", "training x person", "sequence", "rest"))
    out.append(line(":---", *["---:"] * 5))
    for world, (_, parts) in results.items():
        deviations = (parts.seed, parts.subject, parts.seed_subject, parts.sequence, parts.rest)
        out.append(line(world, *(f"{100 * math.sqrt(max(0.0, v)):.1f}" for v in deviations)))
    return [*out, ""]


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repetitions", type=int, nargs=2, default=(10_000, 2_000), metavar=("NW-UCLA", "NTU120"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = np.random.default_rng(arguments.seed)
    exceptions: list[str] = []
    body: list[str] = []
    for shape, worlds, repetitions in zip(
        (NW_UCLA, ntu120()), (NW_WORLDS, NTU_WORLDS), arguments.repetitions, strict=True
    ):
        results = {}
        for world in worlds:
            begun = time.monotonic()
            results[world.name] = simulate(shape, world, repetitions, chance)
            print(f"{shape.name}: {world.name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        body += section(shape, results, repetitions, exceptions)
    body += more(arguments.repetitions[0], chance, exceptions)
    limit = "; ".join(f"{n:,} studies: {100 * allowed(n):.1f} %" for n in arguments.repetitions)
    first, second = arguments.repetitions
    head = [
        "# How often the verdicts are wrong",
        "",
        f"    python benchmarks/claims.py --repetitions {first} {second} --seed {arguments.seed} "
        "--out docs/results/statistics_simulation.md",
        "",
        "Simulated studies with a known truth, judged by `stdcl/statistics`; the model is in the head of the program.",
        "A claim is false where the truth is another; with one seed it speaks of the two trained models, whose true",
        "difference is known as well. Allowed are 5 % and two standard errors of the simulation",
        f"({limit}).",
        "",
        "## Exceptions",
        "",
        *([f"- {each}" for each in exceptions] or ["None: every share is within what is promised."]),
        "",
    ]
    text = "\n".join([*head, *body]).rstrip() + "\n"
    print(text)
    if arguments.out:
        write_text(arguments.out, text)


def more(repetitions: int, chance: np.random.Generator, exceptions: list[str]) -> list[str]:
    """Families of questions, and seeds added after a look, on NW-UCLA's shape."""
    most = allowed(repetitions)
    worlds = (NW_WORLDS[0], NW_WORLDS[1], NW_WORLDS[5])
    out = [f"## Three questions to one baseline, under Holm's correction (NW-UCLA, {repetitions:,} studies)", ""]
    out += [line("world", "truth", *(str(s) for s in range(2, SEEDS + 1))), line(":---", ":---", *["---:"] * 4)]
    for world in worlds:
        found = families(NW_UCLA, world, repetitions, chance)
        for name, truth in (
            ("none", "no difference: any claim"),
            ("one", "one arm 3 points better: any claim on the other two"),
            ("found", "one arm 3 points better: it is claimed"),
        ):
            cells = []
            for s in range(2, SEEDS + 1):
                share = found.share(name, s)
                bad = name != "found" and share > most
                if bad:
                    exceptions.append(f"three questions, {world.name}, {s} seeds: {truth} {100 * share:.1f} %")
                cells.append(percent(share, bad))
            out.append(line(world.name, truth, *cells))
    out += ["", f"## Seeds added until there is a difference (NW-UCLA, {repetitions:,} studies without one)", ""]
    names = [f"{', '.join(map(str, when))}: {how}" for when in LOOKS for how in ("no rule", *Spending)]
    out += [line("world", *names), line(":---", *["---:"] * len(names))]
    for world in worlds:
        shares = looks(NW_UCLA, world, repetitions, chance)
        cells = []
        for name in names:
            bad = "no rule" not in name and shares[name] > most
            if bad:
                exceptions.append(f"looks {name}, {world.name}: {100 * shares[name]:.1f} %")
            cells.append(percent(shares[name], bad))
        out.append(line(world.name, *cells))
    return [*out, ""]


if __name__ == "__main__":
    main()

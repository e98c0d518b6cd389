"""What a search promised, beside what its best configurations came to on fresh seeds and the test set."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from stdcl.config.confirms import PromiseConfig
from stdcl.report.provenance import cell_name
from stdcl.report.table import SweepTable
from stdcl.statistics.repeats import Summary


@dataclass(frozen=True)
class Gap:
    """One configuration, before and after.

    Attributes:
        arm: of the confirming sweep.
        cell: its name; the arm's, unless the sweep varies more than its arms.
        promise: what the search found.
        own: whether it found that in this cell's setting; None where this is not known.
        outcome: accuracies on the test set over the finished seeds; None while there are none.
        num_test: sequences of the test set.
    """

    arm: str
    cell: str
    promise: PromiseConfig
    own: bool | None
    outcome: Summary | None
    num_test: int | None

    @property
    def difference(self) -> float | None:
        """What came out minus what was promised, a fraction; None without an outcome, or a promise of this setting."""
        return None if self.outcome is None or not self.own else self.outcome.mean - self.promise.accuracy

    @property
    def points(self) -> float | None:
        """The difference in points."""
        return None if self.difference is None else 100 * self.difference


def gaps(table: SweepTable) -> list[Gap]:
    """Return the gap of each cell that a sweep confirms: the best promise first, the search's setting before others."""
    if table.confirms is None:
        return []
    found: list[Gap] = []
    for arm, promise in sorted(table.confirms.arms.items(), key=lambda pair: -pair[1].accuracy):
        cells = sorted((cell for cell in table.cells if cell.arm == arm), key=lambda cell: not cell.promised)
        found += [
            Gap(arm, cell_name(cell, table.parameters), promise, cell.promised, cell.last, cell.num_test)
            for cell in cells
        ] or [Gap(arm, arm, promise, True, None, None)]
    return found


def sentences(table: SweepTable) -> list[str]:
    """Return a line for each gap, and what is in it."""
    found = gaps(table)
    if table.confirms is None or not found:
        return []
    lines = [_sentence(gap) for gap in found]
    if any(gap.points is not None for gap in found):
        best = found[0].arm
        lines.append(
            f"the gap holds all that differs: {best} was picked for its result among {table.confirms.judged} trials of "
            f"'{table.confirms.search}' (one seed each), the sequences are of other people, and the held-out people "
            "are trained on here"
        )
    return lines


def _sentence(gap: Gap) -> str:
    of = f" of {gap.promise.sequences} held-out sequences" if gap.promise.sequences else " on the held-out sequences"
    promised = f"{100 * gap.promise.accuracy:.2f} %{of}"
    came = "no seed is finished here"
    if gap.outcome is not None:
        spread = "" if gap.outcome.std is None else f" ± {100 * gap.outcome.std:.2f}"
        seeds = f"{gap.outcome.n} fresh seed{'s' * (gap.outcome.n != 1)}"
        on = f" of {gap.num_test} test sequences" if gap.num_test else ""
        came = f"{100 * gap.outcome.mean:.2f}{spread} %{on} came out over {seeds}"
    if not gap.own:
        whose = "is of another setting" if gap.own is False else "may be of another setting"
        return f"{gap.cell}: {came}; the search's promise for {gap.arm} ({promised}) {whose}"
    points = "" if gap.points is None else f": {gap.points:+.2f} points"
    return f"{gap.cell}: the search promised {promised}; {came}{points}"


_COLUMNS = (
    "arm", "cell", "trial", "promised", "held_out_sequences", "promise_is_of_this_cell",
    "seeds", "mean", "std", "low", "high", "test_sequences", "gap",
)  # fmt: skip
_OWN = {True: "yes", False: "no", None: "not known"}


def render_csv(table: SweepTable) -> str:
    """Return the gaps as CSV: fractions, and the gap as their difference; empty cells for what there is not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for gap in gaps(table):
        done, promise = gap.outcome, gap.promise
        came = (0, None, None, None, None) if done is None else (done.n, done.mean, done.std, done.low, done.high)
        promised = (promise.trial, promise.accuracy, promise.sequences, _OWN[gap.own])
        writer.writerow([gap.arm, gap.cell, *promised, *came, gap.num_test, gap.difference])
    return out.getvalue()

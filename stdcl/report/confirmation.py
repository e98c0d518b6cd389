"""What a search promised, beside what its best configurations came to on fresh seeds and the test set."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from stdcl.config.confirms import PromiseConfig
from stdcl.report.table import SweepTable
from stdcl.statistics.repeats import Summary


@dataclass(frozen=True)
class Gap:
    """One configuration, before and after.

    Attributes:
        arm: of the confirming sweep.
        promise: what the search found.
        outcome: accuracies on the test set over the finished seeds; None while there are none.
        num_test: sequences of the test set.
    """

    arm: str
    promise: PromiseConfig
    outcome: Summary | None
    num_test: int | None

    @property
    def points(self) -> float | None:
        """What came out minus what was promised, in points; None without an outcome."""
        return None if self.outcome is None else 100 * (self.outcome.mean - self.promise.accuracy)


def gaps(table: SweepTable) -> list[Gap]:
    """Return the gap of each configuration that a sweep confirms, the best promise first."""
    if table.confirms is None:
        return []
    cells = {cell.arm: cell for cell in table.cells}
    found = [
        Gap(arm, promise, cells[arm].last if arm in cells else None, cells[arm].num_test if arm in cells else None)
        for arm, promise in table.confirms.arms.items()
    ]
    return sorted(found, key=lambda gap: -gap.promise.accuracy)


def sentences(table: SweepTable) -> list[str]:
    """Return a line for each gap, and what is in it."""
    found = gaps(table)
    if table.confirms is None or not found:
        return []
    lines = [_sentence(gap) for gap in found]
    if any(gap.outcome for gap in found):
        best = found[0].arm
        lines.append(
            f"the gap holds all that differs: {best} was picked for its result among {table.confirms.judged} trials of "
            f"'{table.confirms.search}' (one seed each), the sequences are of other people, and the held-out people "
            "are trained on here"
        )
    return lines


def _sentence(gap: Gap) -> str:
    of = f" of {gap.promise.sequences} held-out sequences" if gap.promise.sequences else " on the held-out sequences"
    said = f"{gap.arm}: the search promised {100 * gap.promise.accuracy:.2f} %{of}"
    if gap.outcome is None or gap.points is None:
        return f"{said}; no seed is finished here"
    spread = "" if gap.outcome.std is None else f" ± {100 * gap.outcome.std:.2f}"
    seeds = f"{gap.outcome.n} fresh seed{'s' * (gap.outcome.n != 1)}"
    on = f" of {gap.num_test} test sequences" if gap.num_test else ""
    return f"{said}; {100 * gap.outcome.mean:.2f}{spread} %{on} came out over {seeds}: {gap.points:+.2f} points"


_COLUMNS = (
    "arm", "trial", "promised", "held_out_sequences", "seeds", "mean", "std", "low", "high", "test_sequences", "gap",
)  # fmt: skip


def render_csv(table: SweepTable) -> str:
    """Return the gaps as CSV: fractions, and the gap as their difference; empty cells for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for gap in gaps(table):
        done, promise = gap.outcome, gap.promise
        came = (0, None, None, None, None) if done is None else (done.n, done.mean, done.std, done.low, done.high)
        difference = None if done is None else done.mean - promise.accuracy
        writer.writerow([gap.arm, promise.trial, promise.accuracy, promise.sequences, *came, gap.num_test, difference])
    return out.getvalue()

"""The disk budget of a sweep's checkpoints: what is refused before the start, and what is counted as trials end.

No process asks another one before it writes. Each running trial may hold so many checkpoints that, with all of them
writing at once, the budget is not reached; what ended trials hold is measured once, when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stdcl.config import RunConfig
from stdcl.config.checkpoints import show_size
from stdcl.config.sweep import Sweep, Trial
from stdcl.errors import UserError
from stdcl.results.cleaning import size_of
from stdcl.results.layout import SweepFolder
from stdcl.training.checkpoint import leave_one
from stdcl.training.footprint import Footprint, footprint

COPIES = (4, 3, 2)
"""Of a running trial's checkpoints, from the most comfortable to the fewest."""


def kept_at_the_end(size: Footprint, keep: str, copies: int) -> int:
    """Return the bytes that a finished trial holds: its last and, where it is still there, its best checkpoint."""
    return min(2, copies - 1) * (size.whole if keep == "all" else size.weights)


class DiskBudget:
    """Counts what a sweep's checkpoints hold, and at most can hold.

    Args:
        limit: bytes.
        keep: of a finished trial: ``all`` or ``weights``.
        held: bytes by trial, of those that have a folder; unfinished ones hold one checkpoint each.
        todo: key -> size of one checkpoint, of the trials that are to be trained.
        at_once: trials that can hold more than one checkpoint at a moment.

    Attributes:
        copies: the checkpoints that each running trial may hold, the one that it writes included.

    Raises:
        UserError: the limit is too small, with the number that is needed.
    """

    def __init__(self, limit: int, keep: str, held: dict[str, int], todo: dict[str, Footprint], at_once: int) -> None:
        self._limit = limit
        self._keep = keep
        self._held = held
        self._todo = todo
        self._ended: set[str] = set()
        self._largest = max((size.whole for size in todo.values()), default=0)
        self._at_once = min(at_once, len(todo))
        self.copies = next((copies for copies in COPIES if self.needed(copies) <= limit), 0)
        if not self.copies:
            raise UserError(
                f"checkpoints.budget is {show_size(limit)}, but this sweep needs {show_size(self.needed(COPIES[-1]))}: "
                f"{show_size(sum(held.values()))} are held, {len(todo)} trial(s) will keep "
                f"{show_size(self._kept(COPIES[-1]))} (checkpoints.keep: {keep}), and {self._at_once} of them can hold "
                f"two checkpoints of {show_size(self._largest)} at once. Raise it, lower max_concurrent_trials, or "
                "free what is held (stdcl clean SWEEP --checkpoints)"
            )
        self._sum_held = sum(held.values())
        self._sum_kept = self._kept(self.copies)

    def _kept(self, copies: int) -> int:
        return sum(kept_at_the_end(size, self._keep, copies) for size in self._todo.values())

    def needed(self, copies: int) -> int:
        """Return the bytes that suffice if each running trial may hold so many checkpoints."""
        return sum(self._held.values()) + self._kept(copies) + self._at_once * copies * self._largest

    def ended(self, key: str, holds: int | None) -> str:
        """Count a trial that ended.

        Args:
            key: the trial's.
            holds: bytes of its checkpoints; None: what a finished trial keeps.

        Returns:
            Why no other trial may start; empty if one may.
        """
        kept = 0
        if key not in self._ended and self._todo:
            self._ended.add(key)
            size = self._todo.pop(key) if key in self._todo else self._todo.popitem()[1]
            kept = kept_at_the_end(size, self._keep, self.copies)
        holds = kept if holds is None else holds
        self._sum_kept -= kept
        self._sum_held += holds - self._held.get(key, 0)
        self._held[key] = holds
        most = self._sum_held + self._sum_kept + self._at_once * self.copies * self._largest
        if most <= self._limit or not self._todo:
            return ""
        return (
            f"checkpoints.budget ({show_size(self._limit)}) has no room for another trial: those that have ended hold "
            f"{show_size(self._sum_held)}; raise it, or remove what is not wanted (stdcl clean)"
        )


def open_budget(
    sweep: Sweep,
    folder: SweepFolder,
    todo: Sequence[Trial],
    others: Iterable[str],
    at_once: int,
    size: Callable[[RunConfig], Footprint] = footprint,
    further: int = 0,
) -> DiskBudget | None:
    """Return the budget of a sweep that is about to start; None if it has none.

    Unfinished trials that were killed are left one checkpoint each. The folders of the trials are read here, and never
    again.

    Args:
        sweep: the sweep.
        folder: its folder.
        todo: the trials that will be trained; for a search, those at the ends of its ranges.
        others: keys of further trials that are not finished.
        at_once: trials at a time.
        size: gives the bytes of a configuration's checkpoints.
        further: trials of a search that are still to be proposed.

    Raises:
        UserError: the budget is too small.
    """
    limit = sweep.config.checkpoints.budget_bytes
    if limit is None or not todo:
        return None
    for key in (*(trial.key for trial in todo), *others):
        leave_one(folder.run(key).checkpoints)
    held = {}
    for run in folder.trials.glob("*") if folder.trials.is_dir() else ():
        held[run.name] = size_of(folder.run(run.name).checkpoints) if folder.run(run.name).checkpoints.is_dir() else 0
    sizes = {trial.key: size(trial.config) for trial in todo}
    if sweep.config.search == "optuna":
        largest = Footprint(max(s.whole for s in sizes.values()), max(s.weights for s in sizes.values()))
        sizes = {f"proposal {number}": largest for number in range(further)}
        # A trial that is stopped early holds its checkpoints until its process has left.
        at_once *= 2
    return DiskBudget(limit, sweep.config.checkpoints.keep, held, sizes, at_once)

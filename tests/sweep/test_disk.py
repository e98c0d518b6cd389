"""The disk budget: refused when too small, and never exceeded, whatever becomes of the trials."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.sweep.disk import COPIES, DiskBudget, kept_at_the_end, open_budget
from stdcl.training.footprint import Footprint
from tests.sweep.conftest import GRID, SEARCH, MakeSweep


def smallest(keep: str, sizes: dict[str, Footprint], at_once: int) -> int:
    """The budget that the refusal of a budget of one byte names, found by trying."""
    low, high = 1, 10**7
    while low < high:
        middle = (low + high) // 2
        try:
            DiskBudget(middle, keep, {}, dict(sizes), at_once)
        except UserError:
            low = middle + 1
        else:
            high = middle
    return low


@pytest.mark.parametrize("keep", ["all", "weights"])
def test_no_course_of_a_sweep_exceeds_its_budget(keep: str) -> None:
    """Trials start, write, end and fail in any order; what lies on the disk is added up after each event."""
    stops = 0
    for seed in range(200):
        drawn = random.Random(seed)
        sizes = {}
        for number in range(drawn.randint(1, 8)):
            whole = drawn.randint(10, 1000)
            sizes[f"t{number}"] = Footprint(whole, drawn.randint(1, whole))
        at_once = drawn.randint(1, 4)
        limit = smallest(keep, sizes, at_once) + drawn.choice([0, drawn.randint(0, 3000)])
        stops += bool(course(DiskBudget(limit, keep, {}, dict(sizes), at_once), sizes, keep, at_once, limit, drawn))
    # Whole checkpoints at the end: a failed trial holds no more than a finished one.
    assert (stops > 0) == (keep == "weights")


def course(
    budget: DiskBudget, sizes: dict[str, Footprint], keep: str, at_once: int, limit: int, drawn: random.Random
) -> str:
    """One sweep; returns why it ended early."""
    disk: dict[str, int] = {}
    waiting, running, stopped = list(sizes), list[str](), ""
    while running or (waiting and not stopped):
        if waiting and not stopped and len(running) < at_once and (not running or drawn.random() < 0.5):
            running.append(waiting.pop(0))
            continue
        key = drawn.choice(running)
        size, what = sizes[key], drawn.choice(["write", "finish", "fail", "prune"])
        if what == "write":
            disk[key] = drawn.randint(1, budget.copies) * size.whole
        else:
            running.remove(key)
            disk[key] = size.whole if what == "fail" else kept_at_the_end(size, keep, budget.copies)
            stopped = budget.ended(key, None if what == "prune" else disk[key]) or stopped
        assert sum(disk.values()) <= limit
    return stopped


def test_one_that_is_too_small_is_refused_with_the_number() -> None:
    sizes = {"a": Footprint(10**9, 10**8), "b": Footprint(2 * 10**9, 10**8)}
    with pytest.raises(UserError, match=re.escape("is 1.0 GB, but this sweep needs 4.2 GB")) as refused:
        DiskBudget(10**9, "weights", {}, sizes, 1)
    assert "two checkpoints of 2.0 GB" in str(refused.value)
    assert DiskBudget(42 * 10**8, "weights", {}, sizes, 1).copies == 2
    assert DiskBudget(10**11, "weights", {}, sizes, 1).copies == max(COPIES)
    with pytest.raises(UserError, match=re.escape("needs 14.2 GB: 10.0 GB are held")):
        DiskBudget(10**9, "weights", {"old": 10**10}, sizes, 1)


def test_a_sweep_counts_what_lies_there(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep({**GRID, "checkpoints": {"budget": "1MB"}})
    folder, trials = SweepFolder(tmp_path / "small"), sweep.trials()
    held = folder.run(trials[0].key).checkpoints / "epoch-0001-step-000000"
    held.mkdir(parents=True)
    (held / "state.pt").write_bytes(b"0" * 500_000)
    with pytest.raises(UserError, match=re.escape("is 1.0 MB, but this sweep needs 1.1 MB: 0.5 MB are held")):
        open_budget(sweep, folder, trials, (), 2, lambda config: Footprint(150_000, 1))
    assert open_budget(sweep, folder, trials, (), 1, lambda config: Footprint(150_000, 1)) is not None


def test_without_a_budget_nothing_is_looked_at(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(GRID)
    assert open_budget(sweep, SweepFolder(tmp_path), sweep.trials(), (), 1, lambda config: 1 / 0) is None  # type: ignore[arg-type,return-value]


def test_a_search_counts_what_it_will_propose(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep({**SEARCH, "checkpoints": {"budget": "10MB"}})
    size = Footprint(1_000_000, 500_000)
    with pytest.raises(UserError, match=re.escape("needs 11 MB")):
        open_budget(sweep, SweepFolder(tmp_path), sweep.boundary_trials(), (), 2, lambda config: size, further=6)
    budget = open_budget(sweep, SweepFolder(tmp_path), sweep.boundary_trials(), (), 1, lambda config: size, further=6)
    assert budget is not None
    assert [budget.ended(f"drawn {n}", None) for n in range(6)] == [""] * 6


def test_what_stays_on_the_disk_is_no_question(make_sweep: MakeSweep) -> None:
    plain, other = make_sweep(GRID), make_sweep({**GRID, "checkpoints": {"keep": "all", "budget": "3GB"}})
    assert [t.fingerprint for t in plain.trials()] == [t.fingerprint for t in other.trials()]
    assert [t.key for t in plain.trials()] == [t.key for t in other.trials()]
    with pytest.raises(UserError, match=r"'base\.checkpoints': checkpoints stand once"):
        make_sweep({**GRID, "base": {**GRID["base"], "checkpoints": {"keep": "all"}}})
    with pytest.raises(UserError, match=r"'checkpoints\.keep' cannot be varied"):
        make_sweep({**GRID, "grid": {"checkpoints.keep": ["all", "weights"]}})
    with pytest.raises(UserError, match="as in 50GB"):
        make_sweep(GRID, "checkpoints.budget=50 gigabytes")

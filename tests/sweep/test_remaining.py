"""What a search has left: read from its study, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl.errors import UserError
from stdcl.sweep.remaining import Remaining, remaining
from tests.sweep.conftest import SEARCH, MakeSweep
from tests.sweep.test_study import Driven


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_judged_trials_are_done_and_open_ones_are_continued(
    make_sweep: MakeSweep, tmp_path: Path, storage: str
) -> None:
    sweep, folder = make_sweep(SEARCH, f"optuna.storage={storage}"), tmp_path / "study"
    assert remaining(sweep, folder) == Remaining(0, (), 6)
    assert not folder.exists()
    first = Driven(sweep, folder)
    for trial_id in "abcd":
        first.search.suggest(trial_id)
        first.result(trial_id, 1, 0.3)
    first.complete("a", "finished", 6, 0.9)
    first.complete("b", "running", 2, 0.4)
    first.complete("c", "failed", 1, 0.3)
    (file,) = (path for path in folder.iterdir() if path.is_file())
    before = file.read_bytes()
    found = remaining(sweep, folder)
    assert (found.judged, found.new) == (2, 2)
    assert [trial.key for trial in found.begun] == [first.proposed[3].key, first.proposed[2].key]
    assert file.read_bytes() == before

    Driven(sweep, folder)  # which puts the failed one into the queue
    assert remaining(sweep, folder) == found
    fewer = make_sweep(SEARCH, f"optuna.storage={storage}", "optuna.trials=3")
    assert remaining(fewer, folder) == Remaining(2, found.begun[:1], 0)
    none = make_sweep(SEARCH, f"optuna.storage={storage}", "optuna.trials=2")
    assert remaining(none, folder) == Remaining(2, (), 0)


def test_a_study_of_another_name_says_nothing(make_sweep: MakeSweep, tmp_path: Path) -> None:
    Driven(make_sweep(SEARCH), tmp_path / "study").search.suggest("a")
    assert remaining(make_sweep(SEARCH, "name=another"), tmp_path / "study") == Remaining(0, (), 6)


def test_a_damaged_study_is_said(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(SEARCH)
    Driven(sweep, tmp_path / "study").search.suggest("a")
    (journal,) = (path for path in (tmp_path / "study").iterdir() if path.is_file())
    journal.write_bytes(b"no record\n" + journal.read_bytes())
    with pytest.raises(UserError, match="line 1: not a record of a study"):
        remaining(sweep, tmp_path / "study")

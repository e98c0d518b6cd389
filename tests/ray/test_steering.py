"""A sweep on a real Ray, steered from another process through its folder."""

from __future__ import annotations

import time
from pathlib import Path

from stdcl.results.layout import SweepFolder
from stdcl.results.requests import request
from stdcl.results.status import sweep_status
from stdcl.results.steering import steer_from_outside
from stdcl.results.store import read_attempts
from tests.ray.command import wait_until
from tests.ray.conftest import Start, finish, history
from tests.sweep.conftest import GRID


def test_a_running_sweep_is_paused_unpaused_and_stopped_from_elsewhere(start: Start, tmp_path: Path) -> None:
    """One trial at a time; epochs of a second, so that each request falls into one."""
    content = {**GRID, "max_concurrent_trials": 1, "seeds": [1]}
    process = start("sweep", content, tmp_path / "storage", seconds=1.0)
    folder = SweepFolder(tmp_path / "storage" / "small")

    def has_rows() -> list[str]:
        return [path.parent.name for path in folder.trials.glob("*/history.jsonl")]

    wait_until(lambda: bool(has_rows()), 120, "the first row")
    (first,) = has_rows()
    status = sweep_status(folder)
    assert status.driver is not None
    assert status.driver.alive()

    begin = time.monotonic()
    said = steer_from_outside(status, request("pause"))
    assert "the sweep is paused" in said
    assert time.monotonic() - begin < 20, "answered before the asker gives up"
    wait_until(lambda: sweep_status(folder).trials[first].state == "paused", 60, "the trial pauses")
    time.sleep(3.0)  # an epoch that had begun may still end
    epochs = len(history(folder.run(first).root))
    time.sleep(3.0)
    assert has_rows() == [first], "a trial was trained while the sweep was paused"
    assert len(history(folder.run(first).root)) == epochs

    others = [key for key in status.trials if key != first]
    assert "does not start" in steer_from_outside(sweep_status(folder), request("stop", (others[0],)))
    assert "2 trial(s) go on" in steer_from_outside(sweep_status(folder), request("unpause"))
    code, text = finish(process)
    assert code == 0, text
    rows = read_attempts(folder.results)
    assert sorted(rows[rows["key"] == first]["status"]) == ["finished", "paused"]
    assert sorted(rows[rows["key"] == others[0]]["status"]) == ["paused"]
    assert [row["epoch"] for row in history(folder.run(first).root)] == [1, 2, 3, 4, 5, 6]
    assert sweep_status(folder).trials[others[0]].state == "stopped"

    code, text = finish(start("sweep", content, tmp_path / "storage"))
    assert code == 0, text
    assert "1 trial(s) are left alone" in text
    said = steer_from_outside(sweep_status(folder), request("retry", (others[0],)))
    assert "1 trial(s) are tried again" in said
    assert "no driver runs; to continue: stdcl sweep" in said
    code, text = finish(start("sweep", content, tmp_path / "storage"))
    assert code == 0, text
    assert {trial.state for trial in sweep_status(folder).trials.values()} == {"finished"}

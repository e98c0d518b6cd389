"""The real training, killed at every bad moment: it goes on and ends with the same bits.

``pytest -m slow -s tests/ray/test_kill_matrix.py`` prints the measured numbers of ``docs/results/kill_matrix.md``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.results.store import read_attempts
from stdcl.training import checkpoint
from tests.ray.command import (
    EPOCHS,
    INTERVAL,
    STEPS,
    Command,
    alive,
    assert_as_undisturbed,
    history_rows,
    kill,
    run_file,
    steps_taken,
    wait_until,
    write_yaml,
)

pytestmark = pytest.mark.slow

PLACES: dict[str, dict[str, Any]] = {
    "step": {"point": "step", "rank": 1, "epoch": 1, "step": 3},
    "write": {"point": "write", "rank": 0, "epoch": 1, "step": 4},
    "write-of-a-bank": {"point": "write", "rank": 1, "epoch": 1, "step": 4},
    "evaluation": {"point": "evaluate", "rank": 1, "epoch": 1, "step": 0},
}
ABORT_SECONDS = 60.0
"""Within which the survivors of a killed worker must have ended."""

Prepare = Callable[..., Command]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the synthetic store is made by the first command."""
    return tmp_path_factory.mktemp("data") / "store"


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "hold").mkdir()
    file = write_yaml(folder / "run.yaml", run_file(data))
    command = Command(["train", str(file), "--out", str(folder / "run")], folder / "hold")
    try:
        command.start()
        assert command.finish() == 0, command.text
        assert len(steps_taken(folder / "hold")) == STEPS * EPOCHS
    finally:
        command.end()
    return folder / "run"


@pytest.fixture
def prepare(data: Path, tmp_path: Path) -> Iterator[Prepare]:
    """Write the files of a command that holds at a place."""
    made: list[Command] = []

    def begin(verb: str, place: dict[str, Any] | None = None, *overrides: str, out: Path | None = None) -> Command:
        hold = tmp_path / "hold"
        hold.mkdir()
        if place:
            (hold / "plan.json").write_text(json.dumps(place))
        content = run_file(data)
        arguments = ["--out", str(out or tmp_path / "run")]
        if verb == "sweep":
            content = {
                "name": "killed",
                "question": "Does it go on?",
                "base": content,
                "grid": {"contrast.temperature": [0.8]},
            }
            arguments = []
        file = write_yaml(tmp_path / f"{verb}.yaml", content)
        for text in overrides:
            arguments += ["--set", text]
        command = Command([verb, str(file), *arguments], hold, {"STDCL_STORAGE": str(tmp_path / "storage")})
        made.append(command)
        return command

    yield begin
    for command in made:
        command.end()


def _run_dir(verb: str, folder: Path) -> Path:
    if verb == "train":
        return folder / "run"
    (run_dir,) = (folder / "storage" / "killed" / "trials").iterdir()
    return run_dir


def _repeated(command: Command) -> int:
    """Steps that were taken more than once; every step was taken."""
    taken = steps_taken(command.hold)
    assert set(taken) == {(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)}
    return len(taken) - len(set(taken))


def _say(*parts: str) -> None:
    print("\nMEASURED", " | ".join(parts), flush=True)


def _check_end(verb: str, case: str, command: Command, folder: Path, undisturbed: Path, seconds: float) -> None:
    repeated = _repeated(command)
    _say(verb, case, f"{seconds:.1f} s", f"{repeated} steps repeated")
    assert repeated <= INTERVAL
    assert_as_undisturbed(_run_dir(verb, folder), undisturbed)
    wait_until(lambda: not command.processes(), 60, f"the end of {command.processes()}")
    if verb == "sweep":
        attempts = read_attempts(folder / "storage" / "killed" / "results")
        assert list(attempts["status"]) == ["finished"]


@pytest.mark.parametrize(
    ("verb", "place", "victims"),
    [
        *(("train", place, victims) for place in ("step", "write", "evaluation") for victims in ("one", "all")),
        ("train", "write-of-a-bank", "one"),
        ("sweep", "write", "one"),
        ("sweep", "step", "all"),
    ],
)
def test_killed_workers(
    prepare: Prepare, undisturbed: Path, tmp_path: Path, verb: str, place: str, victims: str
) -> None:
    """The survivors end, the group is started again by itself, and the command ends as if nothing had been."""
    command = prepare(verb, PLACES[place])
    command.start()
    command.until_held()
    ranks = command.ranks()
    assert sorted(ranks) == [0, 1]
    kill(*(ranks.values() if victims == "all" else [ranks[PLACES[place]["rank"]]]))
    seconds = wait_until(lambda: not any(map(alive, ranks.values())), ABORT_SECONDS, "the survivors' end")
    assert command.finish() == 0, command.text
    assert command.text.count("workers lost, starting again from the last checkpoint") == 1
    _check_end(verb, f"{victims} killed in {place}", command, tmp_path, undisturbed, seconds)


@pytest.mark.parametrize(
    ("verb", "place", "how"),
    [
        *(("train", place, how) for place in ("step", "write", "evaluation") for how in ("SIGKILL", "Ctrl-C")),
        ("sweep", "write", "SIGKILL"),
        ("sweep", "evaluation", "Ctrl-C"),
    ],
)
def test_ended_driver(prepare: Prepare, undisturbed: Path, tmp_path: Path, verb: str, place: str, how: str) -> None:
    """Everything that the command started ends with it; the same command goes on."""
    command = prepare(verb, PLACES[place])
    command.start()
    command.until_held()
    assert command.process is not None
    if how == "SIGKILL":
        kill(command.process.pid)
    else:
        os.killpg(command.process.pid, signal.SIGINT)  # as the terminal does
    ranks = command.ranks()
    seconds = wait_until(lambda: not any(map(alive, ranks.values())), ABORT_SECONDS, "the ranks' end")
    code = command.finish()
    if how == "Ctrl-C":
        assert code == 130, command.text
        assert re.search("(goes on|resume) from the last checkpoints?", command.text)
        assert "Traceback" not in command.text
    wait_until(lambda: not command.processes(), 90, f"the end of {command.processes()}")
    command.start()
    assert command.finish() == 0, command.text
    _check_end(verb, f"driver {how} in {place}", command, tmp_path, undisturbed, seconds)


def test_truncated_checkpoint(prepare: Prepare, undisturbed: Path, tmp_path: Path) -> None:
    """Everything dies while a checkpoint is written, and the one before turns out to be truncated."""
    command = prepare("train", PLACES["write"])
    command.start()
    command.until_held()
    assert command.process is not None
    kill(command.process.pid)
    wait_until(lambda: not command.processes(), 90, f"the end of {command.processes()}")
    newest, before, *_ = checkpoint.candidates(tmp_path / "run" / "checkpoints")
    assert [newest.name, before.name] == ["epoch-0001-step-000002", "epoch-0001-step-000000"]
    file = newest / "bank-00001-of-00002.pt"
    os.truncate(file, file.stat().st_size - 100)
    command.start()
    assert command.finish() == 0, command.text
    repeated = _repeated(command)
    _say("train", "driver SIGKILL in write, newest checkpoint truncated", f"{repeated} steps repeated")
    assert repeated == 2 * INTERVAL
    assert_as_undisturbed(tmp_path / "run", undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for two checkpoints and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=11m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk(prepare: Prepare, undisturbed: Path, tmp_path: Path, small_disk: Path) -> None:
    """The third checkpoint does not fit: said, not tried again, nothing lost; with more room the command goes on."""
    command = prepare("train", None, out=small_disk / "run")
    command.start()
    assert command.finish() == 1, command.text
    assert re.search("not written: rank [01]: .*(No space left on device|MiB free on the disk)", command.text)
    assert "the checkpoint before it is untouched" in command.text
    assert "Traceback" not in command.text
    assert "to resume from the last checkpoint: stdcl train " in command.text
    assert "workers lost" not in command.text
    assert len(checkpoint.candidates(small_disk / "run" / "checkpoints")) == 2
    wait_until(lambda: not command.processes(), 90, f"the end of {command.processes()}")
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    command.start()
    assert command.finish() == 0, command.text
    repeated = _repeated(command)
    _say("train", "full disk in write", f"{repeated} steps repeated")
    assert repeated <= INTERVAL
    assert_as_undisturbed(small_disk / "run", undisturbed)


def test_another_number_of_workers(prepare: Prepare, undisturbed: Path, tmp_path: Path) -> None:
    """Two workers and their driver killed inside an epoch, continued by three: equal but for rounding."""
    command = prepare("train", PLACES["step"])
    command.start()
    command.until_held()
    assert command.process is not None
    kill(command.process.pid)
    wait_until(lambda: not command.processes(), 90, f"the end of {command.processes()}")
    command.arguments += ["--set", "resources.workers=3"]
    command.start()
    assert command.finish() == 0, command.text
    repeated = _repeated(command)
    rows, expected = history_rows(tmp_path / "run"), history_rows(undisturbed)
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    gaps = {
        key: max(abs(row[key] - other[key]) for row, other in zip(rows, expected, strict=True))
        for key in ("loss", "ce", "loss_spatial", "loss_temporal")
    }
    _say("train", "2 workers killed, continued by 3", f"{repeated} steps repeated", f"largest differences {gaps}")
    assert repeated <= INTERVAL
    assert max(gaps.values()) < 1e-3
    assert rows[0] == expected[0]

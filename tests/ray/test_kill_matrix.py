"""The real training, killed at every bad moment: it goes on and ends with the same bits.

``pytest -m slow -s tests/ray/test_kill_matrix.py`` prints the measured numbers of ``docs/results/kill_matrix.md``.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.results.store import read_attempts
from tests.ray.command import (
    EPOCHS,
    INTERVAL,
    STEPS,
    Command,
    alive,
    assert_as_undisturbed,
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
        assert re.search("goes on from the last checkpoints?", command.text)
        assert "Traceback" not in command.text
    wait_until(lambda: not command.processes(), 90, f"the end of {command.processes()}")
    command.start()
    assert command.finish() == 0, command.text
    _check_end(verb, f"driver {how} in {place}", command, tmp_path, undisturbed, seconds)

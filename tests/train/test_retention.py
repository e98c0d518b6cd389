"""What stays of a training's checkpoints: their number at every moment, and what a finished training keeps."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl import atomic
from stdcl.config import fingerprint
from stdcl.config.checkpoints import parse_size, show_size
from stdcl.config.load import resolve
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.cleaning import size_of
from stdcl.results.layout import RunFolder
from stdcl.runs.evaluate import evaluate_run
from stdcl.training import checkpoint
from stdcl.training.checkpoint import Identity, Position
from stdcl.training.footprint import footprint
from stdcl.training.trainer import Stopped, training
from tests.train.conftest import MakeConfig, small_raw
from tests.train.test_trainer import CPU, metrics, run, weights

IDENTITY = Identity("hash", "split", "joint", "fingerprint", 0)


def write(root: Path, epoch: int, keep: list[str], copies: int, kilobytes: int = 8) -> None:
    """Write a checkpoint as the trainer does, then leave what stays beside it."""
    checkpoint.save(
        root, Position(epoch), IDENTITY, LocalComm(), CPU, lambda: {"x": torch.zeros(kilobytes * 256)},
        lambda folder: None, lambda: checkpoint.make_room(root, keep, copies - 1),
    )  # fmt: skip


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_never_more_copies_than_allowed(
    make_config: MakeConfig, tmp_path: Path, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at when every checkpoint is about to be renamed, which is when it stands beside all others."""
    counts: list[int] = []
    replace = atomic.replace_dir

    def counting(staged: Path, final: Path) -> None:
        counts.append(sum(path.is_dir() for path in final.parent.iterdir()))
        replace(staged, final)

    monkeypatch.setattr(atomic, "replace_dir", counting)
    config = make_config(training={"epochs": 4, "checkpoint_every_steps": 1}, checkpoints={"copies": copies})
    run(config, tmp_path)
    assert max(counts) == copies
    assert len(counts) > 8


def write_until_killed(root: Path, begin: int, copies: int, after: int) -> int:
    """Write four checkpoints in a process that kills itself at its ``after``-th change of the folder."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    calls = 0

    def count(event: str, args: Any) -> None:
        nonlocal calls
        if event not in CHANGES or str(root) not in repr(args):
            return
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        for epoch in range(begin, begin + 4):
            write(root, epoch, [Position(epoch - 1).name], copies)
        os._exit(0)
    except BaseException:
        os._exit(1)


CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


@pytest.mark.parametrize("copies", [2, 4])
def test_a_kill_at_any_moment_of_a_write_leaves_one_whole_and_no_more_than_allowed(tmp_path: Path, copies: int) -> None:
    """The process kills itself at its n-th change of the folder, n drawn at random; the next one goes on there."""
    drawn = random.Random(copies)
    write(tmp_path, 0, [], copies)
    limit = copies * size_of(tmp_path / Position(0).name) + (1 << 10)
    for _ in range(20):
        newest = checkpoint.newest(tmp_path)
        assert newest is not None
        position = checkpoint.position_of(newest)
        assert position is not None
        after = drawn.randrange(1, 40)
        ended = write_until_killed(tmp_path, position.epoch + 1, copies, after)
        assert ended in (0, signal.SIGKILL)
        assert size_of(tmp_path) <= limit
        assert len(checkpoint.candidates(tmp_path)) <= copies
    assert checkpoint.newest(tmp_path) is not None
    checkpoint.leave_one(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_one_that_is_whole_is_left(tmp_path: Path) -> None:
    for epoch in range(3):
        write(tmp_path, epoch, [], 4)
    (tmp_path / Position(2).name / "state.pt").write_bytes(b"damaged")
    (tmp_path / ".epoch-0003-step-000000.0.part").mkdir()
    checkpoint.leave_one(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [Position(1).name]
    checkpoint.leave_one(tmp_path / "nothing")


def test_a_finished_training_keeps_its_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    config, whole = make_config(checkpoints={"keep": "weights"}), make_config()
    assert fingerprint(config) == fingerprint(whole)
    last = run(config, tmp_path / "weights")[-1]
    run(whole, tmp_path / "all")
    first, second = weights(tmp_path / "weights"), weights(tmp_path / "all")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    folder = RunFolder(tmp_path / "weights")
    for kept in checkpoint.candidates(folder.checkpoints):
        assert sorted(path.name for path in kept.iterdir()) == ["manifest.json", "weights.pt"]
        checkpoint.read_manifest(kept)
    assert size_of(folder.checkpoints) < 0.5 * size_of(tmp_path / "all" / "checkpoints")
    report = evaluate_run(folder.root)
    assert report.accuracy == report.recorded == last["accuracy"]
    assert metrics(run(config, folder.root)[0]) == metrics(dict(last)), "a complete run says its last row again"


def test_what_cannot_go_on_says_so(make_config: MakeConfig, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run(make_config(checkpoints={"keep": "weights"}), source)
    longer = {"init_from": {"run": str(source), "what": "training"}, "training": {"epochs": 5}}
    with pytest.raises(UserError, match=r"checkpoints\.keep: weights.*cannot go on; use init_from\.what: encoder, or"):
        run(make_config(**longer), tmp_path / "longer")
    run(make_config(init_from={"run": str(source), "what": "encoder"}), tmp_path / "tuned")
    (source / "result.json").unlink()
    with pytest.raises(UserError, match=r"its training cannot go on\. To train it again, move this run folder away"):
        run(make_config(checkpoints={"keep": "weights"}), source)


@pytest.mark.parametrize("moment", ["weights", "manifest", "files"])
def test_a_kill_while_it_is_reduced_loses_nothing(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run(make_config(), tmp_path)
    (folder, *_) = checkpoint.candidates(tmp_path / "checkpoints")
    before = weights(tmp_path)

    class Killed(BaseException):
        pass

    def kill(*args: Any, **options: Any) -> None:
        raise Killed

    where: dict[str, tuple[Any, str]] = {
        "weights": (atomic, "sync_file"), "manifest": (atomic, "write_json"), "files": (Path, "unlink"),
    }  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(*where[moment], kill)
        with pytest.raises(Killed):
            checkpoint.reduce_to_weights(folder)
    assert checkpoint.newest(tmp_path / "checkpoints") == folder
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())
    checkpoint.reduce_to_weights(folder)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "manifest.json", "weights.pt",
    ]  # fmt: skip


FEW = {"hard_positives": 3, "hard_negatives": 8, "random_negatives": 8}
CASES = [
    {},
    {"training": {"optimizer": "adam"}},
    {"training": {"momentum": 0.0, "nesterov": False}},
    {"contrast": {"strategy": "none"}},
    {"method": {"name": "skeletongcl", **FEW}, "encoder": {"name": "ctrgcn"}},
]


@pytest.mark.parametrize("sections", CASES, ids=str)
def test_the_size_of_a_checkpoint_is_known_beforehand(
    small_store: Path, tmp_path: Path, sections: dict[str, Any]
) -> None:
    raw = small_raw(small_store, **sections)
    if "method" in sections:
        del raw["contrast"]
        raw["encoder"] = sections["encoder"]
    config = resolve(raw, "test")
    said = footprint(config)
    with pytest.raises(Stopped):  # after its first step, when the optimiser has a state
        list(training(config, tmp_path, comm=LocalComm(), device=CPU, stop=lambda: True))
    (folder,) = checkpoint.candidates(tmp_path / "checkpoints")
    whole = size_of(folder)
    slack = 0.02 * whole + 2 * (1 << 16)
    assert whole <= said.whole <= whole + slack
    checkpoint.reduce_to_weights(folder)
    assert size_of(folder) <= said.weights <= size_of(folder) + slack


@pytest.mark.parametrize(
    ("text", "size"), [("50GB", 50 * 10**9), ("1.5 TiB", 3 * 2**39), ("20mb", 20 * 10**6), ("3 GiB", 3 * 2**30)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["50", "GB", "-1GB", "0GB", "1e3GB", "50 gigabytes", "5KB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as in 50GB"):
        parse_size(text)


def test_sizes_are_shown() -> None:
    assert [show_size(size) for size in (1.5e6, 12e6, 3.21e9, 5e12)] == ["1.5 MB", "12 MB", "3.2 GB", "5.0 TB"]

"""``stdcl sync``: which offline runs are sent, once each; nothing reaches a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stdcl.cli import main
from stdcl.errors import UserError
from stdcl.results.layout import SweepFolder
from stdcl.results.plan import Plan, PlannedTrial, write_plan
from stdcl.tracking.wandb_settings import WandbSettings
from stdcl.tracking.wandb_sink import WandbSink
from stdcl.tracking.wandb_sync import AT_A_TIME, send, unsent
from stdcl.training.trainer import LONGEST_TAG, shown_name, tags
from tests.train.conftest import MakeConfig, make_config, small_store

__all__ = ["make_config", "small_store"]

ACCOUNT = {"WANDB_API_KEY": "0" * 40}


def offline_run(folder: Path, identity: str = "abc") -> Path:
    run = folder / "wandb" / f"offline-run-20260101_000000-{identity}"
    run.mkdir(parents=True)
    (run / f"run-{identity}.wandb").write_bytes(b":W&B")
    return run


class Client:
    """As ``wandb sync``: marks what it has sent."""

    def __init__(self, fails: Sequence[Path] = ()) -> None:
        self.sent: list[Path] = []
        self.calls = 0
        self._fails = fails

    def __call__(self, words: Sequence[str]) -> int:
        assert list(words[1:4]) == ["-m", "wandb", "sync"]
        self.calls += 1
        for word in words[4:]:
            run = Path(word)
            if run not in self._fails:
                self.sent.append(run)
                (file,) = run.glob("*.wandb")
                file.with_name(f"{file.name}.synced").touch()
        return 0


def test_a_trial_is_named_by_what_varies_and_tagged_by_what_it_is(
    make_config: MakeConfig, tmp_path: Path, offline_runs: Any
) -> None:
    config = make_config(training={"seed": 7})
    assert shown_name("temperature=0.8,seed=7,0a1b2c3d") == "temperature=0.8,seed=7"
    wanted = tags(config, "x" * 80)
    assert wanted == [
        config.encoder.name, config.data.dataset, config.data.protocol, config.data.stream, config.arm, "seed 7",
        "x" * LONGEST_TAG,
    ]  # fmt: skip
    run_dir = tmp_path / "trial"
    run_dir.mkdir()
    settings = WandbSettings(project="stdcl-tests", mode="offline", init_seconds=60.0, finish_seconds=180.0)
    sink = WandbSink(settings, sweep="tau", key="k", directory=run_dir, name="temperature=0.8,seed=7", tags=wanted)
    sink.start({}, {"seed": 7})
    sink.finish({}, "finished")
    (run,) = offline_runs(run_dir)
    assert run.identity["name"] == "temperature=0.8,seed=7"
    assert sorted(run.tags) == sorted(wanted)
    assert len(unsent([run_dir])) == 1, "what W&B itself has written is what is sent"


def test_each_run_is_sent_once(tmp_path: Path) -> None:
    folders = [tmp_path / f"trial={number}" for number in range(AT_A_TIME + 3)]
    runs = [offline_run(folder) for folder in folders]
    offline_run(tmp_path / "trial=0" / "wandb" / "superseded")
    (tmp_path / "trial=1" / "wandb" / "offline-run-20260101_000000-empty").mkdir()
    (tmp_path / "trial=2" / "wandb" / "run-20260101_000000-online").mkdir()
    assert unsent([*folders, tmp_path / "none"]) == runs
    client = Client(fails=runs[:1])
    assert send(unsent(folders), ACCOUNT, client) == runs[:1]
    assert client.sent == runs[1:]
    assert client.calls == 2
    again = Client()
    assert send(unsent(folders), ACCOUNT, again) == []
    assert again.sent == runs[:1], "what failed is tried again, and nothing else"
    assert send(unsent(folders), ACCOUNT, Client()) == []


def test_without_an_account_nothing_is_tried(tmp_path: Path) -> None:
    client = Client()
    with pytest.raises(UserError, match="no W&B account"):
        send([offline_run(tmp_path)], {"HOME": str(tmp_path)}, client)
    assert client.calls == 0


def test_a_sweep_without_offline_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SweepFolder(tmp_path / "tau")
    write_plan(folder.plan, Plan("tau", "?", "grid", ("t",), (PlannedTrial("a", "grid", {}, 1),)))
    assert main(["sync", str(folder.root)]) == 0
    assert "nothing to send" in capsys.readouterr().out

"""Every method in the real loop: trained, stopped, continued on another number of ranks, evaluated without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl import specs
from stdcl.config.load import merge, resolve
from stdcl.config.model import METHOD
from stdcl.parallel.comm import Comm, LocalComm
from stdcl.results.history import read_history
from stdcl.runs.evaluate import evaluate_run
from stdcl.training import checkpoint
from stdcl.training.checkpoint import Position
from stdcl.training.trainer import Trainer, training
from tests.distributed.ranks import run_on_ranks
from tests.train.conftest import small_raw

CPU = torch.device("cpu")
STOP = Position(1, 2)
EPOCHS = 2
BANK = {"embedding_dim": 16, "hard_positives": 2, "hard_negatives": 8, "random_negatives": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "stdcl": BANK,
    "skeletongcl": BANK,
    "frhead": {"embedding_dim": 24, "prototypes": 12},
    "gap": {"dim": 16},
    "protogcn": {"embedding_dim": 24, "prototypes": 12},
}
"""What makes each method small; a new method is added here, or this file fails."""
TIMES = {"seconds", "total_seconds", "train_seconds", "sequences_per_second", "peak_memory_mib"}


def raw_config(name: str, store: Path) -> dict[str, Any]:
    """CTR-GCN, which offers every tap, in float64, so that what rounding leaves cannot hide a fault. 12 sequences a
    step and 4 in the last one: 3 ranks and 4 do not divide them evenly, and one rank of 4 has a single one."""
    raw = small_raw(store)
    del raw["contrast"]
    spec = specs.method(name)
    section = {METHOD: {"name": name, **OPTIONS[name]}} if spec.section == METHOD else {spec.section: OPTIONS[name]}
    return merge(
        raw,
        {
            "data": {"repeat": 1, "frames": 8},
            "encoder": None,
            "training": {
                "epochs": EPOCHS,
                "batch_size": 12,
                "drop_last": False,
                "precision": "float64",
                "checkpoint_every_steps": 2,
            },
        }
        | section,
    ) | {"encoder": {"name": "ctrgcn"}}


class Stopped(Exception):
    pass


def train(comm: Comm, raw: dict[str, Any], folder: str, stop: bool) -> None:
    """Train to the end, or until the checkpoint ``STOP`` is written, as after a kill."""
    real = checkpoint.save

    def save(root: Path, position: Position, *args: Any) -> Path:
        written = real(root, position, *args)
        if stop and position == STOP:
            raise Stopped
        return written

    checkpoint.save = save  # type: ignore[assignment]
    try:
        for _ in training(resolve(raw, "test"), Path(folder), comm=comm, device=CPU):
            pass
    except Stopped:
        assert stop
    finally:
        checkpoint.save = real


def train_on(ranks: int, raw: dict[str, Any], folder: Path, stop: bool = False) -> None:
    if ranks == 1:
        train(LocalComm(), raw, str(folder), stop)
    else:
        run_on_ranks(train, ranks, raw, str(folder), stop)


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = checkpoint.load_state(folder / "checkpoints" / Position(EPOCHS).name, CPU)["model"]
    return model


def compared(row: Any) -> dict[str, Any]:
    """What must be equal between two runs: everything but times and memory."""
    return {key: value for key, value in row.items() if key not in TIMES and not key.endswith("/share_of_step")}


def assert_equal_runs(folder: Path, whole: Path, exact: bool) -> None:
    rows, expected = read_history(folder / "history.jsonl"), read_history(whole / "history.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    for row, other in zip(rows, expected, strict=True):
        got, wanted = compared(row), compared(other)
        assert got.keys() == wanted.keys()
        for key, value in wanted.items():
            if exact:
                assert got[key] == value, key
            elif "bytes" not in key:  # a rank's own: what it holds and what it sends
                assert got[key] == pytest.approx(value, rel=1e-8, abs=1e-10), key
    models = model_of(folder), model_of(whole)
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        if exact:
            assert torch.equal(value, models[1][name]), name
        else:
            torch.testing.assert_close(value, models[1][name], rtol=1e-7, atol=1e-9, msg=name)


@pytest.fixture(scope="module", params=specs.methods())
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def whole(name: str, small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of one rank."""
    folder = tmp_path_factory.mktemp("whole") / name
    train_on(1, raw_config(name, small_store), folder)
    return folder


def test_a_run_reports_terms_and_figures_and_trains_the_head(name: str, small_store: Path, whole: Path) -> None:
    last = read_history(whole / "history.jsonl")[-1]
    terms = [key for key in last if key.startswith("loss_")]
    assert terms
    assert last["loss"] > last["ce"]
    assert any("/" in key for key in last)
    trainer = Trainer(resolve(raw_config(name, small_store), "test"), whole.parent / "fresh", LocalComm(), CPU)
    fresh, trained = trainer.parts.model.state_dict(), model_of(whole)
    heads = [key for key, _ in trainer.parts.model.named_parameters() if key.startswith("head.")]
    assert heads
    # What a bias adds, the batch norm behind it takes out again: its gradient is zero.
    still = [key for key in heads if torch.equal(fresh[key], trained[key]) and not key.endswith(".squeeze.bias")]
    assert still == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 1),
        (2, 1),
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(1, 4, marks=pytest.mark.slow),
        pytest.param(4, 3, marks=pytest.mark.slow),
    ],
)
def test_stopped_inside_an_epoch_and_continued(
    name: str, small_store: Path, whole: Path, tmp_path: Path, before: int, after: int
) -> None:
    """To the bit on as many ranks; else the same training up to float64's rounding: on 1, 2, 3 and 4 ranks."""
    raw = raw_config(name, small_store)
    train_on(before, raw, tmp_path, stop=True)
    train_on(after, raw, tmp_path)
    assert_equal_runs(tmp_path, whole, exact=before == after == 1)


def test_evaluation_knows_no_method(name: str, small_store: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> None:
        raise AssertionError("evaluation built a method")

    monkeypatch.setattr("stdcl.training.components.build_method", refused)
    last = read_history(whole / "history.jsonl")[-1]
    assert evaluate_run(whole).accuracy == last["accuracy"]

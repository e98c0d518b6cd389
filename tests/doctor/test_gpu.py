"""``stdcl doctor --gpu``: what the findings say, from made-up cards; no card was there to try it on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stdcl.cli.command import main
from stdcl.config import RunConfig
from stdcl.data.prepare import prepare_dataset
from stdcl.doctor import gpu
from stdcl.doctor.finding import Finding
from stdcl.errors import UserError
from stdcl.launch.gpu_check import CardFacts, GpuCheck
from stdcl.parallel.trial import CommTrial
from stdcl.training.rates import Rates
from tests.data.foreign.files import write_ctrgcn

CARD = CardFacts(
    node="1", processor="NVIDIA H100", driver="570.86", tf32="convolutions", total_gib=79.6, free_gib=79.0,
    capability="9.0", cuda="12.8", cudnn="90701", nccl="2.25.1", rounds_convolutions=True,
)  # fmt: skip
RIGHT = CommTrial((), 0.002, 50e9)
RATES = Rates(loader=4000.0, training=1000.0, epoch_seconds=65.0, memory_mib=4096.0)


@pytest.fixture
def config() -> RunConfig:
    return gpu._config(None, "ctrgcn", "full", 4, 1)


def found(check: GpuCheck, config: RunConfig) -> dict[str, Finding]:
    every = [*gpu._cards(check.cards), *gpu._ranks(check), *gpu.rate_findings(check, config)]
    return {finding.what: finding for finding in every}


def test_four_good_cards_on_two_nodes(config: RunConfig) -> None:
    cards = (CARD, CARD, replace(CARD, node="2"), replace(CARD, node="2"))
    lines = found(GpuCheck(cards, RIGHT, RATES), config)
    assert {finding.state for finding in lines.values()} == {"ok"}
    assert lines["card"].text.startswith(
        "node 2: 2 x NVIDIA H100, 79.6 GiB (79.0 free), compute capability 9.0, driver"
    )
    assert lines["tf32"].text == (
        "training.tf32: convolutions; convolutions round to TF32, matrix products keep float32 (measured)"
    )
    assert lines["ranks"].text == (
        "4 ranks on 2 node(s) over NCCL: every collective is right; a sum of 64 MiB takes 2.0 ms (50.00 GB/s a rank)"
    )
    assert lines["loader"].text.endswith("4.0 times what training takes")
    assert lines["epoch"].text.startswith("about 1:05 minutes with evaluation")
    assert lines["memory of training"].text == "4.00 GiB allocated a card, of 79.0 free and 79.6"


def test_what_is_wrong_is_bad(config: RunConfig) -> None:
    cards = (CARD, replace(CARD, rounds_products=True, driver="580.65", free_gib=4.2))
    broken = CommTrial(("sum", "broadcast"), 0.1, 1.0)
    lines = found(GpuCheck(cards, broken, replace(RATES, loader=500.0)), config)
    assert lines["ranks"].state == "bad"
    assert "wrong numbers from sum, broadcast" in lines["ranks"].text
    assert lines["tf32"].state == "bad", "matrix products round, unasked"
    assert lines["cards"].text.startswith("2 kinds of card, driver or library")
    assert lines["loader"].state == "note"
    assert "less than training takes" in lines["loader"].text
    assert lines["epoch"].text.startswith("about 2:10"), "as long as the loader takes"
    assert lines["memory of training"].state == "note"


def test_stores_without_recipes_are_passed_over_and_refused_where_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ctrgcn(tmp_path / "some.npz")
    prepare_dataset("ctrgcn-npz", tmp_path / "some", raw=[tmp_path / "some.npz"])
    monkeypatch.setenv("STDCL_DATA", str(tmp_path))
    assert gpu._store(None) is None
    (line, _) = gpu._loader("some", "ctrgcn")
    assert line.state == "bad"
    assert "'some' has no recipe to measure with" in line.text


def test_a_single_card_has_no_ranks(config: RunConfig) -> None:
    assert "NCCL was not tried" in found(GpuCheck((CARD,), RIGHT, None), config)["ranks"].text


def test_a_machine_without_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("STDCL_DATA", str(tmp_path))
    assert main(["doctor", "--gpu"]) == 1
    text = capsys.readouterr().out
    assert "[bad ] no card: " in text
    assert "not measured: no prepared data" in text
    assert main(["doctor", "--cpu"]) == 2
    assert "belong to --gpu" in capsys.readouterr().err


@pytest.mark.parametrize(("cards", "free", "expected"), [(4, 0, "none is free"), (4, 3, "1 of 4 are held")])
def test_cards_that_others_hold(monkeypatch: pytest.MonkeyPatch, cards: int, free: int, expected: str) -> None:
    monkeypatch.setattr(gpu, "run_check", lambda *a, **k: GpuCheck((CARD,) * 3, RIGHT, None))
    said = list(gpu._of_cards(cards, free, None, "ctrgcn", print))
    assert any(expected in finding.text for finding in said)
    assert any(finding.state == "bad" for finding in said) == (free == 0)


def test_reports_name_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STDCL_STORAGE", str(tmp_path / "results"))
    text = f"{tmp_path}/results/x: on node 10.11.12.13: no; RAY_ADDRESS=10.0.0.1:6379; {Path.home()}/data; 570.86.15"
    assert gpu.without_places(text) == (
        "$STDCL_STORAGE/x: on node ADDRESS: no; RAY_ADDRESS=ADDRESS; $HOME/data; 570.86.15"
    )


def test_data_that_cannot_be_trained_on_hide_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    """The rates are left out, with the reason; cards and their connection are tried all the same."""
    assert config.contrast.readings.shortage == "clamp", "a small store's classes are short of what the recipe asks"
    asked: list[int] = []

    def run_check(*given: object, steps: int, **more: object) -> GpuCheck:
        asked.append(steps)
        return GpuCheck((CARD, CARD), RIGHT, None)

    def unfit(config: RunConfig) -> None:
        raise UserError("training.batch_size is 64, but there are 5 training items\nmore")

    monkeypatch.setattr(gpu, "run_check", run_check)
    monkeypatch.setattr(gpu, "check", unfit)
    monkeypatch.setattr(gpu, "_store", lambda data: None)
    assert [each.text for each in gpu._of_cards(2, 2, None, "ctrgcn", print)][-1] == gpu._NO_DATA.text
    monkeypatch.setattr(gpu, "_store", lambda data: tmp_path)
    monkeypatch.setattr(gpu, "_config", lambda *given: config)
    lines = {each.what: each for each in gpu._of_cards(2, 2, None, "ctrgcn", print)}
    assert asked == [0, 0], "no steps"
    assert lines["card"].state == lines["ranks"].state == "ok"
    assert lines["rates"].state == "bad"
    assert lines["rates"].text == "not measured: training.batch_size is 64, but there are 5 training items"


def test_a_finding_fits_the_terminal() -> None:
    text = Finding("ranks", "bad", "a sentence of several words with a /path/that-is/longer-than-the-line").render(30)
    assert text.splitlines() == [
        "[bad ] ranks: a sentence of",
        "       several words with a",
        "       /path/that-is/longer-than-the-line",
    ]

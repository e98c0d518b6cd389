"""Sweeps on GPUs that are declared to Ray and do not exist: which trial gets which card, and when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.ray.conftest import Start, finish
from tests.ray.own_ray import own_ray
from tests.sweep.conftest import GRID

pytestmark = pytest.mark.slow

CARDS = 4
Noted = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mapping[str, str]]:
    with own_ray(gpus=CARDS, cpus=16) as environment:
        yield environment


def sweep(trials: int, **resources: Any) -> dict[str, Any]:
    """A sweep of so many trials, two epochs each."""
    base = {**GRID["base"], "training": {**GRID["base"]["training"], "epochs": 2}}
    return {
        **GRID, "base": base, "grid": {"contrast.temperature": [0.5]}, "baseline": False,
        "seeds": list(range(1, trials + 1)), "resources": resources,
    }  # fmt: skip


def run(
    start: Start, storage: Path, cluster: Mapping[str, str], content: dict[str, Any], **stub: Any
) -> tuple[str, list[Noted]]:
    """Run a sweep to its end; return what was printed, and what each rank noted of its card."""
    code, text = finish(start("sweep", content, storage, environment=dict(cluster), **stub))
    assert code == 0, text
    return text, [json.loads(file.read_text()) for file in sorted(storage.glob("small/trials/*/card-*.json"))]


def at_the_same_time(noted: list[Noted]) -> list[list[Noted]]:
    """Who runs at each moment at which somebody begins."""
    return [[other for other in noted if other["begin"] <= one["begin"] < other["end"]] for one in noted]


def check_no_card_is_over(noted: list[Noted], share: float) -> None:
    for together in at_the_same_time(noted):
        for card in range(CARDS):
            holders = [one["trial"] for one in together if card in one["cards"]]
            assert len(holders) * share <= 1.0, f"card {card}: {holders}"


def check_alone(noted: list[Noted], trials: int) -> None:
    """Each trial was one rank, with one card, the only one that it could see."""
    assert sorted(one["trial"] for one in noted) == sorted({one["trial"] for one in noted})
    assert len(noted) == trials
    for one in noted:
        (card,) = one["cards"]
        assert card in range(CARDS)
        assert one["visible"] == str(card)
        assert (one["device"], one["computed_on"]) == ("cuda:0", "cpu"), "the first that it sees; the test's stand-in"


def test_a_card_each(start: Start, tmp_path: Path, cluster: Mapping[str, str]) -> None:
    """Six trials of one GPU on four cards: four at a time, each with a card of its own."""
    content = sweep(6, workers=1, gpus_per_worker=1)
    text, noted = run(start, tmp_path, cluster, content, meet=4, seconds=0.5)
    assert "1 node(s), 16 CPU, 4 GPU; 4 trial(s) at a time" in text
    assert "Ray counts 4 GPU(s), the NVIDIA driver lists 0" in text, "a note, with which the sweep goes on"
    check_alone(noted, 6)
    check_no_card_is_over(noted, 1.0)
    largest = max(at_the_same_time(noted), key=len)
    assert sorted(one["cards"][0] for one in largest) == [0, 1, 2, 3]


def test_four_quarters_share_a_card(start: Start, tmp_path: Path, cluster: Mapping[str, str]) -> None:
    """Sixteen would fit; of the six that there are, four fill one card and two share another."""
    text, noted = run(start, tmp_path, cluster, sweep(6, workers=1, gpus_per_worker=0.25), meet=6)
    assert "16 trial(s) at a time" in text
    check_alone(noted, 6)
    check_no_card_is_over(noted, 0.25)
    assert len(max(at_the_same_time(noted), key=len)) == 6
    used = [one["cards"][0] for one in noted]
    assert sorted(used.count(card) for card in set(used)) == [2, 4], "no card is broken into before one is full"


def test_two_of_three_quarters_never_share_a_card(start: Start, tmp_path: Path, cluster: Mapping[str, str]) -> None:
    """Together they leave a whole card's worth free, on which nevertheless no fifth fits."""
    text, noted = run(start, tmp_path, cluster, sweep(6, workers=1, gpus_per_worker=0.75), meet=4, seconds=0.5)
    assert "4 trial(s) at a time" in text
    check_alone(noted, 6)
    check_no_card_is_over(noted, 0.75)
    assert {len(together) for together in at_the_same_time(noted)} <= {1, 2, 3, 4}
    assert {one["cards"][0] for one in noted} == {0, 1, 2, 3}


def test_two_groups_of_two_ranks(start: Start, tmp_path: Path, cluster: Mapping[str, str]) -> None:
    """Three trials of two workers with a GPU each: two at a time; ranks of a group see its two cards, and use one."""
    content = sweep(3, workers=2, gpus_per_worker=1)
    text, noted = run(start, tmp_path, cluster, content, meet=2, seconds=0.5)
    assert "2 trial(s) at a time" in text
    assert [one["rank"] for one in noted] == [0, 1] * 3
    check_no_card_is_over(noted, 1.0)
    for first, second in zip(noted[::2], noted[1::2], strict=True):
        (one,), (other,) = first["cards"], second["cards"]
        assert one < other, "ranks in the order of the cards"
        assert first["visible"] == second["visible"] == f"{one},{other}"
        assert (first["device"], second["device"]) == ("cuda:0", "cuda:1"), "as PyTorch counts what is visible"
    largest = max(at_the_same_time(noted), key=len)
    assert sorted(one["cards"][0] for one in largest) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"workers": 5, "gpus_per_worker": 1}, "one training asks for 5 x 1 CPU, 5 x 1 GPU (placement PACK)"),
        (
            {"workers": 2, "gpus_per_worker": 1, "placement": "STRICT_SPREAD"},
            "one training asks for 2 x 1 CPU, 2 x 1 GPU (placement STRICT_SPREAD)",
        ),
    ],
)
def test_more_than_there_is(
    start: Start, tmp_path: Path, cluster: Mapping[str, str], resources: dict[str, Any], said: str
) -> None:
    code, text = finish(start("sweep", sweep(1, **resources), tmp_path, environment=dict(cluster), meet=1))
    assert code == 2, text
    (error,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert said in error
    assert "has 16 CPU, 4 GPU on 1 node(s). Lower resources.workers" in error
    assert not list(tmp_path.glob("small/trials/*")), "nothing was begun"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_declared_card_that_does_not_exist(
    start: Start, tmp_path: Path, cluster: Mapping[str, str], workers: int
) -> None:
    """Nothing stands in for the cards: no trial trains on the CPU instead, and the sweep stops and says why."""
    content = {**sweep(3, workers=workers, gpus_per_worker=1), "max_concurrent_trials": 1}
    code, text = finish(start("sweep", content, tmp_path, environment=dict(cluster)))
    assert code == 1, text
    assert "Ray counts 4 GPU(s), the NVIDIA driver lists 0" in text
    (stopped,) = [line for line in text.splitlines() if line.startswith("stopped: ")]
    assert re.fullmatch(
        r"stopped: the cluster could not start 2 trials in a row: on node \S+: a GPU was asked for, but the NVIDIA "
        r"driver of this machine lists no card, and PyTorch sees none; resources\.gpus_per_worker=0 trains on CPUs",
        stopped,
    )
    assert not list(tmp_path.glob("small/trials/*/history.jsonl")), "no epoch was trained"

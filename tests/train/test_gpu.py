"""The settings of GPUs, as far as they can be looked at without one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from stdcl.config import fingerprint
from stdcl.training.gpu import WORKSPACE, set_arithmetic
from tests.train.conftest import MakeConfig

CUDA = torch.device("cuda")


def settings() -> tuple[bool, bool, bool]:
    return (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    conv, products, deterministic = settings()
    yield
    torch.backends.cudnn.allow_tf32 = conv
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.use_deterministic_algorithms(deterministic)
    os.environ.pop(WORKSPACE, None)


@pytest.mark.parametrize(
    ("tf32", "expected"), [("convolutions", (True, False)), ("none", (False, False)), ("all", (True, True))]
)
def test_products_are_as_the_configuration_says(
    make_config: MakeConfig, tf32: str, expected: tuple[bool, bool]
) -> None:
    set_arithmetic(make_config(training={"tf32": tf32}).training, CUDA)
    assert settings()[:2] == expected


def test_each_training_sets_everything(make_config: MakeConfig) -> None:
    set_arithmetic(make_config(training={"tf32": "all", "deterministic": True}).training, CUDA)
    assert settings() == (True, True, True)
    assert os.environ[WORKSPACE]
    set_arithmetic(make_config().training, CUDA)
    assert settings() == (True, False, False), "the defaults, which are PyTorch's own"


def test_a_cpu_is_left_alone(make_config: MakeConfig) -> None:
    before = settings()
    set_arithmetic(make_config(training={"tf32": "none", "deterministic": True}).training, torch.device("cpu"))
    assert settings() == before


def test_fingerprints_are_those_from_before_the_keys(make_config: MakeConfig) -> None:
    plain = fingerprint(make_config())
    assert fingerprint(make_config(training={"tf32": "convolutions", "deterministic": False})) == plain
    assert fingerprint(make_config(training={"tf32": "none"})) != plain
    assert fingerprint(make_config(training={"deterministic": True})) != plain

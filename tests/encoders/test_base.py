"""Keyed random numbers: pure functions of (key, site, position), and uniform."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stdcl.encoders.keyed import keyed_dropout, keyed_normal, keyed_uniform
from stdcl.errors import UserError
from tests.encoders.golden import LAYOUTS


def test_rows_depend_on_their_key_alone() -> None:
    keys = torch.tensor([5, -3, 2**62, 0])
    together = keyed_uniform(keys, 7, (3, 4))
    for row, key in enumerate(keys):
        assert torch.equal(together[row : row + 1], keyed_uniform(key[None], 7, (3, 4)))
    assert torch.equal(together.flip(0), keyed_uniform(keys.flip(0), 7, (3, 4)))


def test_values_never_change() -> None:
    """Stored results depend on these numbers: a change of the generator is a change of every trained model."""
    got = keyed_uniform(torch.tensor([1, 2]), 3, (2,))
    assert torch.equal((got * 2**24).long(), torch.tensor([[12756137, 4098280], [3614219, 8987576]]))


def test_uniform() -> None:
    drawn = keyed_uniform(torch.arange(200), 1, (500,)).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    chi_square = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi_square < 45  # 19 degrees of freedom; P(> 45) < 0.001
    flat = drawn - drawn.mean()
    for other in (drawn.roll(1, 0), drawn.roll(1, 1), keyed_uniform(torch.arange(200), 2, (500,)).double()):
        correlation = float((flat * (other - other.mean())).mean() / flat.square().mean())
        assert abs(correlation) < 0.015


def test_normal() -> None:
    drawn = keyed_normal(torch.arange(100), 1, (1000,)).double()
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn**4).mean()) - 3) < 0.15
    assert drawn.isfinite().all()


def test_dropout() -> None:
    keys = torch.arange(50)
    x = torch.ones(50, 8, 30)
    assert keyed_dropout(x, 0.5, keys, 0, training=False) is x
    assert keyed_dropout(x, 0.0, None, 0, training=True) is x
    every = keyed_dropout(x, 0.25, keys, 0, training=True)
    assert every.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert abs(float(every.mean()) - 1) < 0.05
    channels = keyed_dropout(x, 0.5, keys, 0, training=True, axes=1)
    assert torch.equal(channels, channels[:, :, :1].expand_as(channels))
    with pytest.raises(ValueError, match="keys"):
        keyed_dropout(x, 0.5, None, 0, training=True)


def test_layout_must_fit_the_skeleton() -> None:
    with pytest.raises(UserError, match="25 joints"):
        dataclasses.replace(LAYOUTS["nwucla"], num_joints=25)
    with pytest.raises(UserError, match="num_persons"):
        dataclasses.replace(LAYOUTS["nwucla"], num_persons=0)

"""The texts' side of GAP: files, random texts, and the draw of synonyms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stdcl.errors import UserError
from stdcl.methods.gap.method import GAP
from stdcl.methods.gap.options import GAPOptions
from stdcl.methods.gap.parts import JOINT_SETS
from stdcl.methods.gap.texts import random_texts, read_texts, write_texts
from stdcl.skeleton import NTU, NW_UCLA
from tests.methods.ranks import SHAPES, make_task

CLASSES = ("carry", "throw", "sit down")


def example(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    content: dict[str, Any] = {
        "classes": CLASSES,
        "parts": generator.standard_normal((4, 3, 6)).astype(np.float32),
        "body": generator.standard_normal((5, 6)).astype(np.float32),
        "body_class": np.array([2, 0, 1, 0, 2]),
        "meta": {"tower": "none"},
    }
    return content | changes


def test_a_file_comes_back_sorted_by_class(tmp_path: Path) -> None:
    path = tmp_path / "texts.npz"
    content = example()
    write_texts(path, **content)
    texts = read_texts(path, CLASSES)
    assert texts.dim == 6
    assert texts.count.tolist() == [2, 1, 2]
    assert texts.first.tolist() == [0, 2, 3]
    assert torch.equal(texts.body, torch.from_numpy(content["body"][[1, 3, 2, 0, 4]]))
    unit = texts.to(torch.device("cpu"), torch.float64)
    labels, drawn = torch.tensor([2, 0]), torch.tensor([1, 0])
    found = unit.look_up(labels, drawn)
    for row, label, source in zip(found, (2, 0), (4, 1), strict=True):
        wanted = [content["body"][source], *content["parts"][:, label]]
        for got, vector in zip(row, wanted, strict=True):
            np.testing.assert_allclose(got, vector / np.linalg.norm(vector), rtol=1e-6)


def test_the_same_numbers_have_the_same_digest(tmp_path: Path) -> None:
    digests = []
    for name, changes in (("a", {}), ("b", {"meta": {"tower": "another"}}), ("c", {"body_class": np.arange(5) % 3})):
        write_texts(tmp_path / f"{name}.npz", **example(**changes))
        digests.append(read_texts(tmp_path / f"{name}.npz", CLASSES).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ("carry", "throw", "stand up")}, "class 2 is 'stand up', the data's is 'sit down'"),
        ({"classes": CLASSES[:2]}, "2 classes, the data 3"),
        ({"body_class": np.array([0, 0, 1, 0, 1])}, "each of the 3 classes needs a text"),
        ({"body_class": np.array([0, 3, 1, 2, 1])}, "each of the 3 classes needs a text"),
        ({"body": np.zeros((5, 7), np.float32)}, "do not agree"),
        ({"parts": np.zeros((3, 3, 6), np.float32)}, "expected"),
        ({"body": np.full((5, 6), np.nan, np.float32)}, "not numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.npz"
    write_texts(path, **example(**changes))
    with pytest.raises(UserError, match=said):
        read_texts(path, CLASSES)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; make one with 'stdcl text-features'"):
        read_texts(tmp_path / "texts.npz", CLASSES)
    (tmp_path / "texts.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="not a file of text features"):
        read_texts(tmp_path / "texts.npz", CLASSES)
    np.savez(tmp_path / "pickled.npz", part=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="not a file of text features"):
        read_texts(tmp_path / "pickled.npz", CLASSES)


def test_random_texts_are_orthogonal() -> None:
    texts = random_texts(7, 16, seed=3)
    for rows in (texts.body, *texts.parts):
        torch.testing.assert_close(rows @ rows.T, torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-12)
    assert not torch.equal(texts.body, random_texts(7, 16, seed=4).body)
    with pytest.raises(UserError, match="cannot be orthogonal"):
        random_texts(17, 16, seed=3)


def test_synonyms_are_drawn_evenly_and_by_item_and_epoch_alone(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.npz", **example(body_class=np.array([0, 0, 0, 1, 2])))
    texts = read_texts(tmp_path / "texts.npz", CLASSES)
    items = torch.arange(30_000)
    drawn = texts.draw(torch.zeros_like(items), items, seed=1, epoch=0)
    # Three synonyms, 30,000 draws: a share's standard deviation is 0.0027.
    assert drawn.bincount(minlength=3).tolist() == pytest.approx([10_000] * 3, abs=5 * 82)
    later = texts.draw(torch.zeros_like(items), items, seed=1, epoch=1)
    assert float((later == drawn).double().mean()) == pytest.approx(1 / 3, abs=5 * 0.0027)
    some = items[[17, 4, 29_999]]
    assert torch.equal(texts.draw(torch.zeros_like(some), some, seed=1, epoch=0), drawn[some])
    assert not texts.draw(torch.ones_like(some), some, seed=1, epoch=0).any()


def test_gap_says_what_does_not_fit() -> None:
    with pytest.raises(UserError, match="needs a feature map with joints; this encoder's has 4 places"):
        GAP(GAPOptions(name="gap", dim=16), make_task(), SHAPES.__class__((1, 8, 4, 4), 8, {}))
    with pytest.raises(UserError, match=r"part 'head' names joint 20; joints are 0 to 19"):
        GAP(GAPOptions(name="gap", dim=16, part_joints={**JOINT_SETS["nw-ucla"], "head": (20,)}), make_task(), SHAPES)
    with pytest.raises(ValueError, match="it must name head, hand, hip, foot"):
        GAPOptions(name="gap", part_joints={"head": (1,)})


def test_joint_sets_are_of_the_skeleton() -> None:
    for skeleton in (NTU, NW_UCLA):
        for name, joints in JOINT_SETS[skeleton.name].items():
            words = [skeleton.joint_names[joint] for joint in joints]
            wanted = {"head": ("head", "neck", "shoulder centre", "spine at"), "foot": ("hip", "knee", "ankle", "foot")}
            if name in wanted:
                assert all(any(part in word for part in wanted[name]) for word in words), words

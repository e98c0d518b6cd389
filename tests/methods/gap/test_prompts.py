"""Prompts: the files that the package holds, and what is composed of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stdcl import specs
from stdcl.errors import UserError
from stdcl.methods.gap.parts import PARTS
from stdcl.methods.gap.prompts import CLAUSES, compose, read_prompts, shipped

OWN = """
defaults: {head: looks ahead, hand: rests, arm: hangs, hip: stays, leg: stands, foot: rests}
classes:
  - {label: hop, synonyms: [jump on one leg], leg: bends, foot: leaves the floor}
  - {label: nod, head: goes down}
"""


@pytest.mark.parametrize(("name", "dataset"), [("ntu", "ntu120"), ("ntu", "ntu60"), ("nw-ucla", "nw-ucla")])
def test_shipped_prompts_are_about_the_datasets_classes(name: str, dataset: str) -> None:
    classes = specs.dataset(dataset).classes
    texts = compose(read_prompts(name), classes)
    assert len(texts.parts) == len(PARTS)
    for of_part in texts.parts:
        assert len(set(of_part)) == len(classes)
        # A word is at most a few tokens; the context of CLIP has 77.
        assert max(len(text.split()) for text in of_part) <= 30
        for text, label in zip(of_part, classes, strict=True):
            assert text.startswith(f"{label}, ")
    assert set(texts.body_class) == set(range(len(classes)))
    for label, name_of in enumerate(classes):
        mine = [text for text, of in zip(texts.body, texts.body_class, strict=True) if of == label]
        assert mine[0] == name_of
        assert len(mine) == len(set(mine)) == 5


def test_clauses_follow_the_label(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    texts = compose(read_prompts(str(tmp_path / "own.yaml")), ("nod", "hop"))
    by_part = dict(zip(PARTS, texts.parts, strict=True))
    assert by_part["head"] == ["nod, goes down", "hop, looks ahead"]
    assert by_part["hand"] == ["nod, rests, hangs", "hop, rests, hangs"]
    assert by_part["hip"] == ["nod, stays", "hop, stays"]
    assert by_part["foot"] == ["nod, stands, rests", "hop, bends, leaves the floor"]
    assert texts.body == ["nod", "hop", "jump on one leg"]
    assert texts.body_class == [0, 1, 1]
    assert set(CLAUSES) == set(PARTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("hip: stays", "hips: stays"), "defaults.hips: Extra inputs"),
        (("hip: stays, ", ""), "defaults lacks hip"),
        (("label: nod", "label: hop"), "classes named twice: hop"),
        (("label: nod", "label: shake"), "say nothing about 1 classes: nod"),
        (("classes:", "classes: ["), "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(*change))
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        compose(read_prompts(str(path)), ("hop", "nod"))


def test_a_missing_file_names_what_there_is(tmp_path: Path) -> None:
    assert shipped() == ("ntu", "nw-ucla")
    with pytest.raises(UserError, match="or one of: ntu, nw-ucla"):
        read_prompts(str(tmp_path / "none.yaml"))

"""A sequence is drawn as a strip or an animation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stdcl.cli import BAD_INPUT, DONE, main
from stdcl.data.info import shown
from stdcl.data.prepare import prepare_dataset
from stdcl.data.store import SequenceStore
from stdcl.report.figures.clip import Picture, draw_clip
from tests.data.foreign.files import write_pyskl


@pytest.fixture
def store(tmp_path: Path) -> SequenceStore:
    write_pyskl(tmp_path / "file.pkl")
    prepare_dataset("pyskl", tmp_path / "store", raw=[tmp_path / "file.pkl"])
    return SequenceStore.open(tmp_path / "store")


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def ink(image: Image.Image, colour: tuple[int, int, int]) -> int:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).sum(axis=2) < 60).sum())


def test_a_strip_shows_each_person_in_a_colour(store: SequenceStore, tmp_path: Path) -> None:
    assert shown(store.path, store.ids[1]).title == "S001C001P002R001A002: class 001 (10 frames, 2 persons)"
    draw_clip(Picture(*shown(store.path, store.ids[1])), tmp_path / "a.png")
    draw_clip(Picture(*shown(store.path, store.ids[2])), tmp_path / "b.png", frames=3)
    two, one = opened(tmp_path / "a.png"), opened(tmp_path / "b.png")
    blue, red = (0, 114, 178), (213, 94, 0)
    assert ink(two, blue) > 500
    assert ink(two, red) > 500
    assert ink(one, blue) > 200
    assert ink(one, red) == 0
    assert one.width < two.width


def test_missing_joints_are_not_drawn(store: SequenceStore, tmp_path: Path) -> None:
    assert store.manifest.missing_joints > 0
    draw_clip(Picture(*shown(store.path, store.ids[0])), tmp_path / "a.png", frames=1)
    assert opened(tmp_path / "a.png").size[0] > 0


def test_an_animation_has_the_frames(store: SequenceStore, tmp_path: Path) -> None:
    draw_clip(Picture(*shown(store.path, store.ids[0])), tmp_path / "a.gif")
    assert getattr(opened(tmp_path / "a.gif"), "n_frames") == 9  # noqa: B009


def test_the_command(
    store: SequenceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "show", "store", store.ids[0]]) == DONE
    assert (tmp_path / f"{store.ids[0]}.png").stat().st_size > 1000
    for words, said in [
        ([store.ids[0][:-1]], "did you mean"),
        ([store.ids[0], "--out", "x.jpg"], ".png (a strip of frames)"),
        ([store.ids[0], "--frames", "0"], "at least 1"),
    ]:
        capsys.readouterr()
        assert main(["data", "show", "store", *words]) == BAD_INPUT
        assert said in capsys.readouterr().err

"""Encoders, datasets and methods are described once; every list of them is found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from stdcl import specs
from stdcl.cli import main
from stdcl.config.keys import all_paths
from stdcl.config.load import resolve
from stdcl.config.model import EncoderConfig, RunConfig
from stdcl.config.section import ChosenByName, EncoderOptions
from stdcl.data.protocols import official_rules
from stdcl.data.synthetic import synthesise
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.build import build_encoder
from stdcl.errors import UserError
from stdcl.methods.base import Method
from stdcl.results.fusion import presets
from stdcl.skeleton import NW_UCLA

ROOT = Path(__file__).resolve().parents[1]


def raw(encoder: str) -> dict[str, Any]:
    return {"recipe": "lite", "data": {"dataset": "nw-ucla", "path": "x"}, "encoder": {"name": encoder}}


def test_records_import_neither_torch_nor_ray_nor_numpy() -> None:
    code = (
        "import sys; from stdcl import specs; from stdcl.config import read_run_file\n"
        "specs.encoders(), specs.datasets(), specs.methods()\n"
        "print([name for name in ('torch', 'ray', 'numpy', 'pyarrow', 'pandas') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("name", specs.encoders())
def test_an_encoder_is_what_its_record_says(name: str) -> None:
    spec = specs.encoder(name)
    layout = Layout(num_joints=20, num_persons=1, num_frames=16, num_classes=10, skeleton=NW_UCLA)
    config = resolve(raw(name), "test")
    encoder = build_encoder(config.encoder, layout)
    assert isinstance(encoder, specs.load(spec.build))
    assert config.data.convention == spec.convention
    assert next(iter(spec.options.model_fields)) == "name"
    assert set(spec.feature_options) <= set(spec.options.model_fields)
    assert set(spec.unpublished) <= set(encoder.state_dict())


@pytest.mark.parametrize("name", specs.datasets())
def test_a_dataset_is_what_its_record_says(name: str) -> None:
    spec = specs.dataset(name)
    assert callable(specs.load(spec.prepare))
    assert spec.describes_itself or callable(specs.load(spec.synthesise))
    assert spec.describes_itself == (spec.skeleton is None) == (not spec.classes)
    assert list(official_rules(name)) == list(spec.protocols)


def test_a_method_is_what_its_record_says() -> None:
    for spec in specs.methods().values():
        assert issubclass(specs.load(spec.build), Method)
        field = RunConfig.model_fields[spec.section]
        chosen = [mark.models()[spec.name] for mark in field.metadata if isinstance(mark, ChosenByName)]
        assert (chosen or [field.annotation]) == [spec.options]


def test_nothing_lists_the_encoders_a_second_time() -> None:
    """A file that names two encoders side by side is a second list, to be forgotten when the next one comes."""
    names = "|".join(specs.encoders())
    pair = re.compile(rf"""["'](?:{names})["']\s*[,:|].{{0,80}}["'](?:{names})["']""", re.DOTALL)
    lists = [path for path in sorted((ROOT / "stdcl").rglob("*.py")) if pair.search(path.read_text(encoding="utf-8"))]
    assert lists == []


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"name": "ctr-gcn"}, "'encoder.name' is 'ctr-gcn' (did you mean 'ctrgcn'?); allowed: "),
        ({"name": 3}, "'encoder.name' is 3; allowed: "),
        ({}, "'encoder.name' is missing; allowed: "),
        ("hcn", "'encoder' is 'hcn'; a section of keys and values is expected"),
        ({"name": "hcn", "hiden": 3}, "did you mean 'hidden'"),
        ({"name": "hcn", "hidden": 0}, "'encoder.hidden' is 0; it must be above 0"),
    ],
)
def test_a_fault_in_the_encoder_is_said_whole(section: Any, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        resolve({**raw("hcn"), "encoder": section}, "run.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_dataset_is_said_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"'data.dataset' is 'nw_ucla' \(did you mean 'nw-ucla'\?\); allowed: "):
        resolve({**raw("hcn"), "data": {"dataset": "nw_ucla", "path": "x"}}, "run.yaml")
    for command in (["prepare", "ntu6", "--raw", "x"], ["synth", "ntu6"]):
        assert main(["data", *command, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "'ntu6' is not one of " in said
        assert "(did you mean 'ntu60'?)" in said


def test_an_option_that_a_preparation_does_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "prepare", "nw-ucla", "--raw", "x", "--out", str(tmp_path / "out")]
    assert main([*command, "--strict", "--keep-gaps"]) == 2
    assert "--strict, --keep-gaps has no meaning for it; it reads --raw, --allow-partial" in capsys.readouterr().err
    assert main(["data", "synth", "custom", "--out", str(tmp_path / "out")]) == 2
    assert "'custom' is not one of ntu60, ntu120, nw-ucla" in capsys.readouterr().err
    with pytest.raises(UserError, match="'custom' has no synthetic corpus; allowed: "):
        synthesise("custom", tmp_path / "out", 10, 0)


# ---- a package that brings its own -----------------------------------------------------------------------------


class MineOptions(EncoderOptions):
    """A record in a test."""

    name: Literal["mine"]
    width: int = 4


class Mine(Encoder):
    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__(layout)
        self.fc = nn.Linear(3, width)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        raise NotImplementedError


MINE = specs.EncoderSpec(name="mine", title="Mine", options=MineOptions, build=f"{__name__}:Mine")
NOT_A_RECORD = 3


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    points: list[EntryPoint] = []
    monkeypatch.setattr(specs, "entry_points", lambda group: points if group == "stdcl.encoders" else [])
    for find in (specs.encoders, specs.datasets, specs.methods):
        find.cache_clear()
    yield points
    specs.encoders.cache_clear()


def test_an_entry_point_adds_an_encoder_to_every_list(offered: list[EntryPoint]) -> None:
    offered.append(EntryPoint("mine", f"{__name__}:MINE", "stdcl.encoders"))
    assert "encoder.width" in set(all_paths())
    training = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
    config = resolve({**raw("mine"), "recipe": "none", "training": training}, "test")
    assert config.encoder == MineOptions(name="mine")
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    layout = Layout(num_joints=20, num_persons=1, num_frames=16, num_classes=10, skeleton=NW_UCLA)
    torch.manual_seed(0)
    assert build_encoder(config.encoder, layout).fc.weight.shape == (4, 3)
    assert "mine" not in presets()


def test_an_encoder_without_recipes_is_refused_in_words(offered: list[EntryPoint]) -> None:
    offered.append(EntryPoint("mine", f"{__name__}:MINE", "stdcl.encoders"))
    with pytest.raises(UserError, match="there is no 'lite' recipe for encoder mine on nw-ucla; set recipe: none"):
        resolve(raw("mine"), "test")
    with pytest.raises(UserError, match=r"'training' is missing"):
        resolve({**raw("mine"), "recipe": "none"}, "test")


def test_a_message_is_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No recipe is looked for, and what it would have given is all that is missing."""
    monkeypatch.setattr("stdcl.config.load.recipe_names", lambda raw: ())
    with pytest.raises(UserError, match="'training' is missing"):
        resolve(raw("hcn"), "test")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"{__name__}:NOT_A_RECORD", "gives a int; a EncoderSpec is expected"),
        ("no_such_package:SPEC", "cannot be loaded: ModuleNotFoundError"),
        ("stdcl.encoders.hcn:SPECS", "the name 'hcn' is taken by stdcl.encoders.hcn"),
    ],
)
def test_a_broken_entry_point_is_named_and_passed_over(
    offered: list[EntryPoint], value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offered.append(EntryPoint("theirs", value, "stdcl.encoders"))
    offered.append(EntryPoint("mine", f"{__name__}:MINE", "stdcl.encoders"))
    assert {"hcn", "mine"} < set(specs.encoders())
    (why,) = specs.passed_over()
    assert why.startswith("entry point theirs")
    assert expected in why
    assert main(["sweep", "--list"]) == 0
    assert capsys.readouterr().err.count("entry point theirs") == 1
    with pytest.raises(UserError, match=re.escape(expected)):
        specs.encoder("theirs")
    assert main(["check-encoder", "theirs"]) == 2
    assert expected in capsys.readouterr().err


def test_a_type_of_the_configuration_is_found_lazily() -> None:
    assert EncoderConfig.__metadata__[0].models().keys() == specs.encoders().keys()

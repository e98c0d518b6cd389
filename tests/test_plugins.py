"""Encoders and methods of another package: named by import path or by entry point, trained, and held to their code."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stdcl import specs
from stdcl.cli import main
from stdcl.config import RunConfig, fingerprint, to_yaml
from stdcl.config.load import load_run, merge, resolve
from stdcl.config.sweep import load_sweep
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.data.nw_ucla.synthetic import prepare_synthetic
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.history import read_history
from stdcl.training.trainer import training
from tests.train.conftest import small_raw

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
PATH = "skeleton_plugin.encoder:MeanPosePlain"


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "skeleton_plugin"]:
        del sys.modules[name]
    for find in (specs.encoders, specs.datasets, specs.methods, specs._digest_of):
        find.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example's package, in a place of its own on the path, with the entry points of its pyproject.toml."""
    home = tmp_path / "site"
    shutil.copytree(EXAMPLE / "skeleton_plugin", home / "skeleton_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    monkeypatch.setattr(
        specs, "entry_points", lambda group: [EntryPoint(*item, group) for item in groups.get(group, {}).items()]
    )
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()
    yield home / "skeleton_plugin"
    forget()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plugin") / "store"
    prepare_synthetic(out, 60, 5)
    return out


def raw_config(store: Path, encoder: str, **sections: Any) -> dict[str, Any]:
    raw = small_raw(store)
    del raw["contrast"]
    steps = {"data": {"repeat": 1}, "training": {"epochs": 2, "batch_size": 20}}
    return merge(merge(raw, steps), sections) | {"encoder": {"name": encoder, "width": 8}}


@pytest.mark.parametrize("encoder", ["mean_pose", PATH, "skeleton_plugin:MEAN_POSE"])
@pytest.mark.parametrize("method", ["center_loss", "skeleton_plugin:CENTER_LOSS", "stdcl"])
def test_a_plug_in_is_trained(package: Path, store: Path, tmp_path: Path, encoder: str, method: str) -> None:
    contrast = {"contrast": {"embedding_dim": 16, "shortage": "clamp"}} if method == "stdcl" else {}
    config = resolve(raw_config(store, encoder, method={"name": method}, **contrast), "test")
    assert set(config.plugins) == ({"encoder"} if method == "stdcl" else {"encoder", "method"})
    assert RunConfig.model_validate(parse_yaml(to_yaml(config), "saved")) == config
    for _ in training(config, tmp_path / "run", comm=LocalComm(), device=torch.device("cpu")):
        pass
    last = read_history(tmp_path / "run" / "history.jsonl")[-1]
    assert last["epoch"] == 2
    assert [key for key in last if key.startswith("loss_")] == ["loss_center"] or method == "stdcl"
    assert load_run(tmp_path / "run" / "config.yaml") == config


def test_its_options_are_keys_like_all_others(package: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(raw_config(store, PATH)))
    assert load_run(file, ["encoder.width=4"]).encoder.model_dump()["width"] == 4
    with pytest.raises(UserError, match=r"'encoder\.width' is 0; it must be above 0"):
        load_run(file, ["encoder.width=0"])
    with pytest.raises(UserError, match="did you mean 'width'"):
        resolve(merge(raw_config(store, PATH), {"encoder": {"widht": 3}}), "test")
    base = raw_config(store, PATH)
    del base["resources"]
    sweep = {"name": "s", "question": "?", "base": base, "grid": {"encoder.width": [4, 8]}}
    file.write_text(dump_yaml(sweep))
    assert len({trial.fingerprint for trial in load_sweep(file).trials()}) == 2


def test_its_code_is_a_part_of_the_fingerprint_and_other_code_is_not_trained(
    package: Path, store: Path, tmp_path: Path
) -> None:
    before = resolve(raw_config(store, PATH), "test")
    with (package / "encoder.py").open("a") as file:
        file.write("\n# changed\n")
    forget()
    after = resolve(raw_config(store, PATH), "test")
    assert before.plugins.keys() == after.plugins.keys() == {"encoder"}
    assert fingerprint(before) != fingerprint(after)
    saved = RunConfig.model_validate(before.model_dump(mode="json"))
    assert fingerprint(saved) == fingerprint(before), "what was trained keeps its name"
    with pytest.raises(UserError, match=r"encoder\.name: .* its code has changed"):
        next(iter(training(saved, tmp_path / "run", comm=LocalComm(), device=torch.device("cpu"))))


def test_what_is_built_in_has_no_digest(store: Path) -> None:
    for name, spec in [*specs.encoders().items(), *specs.methods().items()]:
        assert specs.code_digest(spec) == "", name
    assert resolve(small_raw(store), "test").plugins == {}


class NoOptions:
    """A class that says nothing about its section."""


class Leaking(Encoder):
    """Sequences meet, a random number follows torch, and no input is refused."""

    from stdcl.config.section import EncoderOptions as options

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.fc = torch.nn.Linear(3, layout.num_classes)

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        pooled = x.mean(dim=(2, 3, 4))
        pooled = pooled - pooled.mean(dim=0)
        if self.training:
            pooled = pooled + torch.randn_like(pooled)
        return EncoderOutput(self.fc(pooled), x.permute(0, 4, 1, 2, 3), pooled)


NUMBER = 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_package:X", "encoder.name: no_such_package:X: cannot be imported: ModuleNotFoundError"),
        (f"{__name__}:Nothing", "cannot be imported: AttributeError"),
        (f"{__name__}:NoOptions", "its attribute 'options' must be the model of its section"),
        (f"{__name__}:NUMBER", "its attribute 'options' must be the model of its section"),
    ],
)
def test_what_is_no_plug_in_is_refused(
    store: Path, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        resolve(small_raw(store) | {"encoder": {"name": name}}, "test")
    assert len(str(caught.value).splitlines()) == 1
    assert main(["check-encoder", name]) == 2
    assert expected in capsys.readouterr().err


def test_check_encoder(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-encoder", PATH, "--option", "width=4"]) == 0
    assert main(["check-encoder", "mean_pose"]) == 0
    assert main(["check-encoder", PATH, "--option", "width=0"]) == 2
    capsys.readouterr()
    assert main(["check-encoder", f"{__name__}:Leaking"]) == 1
    said = capsys.readouterr().out
    for promise in ("depends on the other sequences", "must follow 'keys'", "carries no gradient", "is not refused"):
        assert promise in said


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "hcn" else pytest.mark.slow) for name in specs.encoders()]
)
def test_the_built_in_encoders_come_through_the_same_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-encoder", name]) == 0, capsys.readouterr().out

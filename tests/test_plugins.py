"""Encoders, methods and datasets of another package: found by path or entry point, trained, and held to their code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stdcl
from stdcl import specs
from stdcl.cli import main
from stdcl.config import RunConfig, fingerprint, to_yaml
from stdcl.config.load import merge, read_run_file, resolve
from stdcl.config.sweep import load_sweep
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.data.nw_ucla.synthetic import prepare_synthetic
from stdcl.data.store import read_manifest
from stdcl.data.synthetic import ensure_data
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.history import read_history
from stdcl.training.trainer import training
from tests.distributed.ranks import run_on_threads
from tests.methods.ranks import SHAPES, Run, assert_equal_runs, make_task, take
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
    assert read_run_file(tmp_path / "run" / "config.yaml") == config


def test_its_options_are_keys_like_all_others(package: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(raw_config(store, PATH)))
    assert read_run_file(file, ["encoder.width=4"]).encoder.model_dump()["width"] == 4
    with pytest.raises(UserError, match=r"'encoder\.width' is 0; it must be above 0"):
        read_run_file(file, ["encoder.width=0"])
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


@pytest.mark.parametrize("dataset", ["sticks", "skeleton_plugin:STICKS"])
def test_a_dataset_is_made_prepared_trained_and_predicted(
    package: Path, tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"dataset": dataset, "path": str(tmp_path / "sticks"), "synthetic": {"sequences": 60, "seed": 0}}
    raw = raw_config(tmp_path, "mean_pose", method={"name": "center_loss"}, training={"epochs": 1})
    config = resolve(raw | {"data": data}, "test")
    assert set(config.plugins) == {"data", "encoder", "method"}
    assert ensure_data(config)
    assert read_manifest(tmp_path / "sticks").dataset == dataset
    (row,) = training(config, tmp_path / "run", comm=LocalComm(), device=torch.device("cpu"))
    assert row["num_test"] == 24
    clip = next((tmp_path / "sticks-raw").glob("bow*.csv"))
    assert main(["predict", str(tmp_path / "run"), str(clip)]) == 0
    code = package / "encoder.py"
    text = code.read_text()
    capsys.readouterr()
    code.write_text(f"{text}\n# changed\n")
    forget()
    for words in (["predict", str(clip)], ["evaluate"], ["export", "--format", "torch"]):
        assert main([words[0], str(tmp_path / "run"), *words[1:]]) == 2, "else another network's answers were the run's"
        assert "its code has changed" in capsys.readouterr().err
    code.write_text(text)
    forget()
    again = ["data", "prepare", dataset, "--raw", str(tmp_path / "sticks-raw"), "--out", str(tmp_path / "sticks")]
    assert main(again) == 0
    assert "the same store is already there" in capsys.readouterr().out
    assert main(["data", "export", str(tmp_path / "sticks"), "--format", dataset, "--out", str(tmp_path / "x")]) == 2


def test_what_is_no_dataset_is_refused(package: Path, store: Path) -> None:
    for name, expected in (
        ("no_such_package:X", "data.dataset: no_such_package:X: cannot be imported: ModuleNotFoundError"),
        ("skeleton_plugin:MEAN_POSE", "a DatasetSpec is expected, found a EncoderSpec"),
    ):
        with pytest.raises(UserError, match=re.escape(expected)):
            resolve(merge(small_raw(store), {"data": {"dataset": name}}), "test")


def test_the_examples_method_is_the_same_on_any_number_of_ranks(package: Path) -> None:
    spec = specs.method("center_loss")
    build = specs.load(spec.build)
    plan = Run(lambda: build(spec.options(name="center_loss"), make_task(), SHAPES))
    alone = take(LocalComm(), plan)
    assert any(bool(gradient.any()) for step in alone["gradients"] for gradient in step.values())
    for size in (2, 4):
        assert_equal_runs(run_on_threads(take, size, plan), alone)


@pytest.mark.slow
def test_installed_by_pip_it_is_swept_on_two_ray_workers(tmp_path: Path) -> None:
    """In an environment of its own, which sees this one's packages; of stdcl nothing is changed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    ours = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    (Path(purelib) / "parent.pth").write_text("\n".join(lines) + "\n")
    shutil.copytree(EXAMPLE, tmp_path / "plugin")
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", str(tmp_path / "plugin")]
    subprocess.run(install, check=True)
    environment = {**os.environ, "STDCL_STORAGE": str(tmp_path / "runs"), "STDCL_DATA": str(tmp_path)}
    done = subprocess.run(
        [python, "-m", "stdcl", "sweep", str(tmp_path / "plugin" / "sweep.yaml")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = stdcl.load_sweep(tmp_path / "runs" / "plugin")
    assert len(rows) == 4
    assert set(rows["status"]) == {"finished"}
    assert set(rows["dataset"]) == {"sticks"}


def test_what_is_built_in_has_no_digest(store: Path) -> None:
    for name, spec in [*specs.encoders().items(), *specs.datasets().items(), *specs.methods().items()]:
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


class Swapped(Leaking):
    """Its map has channels before persons, and joints before frames."""

    def forward(self, x: Tensor, *, keys: Tensor | None = None, labels: Tensor | None = None) -> EncoderOutput:
        output = super().forward(x)
        return output._replace(feature_map=output.feature_map.permute(0, 2, 1, 4, 3))


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
    assert main(["check-encoder", f"{__name__}:Swapped"]) == 1
    said = capsys.readouterr().out
    assert "ntu, 2 person(s): feature_map is (4, 3, 2, 25, 32): 3 persons, the second axis, of 2" in said
    assert "ntu, 2 person(s): feature_map is (4, 3, 2, 25, 32): the last axis is not 25 joints" in said


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "hcn" else pytest.mark.slow) for name in specs.encoders()]
)
def test_the_built_in_encoders_come_through_the_same_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-encoder", name]) == 0, capsys.readouterr().out

"""Every shipped recipe: it validates, names its source, and has the published values."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from stdcl import specs
from stdcl.config import DataConfig
from stdcl.config.load import resolve
from stdcl.config.model import RECIPES, RunConfig

FOLDER = Path(str(resources.files("stdcl"))) / "recipes"
FILES = sorted(FOLDER.glob("*/*.yaml"))
ENCODERS = tuple(specs.encoders())
BENCHMARKS = tuple((name, protocol) for name, spec in specs.datasets().items() for protocol in spec.protocols)


def run_of(encoder: str, dataset: str, protocol: str, kind: str) -> RunConfig:
    raw: dict[str, Any] = {
        "recipe": kind,
        "data": {"dataset": dataset, "path": "store", "protocol": protocol},
        "encoder": {"name": encoder},
    }
    return resolve(raw, "test")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_names_its_source(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert "(" in content["source"], "the source names a public project as owner/name"
    assert set(content) <= {"source", "data", "encoder", "training"}
    assert path.stem.split(".")[1] in RECIPES


@pytest.mark.parametrize("kind", ["full", "lite"])
@pytest.mark.parametrize(("dataset", "protocol"), BENCHMARKS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_validates(encoder: str, dataset: str, protocol: str, kind: str) -> None:
    run = run_of(encoder, dataset, protocol, kind)
    halved = kind == "lite" and encoder != "hcn"
    assert run.data.frames == ((26 if halved else 52) if dataset == "nw-ucla" else 64)
    if kind == "full":
        assert run.data.repeat == (5 if dataset == "nw-ucla" else 1)
    else:
        assert run.training.schedule == "cosine"
        assert run.data.repeat <= 2


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.endswith(".ablation")], ids=lambda p: p.parent.name)
def test_ablation_recipes_train_longer_than_lite_on_the_same_data(path: Path) -> None:
    own, lite = (run_of(path.parent.name, "nw-ucla", "cross-view", kind) for kind in ("ablation", "lite"))
    assert path.stem == "nw-ucla.ablation"
    assert own.training.epochs * own.data.repeat > lite.training.epochs * lite.data.repeat
    same = {"repeat", "frames", "path"}
    assert own.data.model_dump(exclude=same) == lite.data.model_dump(exclude=same)
    assert own.encoder == lite.encoder


# epochs, batch, rate, warm-up, milestones, weight decay, label smoothing
PUBLISHED: dict[tuple[str, str], tuple[Any, ...]] = {
    ("ctrgcn", "nw-ucla"): (65, 16, 0.1, 5, (50,), 1e-4, 0.0),
    ("ctrgcn", "ntu"): (65, 64, 0.1, 5, (35, 55), 4e-4, 0.0),
    ("stgcn", "nw-ucla"): (65, 16, 0.1, 5, (50,), 1e-4, 0.0),
    ("stgcn", "ntu"): (80, 64, 0.1, 0, (10, 50), 1e-4, 0.0),
    ("protogcn", "nw-ucla"): (65, 16, 0.1, 5, (50,), 1e-4, 0.0),
    ("protogcn", "ntu"): (150, 64, 0.1, 0, (), 5e-4, 0.0),
    ("agcn", "nw-ucla"): (65, 16, 0.1, 5, (50,), 1e-4, 0.0),
    ("agcn", "ntu"): (65, 64, 0.1, 5, (35, 55), 4e-4, 0.0),
    ("hyperformer", "nw-ucla"): (150, 16, 0.025, 5, (110, 120), 0.0, 0.0),
    ("hyperformer", "ntu"): (140, 64, 0.025, 5, (110, 120), 4e-4, 0.0),
    ("infogcn", "nw-ucla"): (110, 64, 0.2, 5, (90, 100), 4e-4, 0.1),
    ("infogcn", "ntu"): (110, 128, 0.1, 5, (90, 100), 5e-4, 0.1),
}


@pytest.mark.parametrize(("dataset", "protocol"), BENCHMARKS)
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "hcn"])
def test_published_values(encoder: str, dataset: str, protocol: str) -> None:
    t = run_of(encoder, dataset, protocol, "full").training
    got = (
        t.epochs,
        t.batch_size,
        t.learning_rate,
        t.warmup_epochs,
        t.milestones,
        t.weight_decay,
        t.label_smoothing,
    )
    assert got == PUBLISHED[encoder, "nw-ucla" if dataset == "nw-ucla" else "ntu"]
    schedule = "cosine" if not t.milestones else "step"
    assert (t.optimizer, t.schedule, t.decay, t.momentum, t.nesterov) == ("sgd", schedule, 0.1, 0.9, True)
    assert t.drop_last
    assert t.gradient_clip is None


@pytest.mark.parametrize(("dataset", "protocol"), [each for each in BENCHMARKS if each[0] != "nw-ucla"])
def test_published_values_hcn(dataset: str, protocol: str) -> None:
    run = run_of("hcn", dataset, protocol, "full")
    t = run.training
    assert (t.optimizer, t.learning_rate, t.schedule, t.decay) == ("adam", 1e-3, "exponential", 0.99)
    assert (t.epochs, t.batch_size, t.weight_decay, t.gradient_clip, t.drop_last) == (400, 64, 1e-4, 32.0, False)
    assert run.data.centre == "frame"


@pytest.mark.parametrize("dataset", ["ntu60", "ntu120"])
def test_hcn_and_infogcn_on_ntu_read_what_their_code_reads(dataset: str) -> None:
    def data_of(encoder: str, name: str = dataset) -> DataConfig:
        raw = {"recipe": "full", "data": {"dataset": name, "path": "x"}, "encoder": {"name": encoder}}
        return resolve(raw, "here").data

    hcn, infogcn = data_of("hcn"), data_of("infogcn")
    assert (hcn.augment, hcn.rotation, hcn.centre) == (True, False, "frame")
    assert (infogcn.align, infogcn.stream, infogcn.orientation) == (True, "relative-1", "parent")
    own = data_of("infogcn", "custom")
    assert (own.align, own.stream) == (False, "joint")

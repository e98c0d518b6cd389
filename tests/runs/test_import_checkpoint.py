"""Published weights become runs that can be evaluated; anything else is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from stdcl import specs
from stdcl.config.load import resolve
from stdcl.encoders.published import published_names
from stdcl.errors import UserError
from stdcl.runs.evaluate import evaluate_run
from stdcl.runs.import_checkpoint import _layout, import_checkpoint
from stdcl.training.components import new_encoder

FACTS = Path(__file__).parents[1] / "golden" / "public-checkpoints"


def public_state(encoder: str) -> dict[str, torch.Tensor]:
    """A state as the reference repository would have saved it, of random weights."""
    raw = {
        "recipe": "full",
        "data": {"dataset": "nw-ucla", "path": "x"},
        "encoder": {"name": encoder},
        "training": {"seed": 77},
    }
    config = resolve(raw, "test")
    network = new_encoder(config, _layout(config))
    ours = network.state_dict()
    return {public: ours[name] for public, name in published_names(network).items()}


def import_it(file: Path, out: Path, encoder: str = "ctrgcn", store: Path | None = None) -> str:
    return import_checkpoint(
        encoder, file, dataset="nw-ucla", stream="joint", out=out, store=str(store) if store else None
    )


def test_published_weights_are_evaluated(small_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({f"module.{name}": value for name, value in public_state("hcn").items()}, file)
    said = import_it(file, tmp_path / "run", "hcn", small_store)
    assert "stdcl evaluate" in said
    report = evaluate_run(tmp_path / "run")
    assert report.num_sequences == 20
    assert report.recorded is None
    assert report.stream == "joint"


def public_shapes(encoder: str, dataset: str) -> dict[str, tuple[int, ...]]:
    with (FACTS / f"{encoder}.{dataset}.tsv").open() as lines:
        rows = [line.split("\t") for line in lines][1:]
    return {name: tuple(map(int, shape.split("x"))) for name, shape, _ in rows if shape[:1].isdigit()}


@pytest.mark.parametrize(
    ("encoder", "title", "dataset", "stream", "expected"),
    [
        ("infogcn", "infogcn", "nw-ucla", "relative-1", {"orientation": "children", "align": False, "frames": 52}),
        ("infogcn", "infogcn", "ntu60", "relative-1", {"orientation": "parent", "align": True, "frames": 64}),
        ("hcn", "hcn", "ntu60", "joint", {"centre": "frame", "frames": 64}),
        ("hyperformer", "hyperformer", "nw-ucla", "bone", {"convention": "centred", "frames": 52}),
        ("ctrgcn", "ctr-gcn", "ntu120", "bone", {"convention": "plain", "centre": "clip", "frames": 64}),
        ("agcn", "2s-agcn", "ntu60", "joint", {"convention": "plain", "centre": "clip", "frames": 64}),
    ],
)
def test_the_input_is_the_one_that_the_public_code_had(
    encoder: str, title: str, dataset: str, stream: str, expected: dict[str, object], tmp_path: Path
) -> None:
    spec = specs.encoder(encoder)
    theirs = spec.published_input(dataset, stream, public_shapes(title, dataset))
    raw: dict[str, Any] = {"data": {"dataset": dataset, "path": "x", "stream": stream}, "encoder": {"name": encoder}}
    raw |= {"recipe": "full", "contrast": {"strategy": "none"}}
    for key, value in theirs.settings.items():
        section, _, name = key.partition(".")
        raw[section][name] = value
    config = resolve(raw, "test")
    assert {key: getattr(config.data, key) for key in expected} == expected


def test_infogcn_is_imported_as_its_code_had_it_and_that_is_said(tmp_path: Path) -> None:
    torch.save(public_state("infogcn"), tmp_path / "weights.pt")

    def bring(out: str, stream: str, *overrides: str) -> str:
        file = tmp_path / "weights.pt"
        return import_checkpoint(
            "infogcn", file, dataset="nw-ucla", stream=stream, out=tmp_path / out, overrides=overrides, store="s"
        )

    said = bring("a", "relative-1")
    assert "input as InfoGCN's code has it: data.orientation children, data.align false, data.frames 52" in said
    assert "orientation: children" in (tmp_path / "a" / "config.yaml").read_text()
    said = bring("b", "relative-1", "data.orientation=parent")
    assert "note: data.orientation is parent by --set, InfoGCN's code has children" in said
    with pytest.raises(UserError, match="what it calls bone is relative-1-motion"):
        bring("c", "bone-motion")


def test_hcns_window_and_width_are_read_from_the_checkpoint() -> None:
    shapes = {"conv2.weight": (32, 64, 3, 1), "fc7.0.weight": (256, 1024)}
    settings = specs.encoder("hcn").published_input("ntu60", "joint", shapes).settings
    assert (settings["data.frames"], settings["encoder.hidden"]) == (32, 256)


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    state = public_state("ctrgcn")
    names = list(state)
    gone, bent = names[3], names[5]
    del state[gone]
    state[bent] = torch.zeros(3, 3)
    state["something.else"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError) as caught:
        import_it(tmp_path / "weights.pt", tmp_path / "run")
    for name in (gone, bent, "something.else"):
        assert name in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(UserError):
        import_it(tmp_path / "weights.pt", tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    torch.save(public_state("ctrgcn"), tmp_path / "weights.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("mine")
    with pytest.raises(UserError, match="something is there"):
        import_it(tmp_path / "weights.pt", tmp_path / "run")

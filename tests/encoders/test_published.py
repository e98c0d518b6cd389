"""Public checkpoints: every name and shape of the reference repositories is imported, and faults are named."""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stdcl.encoders.agcn.network import AGCN
from stdcl.encoders.base import Encoder, EncoderOutput, Layout
from stdcl.encoders.ctrgcn.network import CTRGCN
from stdcl.encoders.hcn.network import HCN
from stdcl.encoders.hyperformer.network import Hyperformer
from stdcl.encoders.infogcn.network import InfoGCN
from stdcl.encoders.published import import_published, published_names, read_published
from stdcl.errors import UserError
from stdcl.skeleton import spatial_partition
from tests.encoders import golden
from tests.encoders.test_hcn import our_name as hcn_name

LISTS = sorted((golden.FOLDER / "public-checkpoints").glob("*.tsv"))
KINDS: dict[str, type[Encoder]] = {
    "2s-agcn": AGCN,
    "ctr-gcn": CTRGCN,
    "hcn": HCN,
    "hyperformer": Hyperformer,
    "infogcn": InfoGCN,
}
GOLDEN = {"2s-agcn": "agcn", "ctr-gcn": "ctrgcn", "hcn": "hcn", "hyperformer": "hyperformer", "infogcn": "infogcn"}


def layout_of(dataset: str) -> Layout:
    layout = golden.LAYOUTS["nwucla" if dataset == "nw-ucla" else "ntu60"]
    return dataclasses.replace(layout, num_classes={"nw-ucla": 10, "ntu60": 60, "ntu120": 120}[dataset])


def random_state(path: Path) -> dict[str, Tensor]:
    """A state of exactly the names and shapes that a list has."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for line in path.read_text().splitlines()[1:]:
        name, shape, _ = line.split("\t")
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        else:
            state[name] = torch.rand([int(size) for size in shape.split("x")], generator=generator) + 0.5
    return state


def fresh(path: Path) -> Encoder:
    encoder, dataset, _ = path.name.split(".")
    torch.manual_seed(1)
    return KINDS[encoder](layout_of(dataset))


def test_all_lists_are_there() -> None:
    assert len(LISTS) == 14


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_parameter_is_set(path: Path) -> None:
    model, state = fresh(path), random_state(path)
    import_published(model, state)
    names = published_names(model)
    own = model.state_dict()
    assert set(own) - set(names.values()) <= {"priors"}
    assert len(set(names.values())) == len(names)
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(own[names[name]], tensor), name


@pytest.mark.parametrize("dataset", ["nwucla", "ntu60"])
@pytest.mark.parametrize("encoder", sorted(KINDS))
def test_golden_logits_through_an_import(encoder: str, dataset: str) -> None:
    """Golden weights under public names give the golden logits."""
    content = golden.load(GOLDEN[encoder], dataset)
    layout = golden.LAYOUTS[dataset]
    model = KINDS[encoder](layout)
    to_public = {ours: public for public, ours in published_names(model).items()}
    rename = hcn_name if encoder == "hcn" else golden.our_name
    alpha = 4.0 if encoder == "hyperformer" else 0.05
    state = {
        "module." + to_public[rename(entry["name"])]: golden.filled(entry["name"], tuple(entry["shape"]), layout, alpha)
        for entry in content["params"]
    }
    x = golden.example(content)
    if encoder == "infogcn":
        from tests.encoders.test_infogcn import relative

        x = relative(x, layout, transposed=dataset == "nwucla")
    import_published(model, state)
    with torch.no_grad():
        logits = model.double().eval()(x.double()).logits
    want = torch.tensor(content["logits"])
    assert (logits - want).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.parametrize(
    "path", [path for path in LISTS if path.stem in ("ctr-gcn.nw-ucla", "hcn.ntu60")], ids=lambda path: path.stem
)
def test_faults_are_all_named(path: Path) -> None:
    model, state = fresh(path), random_state(path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    gone, grown, bad, *_ = names[4:]
    del state[gone]
    state[grown] = torch.zeros(7, 7)
    state[bad] = torch.full_like(state[bad], float("nan"))
    state["head.extra"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        import_published(model, state, where="some.pt")
    message = str(caught.value)
    assert message.startswith("some.pt: ")
    for title, name in {
        "missing (1)": gone,
        "of another shape (1)": grown,
        "not finite numbers (1)": bad,
        "not known (1)": "head.extra",
    }.items():
        assert re.search(re.escape(title) + r":\n    " + re.escape(name), message), message
    assert "(7, 7), must be" in message
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_other_dataset_is_refused() -> None:
    path = next(path for path in LISTS if path.stem == "ctr-gcn.ntu120")
    model = CTRGCN(layout_of("ntu60"))
    with pytest.raises(UserError, match=r"60 classes[\s\S]*fc\.weight is \(120, 256\), must be \(60, 256\)"):
        import_published(model, random_state(path))


def test_constant_adjacency() -> None:
    path = next(path for path in LISTS if path.stem == "2s-agcn.nw-ucla")
    model, state = fresh(path), random_state(path)
    constant = torch.from_numpy(spatial_partition(model.layout.skeleton))
    import_published(model, {**state, "l1.gcn1.A": constant})
    with pytest.raises(UserError, match=r"l1\.gcn1\.A \(the adjacency of another skeleton"):
        import_published(model, {**state, "l1.gcn1.A": constant + 0.1})


def test_unknown_encoder() -> None:
    class Mine(Encoder):
        def forward(self, x: Tensor, *, keys: Any = None, labels: Any = None) -> EncoderOutput:
            raise NotImplementedError

    with pytest.raises(UserError, match="Mine: no published checkpoints"):
        import_published(Mine(layout_of("ntu60")), {})


@pytest.mark.parametrize("form", ["plain", "module", "state_dict", "model", "deep", "ordered"])
def test_reads_every_usual_form(form: str, tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    content: Any = {
        "plain": state,
        "module": prefixed,
        "state_dict": {"epoch": 3, "state_dict": prefixed, "optimizer": {"state": {0: {"m": torch.ones(1)}}, "lr": 1}},
        "model": {"model": state, "best": 0.9},
        "deep": {"checkpoint": {"model": prefixed}},
        "ordered": collections.OrderedDict(prefixed),
    }[form]
    torch.save(content, tmp_path / "x.pt")
    got = read_published(tmp_path / "x.pt")
    assert list(got) == list(state)
    assert all(torch.equal(got[name], state[name]) for name in state)


class _Harmful:
    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (_Harmful, "ran", True))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused(legacy: bool, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"fc.weight": torch.ones(2)}, "args": _Harmful()},
        tmp_path / "x.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(UserError, match="refused"):
        read_published(tmp_path / "x.pt")
    assert not _Harmful.ran


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"refused[\s\S]*Linear[\s\S]*state_dict"):
        read_published(tmp_path / "x.pt")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_published(tmp_path / "nothing.pt")
    for text in ("this is not a checkpoint", '{"json": 1}', "", "\x80\x02junk"):
        (tmp_path / "text.pt").write_text(text)
        with pytest.raises(UserError, match=r"text\.pt: not a PyTorch checkpoint"):
            read_published(tmp_path / "text.pt")
    torch.save({"fc.weight": torch.ones(1000)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut\.pt: not a PyTorch checkpoint, or damaged"):
        read_published(tmp_path / "cut.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="holds no named tensors; it has: epoch"):
        read_published(tmp_path / "none.pt")
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, tmp_path / "two.pt")
    with pytest.raises(UserError, match="several sets of tensors"):
        read_published(tmp_path / "two.pt")

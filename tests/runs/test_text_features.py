"""Files of text features: written with any text encoder, read by GAP; CLIP's loaders against known numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stdcl.errors import UserError
from stdcl.methods.gap.method import GAP
from stdcl.methods.gap.options import GAPOptions
from stdcl.methods.gap.texts import read_texts
from stdcl.runs.text_features import Tower, load_text_half, open_tower, read_weights, write_text_features
from tests.methods import golden
from tests.methods.ranks import SHAPES, make_task

TINY = golden.load("gap")["tiny_text_tower"]
ABSENT = "{} is not installed: it is in the optional extra 'text'"


def letters(texts: Sequence[str]) -> Tensor:
    """A text encoder that counts letters."""
    return torch.tensor([[text.count(chr(97 + i)) + 0.5 for i in range(26)] for text in texts])


def own_prompts(folder: Path, classes: Sequence[str]) -> str:
    clauses = "{head: up, hand: open, arm: bent, hip: still, leg: straight, foot: flat}"
    lines = [f"defaults: {clauses}", "classes:", *(f"  - {{label: {name}, synonyms: [a {name}]}}" for name in classes)]
    (folder / "prompts.yaml").write_text("\n".join(lines))
    return str(folder / "prompts.yaml")


def test_a_file_holds_what_the_encoder_says_of_each_text(tmp_path: Path) -> None:
    classes = make_task().classes
    out = tmp_path / "texts.npz"
    said = write_text_features(out, Tower("letters", "0", letters), own_prompts(tmp_path, classes), classes)
    assert "5 classes, 4 part texts each and 10 of the whole body, 26 numbers a text" in said
    texts = read_texts(out, classes)
    assert torch.equal(texts.parts[0], letters([f"{name}, up" for name in classes]))
    assert torch.equal(texts.body, letters([text for name in classes for text in (name, f"a {name}")]))
    with np.load(out) as content:
        assert json.loads(str(content["meta"]))["tower"] == "letters"
    method = GAP(GAPOptions(name="gap", texts=str(out)), make_task(), SHAPES)
    assert method.head.body.out_features == 26


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder; CLIP's weights must be on this machine"):
        open_tower(tmp_path / "none.pt")


@pytest.mark.parametrize(("make", "package"), [(Path.touch, "open_clip"), (Path.mkdir, "transformers")])
def test_a_missing_package_is_said(make: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stdcl.runs.text_features.find_spec", lambda name: None)
    make(tmp_path / "weights")
    with pytest.raises(UserError, match=rf"is read by {package}, which is not installed; type: pip install"):
        open_tower(tmp_path / "weights")


def tiny_weights() -> dict[str, Tensor]:
    state = {}
    for name, shape in TINY["parameters"].items():
        w = golden.raw(f"clip.{name}", tuple(shape)) * (0.2 if len(shape) >= 2 else 0.1)
        state[name] = torch.from_numpy(np.asarray(w + ("ln_" in name and name.endswith("weight")))).float()
    return state


def test_weights_are_read_from_files_of_tensors_alone(tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{name}": value for name, value in tiny_weights().items()}}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").keys() == TINY["parameters"].keys()
    (tmp_path / "bad.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="cannot be read as weights"):
        read_weights(tmp_path / "bad.pt")


class _Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text_projection = torch.nn.Parameter(torch.zeros(64, 24))
        self.ln_final = torch.nn.LayerNorm(64)
        self.visual = torch.nn.Linear(2, 2)


def test_the_text_half_is_loaded_whole_or_refused() -> None:
    state, model, where = tiny_weights(), _Half(), Path("w.pt")
    load_text_half(model, state, where)
    assert torch.equal(model.text_projection, state["text_projection"])
    with pytest.raises(UserError, match=r"lacks 1 parameters of the text encoder, for example 'text_projection'"):
        load_text_half(model, {k: v for k, v in state.items() if k != "text_projection"}, where)
    with pytest.raises(UserError, match=r"shape \(24,\), the architecture's is \(64,\): it belongs to another model"):
        load_text_half(model, {**state, "ln_final.bias": torch.zeros(24)}, where)


def tokens() -> Tensor:
    first, last = 118, 119
    rows = torch.zeros((3, TINY["sizes"]["context"]), dtype=torch.int64)
    for row, inner in zip(rows, ([5, 9], [3], range(2, 40)), strict=True):
        row[: len(inner) + 2] = torch.tensor([first, *inner, last])
    return rows


def test_open_clip_gives_the_golden_features(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason=ABSENT.format("open_clip"))
    size = TINY["sizes"]
    text = {"context_length": size["context"], "vocab_size": size["vocabulary"], "width": size["width"]}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32, "head_width": 64}
    config = {
        "embed_dim": size["embed"],
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text | {"heads": size["heads"], "layers": size["layers"]},
    }
    (tmp_path / "tiny-golden.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.save(tiny_weights(), tmp_path / "w.pt")
    model = open_clip.create_model("tiny-golden", precision="fp32").eval()
    load_text_half(model, read_weights(tmp_path / "w.pt"), tmp_path / "w.pt")
    with torch.no_grad():
        features = model.encode_text(tokens())
    for row, want in zip(features, TINY["text_features"], strict=True):
        golden.assert_stat(row, want, 1e-5)
    tokenise = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    for sample in golden.load("gap")["tokeniser"]["samples"]:
        assert tokenise([sample["text"]])[0, : len(sample["ids"])].tolist() == sample["ids"]


def test_transformers_gives_the_golden_features(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=ABSENT.format("transformers"))
    size = TINY["sizes"]
    config = transformers.CLIPTextConfig(
        vocab_size=size["vocabulary"],
        hidden_size=size["width"],
        intermediate_size=4 * size["width"],
        projection_dim=size["embed"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        max_position_embeddings=size["context"],
        hidden_act="quick_gelu",
        bos_token_id=118,
        eos_token_id=119,
        pad_token_id=119,
    )
    model = transformers.CLIPTextModelWithProjection(config).eval()
    model.load_state_dict(renamed(tiny_weights(), model.state_dict()))
    padded = tokens()
    padded[padded == 0] = 119  # its tokeniser fills up with the end token
    with torch.no_grad():
        features = model(input_ids=padded).text_embeds
    for row, want in zip(features, TINY["text_features"], strict=True):
        golden.assert_stat(row, want, 1e-5)


def renamed(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's names -> those of transformers."""
    width = TINY["sizes"]["width"]
    out = {"text_projection.weight": state["text_projection"].T}
    prefix = next(name for name in own if name.endswith("token_embedding.weight")).removesuffix(
        "embeddings.token_embedding.weight"
    )
    out[f"{prefix}embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    out[f"{prefix}embeddings.position_embedding.weight"] = state["positional_embedding"]
    for kind in ("weight", "bias"):
        out[f"{prefix}final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for layer in range(TINY["sizes"]["layers"]):
            theirs, ours = f"{prefix}encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            for i, name in enumerate("qkv"):
                joined = state[f"{ours}.attn.in_proj_{kind}"]
                out[f"{theirs}.self_attn.{name}_proj.{kind}"] = joined[i * width : (i + 1) * width]
            places = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
            places |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
            for their, our in places.items():
                out[f"{theirs}.{their}.{kind}"] = state[f"{ours}.{our}.{kind}"]
    return out | {name: value for name, value in own.items() if name.endswith("position_ids")}

"""What ``import stdcl`` offers, and what it costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stdcl
from stdcl.data.nw_ucla.synthetic import prepare_synthetic, write_corpus
from stdcl.errors import UserError
from tests.train.conftest import small_raw


@pytest.mark.parametrize("name", stdcl.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(stdcl, name).__doc__
    assert name in dir(stdcl)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(stdcl.__file__).read_text(encoding="utf-8"))
    seen = {
        f"{node.module}.{alias.asname}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name.rsplit(".", 1)[1] for name in seen} == set(stdcl.__all__)
    for name in seen:
        module, _, attribute = name.rpartition(".")
        assert getattr(stdcl, attribute) is getattr(sys.modules[module], attribute)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="STDCLLos"):
        _ = stdcl.STDCLLos  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, stdcl; print(sorted({'torch', 'ray', 'wandb', 'numpy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_train_and_predict_are_the_commands(tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "store", 60, 5)
    config = small_raw(tmp_path / "store", data={"repeat": 1}, training={"epochs": 2})
    rows: list[int] = []
    run = stdcl.train(
        config, tmp_path / "run", overrides=["training.epochs=1"], on_row=lambda r: rows.append(r["epoch"])
    )
    assert (rows, len(run.history), run.scores().logits.shape) == ([1], 1, (20, 10))
    assert run.result is not None
    with pytest.raises(UserError, match=r"training\.epochs=0: 'training\.epochs' is 0"):
        stdcl.train(config, tmp_path / "other", overrides=["training.epochs=0"])
    assert not (tmp_path / "other").exists()
    write_corpus(tmp_path / "raw", 30, 0)
    files = sorted(map(str, (tmp_path / "raw").glob("*.json")))[:4]
    found = stdcl.predict(str(tmp_path / "run"), files, top=3)
    assert [(str(each.file), len(each.top)) for each in found] == [(file, 3) for file in files]
    assert len(files) == 4


class Flat(nn.Module):
    """Somebody's encoder: a map (N, 256, 16, 25) and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 256, 1)
        self.classify = nn.Linear(256, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x).relu()
        return features, self.classify(features.mean((2, 3)))


def test_the_readmes_loop_trains_as_written() -> None:
    page = (Path(stdcl.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (loop,) = re.findall(r"```python\n(.*?)```", page.partition("## In a loop of your own")[2], re.DOTALL)
    torch.manual_seed(0)
    train_labels = torch.arange(1024) % 4
    clips = torch.randn(4, 3, 1, 1)[train_labels] + 0.3 * torch.randn(1024, 3, 16, 25)
    loader = [(clips[items], train_labels[items], items) for items in torch.arange(1024).split(64)]
    given: dict[str, Any] = {"encoder": Flat(), "train_labels": train_labels, "loader": loader}

    def loss() -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(given["encoder"](clips[:64])[1], train_labels[:64]))

    before = loss()
    exec(compile(loop, "README.md", "exec"), given)
    assert loss() < 0.8 * before
    assert given["criterion"].steps == 16
    assert {"_extra_state"} < given["criterion"].state_dict().keys()


def test_the_page_lists_the_same_names() -> None:
    page = (Path(stdcl.__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(stdcl.__all__)

"""What ``import stdcl`` offers, and what it costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stdcl


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


def test_the_page_lists_the_same_names() -> None:
    page = (Path(stdcl.__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(stdcl.__all__)

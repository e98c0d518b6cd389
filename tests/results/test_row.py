"""One way of counting and naming, from the loop to the table; older files are read into it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from stdcl.results.row import from_file, terms, to_file

PACKAGE = Path(__file__).resolve().parents[2] / "stdcl"


def test_a_row_comes_back() -> None:
    row = from_file({"schema": 2, "epoch": 3, "best_epoch": 2, "peak_memory_mib": 10.0, "loss_spatial": 1.5})
    assert from_file(to_file(row)) == row == {
        "epoch": 3, "best_epoch": 2, "peak_memory_mib": 10.0, "loss_spatial": 1.5
    }  # fmt: skip
    assert terms(row) == {"spatial": 1.5}


def test_a_row_of_the_first_release_counted_from_0() -> None:
    old = {"epoch": 0, "best_epoch": 0, "memory_mb": 10.0, "accuracy": 0.5}
    assert from_file(old) == {"epoch": 1, "best_epoch": 1, "peak_memory_mib": 10.0, "accuracy": 0.5}


@pytest.mark.parametrize("version", [3, "2", None])
def test_a_row_of_a_newer_release_is_refused(version: object) -> None:
    with pytest.raises(ValueError, match="reads up to 2"):
        from_file({"schema": version, "epoch": 1})


def test_old_names_are_known_to_the_readers_alone() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).as_posix() in ("results/row.py", "results/store.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in ("memory_mb", "peak_memory_mb", "last_accuracy"), f"{path}:{node.lineno}"

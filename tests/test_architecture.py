"""Imports go downwards only, and each heavy package has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stdcl"

GROUND = {"errors", "atomic", "hashing", "locks", "seeding", "skeleton", "config", "version", "__init__"}
PARTS = {"data", "encoders", "methods", "tracking", "results"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "atomic": set(),
    "hashing": set(),
    "version": set(),
    "locks": {"errors"},
    "seeding": {"hashing"},
    "skeleton": {"errors"},
    "config": {"errors"},
    "compiled": set(),
    "parallel": GROUND | {"compiled"},
    **{part: GROUND | {"compiled", "parallel"} for part in PARTS},
    "report": GROUND | {"results", "tracking"},
    "train": GROUND | {"parallel"} | PARTS,
    "launch": GROUND | {"parallel", "train"} | PARTS,
    "runs": GROUND | {"parallel", "train", "launch"} | PARTS,
    "sweep": GROUND | {"parallel", "train", "launch", "report"} | PARTS,
    "doctor": GROUND | {"compiled", "data", "tracking"},
    "cli": GROUND | {"parallel", "train", "launch", "runs", "report", "sweep", "doctor"} | PARTS,
}
DOORS: dict[str, tuple[str, ...]] = {
    "torch.distributed": ("parallel/",),
    "ray": ("launch/", "sweep/"),
    "optuna": ("sweep/",),
    "wandb": ("tracking/",),
    "matplotlib": ("report/figures.py",),
}
WITHOUT_TORCH = (
    "config/",
    "results/",
    "report/",
    "errors.py",
    "atomic.py",
    "locks.py",
    "seeding.py",
    "skeleton.py",
    "version.py",
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "stdcl" and len(parts) > 1 and parts[1] not in (own, "__version__"):
            assert parts[1] in ALLOWED.get(own, set()), f"{own} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_have_one_door(path: Path) -> None:
    where = str(path.relative_to(PACKAGE))
    for name in imports(path):
        for package, doors in DOORS.items():
            if name == package or name.startswith(f"{package}."):
                assert where.startswith(doors), f"{where} imports {name}"
        if name.split(".")[0] == "torch":
            assert not where.startswith(WITHOUT_TORCH), f"{where} imports {name}"


def test_evaluation_knows_no_method() -> None:
    names = set(imports(PACKAGE / "train" / "evaluate.py"))
    assert not [name for name in names if name.startswith("stdcl.methods.stdcl")]

"""Imports go downwards only, without circles between files, and each heavy package has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stdcl"

GROUND = {
    "errors",
    "atomic",
    "hashing",
    "locks",
    "seeding",
    "skeleton",
    "taps",
    "specs",
    "config",
    "release",
    "version",
}
PARTS = {"data", "encoders", "methods", "tracking", "results"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "atomic": set(),
    "hashing": set(),
    "release": set(),
    "version": {"release"},
    "locks": {"errors"},
    "seeding": {"hashing"},
    "skeleton": {"errors"},
    "taps": set(),
    "specs": {"errors", "skeleton"},
    "config": {"errors", "specs"},
    "metrics": {"specs"},
    "kernels": {"errors"},
    "statistics": {"errors"},
    "parallel": GROUND | {"kernels"},
    **{part: GROUND | {"kernels", "parallel"} for part in PARTS},
    "tracking": GROUND | {"results"},
    "report": GROUND | {"results", "statistics"},
    "training": GROUND | {"parallel"} | PARTS,
    "launch": GROUND | {"parallel", "training"} | PARTS,
    "runs": GROUND | {"parallel", "statistics", "training", "launch"} | PARTS,
    "sweep": GROUND | {"parallel", "statistics", "training", "launch", "report"} | PARTS,
    "doctor": GROUND | {"kernels", "parallel", "data", "training", "launch", "tracking"},
    "__init__": GROUND | {"runs"} | PARTS,  # the public names, imported when they are first used
    "__main__": {"cli"},
    "cli": GROUND | {"parallel", "statistics", "training", "launch", "runs", "report", "sweep", "doctor"} | PARTS,
}
DOORS: dict[str, tuple[str, ...]] = {
    "torch.distributed": ("parallel/",),
    "ray": ("launch/", "sweep/"),
    "ray.train": ("launch/",),
    "ray.train.v2._internal": ("launch/ray_workarounds.py",),
    "ray._private": ("launch/ray_workarounds.py",),
    "ray.cloudpickle": ("launch/ray_workarounds.py",),
    "ray.tune": ("sweep/",),
    "optuna": ("sweep/",),
    "optuna_dashboard": ("sweep/",),
    "wandb": ("tracking/",),
    "wandb_workspaces": ("tracking/",),
    "matplotlib": ("report/figures/",),
    "onnxruntime": ("runs/export.py",),
    "open_clip": ("runs/text_features.py",),
    "transformers": ("runs/text_features.py",),
}
WITHOUT_TORCH = (
    "config/",
    "results/",
    "report/",
    "statistics/",
    "metrics/",
    "errors.py",
    "atomic.py",
    "locks.py",
    "seeding.py",
    "skeleton.py",
    "taps.py",
    "specs.py",
    "release.py",
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


def module_name(path: Path) -> str:
    """``stdcl/report/table.py`` -> ``stdcl.report.table``; a package has the name of its folder."""
    parts = ("stdcl", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def file_imports(files: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Which of our files each file imports, given the dotted names that it imports: ``from a.b import c`` may name
    the module ``a.b.c`` or a name in ``a.b``."""
    graph: dict[str, set[str]] = {}
    for name, imported in files.items():
        found = set()
        for dotted in imported:
            parts = dotted.split(".")
            longest = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
            own = next((each for each in longest if each in files), None)
            if own is not None and own != name:
                found.add(own)
        graph[name] = found
    return graph


def circles(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """What cannot be put in an order: remove every file that imports nothing left, until none is."""
    left = {name: set(imported) for name, imported in graph.items()}
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    while free := [name for name in left if not any(name in imported for imported in left.values())]:
        for name in free:  # on no circle, though it imports one
            del left[name]
    return sorted(left)


def test_no_file_imports_itself_in_a_circle() -> None:
    """Also not through an import in a function or under TYPE_CHECKING: the order of files is the order of reading."""
    graph = file_imports({module_name(path): list(imports(path)) for path in modules()})
    assert sum(map(len, graph.values())) > 300, "the graph is empty: this test would hold nothing"
    assert circles(graph) == []


def test_circles_are_found_and_nothing_else() -> None:
    names = {"a": ["b.x"], "b": ["c", "os.path"], "c": ["a", "d"], "d": [], "e": ["a"]}
    assert file_imports(names) == {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(file_imports(names)) == ["a", "b", "c"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "stdcl" and len(parts) > 1 and parts[1] != own:
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
    names = set(imports(PACKAGE / "training" / "evaluate.py"))
    assert not [name for name in names if name.startswith("stdcl.methods")]

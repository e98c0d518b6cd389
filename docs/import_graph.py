"""Count the package's import graph:  python docs/import_graph.py [FOLDER OF THE PACKAGE]

An edge is one module that imports another of the package, wherever in the file; imports for types alone count too.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

LIBRARIES = ("ray.train", "ray.tune", "ray", "optuna", "torch.distributed", "wandb", "matplotlib")


def imported(path: Path) -> set[str]:
    """Return every module, and every name of one, that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def sources(names: set[str], files: dict[str, Path]) -> set[str]:
    """Return the modules among ``names``: of ``from package import module`` the module, not the package."""
    known = names & set(files)
    return known - {name.rpartition(".")[0] for name in known}


def modules(package: Path) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    out = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        out[".".join(parts).removesuffix(".__init__")] = path
    return out


def folder(module: str) -> str:
    """Return the top-level folder or module of the package that a module is in."""
    return module.split(".")[1] if "." in module else module


def main() -> None:
    package = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "stdcl")
    files = modules(package)
    found = {name: imported(path) for name, path in files.items()}
    edges = {(name, other) for name, names in found.items() for other in sources(names, files) if other != name}
    between = {(folder(a), folder(b)) for a, b in edges if folder(a) != folder(b)}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files.values())
    print(f"| modules | {len(files)} |\n|---|---|\n| lines | {lines:,} |\n| edges | {len(edges)} |")
    print(f"| folders and top-level modules | {len({folder(name) for name in files})} |")
    print(f"| edges between folders | {len(between)} |\n| cycles between files | {len(cycles(files, edges))} |\n")
    for library in LIBRARIES:
        users = {
            folder(n) for n, names in found.items() if any(x == library or x.startswith(f"{library}.") for x in names)
        }
        print(f"- `{library}`: {', '.join(f'`{user}/`' for user in sorted(users)) or 'nobody'}")


def cycles(files: dict[str, Path], edges: set[tuple[str, str]]) -> list[set[str]]:
    """Return the groups of files that import one another in a circle."""
    reached = {name: {b for a, b in edges if a == name} for name in files}
    changed = True
    while changed:
        changed = False
        for reach in reached.values():
            more = set().union(*(reached[other] for other in reach)) - reach if reach else set()
            reach |= more
            changed |= bool(more)
    groups = [{other for other in files if other in reached[name] and name in reached[other]} for name in files]
    return [group for i, group in enumerate(groups) if len(group) > 1 and group not in groups[:i]]


if __name__ == "__main__":
    main()

"""Write docs/configuration.md from the configuration's own source: ``python docs/make_configuration.py``."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "configuration.md"
SECTIONS = {
    "model.py": {
        "RunConfig": "A run file",
        "DataConfig": "data",
        "SyntheticConfig": "data.synthetic",
        "HCNConfig": "encoder, name: hcn",
        "AGCNConfig": "encoder, name: agcn",
        "CTRGCNConfig": "encoder, name: ctrgcn",
        "HyperformerConfig": "encoder, name: hyperformer",
        "InfoGCNConfig": "encoder, name: infogcn",
        "ContrastConfig": "contrast",
        "TrainingConfig": "training",
        "ResourcesConfig": "resources",
        "TrackingConfig": "tracking",
    },
    "sweep.py": {
        "SweepConfig": "A sweep file",
        "OptunaConfig": "optuna",
        "FloatRange": "space, type: float",
        "IntRange": "space, type: int",
        "Choices": "space, type: choices",
    },
}
HEAD = """# Every key

Made by `python docs/make_configuration.py` from `stdcl/config`. Precedence, weakest first: the defaults below, the
recipe (`stdcl/recipes/<encoder>/<benchmark>.<recipe>.yaml`), the file, `--set a.b=c`. Unknown keys, wrong types and
impossible combinations are refused before anything starts. The resolved configuration is saved with each run as
`config.yaml`.
"""


def _default(value: ast.expr | None) -> tuple[str, str]:
    """Return (default, limits) of a field as text."""
    if value is None:
        return "*required*", ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field":
        options = {k.arg: ast.unparse(k.value) for k in value.keywords if k.arg}
        default = options.pop("default", None) or options.pop("default_factory", None)
        options.pop("strict", None)
        options.pop("discriminator", None)
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "min_length": "at least this long:"}
        limits = ", ".join(f"{words[k]} {v}" for k, v in options.items() if k in words)
        default = (default or "*required*").replace("lambda: ", "").replace("dict", "{}") if default else "*required*"
        return default, limits
    return ast.unparse(value), ""


def _rows(node: ast.ClassDef) -> list[str]:
    rows = []
    body = node.body
    for at, item in enumerate(body):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        following = body[at + 1] if at + 1 < len(body) else None
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        default, limits = _default(item.value)
        kind = ast.unparse(item.annotation).replace("|", "or")
        said = "; ".join(part for part in (text.rstrip("."), limits) if part)
        code = default if default.startswith("*") else f"`{default}`"
        rows.append(f"| `{item.target.id}` | `{kind}` | {code} | {said} |")
    return rows


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for file, sections in SECTIONS.items():
        tree = ast.parse((ROOT / "stdcl" / "config" / file).read_text(encoding="utf-8"))
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        for name, title in sections.items():
            node = classes[name]
            rows = _rows(node)
            parts.append(f"## {title}\n\n{ast.get_docstring(node)}\n")
            parts.append("\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")

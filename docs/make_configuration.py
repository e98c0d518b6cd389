"""Write docs/configuration.md from the configuration's own source: ``python docs/make_configuration.py``."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

from pydantic import BaseModel

from stdcl import specs
from stdcl.config import checkpoints, compare, confirms, contrast, model, space, sweep

OUT = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
METHODS = {name: spec for name, spec in specs.methods().items() if spec.section == model.METHOD}
SECTIONS: dict[str, type[BaseModel]] = {
    "A run file": model.RunConfig,
    "data": model.DataConfig,
    "data.synthetic": model.SyntheticConfig,
    **{f"encoder, name: {name}": spec.options for name, spec in specs.encoders().items()},
    "contrast": contrast.ContrastConfig,
    "contrast.readings": contrast.ReadingsConfig,
    **{f"method, name: {name}": spec.options for name, spec in METHODS.items()},
    "training": model.TrainingConfig,
    "resources": model.ResourcesConfig,
    "checkpoints": checkpoints.CheckpointsConfig,
    "tracking": model.TrackingConfig,
    "A sweep file": sweep.SweepConfig,
    "checkpoints (of a sweep)": checkpoints.SweepCheckpointsConfig,
    "compare": compare.CompareConfig,
    "confirms": confirms.ConfirmsConfig,
    "confirms.arms, each": confirms.PromiseConfig,
    "optuna": space.OptunaConfig,
    "space, every type": space.SpaceParameter,
    "space, type: float": space.FloatRange,
    "space, type: int": space.IntRange,
    "space, type: choices": space.Choices,
}
HEAD = """# Every key

Made by `python docs/make_configuration.py` from `stdcl/config` and the records of encoders and methods. Precedence,
weakest first: the defaults below, the recipe (`stdcl/recipes/<encoder>/<benchmark>.<recipe>.yaml`), what a method's
`preset: release` sets (`stdcl/methods/<method>/presets/<benchmark>.yaml`), the file, `--set a.b=c`.
Unknown keys, wrong types and impossible combinations are refused before anything starts. The resolved configuration is
saved with each run as `config.yaml`.

Editors complete and check these keys by a JSON Schema that is made of the same classes:

```bash
stdcl schema sweep --out stdcl-sweep.schema.json      # stdcl schema run for run files
```

In VS Code with the extension YAML (Red Hat), and wherever else yaml-language-server runs, the first line of a
file names it, relative to the file: `# yaml-language-server: $schema=stdcl-sweep.schema.json`. Or once for a
folder, in `.vscode/settings.json`: `{"yaml.schemas": {"./stdcl-sweep.schema.json": "sweeps/**/*.yaml"}}`. The
schema knows keys, types, choices and limits, encoders and methods of installed plug-ins included; what keys
mean together, the commands check. Write it again after an update. (The editor itself was not tried;
`tests/config/test_schema.py` validates all shipped files.)
"""


def _kind(annotation: ast.expr) -> tuple[str, bool]:
    """Return the type of a field as text, and whether it can be ``auto``."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        kind, *marks = annotation.slice.elts
        called = {ast.unparse(mark.func) for mark in marks if isinstance(mark, ast.Call)}
        if "OneOf" in called:
            return f"one of {', '.join(specs.datasets())}", False
        if "Auto" in called:
            return f"{ast.unparse(kind)} | auto", True
    if ast.unparse(annotation) == "EncoderConfig":
        return f"one of {', '.join(specs.encoders())}, see below", False
    if ast.unparse(annotation) == "MethodConfig":
        return f"one of {', '.join(METHODS)}, see below; or {{name: stdcl}}, {{name: none}}", False
    return ast.unparse(annotation), False


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
        kind, automatic = _kind(item.annotation)
        default = "'auto'" if automatic else default
        said = "; ".join(part for part in (text.rstrip("."), limits) if part)
        code = default if default.startswith("*") else f"`{default}`"
        rows.append(f"| `{item.target.id}` | `{kind.replace('|', 'or')}` | {code} | {said} |")
    return rows


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, section in SECTIONS.items():
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
        assert isinstance(node, ast.ClassDef)
        parts.append(f"## {title}\n\n{ast.get_docstring(node)}\n")
        parts.append("\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *_rows(node)]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")

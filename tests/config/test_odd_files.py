"""A thousand wrong files, drawn by a seeded generator: a typo in a key is refused, an odd value is no traceback."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stdcl.config import read_run_file, to_yaml
from stdcl.config.load import resolve
from stdcl.config.sweep import load_sweep
from stdcl.config.yaml_text import dump_yaml, parse_yaml
from stdcl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(17)
EACH = 10
"""Typos, and odd values, in each of three files for each seed: 510 + 510 edits."""

ODD: tuple[Any, ...] = (
    -1, 0, 1, 2**70, -0.5, 1e-300, float("nan"), float("inf"), True, None, "", "none", "abc", "a" * 300, "$NAME",
    "~x/y", "2024-01-01", "1:30", [], [1, 2], [None], [[1]], {}, {"a": 1}, {"name": 3}, [{"a": [1]}],
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each key, sections included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            yield from places(inner, (*at, key))


def edited(value: Any, at: tuple[Any, ...], key: Any, new: Any) -> Any:
    """Return a copy with the key at a place renamed to ``key`` and its value replaced by ``new(old)``."""
    first, *rest = at
    return {
        (key if name == first and not rest else name): (
            inner if name != first else edited(inner, tuple(rest), key, new) if rest else new(inner)
        )
        for name, inner in value.items()
    }


def typo(rng: random.Random, word: str) -> str:
    """Return ``word`` with one letter dropped, doubled, changed, or swapped with the next."""
    while True:
        i = rng.randrange(len(word))
        kinds = (word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:], word[:i] + "q" + word[i + 1 :])
        found = rng.choice((*kinds, word[:i] + word[i : i + 2][::-1] + word[i + 2 :]))
        if found not in (word, ""):
            return found


def load(folder: Path, kind: str, content: Any) -> None:
    file = folder / f"{kind}.yaml"
    file.write_text(dump_yaml(content), encoding="utf-8")
    if kind == "run":
        read_run_file(file)
    else:
        load_sweep(file)


def contents() -> dict[str, Any]:
    raw = {"data": {"dataset": "nw-ucla", "path": "store", "synthetic": {}}, "encoder": {"name": "hcn"}}
    grid, search = (
        parse_yaml((ROOT / "sweeps" / f"{name}.yaml").read_text(encoding="utf-8"), name)
        for name in ("ablation_tau", "search_optuna")
    )
    return {"run": parse_yaml(to_yaml(resolve(raw, "here")), "the run"), "grid": grid, "search": search}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_typo_in_a_key_is_refused(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for kind, content in contents().items():
        for _ in range(EACH):
            at = rng.choice(list(places(content)))
            wrong = typo(rng, str(at[-1]))
            with pytest.raises(UserError) as caught:
                load(tmp_path, kind, edited(content, at, wrong, lambda old: old))
            assert wrong.split(".")[-1][:70] in str(caught.value) or "missing" in str(caught.value), (at, wrong)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_odd_value_is_accepted_or_refused_in_words(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for kind, content in contents().items():
        for _ in range(EACH):
            at = rng.choice(list(places(content)))
            odd = rng.choice(ODD)
            try:
                load(tmp_path, kind, edited(content, at, at[-1], lambda old, odd=odd: odd))
            except UserError as error:
                said = str(error).splitlines()
            else:
                continue
            assert any(line.strip() for line in said), (at, odd)
            assert max(map(len, said)) < 2000, (at, odd)

"""What parameters and their values are called in headers, cells, notes and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"
"""Where there is no value."""


def short_names(parameters: Sequence[str]) -> dict[str, str]:
    """Dotted key -> what a header calls it: its last part (for ``encoder.name`` the first), if that is clear."""
    short = {key: key.split(".")[0] if key.endswith(".name") else key.split(".")[-1] for key in parameters}
    taken = list(short.values())
    return {key: name if taken.count(name) == 1 else key for key, name in short.items()}


def value_text(value: Any) -> str:
    """A parameter's value, as short as it is exact."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: NOTHING}[value]
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if any(each in text for each in ".en") else f"{text}.0"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def differences_text(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """``key ours (theirs)`` for each key, for example ``training.epochs 10 (65)``."""
    return ", ".join(f"{key} {value_text(ours)} ({value_text(theirs)})" for key, (ours, theirs) in differing.items())


def trial_number(key: str) -> str:
    """The number by which Optuna knows a search's trial, from its name; empty where the name has none."""
    found = re.match(r"trial=(\d+),", key)
    return found.group(1) if found else ""


def letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ... for footnotes."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def settings_text(values: Mapping[str, Any], parameters: Sequence[str]) -> str:
    """Return what is varied in words: ``temperature 0.5, r 8``.

    Args:
        values: dotted key -> value.
        parameters: all keys that are told apart, of which ``values`` has some.
    """
    short = short_names(parameters)
    return ", ".join(f"{short[key]} {value_text(value)}" for key, value in values.items())


def pair_name(one: str, its: str, other: str, others: str) -> str:
    """Return the name of a question about two arms and what is varied beside them; what both share is said once."""
    if its == others:
        return ", ".join(filter(None, (f"{one} - {other}", its)))
    return " - ".join(", ".join(filter(None, pair)) for pair in ((one, its), (other, others)))

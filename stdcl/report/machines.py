"""What trials ran on and by, where it is worth a note below their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from stdcl.report.load import TrialState
from stdcl.results.result import MEASURED

_DIFFERING = ("workers", "threads", "exchange", "processor", "precision", "tf32", "driver")
"""Facts of a result that change the last bits of numbers, and with them where a training ends."""


def machine_fact(trial: TrialState, name: str) -> Any:
    """Return a fact of a finished trial's result, or, where its folder is gone, of its row; None where none says it."""
    if trial.result is not None:
        return getattr(trial.result, name)
    if name in MEASURED:
        return trial.row.get("more", {}).get(name)
    return trial.row.get(name)


def machine_notes(finished: Sequence[TrialState]) -> list[str]:
    """Say in what trials differ, for example ``workers 1 (3) and 2 (6)``; nothing where they do not."""
    differing = []
    for name in _DIFFERING:
        counts = Counter(value for trial in finished if (value := machine_fact(trial, name)))
        if len(counts) > 1:
            listed = [f"{value} ({counts[value]})" for value in sorted(counts, key=str)]
            differing.append(f"{name} {' and '.join(listed)}")
    if not differing:
        return _same_training(finished)
    return [
        *_same_training(finished),
        f"trials differ in {'; '.join(differing)} (in brackets: trials): the algorithm is the same, float32 numbers "
        "differ by rounding that grows while they train (docs/determinism.md)",
    ]


def code_remarks(finished: Sequence[TrialState]) -> list[str]:
    """Point out trials of different code, unless what trains is known to be the same in all of them."""
    versions = _versions(finished)
    if len(versions) < 2 or _same_training(finished):
        return []
    return [f"trials of different code versions: {', '.join(sorted(versions))}"]


def _same_training(finished: Sequence[TrialState]) -> list[str]:
    versions = _versions(finished)
    codes = {trial.result.execution if trial.result is not None else "" for trial in finished}
    if len(versions) < 2 or len(codes) > 1 or "" in codes:
        return []
    listed = " and ".join(f"{version} ({versions[version]})" for version in sorted(versions))
    return [f"trials of code versions {listed} (in brackets: trials): the code that trains is the same in all"]


def _versions(finished: Sequence[TrialState]) -> Counter[str]:
    return Counter(str(trial.row["code_version"]) for trial in finished if trial.row.get("code_version"))


def measured_on(finished: Iterable[TrialState]) -> str:
    """Return what times and memory were measured on; empty where no trial says it."""
    told = ((machine_fact(trial, name) for name in ("processor", "precision", "threads")) for trial in finished)
    found = dict.fromkeys(
        f"{processor}, {precision}, {threads} thread{'s' * (threads != 1)} a worker"
        for processor, precision, threads in told
        if processor and precision and threads
    )
    return "; ".join(found)

"""One row of a history as a line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stdcl.results.row import terms


def describe_epoch(row: Mapping[str, Any], evaluated_on: str) -> str:
    """Return an epoch's numbers: cross-entropy, the other terms of the loss one by one, accuracies.

    The total loss is left out: where contrastive anchors become active one after another it rises while training goes
    well.

    Args:
        row: of a history.
        evaluated_on: what the accuracy is of: test, or validation (held-out subjects).
    """
    parts = [f"cross-entropy {float(row['ce']):.4f}"] if row.get("ce") is not None else []
    parts += [f"{name} {value:.3f}" for name, value in terms(row).items()]
    parts += [f"{key.removeprefix('own/')} {float(row[key]):.3f}" for key in sorted(row) if key.startswith("own/")]
    if row.get("contrast/active_share") is not None and terms(row):
        parts.append(f"active {100 * float(row['contrast/active_share']):.0f} %")
    if row.get("train_accuracy") is not None:
        parts.append(f"train {100 * float(row['train_accuracy']):.1f} %")
    if row.get("accuracy") is not None:
        parts.append(f"{evaluated_on} {100 * float(row['accuracy']):.2f} %")
    if row.get("seconds") is not None:
        parts.append(f"{float(row['seconds']):.1f} s")
    return "  ".join(parts)


def describe_result(row: Mapping[str, Any]) -> str:
    """Return what a run came to: the last epoch's accuracy, and the best."""
    parts = []
    if row.get("accuracy") is not None:
        parts.append(f"accuracy {100 * float(row['accuracy']):.2f} %")
    if row.get("best_accuracy") is not None:
        at = f" (epoch {row['best_epoch']})" if row.get("best_epoch") is not None else ""
        parts.append(f"best{at} {100 * float(row['best_accuracy']):.2f} %")
    return "  ".join(parts)

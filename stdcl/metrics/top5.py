"""Accuracy where one of five guesses may be right."""

from __future__ import annotations

import numpy as np

from stdcl.specs import MetricSpec

GUESSES = 5


def top5(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of sequences whose class is among the five highest scores; of equal ones the first counts."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
    return float((((logits > own) | before).sum(axis=1) < GUESSES).mean())


SPECS = (MetricSpec(name="top5", title="top-5 accuracy", compute=top5),)

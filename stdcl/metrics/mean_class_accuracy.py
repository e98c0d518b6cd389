"""Accuracy as the mean over classes, so that a rare class counts as much as a frequent one."""

from __future__ import annotations

import numpy as np

from stdcl.specs import MetricSpec


def mean_class_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean, over the classes that occur, of the share of a class's sequences that are right."""
    right = logits.argmax(axis=1) == labels
    counts, hits = np.bincount(labels), np.bincount(labels, weights=right)
    return float((hits[counts > 0] / counts[counts > 0]).mean())


SPECS = (MetricSpec(name="mean_class_accuracy", title="mean class accuracy", compute=mean_class_accuracy),)

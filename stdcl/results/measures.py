"""The metrics of an evaluation, from its scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stdcl import specs

METRIC_PREFIX = "metric/"
"""Before a metric's name, in a row."""


def measure(logits: np.ndarray, labels: np.ndarray, names: Iterable[str] | None = None) -> dict[str, float]:
    """Return each metric under its name in a row.

    Args:
        logits: (N, K) scores.
        labels: (N,) class indices.
        names: of the metrics; None: all of them.

    Raises:
        UserError: there is no metric of a name.
    """
    known = specs.metrics() if names is None else {name: specs.metric(name) for name in names}
    return {METRIC_PREFIX + name: float(spec.compute(logits, labels)) for name, spec in known.items()}

"""What each evaluated sequence scored, with all that says of which training and which data."""

from __future__ import annotations

import numpy as np

from stdcl.config import RunConfig, fingerprint
from stdcl.config.fingerprint import flat_scientific
from stdcl.results.scores import Scores
from stdcl.training.components import Data
from stdcl.training.evaluate import Evaluation
from stdcl.version import code_version

COPIES = "test_copies_of_train"
"""In a store's manifest under ``source``: ids of the test sequences that are copies of training sequences."""


def scores_of(result: Evaluation, data: Data, config: RunConfig, *, run: str, checkpoint: str) -> Scores:
    """Join an evaluation with its data and configuration.

    Args:
        result: of ``data.test``, in its order.
        data: what was evaluated.
        config: of the training.
        run: the run's name.
        checkpoint: whose weights were evaluated.

    Raises:
        ValueError: a score is not finite.
    """
    manifest = data.store.manifest
    subjects = data.store.column("subject")[data.test.rows]
    copies = set(manifest.source.get(COPIES, ())) if config.data.evaluate_on == "test" else set()
    return Scores(
        ids=np.array(result.ids, dtype=object),
        labels=result.labels,
        logits=result.logits,
        dataset=manifest.dataset,
        protocol=config.data.protocol,
        data_hash=manifest.content_hash,
        stream=config.data.stream,
        encoder=config.encoder.name,
        evaluated_on=config.data.evaluate_on,
        run=run,
        subjects=np.asarray(subjects, dtype=np.int64) if np.any(subjects) else None,
        copies=np.array([each in copies for each in result.ids]) if copies else None,
        seed=config.training.seed,
        arm=config.arm,
        fingerprint=fingerprint(config),
        code_version=code_version(),
        checkpoint=checkpoint,
        classes=manifest.classes,
        settings=flat_scientific(config),
    )

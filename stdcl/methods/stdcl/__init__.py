"""STD-CL: decoupling head, sharded memory banks, sampling and loss (paper, section 3).

Read in this order: ``head`` (eq. 4-5), ``bank`` (eq. 6), ``scores``, ``stable_topk`` and ``random_negatives``
(sampling), ``loss`` (eq. 7-9), ``sharded`` (all of it over ranks), ``bank_files`` (on disk), ``feasibility`` (before a
launch), ``method`` (what the training loop calls).
"""

from __future__ import annotations

from stdcl.config.contrast import ContrastConfig
from stdcl.specs import MethodSpec

SPECS = (
    MethodSpec(
        name="stdcl",
        title="STD-CL",
        options=ContrastConfig,
        build="stdcl.methods.stdcl.method:STDCL",
        section="contrast",
        unscientific=("exchange", "readings.weights"),
    ),
)

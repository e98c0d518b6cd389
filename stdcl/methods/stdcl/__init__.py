"""STD-CL's contrast: decoupling head, sharded memory banks, sampling and loss (paper, section 3).

Read in this order: ``head`` (eq. 4-5), ``bank`` (eq. 6), ``scores``, ``ordering`` and ``draw`` (sampling), ``loss``
(eq. 7-9), ``sharded`` (all of it over ranks), ``store`` (on disk), ``feasibility`` (before a launch).
"""

from stdcl.methods.stdcl.feasibility import check_feasible
from stdcl.methods.stdcl.head import DecouplingHead, branches_of
from stdcl.methods.stdcl.sharded import Contrast, ContrastResult

__all__ = ["Contrast", "ContrastResult", "DecouplingHead", "branches_of", "check_feasible"]

"""Parameter names that several public repositories share: ours -> theirs.

Pairs (pattern in our name, the public name's part), tried in this order, each applied to what the one before left.
"""

from __future__ import annotations

from stdcl.specs import Renaming

MULTI_SCALE: Renaming = (
    (r"\.br(\d)\.pw\.", r".branches.\1.0."),
    (r"\.br(\d)\.bn1\.", r".branches.\1.1."),
    (r"\.br(\d)\.conv\.", r".branches.\1.3.conv."),
    (r"\.br([01])\.bn2\.", r".branches.\1.3.bn."),
    (r"\.br2\.bn2\.", r".branches.2.4."),
)
"""CTR-GCN's temporal block."""
SHELL: Renaming = (
    (r"^in_bn\.", "data_bn."),
    (r"\.down\.conv\.", ".down.0."),
    (r"\.down\.bn\.", ".down.1."),
    (r"^b(\d+)\.res\.", r"l\1.residual."),
)
"""Input normalisation, shortcuts and residuals."""
GRAPH_SHELL: Renaming = (*SHELL, (r"^b(\d+)\.gcn\.", r"l\1.gcn1."), (r"^b(\d+)\.tcn\.", r"l\1.tcn1."))
"""The ten blocks of the graph networks."""

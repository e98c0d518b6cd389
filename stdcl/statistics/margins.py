"""Margins: the difference that counts as none in practice, named before a sweep runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Margin:
    """An equivalence margin and the reason for its size.

    Attributes:
        size: a fraction of the test sequences; 0.01 is one point.
        reason: why, in one sentence.
    """

    size: float
    reason: str


DEFAULT_MARGINS: Mapping[str, Margin] = MappingProxyType(
    {
        "nw-ucla": Margin(
            0.01,
            "1 point, 5 of 464 sequences: below the median gain that the STD-CL paper reports there (1.1 points)",
        ),
        "ntu60": Margin(
            0.003,
            "0.3 points: equal runs of public projects differ by as much; the paper's median gain is 0.4 to 0.5 points",
        ),
        "ntu120": Margin(
            0.003,
            "0.3 points: equal runs of public projects differ by as much; the paper's median gain is 0.2 to 0.5 points",
        ),
    }
)
"""By dataset. A sweep file's own margin takes their place."""

OTHER_DATA = Margin(0.01, "1 point: no default is known for these data; name one in the sweep file")


def default_margin(dataset: str) -> Margin:
    """The margin of a dataset where the sweep file names none."""
    return DEFAULT_MARGINS.get(dataset, OTHER_DATA)

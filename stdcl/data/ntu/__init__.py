"""NTU RGB+D 60 (Shahroudy et al., CVPR 2016) and NTU RGB+D 120 (Liu et al., TPAMI 2020)."""

from __future__ import annotations

from stdcl.data.ntu.classes import ACTIONS
from stdcl.skeleton import NTU
from stdcl.specs import DatasetSpec, SplitSpec


def _spans(text: str) -> frozenset[int]:
    out: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        out.update(range(int(low), int(high or low) + 1))
    return frozenset(out)


_NTU60_SUBJECTS = _spans("1,2,4,5,8,9,13-19,25,27,28,31,34,35,38")
_NTU120_SUBJECTS = _NTU60_SUBJECTS | _spans("45-47,49,50,52-59,70,74,78,80-86,89,91-95,97,98,100,103")

_OPTIONS = ("raw", "workers", "keep_gaps", "strict")

SPECS = (
    DatasetSpec(
        name="ntu60",
        title="NTU RGB+D 60",
        prepare="stdcl.data.ntu.prepare:prepare",
        prepare_options=_OPTIONS,
        clip_suffixes=(".skeleton",),
        read_clips="stdcl.data.ntu.prepare:read_clips",
        synthesise="stdcl.data.ntu.synthetic:synthesise",
        protocols={
            "x-sub": SplitSpec("subject", _NTU60_SUBJECTS, None, 40_091, 16_487),
            "x-view": SplitSpec("view", frozenset({2, 3}), frozenset({1}), 37_646, 18_932),
        },
        skeleton=NTU,
        num_persons=2,
        classes=ACTIONS[:60],
        absent_person="zeros",
        recipe="ntu60",
        recipe_family="ntu",
    ),
    DatasetSpec(
        name="ntu120",
        title="NTU RGB+D 120",
        prepare="stdcl.data.ntu.prepare:prepare",
        prepare_options=_OPTIONS,
        synthesise="stdcl.data.ntu.synthetic:synthesise",
        protocols={
            "x-sub": SplitSpec("subject", _NTU120_SUBJECTS, None, 63_026, 50_919),
            "x-set": SplitSpec("setup", frozenset(range(2, 33, 2)), frozenset(range(1, 33, 2)), 54_468, 59_477),
        },
        skeleton=NTU,
        num_persons=2,
        classes=ACTIONS,
        absent_person="copy",
        recipe="ntu120",
        recipe_family="ntu",
    ),
)

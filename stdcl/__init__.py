"""stdcl: distributed sweeps for spatial-temporal decoupling contrastive learning on skeletons.

The names below are the library's public interface; each is imported when it is first used, so that importing the
package itself costs nothing and needs neither torch nor Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stdcl.config.contrast import ContrastConfig as ContrastConfig
    from stdcl.data.dataset import SkeletonDataset as SkeletonDataset
    from stdcl.data.dataset import Transform as Transform
    from stdcl.data.store import SequenceStore as SequenceStore
    from stdcl.encoders.base import Encoder as Encoder
    from stdcl.encoders.base import Layout as Layout
    from stdcl.encoders.build import build_encoder as build_encoder
    from stdcl.methods.stdcl.head import DecouplingHead as DecouplingHead
    from stdcl.methods.stdcl.module import STDCLLoss as STDCLLoss
    from stdcl.results.reading import load_run as load_run
    from stdcl.results.reading import load_sweep as load_sweep
    from stdcl.runs.predict import predict as predict
    from stdcl.runs.train import train as train

from stdcl.release import __version__ as __version__

_HOMES = {
    "ContrastConfig": "stdcl.config.contrast",
    "DecouplingHead": "stdcl.methods.stdcl.head",
    "Encoder": "stdcl.encoders.base",
    "Layout": "stdcl.encoders.base",
    "STDCLLoss": "stdcl.methods.stdcl.module",
    "SequenceStore": "stdcl.data.store",
    "SkeletonDataset": "stdcl.data.dataset",
    "Transform": "stdcl.data.dataset",
    "build_encoder": "stdcl.encoders.build",
    "load_run": "stdcl.results.reading",
    "load_sweep": "stdcl.results.reading",
    "predict": "stdcl.runs.predict",
    "train": "stdcl.runs.train",
}
"""The public names, and the module that each is imported from when it is first used."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stdcl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

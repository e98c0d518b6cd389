"""What a trained network says of single clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stdcl.data.clips import read_clips, store_of
from stdcl.data.dataset import SkeletonDataset
from stdcl.data.store import Clip
from stdcl.errors import UserError
from stdcl.parallel.comm import LocalComm
from stdcl.results.layout import Which
from stdcl.runs.trained import trained
from stdcl.training.components import autocast_dtype, parameter_dtype, transform_of
from stdcl.training.evaluate import evaluate

TOP = 5
"""Classes named for a clip."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of a clip.

    Attributes:
        file: where the clip is.
        clip: its name there.
        top: (class name, probability) of the likeliest classes, the likeliest first.
    """

    file: Path
    clip: str
    top: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": str(self.file),
            "clip": self.clip,
            "top": [{"class": name, "probability": probability} for name, probability in self.top],
        }

    def render(self) -> str:
        """Return the prediction as text."""
        width = max(len(name) for name, _ in self.top)
        lines = [f"  {name:<{width}}  {100 * probability:6.2f} %" for name, probability in self.top]
        return "\n".join([f"{self.file}" + (f" ({self.clip})" if self.clip != self.file.stem else ""), *lines])


def predict(
    run: Path | str,
    files: Path | str | Sequence[Path | str],
    *,
    which: Which = "last",
    data_path: Path | None = None,
    top: int = TOP,
) -> list[Prediction]:
    """Classify the clips of raw files with a run's encoder.

    Clips become inputs as the run's test sequences did. Probabilities are the softmax of the logits, not
    calibrated.

    Args:
        run: the run's folder.
        files: a raw file, or several, in any format that ``stdcl data prepare`` reads.
        which: the last epoch's checkpoint, or the best one's.
        data_path: where the run's prepared store lies now, if it moved; its manifest alone is read.
        top: how many classes to name.

    Raises:
        UserError: no checkpoint, no manifest, or files that cannot be used or are of another skeleton, a line for each.
    """
    if top < 1:
        raise UserError(f"--top {top}: at least 1 is needed")
    if isinstance(files, str | Path):
        files = [files]  # a text is a sequence of texts too: its letters
    of = trained(Path(run), which, data_path)
    config, like = of.config, of.manifest
    found: list[tuple[Path, Clip]] = []
    faults: list[str] = []
    for file in map(Path, files):
        try:
            found += [(file, clip) for clip in read_clips(file, like)]
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    dtype = parameter_dtype(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with store_of([clip for _, clip in found], like) as store:
        data = SkeletonDataset(store, np.arange(len(found)), transform_of(config, like.dataset), train=False)
        scored = evaluate(
            of.encoder.to(device=device, dtype=dtype), data, LocalComm(), device, autocast=autocast_dtype(config)
        )
    probabilities = torch.softmax(torch.from_numpy(scored.logits).double(), dim=1).numpy()
    out = []
    for (file, clip), row in zip(found, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top].tolist()
        out.append(Prediction(file, clip.name, tuple((like.classes[label], float(row[label])) for label in order)))
    return out

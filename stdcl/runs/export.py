"""A run's encoder as one file for other programs: ONNX, or an exported PyTorch program.

The only place that imports onnxruntime, which is optional, as are onnx and onnxscript that PyTorch's exporter needs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stdcl import atomic
from stdcl.config import fingerprint, paths
from stdcl.config.model import DataConfig
from stdcl.data import augment
from stdcl.data.dataset import default_loader
from stdcl.data.store import MANIFEST_FILE, Manifest
from stdcl.encoders.base import Encoder
from stdcl.errors import UserError
from stdcl.results.layout import Which
from stdcl.runs.trained import Trained, trained
from stdcl.training.components import open_data
from stdcl.version import code_version

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
CLIPS = 50
"""Clips that the file is checked on."""
TOLERANCE = 1e-4
"""Of the largest logit: what float32 sums in another order may differ by; the file is refused beyond it."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """An encoder's file, and how it was checked.

    Attributes:
        file: the network.
        description: the JSON file beside it: input, preprocessing, classes.
        clips: how many clips it was checked on.
        of: what they were.
        difference: the largest difference of a logit, over the largest logit.
        same_class: clips on which the likeliest class is the same.
    """

    file: Path
    description: Path
    clips: int
    of: str
    difference: float
    same_class: int

    def render(self) -> str:
        """Return it as text."""
        return (
            f"{self.file}: {self.file.stat().st_size / 1e6:.1f} MB, (N, 3, T, V, M) -> logits\n"
            f"  input and preprocessing: {self.description}\n"
            f"  checked on {self.clips} {self.of}: logits differ by at most {self.difference:.1e} of the largest; "
            f"the same class on {self.same_class}"
        )


class _Logits(nn.Module):
    """The encoder as a function of one tensor."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.encoder(x).logits
        return logits


def export_run(
    run: Path,
    form: Format,
    out: Path | None = None,
    *,
    which: Which = "last",
    data_path: Path | None = None,
    force: bool = False,
) -> Exported:
    """Write a run's encoder, without the method that it was trained with, and a description of its input beside it.

    The batch size is free; frames, joints and persons are the run's. Before the file is put in place it is loaded
    again and compared with the encoder, on test clips of the run, or on drawn numbers where its store is gone.

    Args:
        run: the run's folder.
        form: ``onnx``, read back by onnxruntime; ``torch``, a program of ``torch.export``, read by
            ``torch.export.load``.
        out: the file; None: ``encoder.onnx`` or ``encoder.pt2`` in the run's folder.
        which: the last epoch's checkpoint, or the best one's.
        data_path: where the run's prepared store lies now, if it moved.
        force: replace ``out``.

    Raises:
        UserError: no checkpoint, no manifest, a package is missing, ``out`` is taken, or the file gives other logits.
    """
    missing = [name for name in NEEDED if form == "onnx" and find_spec(name) is None]
    if missing:
        raise UserError(f"--format onnx needs {', '.join(missing)}: pip install 'stdcl[onnx]'")
    file = out or run / f"encoder{SUFFIX[form]}"
    described = file.with_name(f"{file.name}.json")
    for taken in (file, described):
        if taken.exists() and not force:
            raise UserError(f"--out {file}: {taken.name} is there already; give another file, or --force to replace it")
    of = trained(run, which, data_path)
    model = _Logits(of.encoder.float()).eval()
    clips, kind = _clips(of, data_path)
    with torch.inference_mode():
        ours = model(clips).numpy()
    with atomic.staging_file(file) as part:
        (_write_onnx if form == "onnx" else _write_torch)(model, clips[:2], part)
        theirs = (_read_onnx if form == "onnx" else _read_torch)(part)(clips)
        difference = float(np.abs(theirs - ours).max() / np.abs(ours).max())
        if not difference <= TOLERANCE:
            raise UserError(
                f"{file}: not written: the exported network's logits differ by {difference:.1e} of the largest "
                f"({TOLERANCE:g} is allowed)"
            )
    same = int((theirs.argmax(1) == ours.argmax(1)).sum())
    atomic.write_json(described, describe(of) | {"format": form, "run": run.absolute().name})
    return Exported(file, described, len(clips), kind, difference, same)


def _clips(of: Trained, data_path: Path | None) -> tuple[Tensor, str]:
    """Return inputs to compare on, and what they are."""
    place = paths.data_path(str(data_path) if data_path is not None else of.config.data.path)
    if (place / MANIFEST_FILE).exists():
        data = of.config.data.model_copy(update={"path": str(place.absolute())})
        test = open_data(of.config.model_copy(update={"data": data})).test
        items = np.unique(np.linspace(0, test.num_items - 1, CLIPS).round().astype(np.int64))
        return test.batch(0, items).x.float(), "test clips of the run"
    layout = of.encoder.layout
    shape = (CLIPS, 3, layout.num_frames, layout.num_joints, layout.num_persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)), "drawn inputs (the run's store is not there)"


def _program(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    """Record the model for any number of sequences; raises where something in it fixes that number."""
    with torch.no_grad():
        return torch.export.export(model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("N")}})


def _write_torch(model: nn.Module, x: Tensor, file: Path) -> None:
    with file.open("wb") as stream:
        torch.export.save(_program(model, x), stream)


def _read_torch(file: Path) -> Callable[[Tensor], NDArray[Any]]:
    with file.open("rb") as stream:
        program = torch.export.load(stream).module()

    def run(x: Tensor) -> NDArray[Any]:
        with torch.no_grad():
            found: NDArray[Any] = program(x).numpy()
        return found

    return run


def _write_onnx(model: nn.Module, x: Tensor, file: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on its own inside
        torch.onnx.export(
            _program(model, x),
            (),
            str(file),
            dynamo=True,
            input_names=["x"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )


def _read_onnx(file: Path) -> Callable[[Tensor], NDArray[Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(["logits"], {"x": x.numpy()})[0])


def describe(of: Trained) -> dict[str, Any]:
    """Return what a program that calls the exported encoder has to know, as plain data."""
    manifest, data, layout = of.manifest, of.config.data, of.encoder.layout
    skeleton = manifest.skeleton
    return {
        "input": {
            "name": "x",
            "type": "float32",
            "shape": ["N", 3, layout.num_frames, layout.num_joints, layout.num_persons],
            "axes": ["sequences", "coordinates", "frames", "joints", "persons"],
        },
        "output": {"name": "logits", "shape": ["N", layout.num_classes]},
        "classes": list(manifest.classes),
        "skeleton": {
            "name": skeleton.name,
            "joints": list(skeleton.joint_names),
            "parents": list(skeleton.parents),
            "centre": skeleton.centre,
            "origin": skeleton.origin,
        },
        "preprocessing": _steps(manifest, data),
        "settings": {
            "loader": default_loader(manifest.dataset),
            **data.model_dump(include={"frames", "stream", "convention", "orientation", "centre", "align"}),
        },
        "encoder": of.config.encoder.model_dump(mode="json"),
        "dataset": manifest.dataset,
        "checkpoint": of.checkpoint,
        "fingerprint": fingerprint(of.config),
        "stdcl": code_version(),
    }


_STREAM = {
    "joint": "coordinates as they are",
    "bone": "each joint minus its parent",
    "joint-motion": "the next frame minus this one, the last 0",
    "bone-motion": "each joint minus its parent; then the next frame minus this one, the last 0",
}


def _steps(manifest: Manifest, data: DataConfig) -> list[str]:
    """Return what happens to a raw clip, a sentence a step; what ``SkeletonDataset`` does without augmentation."""
    origin = manifest.skeleton.joint_names[manifest.skeleton.origin]
    steps = []
    if data.align:
        steps.append("turn each body upright and to the front (stdcl.data.augment.align_persons)")
    if default_loader(manifest.dataset) == "pick":
        where = "in each frame" if data.centre == "frame" else "of the first frame"
        steps += [
            f"subtract the first person's joint '{origin}' {where}",
            f"take {data.frames} frames spread evenly: numpy.linspace(0, F - 1, {data.frames}), truncated to integers",
            "scale each coordinate axis so that its range over the whole clip, all frames, becomes -1 to 1",
        ]
    else:
        scale = "" if manifest.scale == 1.0 else f", and multiply by {manifest.scale:g}"
        steps += [
            f"subtract the first person's joint '{origin}' of the first frame{scale}",
            f"cut {augment.TEST_CROP:.0%} of the frames out of the middle and resize them to {data.frames} linearly",
        ]
        if data.centre == "frame":
            steps.append(f"subtract the first person's joint '{origin}' in each frame")
    absent = "the first person again" if manifest.absent_person == "copy" else "zeros"
    steps.append(f"fill persons that are absent, up to {manifest.max_persons}, with {absent}")
    if manifest.third == "score":
        steps.append("the third number of a joint is the detector's score, which is not moved or scaled")
    how = _STREAM.get(data.stream, f"stdcl.data.streams.derive, orientation {data.orientation}")
    if data.convention == "centred":
        how = "stdcl.data.streams.derive: joints relative to the centre joint of their frame, which keeps its own place"
    steps.append(f"derive the stream {data.stream} ({data.convention}): {how}")
    return [*steps, "put the axes in the order sequences, coordinates, frames, joints, persons"]

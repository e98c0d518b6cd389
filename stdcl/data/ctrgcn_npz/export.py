"""A store as the padded arrays of CTR-GCN's preparation."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from stdcl import atomic
from stdcl.data.augment import to_origin
from stdcl.data.ctrgcn_npz.prepare import PARTS, PERSONS, WIDTH
from stdcl.data.missing import missing
from stdcl.data.store import SequenceStore
from stdcl.errors import UserError
from stdcl.skeleton import NTU

FRAMES = 300
"""Frames that public preparations pad NTU's clips to."""


def export(store: SequenceStore, out: Path, *, protocol: str) -> str:
    """Write the two parts of a protocol, see ``stdcl.data.export.Export``; clips are written one by one.

    The clips of a store that fills absent persons with a copy of the first get that copy, as in the public files. Clips
    are at their origin there, so those of a store that moves them when they are read are moved.
    """
    manifest = store.manifest
    if manifest.skeleton.parents != NTU.parents or manifest.max_persons > PERSONS or manifest.third == "score":
        raise UserError(f"{store.path}: this format holds one or two persons of NTU's 25 joints in space, no others")
    rule = store.rules[protocol]
    own = manifest.source if manifest.source.get("format") == "ctrgcn-npz" else {}
    classes = int(own.get("classes", len(manifest.classes)))
    dtype, label_dtype = np.dtype(str(own.get("dtype", "float32"))), np.dtype(str(own.get("label_dtype", "float64")))
    longest = max(FRAMES, int(store.column("frames").max()))
    padded = dict(own.get("frames", dict.fromkeys(PARTS, longest)))
    said = []
    with atomic.staging_file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, mask in zip(PARTS, rule.masks(store), strict=True):
            rows = np.flatnonzero(mask)
            rows = rows[np.argsort(np.asarray(store.ids)[rows], kind="stable")]
            shape = (len(rows), int(padded[name]), WIDTH)
            with archive.open(f"x_{name}.npy", "w", force_zip64=True) as stream:
                _header(stream, shape, dtype)
                for row in rows.tolist():
                    stream.write(_padded(store, row, shape[1]).astype(dtype).tobytes())
            one_hot = np.zeros((len(rows), classes), dtype=label_dtype)
            one_hot[np.arange(len(rows)), store.labels[rows]] = 1
            with archive.open(f"y_{name}.npy", "w") as stream:
                _header(stream, one_hot.shape, label_dtype)
                stream.write(one_hot.tobytes())
            said.append(f"x_{name} {shape}")
    return f"{out}: {', '.join(said)}, protocol {protocol}, clips in the order of their names"


def _header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    npy.write_array_header_1_0(stream, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def _padded(store: SequenceStore, row: int, frames: int) -> np.ndarray:
    """Return (frames, 150) of a clip; missing joints become zeros."""
    values = store.sequence(row)
    if not store.manifest.centred:
        values = to_origin(values, store.skeleton.origin, scale=store.manifest.scale)
    x = np.zeros((frames, PERSONS, NTU.num_joints, 3), dtype=np.float32)
    x[: len(values), : values.shape[1]] = np.where(missing(values)[..., None], 0, values)
    if values.shape[1] == 1 and store.manifest.absent_person == "copy":
        x[:, 1] = x[:, 0]
    return x.reshape(frames, WIDTH)
